import numpy as np
import pytest

from ttsopt_lib.evaluate.spectrum import FLOOR_DB, has_band_above_8khz, level_above_8khz_db


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
