import numpy as np
import pytest

from ttsopt_lib.listening.clips import TARGET_LUFS, ClipWriter
from ttsopt_lib.listening.loudness import k_weighting, loudness


def sine(hertz: float, decibels: float, seconds: float, rate: int) -> np.ndarray:
    return 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_the_filters_are_those_of_the_standard_at_48_khz():
    shelf, highpass = k_weighting(48000)
    b = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    a = [1.0, -1.69065929318241, 0.73248077421585]
    assert shelf == pytest.approx([*b, *a], abs=1e-9)
    assert highpass == pytest.approx([1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621], abs=1e-9)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_a_sine_of_997_hz_at_full_scale_has_minus_3_lufs(rate):
    assert loudness(sine(997, 0, 5, rate), rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(sine(997, -20, 5, rate), rate) == pytest.approx(-23.01, abs=0.05)


def test_pauses_and_faint_passages_do_not_count():
    rate = 48000
    # EBU Tech 3341, case 3, on one channel: -36, -23 (from -20 dBFS of one sine), -36
    parts = [sine(997, level, seconds, rate) for level, seconds in ((-33, 10), (-20, 60), (-33, 10))]
    assert loudness(np.concatenate(parts), rate) == pytest.approx(-23.01, abs=0.1)
    assert loudness(np.concatenate([parts[1], np.zeros(60 * rate)]), rate) == pytest.approx(-23.01, abs=0.1)
    assert loudness(np.zeros(rate), rate) == float("-inf")


def test_every_clip_is_equally_loud_and_none_clips(tmp_path):
    import soundfile

    rate, generator = 22050, np.random.default_rng(0)
    soft, loud = (level * sine(440, 0, 1, rate).astype(np.float32) for level in (0.01, 0.9))
    peaky = (0.02 * generator.normal(size=rate)).astype(np.float32)
    peaky[::4000] = 1.0
    writer = ClipWriter(tmp_path, rate, [soft, loud, peaky])
    assert writer.target < TARGET_LUFS  # lowered for all, so that the peaks fit
    levels = []
    for audio in (soft, loud, peaky):
        name = writer.write("rated", audio, "acr", "0", "original")
        written = np.asarray(soundfile.read(tmp_path / f"{name}.wav")[0], dtype=np.float64)
        levels.append(loudness(written, rate))
        assert np.abs(written).max() < 0.99
        assert np.ptp(written[:1000] - audio[:1000] * 10 ** (writer.clips[name].gain_db / 20)) < 1e-3  # one gain
    assert levels == pytest.approx([writer.target] * 3, abs=0.1)
