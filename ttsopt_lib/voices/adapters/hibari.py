"""hibari-tts as a declared model (`params/models/hibari.yaml`): its own reading of texts, and its own vocoder."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

SEED = 0  # of the noise in the vocoder: the same in every variant


@cache
def _hibari() -> Any:
    from hibari import Hibari

    return Hibari()


def ids(text: str) -> list[int]:
    """What the graph is fed for a text: the phonemes of all its sentences, and a mark at both ends."""
    voice = _hibari()
    return voice.ids(" ".join(voice.phonemize(text)))


def sound(*spectra: np.ndarray) -> np.ndarray:
    """Samples, float32 [samples], of the graph's six outputs for one utterance."""
    from hibari import dsp

    vocoder: Any = dsp.synth
    return vocoder(*(one[0] for one in spectra), np.random.default_rng(SEED))
