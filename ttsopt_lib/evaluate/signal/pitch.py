"""The fundamental frequency (F0), and how far a variant's is from the original's.

F0 comes from Praat's autocorrelation method (Boersma, 1993) through `praat-parselmouth`, every 10 ms. Two
utterances are compared frame by frame, so they must have the same durations.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP_SECONDS = 0.01
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0  # deep men's to high women's voices


class PitchError(NamedTuple):
    """How far one utterance's F0 is from another's."""

    cents: float | None  # median absolute difference over frames voiced in both (100: a semitone); None: no such frame
    voicing: float  # fraction of all frames that are voiced in one and not in the other


def missing_pitch_tracker() -> str | None:
    """Why F0 cannot be measured here; None where it can."""
    if importlib.util.find_spec("parselmouth") is None:
        return "package praat-parselmouth is not installed: pip install praat-parselmouth"
    return None


def pitch(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """F0 in Hz of a waveform [samples], one value every 10 ms [frames]; 0 where it is unvoiced.

    No frames for audio that is shorter than three periods of the lowest F0 (50 ms), which has none.
    """
    import parselmouth

    if len(waveform) < sample_rate * 3.5 / LOWEST_HZ:
        return np.zeros(0)
    sound = parselmouth.Sound(waveform.astype(np.float64), sampling_frequency=sample_rate)
    found = sound.to_pitch_ac(time_step=STEP_SECONDS, pitch_floor=LOWEST_HZ, pitch_ceiling=HIGHEST_HZ)
    return np.asarray(found.selected_array["frequency"], dtype=np.float64)


def pitch_error(made: NDArray[np.float64], reference: NDArray[np.float64]) -> PitchError:
    """Compare two tracks of `pitch` [frames], frame by frame; what one is longer does not count."""
    frames = min(len(made), len(reference))
    made, reference = made[:frames], reference[:frames]
    voiced, expected = made > 0, reference > 0
    both = voiced & expected
    cents = 1200 * np.abs(np.log2(made[both] / reference[both]))
    return PitchError(
        cents=float(np.median(cents)) if len(cents) else None,
        voicing=float(np.mean(voiced != expected)) if frames else 0.0,
    )
