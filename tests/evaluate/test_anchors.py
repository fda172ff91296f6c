import numpy as np
import pytest

from ttsopt_lib.evaluate.anchors import ANCHORS, LOWPASS, NOISE, degrade


def test_noise_anchor_has_the_stated_signal_to_noise_ratio(spoken):
    noise = degrade(NOISE, spoken[0], 22050, seed=3) - spoken[0]
    ratio = 10 * np.log10(np.mean(spoken[0].astype(float) ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(20, abs=0.2)


@pytest.mark.parametrize(("hz", "low", "high"), [(1000, -0.1, 0.1), (3500, -6.2, -5.8), (6300, -200, -80)])
def test_lowpass_anchor_ends_at_3500_hz(hz, low, high):
    tone = np.sin(2 * np.pi * hz * np.arange(22050) / 22050)
    filtered = degrade(LOWPASS, tone, 22050, seed=0)[5000:-5000]
    assert low <= 10 * np.log10(np.mean(filtered**2) / 0.5) <= high


def test_anchors_are_the_same_every_time(spoken):
    for anchor in ANCHORS:
        first, second = (degrade(anchor, spoken[0], 22050, seed=3) for _ in range(2))
        assert np.array_equal(first, second)
    with pytest.raises(KeyError, match="lowpass"):
        degrade("hum", spoken[0], 22050, seed=0)
