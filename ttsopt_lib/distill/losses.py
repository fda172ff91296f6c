"""What a student decoder is told about its waveform: spectral regression that hears phase.

The teacher's waveform is a deterministic function of the latents, so the student is asked for the same
complex spectrum, not just for the same magnitudes. Three distances at each resolution: the log magnitude
(every band counts alike, however quiet), spectral convergence (the linear magnitudes: loud harmonics) and the
complex difference of square-root compressed spectra (phase). The last weighs less: where the phase cannot be
foreseen yet, its optimum is silence.

Where a student cannot foresee the samples, each of these is smallest a little below the teacher's level. `power_loss`
compares the power of bands over a tenth of a second, which is right at the teacher's level and nowhere else.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

RESOLUTIONS = (2048, 1024, 512, 256, 128)
POWER_BANDS, POWER_FRAMES = 24, 8  # of 512 samples every 256: 93 ms
POWER_FLOOR = 1e-9  # (3e-5)^2: one step of a 16-bit sample, and what keeps every root and logarithm differentiable


def unit_gain_stft(samples: Tensor, n_fft: int, hop: int) -> Tensor:
    """[B, N] -> complex [B, bins, frames]; white noise of standard deviation s has bins of about s at every n_fft."""
    window = unit_gain_window(n_fft, samples.device, samples.dtype)
    return torch.stft(samples, n_fft, hop, window=window, center=False, return_complex=True)


@lru_cache
def unit_gain_window(n_fft: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A Hann window [n_fft] with a sum of squares of one."""
    with torch.inference_mode(False):  # kept for steps that need a gradient, whoever asks first
        window = torch.hann_window(n_fft, device=device, dtype=dtype)
        return window / window.square().sum().sqrt()


def spectral_loss(student: Tensor, teacher: Tensor, shift: float = 0.0) -> dict[str, Tensor]:
    """Distances between two waveforms [B, N], each the mean over the resolutions.

    Windows overlap by half; `shift` in [0, 1) moves their grid by that part of a hop, so that over many steps
    every sample is in the middle of some window.
    """
    log_magnitude, convergence, compressed = [], [], []
    for n_fft in RESOLUTIONS:
        hop = n_fft // 2
        start = int(shift * hop)
        s = unit_gain_stft(student[:, start:], n_fft, hop)
        with torch.no_grad():
            t = unit_gain_stft(teacher[:, start:], n_fft, hop)
            t_power = t.real.square() + t.imag.square() + POWER_FLOOR
            t_root = t_power.pow(-0.25)
            t_compressed = torch.view_as_real(t) * t_root.unsqueeze(-1)
            t_log = t_power.log()
        s_power = s.real.square() + s.imag.square() + POWER_FLOOR
        s_compressed = torch.view_as_real(s) * s_power.pow(-0.25).unsqueeze(-1)
        log_magnitude.append(0.5 * (s_power.log() - t_log).abs().mean())
        difference = (s_power.sqrt() - t_power.sqrt()).square().sum()
        convergence.append((difference / t_power.sum() + 1e-8).sqrt())
        compressed.append((s_compressed - t_compressed).abs().sum() / t_compressed.abs().sum().clamp_min(1e-6))
    count = len(RESOLUTIONS)
    return {
        "log_magnitude": torch.stack(log_magnitude).sum() / count,
        "convergence": torch.stack(convergence).sum() / count,
        "complex": torch.stack(compressed).sum() / count,
    }


@lru_cache
def band_edges(bins: int, bands: int, device: torch.device | None = None) -> Tensor:
    """[bands, bins]: which bins each band adds up; bands widen as the mel scale does and none is empty.

    It is made on the processor and kept on `device`: to bring it to a GPU in every step would be to wait for the GPU.
    """
    mel = torch.linspace(0, math.log1p(bins / 16), bands + 1)
    edges = (mel.expm1() * 16).round().long()
    for number in range(1, bands + 1):
        edges[number] = max(int(edges[number]), int(edges[number - 1]) + 1)
    edges[-1] = bins
    bin_numbers = torch.arange(bins)
    return ((bin_numbers >= edges[:-1, None]) & (bin_numbers < edges[1:, None])).float().to(device)


def power_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of log power in `POWER_BANDS` bands over `POWER_FRAMES` frames, of waveforms [B, N]."""
    n_fft = 512
    powers = []
    for samples in (student, teacher):
        spectrum = unit_gain_stft(samples, n_fft, n_fft // 2)
        power = spectrum.real.square() + spectrum.imag.square()
        bands = band_edges(power.shape[1], POWER_BANDS, power.device) @ power
        powers.append((F.avg_pool1d(bands, POWER_FRAMES, POWER_FRAMES // 2) + POWER_FLOOR).log())
    return 0.5 * (powers[0] - powers[1]).abs().mean()
