"""The teacher's pitch, frame by frame: right on known pitches, silent where there is none."""

import math

import pytest
import torch

from ttsopt_lib.optimize.pitch_targets import log_pitch

HOP = 256


def voice(cycles: torch.Tensor) -> torch.Tensor:
    """Ten harmonics at a pitch of so many cycles per sample, [N] -> [1, N]."""
    phase = 2 * math.pi * cycles.cumsum(0)
    return torch.stack([torch.sin(k * phase) / k for k in range(1, 11)]).sum(0)[None] * 0.1


@pytest.mark.parametrize("hertz", [70.0, 110.0, 237.0, 400.0])
def test_a_steady_pitch_is_found_within_a_few_cents(hertz: float) -> None:
    samples = voice(torch.full((40 * HOP,), hertz / 22050))
    found, clear = log_pitch(samples, HOP)
    assert found.shape == clear.shape == (1, 40)
    inner = slice(3, -3)
    assert (clear[0, inner] == 1).all()
    cents = 1200 * (found[0, inner] - math.log(hertz / 22050)) / math.log(2)
    assert cents.abs().max() < 20


def test_a_glide_is_followed() -> None:
    cycles = torch.linspace(100, 200, 60 * HOP) / 22050
    found, clear = log_pitch(voice(cycles), HOP)
    middles = cycles[HOP // 2 :: HOP].log()
    assert (clear[0, 3:-3] == 1).all()
    assert (found[0] - middles)[3:-3].abs().max() < math.log(2) * 60 / 1200


def test_noise_and_silence_have_no_pitch() -> None:
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(1, 60 * HOP)
    assert log_pitch(noise, HOP)[1].mean() < 0.05
    assert log_pitch(torch.zeros(1, 20 * HOP), HOP)[1].sum() == 0
