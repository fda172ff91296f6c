"""Speaker similarity: does a variant still sound like the same person?

The speaker encoder of the package `resemblyzer` (GE2E, Wan et al., ICASSP 2018; Apache-2.0) turns an utterance into
a vector; the similarity of two utterances is the cosine of their vectors: 1 is the same, and 0 as different as this
encoder can say. What counts as the same voice is not known beforehand: the report prints the original against itself
with other noise beside it.

The package's own code runs: its volume, its trimming of silence (`webrtcvad`), its network. Only `librosa`, which
it uses for one mel spectrum, is stood in for, so that its dependencies are not needed; the tests hold the vectors
against those made with librosa.
"""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.code_hash import versions
from ttsopt_lib.evaluate.predictors.stand_ins import stand_in
from ttsopt_lib.evaluate.signal.mel import mel_spectrum
from ttsopt_lib.files import file_sha256
from ttsopt_lib.records.quality import PredictorRecord

ADVICE = "pip install webrtcvad-wheels, then pip install --no-deps resemblyzer"


def encoder_weights() -> Path | str:
    """The encoder's file of weights, or the reason why speakers cannot be compared here."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or not spec.submodule_search_locations:
        return f"package resemblyzer is not installed: {ADVICE}"
    if importlib.util.find_spec("webrtcvad") is None:
        return f"package webrtcvad is not installed: {ADVICE}"
    weights = Path(spec.submodule_search_locations[0]) / "pretrained.pt"
    return weights if weights.is_file() else f"{weights} is missing: install package resemblyzer again"


def describe_encoder() -> PredictorRecord | str:
    """The encoder with its version and the hash of its weights, or the reason why there is none."""
    weights = encoder_weights()
    if isinstance(weights, str):
        return weights
    found = versions(["resemblyzer"])["resemblyzer"] or "of unknown version"
    return PredictorRecord(name="resemblyzer", label="Resemblyzer", version=found, weights_sha256=file_sha256(weights))


def embed(waveform: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The speaker vector [256], of length 1, of a 16 kHz waveform [samples]; None where it holds no speech."""
    if not waveform.any():
        return None
    audio, encoder = _load()
    trimmed = audio.preprocess_wav(np.asarray(waveform, dtype=np.float32))
    if not len(trimmed):
        return None
    return np.asarray(encoder.embed_utterance(trimmed), dtype=np.float32)


def similarity(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float | None:
    """Cosine of two speaker vectors [256]; None where one of them is missing."""
    return None if one is None or other is None else float(np.clip(one @ other, -1.0, 1.0))


@cache
def _load() -> tuple[Any, Any]:
    """The package's audio functions and its encoder, once per process."""
    with warnings.catch_warnings(), stand_in("librosa", feature=SimpleNamespace(melspectrogram=_melspectrogram)):
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports from an old address in SciPy
        from resemblyzer import VoiceEncoder, audio
    return audio, VoiceEncoder("cpu", verbose=False).eval()


def _melspectrogram(y: NDArray[np.float32], sr: int, n_fft: int, hop_length: int, n_mels: int) -> NDArray[np.float32]:
    """What the encoder calls in librosa, [bands, frames]."""
    return mel_spectrum(y, sr, n_fft=n_fft, hop=hop_length, bands=n_mels).T.astype(np.float32)
