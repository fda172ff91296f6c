"""Mel spectra as librosa makes them, without librosa: networks were trained on these features.

`librosa.feature.melspectrogram`: centred frames, periodic Hann window, Slaney's mel bands of unit area. One of its
dependencies compiles code at run time and sets bounds on numpy; these few lines replace it for every network that is
loaded here (`evaluate/predictors/p808.py`, `evaluate/predictors/speaker.py`,
`evaluate/predictors/hub_predictors.py`).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Slaney's scale: linear (3 mel per 200 Hz) up to 1 kHz, above it 27 mel per factor of 6.4.
_LINEAR = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR
_LOG_STEP = np.log(6.4) / 27


def mel_spectrum(
    waveform: NDArray[np.floating],
    rate: int,
    *,
    n_fft: int,
    hop: int,
    bands: int,
    window: int | None = None,
    highest_hz: float | None = None,
    exponent: float = 2.0,
    edges: Literal["constant", "reflect"] = "constant",
) -> NDArray[np.float64]:
    """Energy in mel bands, [frames, bands].

    Args:
        waveform: [samples].
        rate: samples per second.
        n_fft: length of the transform.
        hop: samples from one frame to the next.
        bands: how many.
        window: length of the Hann window in the middle of a frame; None: `n_fft`.
        highest_hz: upper edge of the last band; None: half the sampling rate.
        exponent: 2 for power, 1 for magnitude.
        edges: what lies before and after the waveform: silence, or its reflection.
    """
    padded = np.pad(waveform.astype(np.float64), n_fft // 2, mode=edges)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    length = window or n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (n_fft - length) // 2
    weights = np.pad(hann, (before, n_fft - length - before))
    magnitude = np.abs(np.fft.rfft(frames * weights))
    return magnitude**exponent @ mel_filters(rate, n_fft, bands, highest_hz or rate / 2).T


@cache
def mel_filters(rate: int, n_fft: int, bands: int, highest_hz: float) -> NDArray[np.float64]:
    """Triangular bands of unit area [bands, n_fft // 2 + 1] on Slaney's scale (Auditory Toolbox, 1998) from 0 Hz."""
    edges = _slaney_hz(np.linspace(0.0, _slaney_mel(highest_hz), bands + 2))
    frequencies = np.fft.rfftfreq(n_fft, 1 / rate)
    distance = edges[:, None] - frequencies[None]
    width = np.diff(edges)[:, None]
    rising = -distance[:-2] / width[:-1]
    falling = distance[2:] / width[1:]
    return np.maximum(0.0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _slaney_mel(hz: float) -> float:
    return hz / _LINEAR if hz < _KNEE_HZ else _KNEE_MEL + float(np.log(hz / _KNEE_HZ)) / _LOG_STEP


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < _KNEE_MEL, mel * _LINEAR, _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL)))
