"""Small complex-spectrum discriminators: they tell the teacher's waveform from the student's.

Each sees a short-time Fourier transform (compressed real and imaginary parts, log magnitude) through a few
strided 2-D convolutions, as EnCodec's multi-scale discriminator does (Defossez et al. 2022,
https://arxiv.org/abs/2210.13438), with a tenth of its width: they must train on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ttsopt_lib.distill.losses import POWER_FLOOR, unit_gain_stft

RESOLUTIONS = (1024, 512, 256)


class SpectrumDiscriminator(nn.Module):
    """Samples [B, N] -> score map [B, 1, frames, bins / 8] and the activations of every layer."""

    def __init__(self, n_fft: int, channels: int = 16):
        super().__init__()
        self.n_fft = n_fft
        shapes = [  # (in, out, stride over bins, dilation over frames)
            (3, channels, 2, 1),
            (channels, channels, 2, 1),
            (channels, 2 * channels, 2, 2),
            (2 * channels, 2 * channels, 1, 4),
        ]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (3, 5), stride=(1, s), dilation=(d, 1), padding=(d, 2)))
            for i, o, s, d in shapes
        )
        self.score = weight_norm(nn.Conv2d(2 * channels, 1, 3, padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.view_as_real(unit_gain_stft(samples.float(), self.n_fft, self.n_fft // 4))
            # The floor stands under every root: at digital silence the gradient of a bare one is infinite.
            power = spectrum.square().sum(-1, keepdim=True) + POWER_FLOOR
            compressed = spectrum * power.pow(-0.35)
            x = torch.cat([compressed, 0.1 * power.log() + 1.0], dim=-1)  # [B, bins, frames, 3]
            x = x.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)
        activations = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return self.score(x), activations


class Discriminators(nn.Module):
    """One discriminator per resolution. Samples [B, N] -> their scores and activations."""

    def __init__(self, channels: int = 16):
        super().__init__()
        self.each = nn.ModuleList(SpectrumDiscriminator(n_fft, channels) for n_fft in RESOLUTIONS)

    def forward(self, samples: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [discriminator(samples) for discriminator in self.each]


def discriminator_loss(teacher: list, student: list) -> Tensor:
    """Hinge loss: teacher scores above 1, student scores below -1."""
    losses = [
        F.relu(1 - t.float()).mean() + F.relu(1 + s.float()).mean()
        for (t, _), (s, _) in zip(teacher, student, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_losses(teacher: list, student: list) -> tuple[Tensor, Tensor]:
    """The student's hinge loss, and how far its activations are from the teacher's relative to their size."""
    adversarial = torch.stack([F.relu(1 - s.float()).mean() for s, _ in student]).mean()
    distances = [
        (s.float() - t.float()).abs().mean() / t.float().abs().mean().clamp_min(1e-4)
        for (_, t_all), (_, s_all) in zip(teacher, student, strict=True)
        for t, s in zip(t_all, s_all, strict=True)
    ]
    return adversarial, torch.stack(distances).mean()
