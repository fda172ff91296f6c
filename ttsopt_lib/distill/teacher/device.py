"""Where the teacher computes: on a GPU where PyTorch has one, and how many processes speak there.

What a GPU computes is the processor's within rounding. So everything that decides what is said stays on the processor:
the noise, and the text encoder and the durations of what is spoken. Durations are rounded up to whole frames; one that
another rounding moves across a whole number would change the sentence's length, and with it the noise of every frame.
They take a tenth of a processor's time for a sentence. Flow and decoder, the rest of it, are on the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from joblib import cpu_count

from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.voices.piper import PiperVoice, load_piper

CPU = torch.device("cpu")
MOST_WORKERS = 8  # on one GPU: more of them would wait for it
GB_PER_WORKER = 1.5  # of a GPU's memory, 10^9 bytes: a process's own context, and the decoder of a long sentence


def training_device() -> torch.device:
    """The GPU that PyTorch has; the processor where it has none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def speaking_workers(settings: DistillSettings) -> int:
    """How many processes speak side by side.

    As many as the settings ask for. On a GPU, where they ask for no number, half of the usable cores, because a process
    takes longer to prepare a sentence than a GPU to speak it; not more than the GPU's free memory holds.
    """
    if training_device().type == "cpu" or "workers" in settings.model_fields_set:
        return settings.workers
    free_bytes, _ = torch.cuda.mem_get_info()
    most = min(MOST_WORKERS, int(free_bytes / 1e9 / GB_PER_WORKER))
    return max(1, min(most, max(settings.workers, cpu_count() // 2)))


def speaking_teacher(voice: PiperVoice, device: torch.device) -> StagedVits:
    """The voice's network, ready for `speak`: flow and decoder on the device, the rest on the processor."""
    network = load_piper(voice)
    network.flow.to(device)
    network.decoder.to(device)
    return network


@contextmanager
def in_float32(device: torch.device) -> Iterator[None]:
    """A GPU's products and convolutions in float32, not in TF32, which has 10 bits; later as they were before."""
    if device.type == "cpu":
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    conv: Any = torch.backends.cudnn.conv  # pyright: ignore[reportAttributeAccessIssue]
    precision, of_matmul, of_conv = torch.get_float32_matmul_precision(), matmul.fp32_precision, conv.fp32_precision
    try:
        # Both the older and the newer setting: PyTorch refuses to compute where they disagree.
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision = conv.fp32_precision = "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        matmul.fp32_precision, conv.fp32_precision = of_matmul, of_conv
