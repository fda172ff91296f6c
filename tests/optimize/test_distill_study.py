"""The students of a study: missing ones are named, trained in turn and published; a command does it all."""

from pathlib import Path

import pytest

from tests.optimize.test_distill import corpus, tiny_settings  # noqa: F401  (a fixture)
from ttsopt_lib import cluster
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize import student_validation
from ttsopt_lib.optimize.distill_config import DistillConfig, SpeechConfig
from ttsopt_lib.optimize.distill_study import missing_students, train_students, training_settings
from ttsopt_lib.optimize.recipe import build_study
from ttsopt_lib.records import StudyFolder
from ttsopt_lib.study import Study, Training


def study_with(voice: Path, student: Path, training: dict | None) -> Study:
    sentences = Path(__file__).parents[2] / "params" / "sentences" / "harvard.txt"
    span, other = ({"file": str(sentences), "start": start, "count": 2} for start in (0, 10))
    return Study.model_validate(
        {
            "name": "random",
            "voice": {"path": str(voice)},
            "variants": [
                {"name": "fp32"},
                {
                    "name": "distilled",
                    "recipe": [
                        {"step": "distill", "student": str(student)},
                        {"step": "quantize_dynamic"},
                        {"step": "quantize_weights"},
                    ],
                },
            ],
            "sentences": {
                "evaluation": span,
                "calibration": other,
                "timing": {"short": ["Yes."]},
                "listening": ["Yes."],
            },
            "evaluate": {"wer_sentences": 2},
            "training": training,
        }
    )


@pytest.mark.slow
def test_a_missing_student_is_trained_published_and_put_into_the_voice(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(student_validation, "SHORTEST", 0.1)
    monkeypatch.chdir(tmp_path)
    student = Path("models/random/student")  # below the working directory, where it is published
    settings = tiny_settings().model_dump(mode="json")
    study = study_with(
        medium_voice, student, {"student": student, "corpus": corpus, "minutes": 1.0, "settings": settings}
    )
    folder = StudyFolder(study, tmp_path / "reports")
    assert missing_students(study) == [student]
    assert missing_students(study, ["fp32"]) == []
    record = train_students(study, folder)
    assert record["best"]["step"] > 0 and missing_students(study) == []
    assert (tmp_path / student / "student.safetensors").is_file()
    original, _, distilled = build_study(study, folder)
    assert distilled.size_bytes < 0.5 * original.size_bytes
    assert distilled.steps[0].coverage.parameters > 0.9 and "text_encoder" in distilled.steps[0].stages


def test_a_cluster_that_does_not_answer_is_named_before_anything_is_trained(
    medium_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_SECONDS", 0.5)
    student = tmp_path / "student"
    study = study_with(medium_voice, student, {"student": student, "corpus": tmp_path / "none.txt", "minutes": 60.0})
    folder = StudyFolder(study, tmp_path / "reports")
    with pytest.raises(cluster.ClusterError, match="no Dask scheduler answers there"):
        train_students(study, folder, dask="tcp://127.0.0.1:9")
    assert not folder.training.exists()


def test_settings_of_speech_that_are_not_named_stay_its_own() -> None:
    plan = Training(student=Path("s"), corpus=Path("c"), settings={"speech": {"latent_weight": 2}})
    assert training_settings(plan).speech == SpeechConfig(latent_weight=2)
    assert SpeechConfig().hint_steps == 0 and DistillConfig().hint_steps > 0


def test_a_missing_student_that_nobody_can_train_is_named(medium_voice: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    with pytest.raises(StudyError, match="holds no trained student .* add 'training:"):
        missing_students(study_with(medium_voice, student, None))
    other = {"student": tmp_path / "other", "corpus": "params/sentences/corpus_en.txt"}
    with pytest.raises(StudyError, match="holds no trained student"):
        missing_students(study_with(medium_voice, student, other))


def test_a_mistyped_training_setting_is_named() -> None:
    plan = Training(student=Path("s"), corpus=Path("c"), settings={"flow": {"stpes": 3}})
    with pytest.raises(StudyError, match=r"training\.settings\.flow\.stpes: "):
        training_settings(plan)
