"""All students together: the text encoder learns what the flow makes of its prior, and the others go on as before."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.optimize.test_distill import corpus, listener, shards, tiny_settings, whole_run  # noqa: F401  (fixtures)
from ttsopt_lib.optimize import student_validation
from ttsopt_lib.optimize.distill import Distillation, fit_to_voice
from ttsopt_lib.optimize.student_files import DistillError, load_student, publish_student
from ttsopt_lib.optimize.utterances import Utterances
from ttsopt_lib.optimize.voice_training import SpokenTexts, VoiceTrainer
from ttsopt_lib.voices.piper import load_piper, open_piper


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A run of its own in which all other trainings are done."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


def voice_trainer(voice: Path, corpus: Path, run: Path, **changes: Any) -> VoiceTrainer:  # noqa: F811
    settings = tiny_settings()
    settings = settings.model_copy(update={"voice": settings.voice.model_copy(update=changes)})
    (run / "voice").mkdir(exist_ok=True)
    trainer = Distillation(voice, corpus, run, settings).speech_trainer("voice", run / "voice", None)
    assert isinstance(trainer, VoiceTrainer)
    return trainer


@pytest.mark.slow
def test_the_teachers_own_encoder_gives_the_samples_of_the_prior_that_were_stored(
    medium_voice: Path,
    shards: list[Path],  # noqa: F811
) -> None:
    teacher = load_piper(open_piper(medium_voice))

    def encode(ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return teacher.encode(ids, lengths)

    def read_nothing(ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        hidden, mean, log_std, mask = encode(ids, lengths)
        return hidden, 0 * mean, 0 * log_std, mask

    data, texts = Utterances(shards), SpokenTexts(shards)
    batch = data.batch(np.random.default_rng(3), 20, 20, 4)
    where = batch.utterances, batch.offsets
    assert len(set(batch.utterances.tolist())) > 2 and batch.offsets.max() > 0
    made = texts.own_prior(encode, batch.z_p, *where)  # type: ignore[arg-type]
    assert (made - batch.z_p).abs().max() < 0.01 * batch.z_p.abs().max()
    # What is left when the teacher's statistics are taken away is noise at the voice's noise scale.
    noise = texts.own_prior(read_nothing, batch.z_p, *where)  # type: ignore[arg-type]
    assert float(noise.std()) == pytest.approx(0.667, rel=0.02)
    elsewhere = texts.own_prior(read_nothing, batch.z_p, batch.utterances.flip(0), batch.offsets.flip(0))  # type: ignore[arg-type]
    assert float(elsewhere.std()) > 0.75
    for number in (0, 7, len(data) - 1):
        start = int(texts.starts[number])
        assert texts.durations[start : start + texts.lengths[number]].sum() == data.frames[number]


@pytest.mark.slow
def test_an_error_of_the_latents_teaches_the_text_encoder_and_not_the_flow(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
) -> None:
    trainer = voice_trainer(medium_voice, corpus, run)
    term, weight = trainer.other_terms(np.random.default_rng(0))["own_latent_error"]
    assert weight == trainer.config.own_latent_weight and term > 0
    term.backward()
    asked = {name.partition(".")[0] for name, value in trainer.speech.named_parameters() if value.grad is not None}
    assert asked == {"text_encoder"}


@pytest.mark.slow
def test_the_latents_of_the_students_own_prior_come_nearer_to_the_teachers(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
) -> None:
    changes = {
        "regression_steps": 60, "adversarial_steps": 0, "learning_rate": 3e-3, "warmup_steps": 5, "prior_batch": 4,
    }  # fmt: skip
    trainer = voice_trainer(medium_voice, corpus, run, **changes)
    steps = [trainer.train_step() for _ in range(60)]
    for name in ("own_latent_error", "read_text_error"):
        early, late = (np.mean([step[name] for step in part]) for part in (steps[:5], steps[-5:]))
        assert late < 0.9 * early, name


@pytest.mark.slow
def test_the_voice_trains_resumes_bit_for_bit_and_is_published(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(student_validation, "SHORTEST", 0.1)
    stopped = Path(shutil.copytree(run, tmp_path / "stopped"))
    record = Distillation(medium_voice, corpus, run, tiny_settings()).train("voice")
    assert set(record["started_from"]) == {"text_encoder", "speech"} and record["teacher_sentences"] > 0
    assert [entry["step"] for entry in record["curve"]] == [0, 3, 6]
    figures = {"predicted_mos_change", "held_out_latent_error", "held_out_own_latent_error", "text_error"}
    assert all(figures <= set(entry) and math.isfinite(entry["text_error"]) for entry in record["curve"])

    distillation = Distillation(medium_voice, corpus, stopped, tiny_settings())
    with monkeypatch.context() as patch:
        patch.setattr(VoiceTrainer, "save", interrupt_after(VoiceTrainer.save))
        with pytest.raises(KeyboardInterrupt):
            distillation.train("voice")
    assert 0 < torch.load(stopped / "voice" / "state.pt", weights_only=True)["step"] < 6
    distillation.train("voice")
    ends = [torch.load(one / "voice" / "state.pt", weights_only=True) for one in (run, stopped)]
    for name, value in ends[0]["student"].items():
        assert torch.equal(ends[1]["student"][name], value), name

    best = json.loads((run / "voice" / "best.json").read_text())
    (run / "voice" / "best.json").write_text(json.dumps(best | {"step": 6}))  # which step is best here is chance
    published = publish_student(medium_voice, run, tmp_path / "student", measure_speed=False)
    assert published["training"] == "voice"
    assert published["students"] == ["text_encoder", "duration_predictor", "flow", "decoder"]
    assert set(published["trainings"]) == {"text_encoder", "flow", "decoder", "speech"}
    students, _ = load_student(tmp_path / "student")
    assert list(students) == published["students"]
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert "steps of all of them together" in card and "- flow and decoder together" in card


def interrupt_after(save):
    """What saves the state, and stops once there was a step."""

    def saved(trainer: VoiceTrainer) -> None:
        save(trainer)
        if trainer.step:
            raise KeyboardInterrupt

    return saved


@pytest.mark.slow
def test_weights_that_training_made_worse_are_not_kept(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = voice_trainer(medium_voice, corpus, run)
    scores = iter([-0.1, -0.2, -0.3])
    monkeypatch.setattr(trainer.validation, "score", lambda *_: {"predicted_mos_change": next(scores)})
    trainer.run()
    best = trainer.best()
    assert best is not None and best["step"] == 0 and trainer.step == 6
    published = publish_student(medium_voice, run, tmp_path / "student", measure_speed=False)
    assert published["training"] == "speech", "they are what speech and text_encoder came to"


@pytest.mark.slow
def test_students_of_another_training_are_not_compared_with_the_published(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = voice_trainer(medium_voice, corpus, run)
    publish_student(medium_voice, run, tmp_path / "student", measure_speed=False)
    scores = iter([-9.3, -9.2, -9.1])
    figures = {"predicted_mos_change": 0, "teacher_predicted_mos": 4.0, "log_spectral_distance_db": 1.0}
    monkeypatch.setattr(trainer.validation, "score", lambda *_: figures | {"predicted_mos_change": next(scores)})
    trainer.run()
    published = publish_student(medium_voice, run, tmp_path / "student", measure_speed=False)
    assert published["training"] == "voice" and published["best"]["predicted_mos_change"] == -9.1
    best = run / "voice" / "best.json"
    best.write_text(json.dumps(published["best"] | {"predicted_mos_change": -9.2}))
    with pytest.raises(DistillError, match="holds a better student"):
        publish_student(medium_voice, run, tmp_path / "student", measure_speed=False)


@pytest.mark.slow
def test_a_voice_goes_on_from_published_students(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    whole_run: Path,  # noqa: F811
    tmp_path: Path,
    listener: None,  # noqa: F811
) -> None:
    published = publish_student(medium_voice, whole_run, tmp_path / "student", measure_speed=False)
    distillation = Distillation(medium_voice, corpus, tmp_path / "new", tiny_settings())
    record = distillation.train("voice", start=tmp_path / "student")
    assert record["started_from"] == published["weights_sha256"] and record["steps"] == 6


@pytest.mark.slow
def test_students_that_were_trained_further_since_are_named(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    run: Path,
    listener: None,  # noqa: F811
) -> None:
    distillation = Distillation(medium_voice, corpus, run, tiny_settings())
    distillation.train("voice")
    best = run / "speech" / "best.safetensors"
    best.write_bytes(best.read_bytes() + b" ")
    with pytest.warns(UserWarning, match="those of speech were trained further since"):
        distillation.train("voice")


def test_the_voice_needs_its_students_first(
    medium_voice: Path,
    corpus: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(DistillError, match="train the stages text_encoder and speech before voice"):
        Distillation(medium_voice, corpus, tmp_path, tiny_settings()).train("voice")


def test_a_voice_with_speakers_trains_together(
    multi_speaker_voice: Path,
    corpus: Path,  # noqa: F811
    tmp_path: Path,
    listener: None,  # noqa: F811
) -> None:
    distillation = Distillation(multi_speaker_voice, corpus, tmp_path, tiny_settings())
    for stage in ("text_encoder", "flow", "decoder", "speech", "voice"):
        record = distillation.train(stage)
    assert record["steps"] == 6 and record["skipped_steps"] == 0  # type: ignore[possibly-undefined]


def test_the_voice_has_the_sizes_of_its_students(medium_voice: Path) -> None:
    settings = fit_to_voice(tiny_settings(), load_piper(open_piper(medium_voice)))
    assert settings.voice.text_encoder == settings.text_encoder.text_encoder
    assert settings.voice.durations == settings.text_encoder.durations
    assert settings.voice.flow == settings.flow.flow and settings.voice.decoder == settings.decoder.decoder
