import numpy as np
import pytest

from ttsopt_lib.evaluate.signal.pitch import missing_pitch_tracker, pitch, pitch_error


def voice(hz: float, seconds: float = 0.6, silent: float = 0.3, rate: int = 22050) -> np.ndarray:
    """Harmonics of `hz`, then silence."""
    time = np.arange(int(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * hz * number * time) / number for number in range(1, 12))
    return np.concatenate([0.1 * sound, np.zeros(int(silent * rate))]).astype(np.float32)


@pytest.mark.parametrize("hz", [85.0, 130.0, 240.0])
def test_the_frequency_of_a_voice_is_found_every_10_ms(hz):
    track = pitch(voice(hz), 22050)
    voiced = track[track > 0]
    assert len(track) == pytest.approx(90, abs=6) and 0.5 < len(voiced) / len(track) < 0.75
    assert np.median(voiced) == pytest.approx(hz, rel=0.002)


def test_a_semitone_is_100_cents_and_silence_in_place_of_voice_a_disagreement():
    reference = pitch(voice(120.0), 22050)
    higher = pitch_error(pitch(voice(120.0 * 2 ** (1 / 12)), 22050), reference)
    assert higher.cents == pytest.approx(100, abs=2) and higher.voicing < 0.05
    shorter = pitch_error(pitch(voice(120.0, seconds=0.3, silent=0.6), 22050), reference)
    assert shorter.cents == pytest.approx(0, abs=1) and shorter.voicing == pytest.approx(1 / 3, abs=0.05)


def test_where_nothing_is_voiced_there_is_no_error_to_give():
    silence = np.zeros(22050, np.float32)
    found = pitch_error(pitch(silence, 22050), pitch(voice(120.0), 22050))
    assert found.cents is None and found.voicing > 0.5
    assert len(pitch(np.zeros(300, np.float32), 22050)) == 0
    assert pitch_error(np.zeros(0), np.zeros(0)).voicing == 0.0


def test_without_the_package_there_is_a_reason(monkeypatch):
    assert missing_pitch_tracker() is None
    monkeypatch.setattr("ttsopt_lib.evaluate.signal.pitch.importlib.util.find_spec", lambda name: None)
    assert "pip install praat-parselmouth" in (missing_pitch_tracker() or "")
