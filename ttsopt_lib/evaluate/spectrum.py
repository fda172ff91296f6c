"""The level above 8 kHz: a plain figure for the hiss that int8 arithmetic adds where predictors do not listen.

Both predictors hear 16 kHz audio, so nothing above 8 kHz reaches them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGE_HZ = 8000
FLOOR_DB = -120.0  # digital silence has no level in dB, and JSON has no infinity


def has_band_above_8khz(sample_rate: int) -> bool:
    """Whether audio of this rate (Hz) can hold anything above 8 kHz."""
    return sample_rate > 2 * EDGE_HZ


def level_above_8khz_db(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Mean power above 8 kHz of a waveform [samples] in [-1, 1], in dB re a mean square of 1.

    By Parseval's theorem over the whole utterance. (A full-scale sine has -3 dB on this scale.)
    """
    count = len(waveform)
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(count, 1 / sample_rate)
    # Each bin stands for itself and its mirror; at half the sampling rate of an even count there is no mirror.
    mirrored = np.where((np.arange(len(power)) == count / 2), 1.0, 2.0)
    mean_square = float(np.sum((power * mirrored)[frequencies >= EDGE_HZ])) / count**2
    return max(FLOOR_DB, 10 * float(np.log10(max(mean_square, 1e-30))))
