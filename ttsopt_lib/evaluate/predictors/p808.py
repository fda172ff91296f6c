"""DNSMOS P.808: predicts the ratings of an ITU-T P.808 listening test (Reddy, Gopal & Cutler, ICASSP 2021).

The network is `model_v8.onnx` of the `speechmos` package (MIT). That package's own function always runs a
second, ten times slower network and needs librosa; here the P.808 network runs alone on the same features,
which the tests hold against the package's own scores. What is predicted: the overall impression. What is not:
the separate ratings of signal and background of P.835.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.signal.mel import mel_spectrum
from ttsopt_lib.voices.session import open_session

RATE = 16000  # Hz
SEGMENT_SECONDS = 9.01  # what the network hears at once
SEGMENT = int(SEGMENT_SECONDS * RATE)
WINDOW = 321  # samples of the transform; its windows overlap by half
HOP = 160
BANDS = 120


class P808:
    """The P.808 network, on one thread."""

    def __init__(self, weights: Path):
        self.session = open_session(weights)

    def score(self, waveform: NDArray[np.float32]) -> float:
        """Predicted MOS, 1 to 5, of a 16 kHz waveform [samples] in [-1, 1].

        As in the reference code, a shorter utterance is doubled until it fills 9.01 s, and a longer one is
        scored every second and averaged. The segment's end is rounded as there, too: some come out one sample
        short and do not count.
        """
        while len(waveform) < SEGMENT:
            waveform = np.concatenate([waveform, waveform])
        hops = int(len(waveform) // RATE - SEGMENT_SECONDS) + 1
        starts = [second * RATE for second in range(hops)]
        whole = [start for start in starts if int((start / RATE + SEGMENT_SECONDS) * RATE) - start == SEGMENT]
        return float(np.mean([self._score(mel) for mel in segment_mels(waveform, whole)]))

    def _score(self, mel: NDArray[np.float64]) -> float:
        """Of the power in mel bands [frames, 120]; the network hears decibels, from -80 to 0, mapped to [-1, 1]."""
        floored = np.maximum(mel, 1e-10)
        decibels = np.maximum(10 * np.log10(floored / floored.max()), -80.0)
        (score,) = self.session.run(None, {"input_1": ((decibels + 40) / 40)[None].astype(np.float32)})
        return float(np.asarray(score)[0, 0])


def segment_mels(waveform: NDArray[np.float32], starts: list[int]) -> Iterator[NDArray[np.float64]]:
    """Power in mel bands of the segments that begin at `starts` (whole hops), each [frames, 120].

    Segments overlap, so the frames of the whole waveform are computed once. Only the frames at a segment's ends, where
    silence lies beside it, are its own: the first and the last.
    """
    shared, length = _mel(waveform), SEGMENT - HOP  # the network hears one hop less
    for start in starts:
        first, end = start // HOP, start + length
        head, tail = _mel(waveform[start : start + WINDOW]), _mel(waveform[end - 3 * HOP : end])
        yield np.concatenate([head[:1], shared[first + 1 : first + length // HOP - 1], tail[-1:]])


def _mel(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    return mel_spectrum(waveform, RATE, n_fft=WINDOW, hop=HOP, bands=BANDS)
