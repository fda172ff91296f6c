import sys
from math import pi

import numpy as np
import pytest

from ttsopt_lib.evaluate.predictors import speaker
from ttsopt_lib.evaluate.predictors.speaker import describe_encoder, embed, similarity
from ttsopt_lib.evaluate.signal.mel import mel_spectrum
from ttsopt_lib.records.quality import PredictorRecord

# Every sixteenth number of the vectors that resemblyzer 0.1.4's own functions gave with librosa 0.11 for `speechlike`.
# fmt: off
PACKAGE_VECTORS = {
    1.0: [0.124028, 0.050356, 0.0, 0.05493, 0.111644, 0.0, 3.4e-05, 0.0, 0.004862, 0.006712, 0.038702, 0.075184,
          0.0, 0.0, 0.0, 0.0213],
    2.5: [0.0, 0.025441, 0.0, 0.109358, 0.108438, 0.0, 0.032001, 0.0, 0.051561, 0.059359, 0.0, 0.042994, 0.0, 0.0,
          0.0, 0.039149],
    6.0: [0.003106, 0.034742, 0.008265, 0.103097, 0.111512, 0.0, 0.037702, 0.0, 0.080233, 0.059407, 0.0, 0.070938,
          0.005204, 0.0, 0.006858, 0.06092],
}
# fmt: on


@pytest.mark.parametrize("seconds", PACKAGE_VECTORS)
def test_vectors_are_those_of_the_package_with_librosa(seconds, speechlike):
    vector = embed(speechlike(seconds))
    assert vector is not None and vector.shape == (256,)
    assert vector[::16] == pytest.approx(PACKAGE_VECTORS[seconds], abs=1e-5)


@pytest.mark.slow
def test_a_voice_is_nearer_to_itself_than_to_a_higher_one(heard):
    """Played a third faster, the same words come from another, smaller person."""
    first, second = (embed(waveform) for waveform in heard[:2])
    faster = np.interp(np.arange(0, len(heard[0]) - 1, 4 / 3), np.arange(len(heard[0])), heard[0])
    other = embed(faster.astype(np.float32))
    same, different = similarity(first, second), similarity(first, other)
    assert same is not None and different is not None
    assert similarity(first, first) == pytest.approx(1.0)
    assert same > 0.75 > different


def test_silence_has_no_speaker():
    assert embed(np.zeros(16000, np.float32)) is None
    assert similarity(None, np.full(256, 1 / 16, np.float32)) is None


def test_the_encoder_is_named_with_version_and_hash(monkeypatch):
    found = describe_encoder()
    assert isinstance(found, PredictorRecord) and found.version == "0.1.4" and len(found.weights_sha256) == 64
    monkeypatch.setattr(speaker.importlib.util, "find_spec", lambda name: None)
    reason = describe_encoder()
    assert isinstance(reason, str) and "pip install --no-deps resemblyzer" in reason


@pytest.mark.slow
def test_librosa_is_only_stood_in_for_during_the_import(heard):
    before = sys.modules.get("librosa")
    embed(heard[0])
    assert sys.modules.get("librosa") is before


def test_a_tone_lies_in_the_band_that_holds_it():
    time = np.arange(16000) / 16000
    energy = mel_spectrum(np.sin(2 * pi * 1000 * time), 16000, n_fft=400, hop=160, bands=40).mean(axis=0)
    # on Slaney's scale 1000 Hz is 15 mel and 8000 Hz 45.245: 41 steps, and band n is centred on n + 1 of them
    assert energy.argmax() == round(15 / (45.245 / 41)) - 1
    half = mel_spectrum(np.sin(2 * pi * 1000 * time) / 2, 16000, n_fft=400, hop=160, bands=40, exponent=1.0)
    whole = mel_spectrum(np.sin(2 * pi * 1000 * time), 16000, n_fft=400, hop=160, bands=40, exponent=1.0)
    assert whole == pytest.approx(2 * half)
