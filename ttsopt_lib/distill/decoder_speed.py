"""How much faster a student decoder is than its teacher: one thread of ONNX Runtime, the same latents,
visited in turn.

For the training record and the model card. The report's own figures are of whole voices, by
`ttsopt_lib.measure`.
"""

from __future__ import annotations

import io
import statistics
import time
import warnings
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ttsopt_lib.voices.session import open_session

FRAMES = 300  # about three and a half seconds of speech at 22 050 Hz
ROUNDS = 15


def decoder_speed(teacher: nn.Module, student: nn.Module, channels: int) -> dict[str, float | int | str]:
    """Median milliseconds on `FRAMES` frames of `channels` latents; the speed-up is a median over the rounds."""
    z = np.random.default_rng(0).standard_normal((1, channels, FRAMES)).astype(np.float32)
    sessions = [open_session(export_decoder(network, channels)) for network in (teacher, student)]
    feed = {"z": z, **{name: value.numpy() for name, value in _speaker(student).items()}}  # the teacher takes the same
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            taken.append(1e3 * (time.perf_counter() - start))
    # The first rounds warm caches and allocators up.
    warm = [taken[3:] for taken in times]
    return {
        "runtime": f"ONNX Runtime {onnxruntime.__version__}, one thread",
        "frames": FRAMES,
        "teacher_ms": round(statistics.median(warm[0]), 2),
        "student_ms": round(statistics.median(warm[1]), 2),
        "speedup": round(statistics.median(t / s for t, s in zip(*warm, strict=True)), 2),
    }


def macs_per_frame(teacher: nn.Module, channels: int) -> int:
    """Multiply-accumulates that a convolutional decoder needs for one latent frame, counted while it runs."""
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        if isinstance(layer, nn.ConvTranspose1d):
            counted += inputs[0].numel() * layer.out_channels // layer.groups * layer.kernel_size[0]
        elif isinstance(layer, nn.Conv1d):
            counted += output.numel() * layer.in_channels // layer.groups * layer.kernel_size[0]

    hooks = [layer.register_forward_hook(count) for layer in teacher.modules()]
    with torch.no_grad():
        teacher(torch.zeros(1, channels, FRAMES))
    for hook in hooks:
        hook.remove()
    return counted // FRAMES


def export_decoder(network: nn.Module, channels: int) -> bytes:
    """A decoder alone as serialized ONNX: `z` [1, channels, T] to `waveform` [1, 1, T * hop].

    Where the voice has speakers, `g` [1, speaker_channels, 1] is an input, too.
    """
    speaker = _speaker(network)
    buffer: Any = io.BytesIO()  # the exporter writes to files too, but is typed for paths alone
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.zeros(1, channels, 50), *speaker.values()), buffer, opset_version=15,
            input_names=["z", *speaker], output_names=["waveform"],
            dynamic_axes={"z": {2: "frames"}, "waveform": {2: "samples"}}, dynamo=False,
        )  # fmt: skip
    return buffer.getvalue()


def _speaker(decoder: Any) -> dict[str, Tensor]:
    """What a decoder takes beside the latents: nobody's embedding, where its voice has speakers."""
    channels = decoder.config.speaker_channels
    return {"g": torch.zeros(1, channels, 1)} if channels else {}
