import numpy as np
import pytest
from piper.voice import AudioChunk

from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz


@pytest.mark.slow
def test_samples_are_those_that_piper_writes(spoken):
    chunk = AudioChunk(22050, 2, 1, np.clip(spoken[0] * 2.5, -1, 1), [], [])
    assert np.array_equal(as_written(spoken[0] * 2.5), chunk.audio_int16_array)


@pytest.mark.slow
def test_no_level_is_normalized_away(spoken):
    loud, soft = (as_float(as_written(gain * spoken[0])) for gain in (1.0, 0.5))
    assert np.abs(loud).max() == pytest.approx(np.abs(spoken[0]).max(), abs=1e-4)
    assert soft == pytest.approx(loud / 2, abs=1e-4)
    assert to_16khz(soft, 22050) == pytest.approx(to_16khz(loud, 22050) / 2, abs=2e-4)


def test_resampling_keeps_pitch_level_and_length():
    time = np.arange(22050) / 22050
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    resampled = to_16khz(tone, 22050)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert len(resampled) == 16000 and resampled.dtype == np.float32
    assert resampled[200:-200] == pytest.approx(expected[200:-200], abs=2e-3)
