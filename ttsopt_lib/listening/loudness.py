"""Programme loudness by ITU-R BS.1770-5: K-weighted, gated, in LUFS; one channel.

The standard gives the two filters of the K-weighting as coefficients at 48 kHz. For other sampling rates they are
designed anew from the same analogue prototypes (centre frequency, quality factor and gain that reproduce the
standard's coefficients at 48 kHz), as every loudness meter does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import sosfilt

BLOCK_SECONDS = 0.4
STEP_SECONDS = 0.1  # blocks overlap by 75 %
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passes the absolute gate
OFFSET = -0.691  # dB; makes a 997 Hz sine of full scale -3.01 LUFS

Array = NDArray[np.float64]


def k_weighting(sample_rate: int) -> Array:
    """The K-weighting as two second-order sections [2, 6]: the head's high shelf, then the high-pass."""
    shelf_hz, shelf_q, shelf_db = 1681.974450955533, 0.7071752369554196, 3.999843853973347
    k = np.tan(np.pi * shelf_hz / sample_rate)
    high = 10 ** (shelf_db / 20)
    band = high**0.4996667741545416
    scale = 1 + k / shelf_q + k * k
    shelf = [
        (high + band * k / shelf_q + k * k) / scale,
        2 * (k * k - high) / scale,
        (high - band * k / shelf_q + k * k) / scale,
        1.0,
        2 * (k * k - 1) / scale,
        (1 - k / shelf_q + k * k) / scale,
    ]
    pass_hz, pass_q = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * pass_hz / sample_rate)
    scale = 1 + k / pass_q + k * k
    highpass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / scale, (1 - k / pass_q + k * k) / scale]
    return np.array([shelf, highpass])


def loudness(waveform: NDArray[np.floating], sample_rate: int) -> float:
    """Integrated loudness of a waveform [samples] in [-1, 1], in LUFS; -inf for silence.

    What is shorter than one block of 0.4 s counts as one block.
    """
    weighted = np.asarray(sosfilt(k_weighting(sample_rate), np.asarray(waveform, dtype=np.float64)))
    block, step = round(BLOCK_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    starts = range(0, max(1, len(weighted) - block + 1), step)
    powers = np.array([np.mean(weighted[start : start + block] ** 2) for start in starts])
    powers = powers[_lufs(powers) > ABSOLUTE_GATE]
    if not len(powers):
        return float("-inf")
    loud = powers[_lufs(powers) > _lufs(powers.mean()) + RELATIVE_GATE]
    return float(_lufs(loud.mean()))


def _lufs(power: ArrayLike) -> Array:
    with np.errstate(divide="ignore"):
        return OFFSET + 10 * np.log10(np.asarray(power, dtype=np.float64))
