"""The pitch of the teacher's samples, frame by frame and fast enough for every step of a training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHORTEST, LONGEST = 40, 400  # samples of a period: 551 to 55 Hz at 22 050 Hz
CLEAR = 0.6  # of a frame's power that its next period repeats: below it there is no pitch to learn
NEAR_BEST = 0.9  # the shortest lag that is nearly as good as the best: a multiple of a period fits as well


def log_pitch(samples: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """Logarithm of the pitch in cycles per sample, and 1 where it is clear, 0 elsewhere: both [B, T].

    By normalized autocorrelation of windows of four hops, frame t centred on sample (t + 1/2) * hop of `samples`
    [B, T * hop].
    """
    n_fft = 4 * hop
    trim = (n_fft - hop) // 2
    window = torch.hann_window(n_fft, device=samples.device)
    frames = F.pad(samples, (trim, trim)).unfold(1, n_fft, hop)
    longest = min(LONGEST, n_fft // 2)

    def autocorrelation(x: Tensor) -> Tensor:
        power = torch.fft.rfft(x, n=2 * n_fft).abs().square()
        return torch.fft.irfft(power)[..., : longest + 2]

    own = autocorrelation((frames - frames.mean(-1, keepdim=True)) * window)
    alike = own / (own[..., :1] + 1e-6) / (autocorrelation(window) / autocorrelation(window)[0])
    inner = alike[..., 1:-1]
    peak = (inner >= alike[..., :-2]) & (inner >= alike[..., 2:])
    peak[..., : SHORTEST - 1] = False
    heights = torch.where(peak, inner, torch.zeros_like(inner))
    best = heights.amax(-1, keepdim=True)
    lag = (heights >= NEAR_BEST * best).float().argmax(-1) + 1
    clear = (best[..., 0] > CLEAR) & (lag >= SHORTEST)
    left, middle, right = (alike.gather(-1, (lag + k).unsqueeze(-1))[..., 0] for k in (-1, 0, 1))
    between = 0.5 * (left - right) / (left - 2 * middle + right).clamp_max(-1e-6)  # a parabola through three lags
    return -(lag + between.clamp(-0.5, 0.5)).log(), clear.float()
