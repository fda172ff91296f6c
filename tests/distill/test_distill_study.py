"""The students of a study: missing ones are named, trained in turn and published; a command does it all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_training import tiny_settings

from ttsopt_lib import workers
from ttsopt_lib.cli import main
from ttsopt_lib.distill.distillation import STAGES, Stage
from ttsopt_lib.distill.estimate import GB_PER_HOUR, MEASURED, estimate_training
from ttsopt_lib.distill.published import DistillError
from ttsopt_lib.distill.settings import DecoderSettings, SpeechSettings
from ttsopt_lib.distill.study import missing_students, train_students, training_settings
from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.optimize.build import build_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study, Training
from ttsopt_lib.voices.text import read_sentences


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
def test_what_a_training_would_take_is_said_and_nothing_is_trained(
    medium_voice: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    training = {"student": "models/random/student", "corpus": corpus, "minutes": 100.0}
    study = study_with(medium_voice, Path("models/random/student"), training)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"study": study.model_dump(mode="json")}), encoding="utf-8")
    found = estimate_training(study, StudyFolder(study, tmp_path / "reports"))
    assert sum(found.minutes.values()) == pytest.approx(100) and list(found.minutes) == list(STAGES)
    assert 0 < found.speaking_minutes < 20 and 0 < found.hours <= 8 and found.free_gb > 0
    assert found.memory_gb > 1.5 and found.disk_gb > GB_PER_HOUR * found.hours
    one = estimate_training(study, StudyFolder(study, tmp_path / "reports"), 10.0, ["text_encoder"])
    assert one.minutes == {"text_encoder": 10.0} and one.hours == one.speaking_minutes == 0
    assert found.expected == MEASURED[60] and one.expected is None
    monkeypatch.setattr(sys, "argv", ["ttsopt", "distill", "study.yaml", "--estimate", "--minutes", "50"])
    with pytest.raises(SystemExit, match="0"):
        main()
    said = capsys.readouterr().out
    assert "50 min in all" in said and "GB of memory" in said and "after 15 min of one core" in said
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml"}, "nothing is written"


@pytest.mark.slow
def test_a_missing_student_is_trained_published_and_put_into_the_voice(
    medium_voice: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
    monkeypatch.chdir(tmp_path)
    student = Path("models/random/student")  # below the working directory, where it is published
    settings = tiny_settings().model_dump(mode="json")
    training = {"student": student, "corpus": corpus, "short_sentences": 3, "minutes": 1.0, "settings": settings}
    study = study_with(medium_voice, student, training)
    folder = StudyFolder(study, tmp_path / "reports")
    assert missing_students(study) == [student]
    assert missing_students(study, ["fp32"]) == []
    record = train_students(study, folder)
    assert record["best"]["step"] > 0 and missing_students(study) == []
    assert record["corpus_sha256"] == file_sha256(folder.training / "corpus.txt")
    assert len(read_sentences(folder.training / "corpus.txt")) == len(read_sentences(corpus)) + 3
    assert (tmp_path / student / "student.safetensors").is_file()
    original, _, distilled = build_study(study, folder)
    assert distilled.size_bytes < 0.5 * original.size_bytes
    assert distilled.steps[0].coverage.parameters > 0.9 and "text_encoder" in distilled.steps[0].stages


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_named_before_anything_is_trained(
    medium_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TIMEOUT_SECONDS", 0.5)
    student = tmp_path / "student"
    study = study_with(medium_voice, student, {"student": student, "corpus": tmp_path / "none.txt", "minutes": 60.0})
    folder = StudyFolder(study, tmp_path / "reports")
    with pytest.raises(workers.ClusterError, match="no Dask scheduler answers there"):
        train_students(study, folder, dask="tcp://127.0.0.1:9")
    assert not folder.training.exists()


@pytest.mark.parametrize(
    ("start", "stages", "message"),
    [
        ("none", ["decoder"], "student.safetensors: no such file"),
        ("models/en_US-joe-medium/istft-256x8", ["text_encoder"], "holds no student of the text encoder"),
        ("models/en_US-joe-medium/students", ["flow"], "of other sizes than this run's settings"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_the_teacher_says_a_word(
    start: str, stages: list[Stage], message: str, medium_voice: Path, corpus: Path, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    study = study_with(medium_voice, student, {"student": student, "corpus": corpus, "minutes": 60.0})
    folder = StudyFolder(study, tmp_path / "reports")
    with pytest.raises(DistillError, match=message):
        train_students(study, folder, stages=stages, start=resolve(Path(start)))
    assert not list(folder.training.glob("*"))


def test_settings_of_speech_that_are_not_named_stay_its_own() -> None:
    plan = Training(student=Path("s"), corpus=Path("c"), settings={"speech": {"latent_weight": 2}})
    assert training_settings(plan).speech == SpeechSettings(latent_weight=2)
    assert SpeechSettings().hint_steps == 0 and DecoderSettings().hint_steps > 0


def test_a_missing_student_that_nobody_can_train_is_named(medium_voice: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    with pytest.raises(StudyError, match="holds no trained student .* add 'training:"):
        missing_students(study_with(medium_voice, student, None))
    other = {"student": tmp_path / "other", "corpus": "params/sentences/corpus_en.txt"}
    with pytest.raises(StudyError, match="holds no trained student"):
        missing_students(study_with(medium_voice, student, other))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"flow": {"stpes": 3}}, r"flow\.stpes"),
        ({"decoder": {"decoder": {"road": "kept_stage"}}}, r"decoder\.decoder\.road"),  # no longer made
        ({"voice": {}}, "voice"),  # no longer trained
        ({"hours": -1}, "hours"),
        ({"workers": 0}, "workers"),
        ({"decoder": {"decoder": {"blocks": 1}}}, "decoder"),
        ({"decoder": {"decoder": {"channels": 0}}}, r"decoder\.decoder"),
        ({"decoder": {"regression_steps": 0, "adversarial_steps": 0}}, "decoder"),
        ({"text_encoder": {"text_encoder": {"heads": 0}}}, r"text_encoder\.text_encoder"),
        ({"text_encoder": {"durations": {"blocks": 0}}}, r"text_encoder\.durations"),
        ({"flow": {"flow": {"kernel_size": -13}}}, r"flow\.flow"),
        ({"flow": {"segment_frames": 64}}, "flow"),
    ],
)
def test_a_training_setting_that_cannot_be_right_is_named(settings: dict, key: str) -> None:
    plan = Training(student=Path("s"), corpus=Path("c"), settings=settings)
    with pytest.raises(StudyError, match=rf"training\.settings\.{key}: "):
        training_settings(plan)


# `ttsopt` with a random voice: its sentences are short, and any finite figure serves as its quality
COMMAND = """
from ttsopt_lib.cli import main
from ttsopt_lib.distill import validation


class Level:
    def score(self, samples):
        return float(abs(samples).mean())


validation.SHORTEST, validation.load_predictor = 0.1, lambda name: Level()
main()
"""


@pytest.mark.slow
def test_two_processes_train_and_publish_one_student(medium_voice: Path, corpus: Path, tmp_path: Path) -> None:
    student, settings = tmp_path / "student", tiny_settings().model_dump(mode="json")
    training = {"student": student, "corpus": corpus, "minutes": 1.0, "settings": settings}
    study = study_with(medium_voice, student, training)
    (tmp_path / "study.yaml").write_text(json.dumps({"study": study.model_dump(mode="json")}), encoding="utf-8")
    (tmp_path / "command.py").write_text(COMMAND, encoding="utf-8")

    def distill(*arguments: str) -> list[str]:
        started = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "command.py"]
        command = [*started, "distill", "study.yaml", "--threads", "1", *arguments]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    said = distill("--stage", "text_encoder")
    assert len(said) == 2 and "nothing is published before the decoder's student is trained" in said[-1]
    assert not student.exists()
    assert "predicted MOS" in distill()[-1]
    for stage in STAGES:
        path = tmp_path / "reports" / study.name / "training" / stage / "record.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["steps"] == 6 and record["curve"][-1]["step"] == 6
    assert (student / "student.safetensors").is_file()
