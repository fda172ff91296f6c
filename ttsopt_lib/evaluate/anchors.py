"""Anchors: known damage, done to the original's audio, that every predictor has to notice.

A predictor that scores an anchor no lower than the original does not see such damage, and what it says about
the variants is to be read with that in mind. Anchors are scored with the variants, sentence by sentence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

LOWPASS_HZ = 3500
NOISE_SNR_DB = 20
LOWPASS = "lowpass-3.5khz"
NOISE = "noise-20db"
ANCHORS = (LOWPASS, NOISE)


def degrade(anchor: str, waveform: NDArray[np.floating], sample_rate: int, seed: int) -> NDArray[np.float64]:
    """A waveform [samples] with the damage of an anchor; `seed` draws the noise. Raises KeyError: no such anchor."""
    waveform = np.asarray(waveform, dtype=np.float64)
    if anchor == LOWPASS:
        return lowpass(waveform, sample_rate)
    if anchor == NOISE:
        return add_noise(waveform, seed)
    raise KeyError(f"no anchor {anchor!r}; there are {', '.join(ANCHORS)}")


def lowpass(waveform: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Band-limited to 3.5 kHz (telephone speech; MUSHRA's low anchor in ITU-R BS.1534), without delay.

    A Butterworth filter of order 8 run forwards and backwards: -6 dB at 3.5 kHz, below -80 dB from 6.3 kHz
    on.
    """
    sections = butter(8, LOWPASS_HZ, btype="lowpass", fs=sample_rate, output="sos")
    return np.asarray(sosfiltfilt(sections, waveform))


def add_noise(waveform: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """White Gaussian noise added, 20 dB below the utterance's mean power (pauses included)."""
    power = float(np.mean(waveform**2))
    deviation = np.sqrt(power / 10 ** (NOISE_SNR_DB / 10))
    return waveform + np.random.default_rng(seed).normal(0.0, deviation, len(waveform))
