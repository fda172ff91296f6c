"""What spectra say: the level above 8 kHz, and the log-spectral distance of two waveforms.

Predictors hear 16 kHz audio, so nothing above 8 kHz reaches them: the hiss that int8 arithmetic adds there shows in
plain figures only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGE_HZ = 8000
FLOOR_DB = -120.0  # digital silence has no level in dB, and JSON has no infinity
N_FFT = 1024
HOP = N_FFT // 4


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


def log_spectral_distance_db(
    made: NDArray[np.floating], reference: NDArray[np.floating], sample_rate: int, above_hz: float = 0.0
) -> NDArray[np.float64]:
    """Log-spectral distance of two waveforms [samples] in dB, frame by frame [frames].

    The root mean square, over the bins at and above `above_hz`, of the difference of the two power spectra in dB
    (Gray and Markel, 1976). It counts every difference, heard or not: another draw of the voice's noise alone gives
    some dB. What one waveform is longer than the other does not count.
    """
    samples = min(len(made), len(reference))
    difference = log_power_db(made[:samples]) - log_power_db(reference[:samples])
    first = int(np.ceil(above_hz * N_FFT / sample_rate))
    return np.sqrt(np.mean(difference[:, first:] ** 2, axis=1))


def log_power_db(waveform: NDArray[np.floating], floor_db: float = FLOOR_DB) -> NDArray[np.float64]:
    """Short-time power of a waveform in [-1, 1], in dB, [frames, bins]; a full-scale sine has -6 dB in its bin.

    Windows of 1024 samples (Hann), a quarter apart, centred. The power of `floor_db` is added to each.
    """
    short = max(0, N_FFT // 2 + 1 - len(waveform))  # reflecting half a window takes more samples than that
    padded = np.pad(np.pad(np.asarray(waveform, dtype=np.float64), (0, short)), N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    power = np.abs(np.fft.rfft(frames * (window / window.sum()))) ** 2
    return 10 * np.log10(power + 10 ** (floor_db / 10))
