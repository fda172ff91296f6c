"""What is said, or refused, before the first minute of work: a study that its voice contradicts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ttsopt_lib.distill.published import DistillError
from ttsopt_lib.distill.study import train_students
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study, Training, VoiceSource
from ttsopt_lib.voices.piper import VoiceError


@pytest.fixture
def asked(plain_voice: Path, tmp_path: Path) -> Callable[..., Study]:
    """A small study in English of a voice whose config is changed as told."""

    def make(speaker: int | None = None, **config: object) -> Study:
        path = tmp_path / "voice.onnx"
        shutil.copyfile(plain_voice, path)
        raw = json.loads(Path(f"{plain_voice}.json").read_text(encoding="utf-8"))
        raw["phoneme_id_map"]["ɜ"] = [63]  # of "birch"
        Path(f"{path}.json").write_text(json.dumps({**raw, **config}), encoding="utf-8")
        sentences = {
            "evaluation": {"file": "params/sentences/harvard.txt", "count": 3},
            "calibration": {"file": "params/sentences/harvard.txt", "start": 10, "count": 2},
            "timing": {"one_word": ["Go."]},
            "listening": ["Low rows."],
        }
        voice = VoiceSource(path=path, speaker=speaker)
        values = {"name": "asked", "voice": voice, "variants": [{"name": "fp32"}], "sentences": sentences}
        return check(Study, {**values, "language": "en", "evaluate": {"wer_sentences": 0}}, "study")

    return make


def test_nothing_is_said_of_what_fits(asked):
    assert check_inputs(asked()) == []


def test_the_default_studys_language_is_said():
    assert read_study(resolve(Path("params/joe.yaml"))).language == "en"


def test_a_speaker_whom_the_voice_does_not_have_is_refused(asked):
    with pytest.raises(VoiceError, match=r"voice\.speaker: 3, but the voice has one speaker"):
        check_inputs(asked(speaker=3))


def test_texts_of_another_language_are_said_and_not_trained_on(asked, tmp_path: Path):
    study = asked(espeak={"voice": "de"})
    said = check_inputs(study)
    assert said[0].startswith("language: the study's texts are in 'en', but the voice speaks 'de'")
    training = Training(student=Path("student"), corpus=Path("params/sentences/corpus_en.txt"))
    study = study.model_copy(update={"training": training})
    with pytest.raises(VoiceError, match=r"corpus_en\.txt: language: .* leave 'language' out"):
        train_students(study, StudyFolder(study, tmp_path), minutes=1)
    assert not (tmp_path / "training").exists()


def test_students_are_not_published_over_what_is_no_student(asked, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    training = Training(student=tmp_path / "mine", corpus=Path("params/sentences/corpus_en.txt"))
    study = asked().model_copy(update={"training": training})
    with pytest.raises(DistillError, match=r"mine: holds thesis\.txt, which publishing students would remove"):
        train_students(study, StudyFolder(study, tmp_path / "reports"), minutes=1)
    training = training.model_copy(update={"student": tmp_path / "mine" / "thesis.txt"})
    with pytest.raises(DistillError, match=r"thesis\.txt: is a file; name a folder"):
        study = study.model_copy(update={"training": training})
        train_students(study, StudyFolder(study, tmp_path / "reports"), minutes=1)
    assert not (tmp_path / "reports").exists()


def test_what_the_voice_cannot_speak_is_one_warning_with_counts(asked, config_of, caplog):
    known = {"ɜ": [63]} | {symbol: ids for symbol, ids in config_of(64)["phoneme_id_map"].items() if symbol not in "ʊɹ"}
    (said,) = check_inputs(asked(phoneme_id_map=known))
    assert "ʊ (" in said and "ɹ (" in said and "of 5 texts" in said and not caplog.records
