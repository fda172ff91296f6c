import numpy as np
import pytest
import torch

from ttsopt_lib.evaluate.signal.spectrum import (
    FLOOR_DB,
    has_band_above_8khz,
    level_above_8khz_db,
    log_power_db,
    log_spectral_distance_db,
)


def tone(hz: float, amplitude: float, count: int = 22050) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(count) / 22050)).astype(np.float32)


@pytest.mark.parametrize("count", [22050, 11025])
def test_level_of_a_tone_above_8_khz_is_its_mean_square(count):
    assert level_above_8khz_db(tone(9000, 0.1, count), 22050) == pytest.approx(10 * np.log10(0.005), abs=0.01)


def test_what_lies_below_8_khz_does_not_count():
    mixed = tone(9000, 0.001) + tone(500, 0.9)
    assert level_above_8khz_db(mixed, 22050) == pytest.approx(10 * np.log10(0.001**2 / 2), abs=0.05)


def test_silence_has_the_floor_and_a_16_khz_voice_no_such_band():
    assert level_above_8khz_db(np.zeros(1000, np.float32), 22050) == FLOOR_DB
    assert not has_band_above_8khz(16000)
    assert has_band_above_8khz(22050)


def test_half_the_amplitude_is_6_db_in_every_bin_and_frame():
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    distances = log_spectral_distance_db(noise / 2, noise, 22050)
    assert distances == pytest.approx(np.full(1 + 8000 // 256, 20 * np.log10(2)), abs=0.01)
    assert log_spectral_distance_db(noise, noise, 22050).max() == 0


def test_distance_above_8_khz_sees_only_what_is_there():
    speech = tone(500, 0.5) + np.random.default_rng(0).normal(0, 1e-3, 22050)
    hissing = speech + tone(9000, 0.1)
    assert log_spectral_distance_db(hissing, speech, 22050, 8000).mean() > 5
    muffled = speech - 0.25 * tone(500, 1.0)
    inside = log_spectral_distance_db(muffled, speech, 22050, 8000)[2:-2]  # reflected ends have clicks, which are wide
    assert inside.max() < 0.1


def test_distance_is_that_of_the_short_time_spectra_of_pytorch():
    generator = np.random.default_rng(0)
    one, other = generator.normal(0, 0.1, (2, 5000)).astype(np.float32)
    window = torch.hann_window(1024) / torch.hann_window(1024).sum()
    powers = [
        torch.stft(torch.from_numpy(w), 1024, 256, window=window, return_complex=True).abs().numpy() ** 2
        for w in (one, other[:4900])
    ]
    frames = powers[1].shape[1] - 3  # reflection at the ends differs where lengths do
    decibels = [10 * np.log10(power[:, :frames] + 1e-12) for power in powers]
    expected = np.sqrt(np.mean((decibels[0] - decibels[1]) ** 2, axis=0))
    assert log_spectral_distance_db(one, other[:4900], 22050)[:frames] == pytest.approx(expected, abs=1e-3)


def test_audio_shorter_than_a_window_has_a_distance():
    short = tone(500, 0.5, count=200)
    assert np.isfinite(log_spectral_distance_db(short, 0.5 * short, 22050)).all()


def test_a_full_scale_sine_has_half_of_its_amplitude_in_its_bin():
    frame = log_power_db(tone(100 * 22050 / 1024, 1.0), floor_db=-100.0)[10]
    assert np.argmax(frame) == 100 and frame.max() == pytest.approx(-6.02, abs=0.01) and frame.min() >= -100
