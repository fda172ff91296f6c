"""From a voice's float output to the samples that are heard and scored, and to the 16 kHz that predictors want."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

PREDICTOR_RATE = 16000  # Hz, of both predictors and of Whisper
FULL_SCALE = 32767


def as_written(waveform: NDArray[np.floating]) -> NDArray[np.int16]:
    """The 16-bit samples that `piper --no-normalize` writes of a float waveform in [-1, 1].

    Clipped and truncated as piper-tts does it, with the gain of 1 for every variant. (Without that option
    piper scales each utterance to its peak, which would hide a variant that speaks more softly.)
    """
    return np.clip(np.asarray(waveform) * FULL_SCALE, -FULL_SCALE, FULL_SCALE).astype(np.int16)


def as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit samples as float32 in [-1, 1), as every WAV reader gives them."""
    return samples.astype(np.float32) / np.float32(32768)


def to_16khz(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Resample with SciPy's polyphase filter (Kaiser window, 320/441 for 22 050 Hz), the same for every variant.

    Scores depend a little on the resampler, above all where there is energy near 8 kHz: compare scores only
    with scores that were made with the same one.
    """
    if sample_rate == PREDICTOR_RATE:
        return waveform
    common = gcd(sample_rate, PREDICTOR_RATE)
    resampled = resample_poly(waveform, PREDICTOR_RATE // common, sample_rate // common)
    return np.asarray(resampled, dtype=np.float32)
