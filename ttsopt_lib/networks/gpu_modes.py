"""How a PyTorch voice speaks on a GPU: in half precision, and with its decoder replayed from CUDA graphs or compiled.

Text encoder, durations and the alignment always compute in float32: they are 3 % of the arithmetic, and in half
precision frame numbers above 2048 are not exact and durations differ. So every mode speaks the same durations, and what
differs is the arithmetic of flow and decoder. The head of an inverse-STFT decoder stays in float32 as well: magnitudes
span 80 dB, and their exponential overflows half precision.

A text's length is not known beforehand, and a CUDA graph or a compiled kernel is for one length. The decoder's frames
are therefore filled up with zeros to the next multiple of `BUCKET`, and the samples beyond are cut off, as in
any batch of texts of different lengths; the last frames before the cut see zeros where they would have seen the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ttsopt_lib.networks.istft import IstftHead
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.study import TorchMode

BUCKET = 64  # frames: at most 0.74 s of a 22 050 Hz voice are computed in vain
WARM_UPS = 3  # runs before a capture: libraries choose their algorithms and take their memory

# Runs a function of tensors that stay where they are, and returns its output and what computes it anew into that.
Capture = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


def in_mode(model: StagedVits, mode: TorchMode) -> StagedVits:
    """The voice, changed in place, so that it speaks in that mode on the device that it is on."""
    arithmetic, _, how = mode.partition("-")
    decoder = model.decoder
    if arithmetic == "fp16":
        model.flow = InHalf(model.flow)  # type: ignore[assignment]
        decoder = InHalf(decoder)
    if how == "compiled":
        decoder = _compiled(decoder)
    model.decoder = Replayed(decoder, model.hop_length) if how else decoder
    return model


class InHalf(nn.Module):
    """A stage in float16 between neighbours in float32; heads of inverse-STFT decoders inside it stay in float32."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.stage = stage.half()
        for module in self.stage.modules():
            if isinstance(module, IstftHead):
                module.float()

    def forward(self, *given: Tensor | None) -> Tensor:
        """Tensors of any shape; returns what the stage makes of them, as float32."""
        return self.stage(*[None if one is None else one.half() for one in given]).float()


class Replayed(nn.Module):
    """A decoder that is captured once for each multiple of `BUCKET` frames and replayed from then on.

    `z` [1, latent_channels, frames] and `g` [1, speaker_channels, 1] or None to [1, 1, frames * hop_length].
    """

    def __init__(self, decoder: nn.Module, hop_length: int, capture: Capture | None = None):
        super().__init__()
        self.decoder = decoder
        self.hop_length = hop_length
        self._capture = capture or cuda_graph
        self._captured: dict[int, tuple[Tensor, Tensor | None, Tensor, Callable[[], None]]] = {}

    def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        frames = z.shape[-1]
        bucket = -(-frames // BUCKET) * BUCKET
        if bucket not in self._captured:
            own_z = z.new_zeros(*z.shape[:-1], bucket)
            own_g = None if g is None else g.clone()
            audio, replay = self._capture(lambda: self.decoder(own_z, own_g))
            self._captured[bucket] = own_z, own_g, audio, replay
        own_z, own_g, audio, replay = self._captured[bucket]
        own_z[..., :frames].copy_(z)
        own_z[..., frames:].zero_()
        if own_g is not None and g is not None:
            own_g.copy_(g)
        replay()
        return audio[..., : frames * self.hop_length].clone()  # the next replay writes to the same place


def cuda_graph(run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Capture a run as a CUDA graph, after a few runs on a side stream as PyTorch's notes on CUDA graphs ask for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        audio = run()
    return audio, graph.replay


def _compiled(decoder: nn.Module) -> Any:
    """The decoder by torch.compile, anew for each length that it meets (there is one a bucket)."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(decoder, dynamic=False)
