"""Distilling a decoder of a small random voice: the data is right, training can stop and go on, the best is kept."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import LocalCluster
from tiny_training import SENTENCES, NewTrainer, tiny_config, tiny_settings, train_decoder

from ttsopt_lib.distill.distillation import STAGES, Distillation, start_from_similar
from ttsopt_lib.distill.model_card import model_card
from ttsopt_lib.distill.published import DistillError, load_student, new_student, publish_student, refuse_to_worsen
from ttsopt_lib.distill.settings import DecoderSettings
from ttsopt_lib.distill.teacher.hints import hifigan_decoder
from ttsopt_lib.distill.teacher.speech import TeacherDataError, speak_corpus, write_shard
from ttsopt_lib.distill.training_run import SharesError, check_shares
from ttsopt_lib.distill.utterances import SegmentError, Utterance, Utterances
from ttsopt_lib.distill.validation import Validation
from ttsopt_lib.distill.validation_beside import Waiting
from ttsopt_lib.files import file_sha256
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.networks.students import FlowStudentConfig
from ttsopt_lib.paths import resolve
from ttsopt_lib.voices.piper import load_piper, open_piper

# --- teacher data -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_teachers_decoder_makes_the_stored_samples_from_the_stored_latents(
    medium_voice: Path, shards: list[Path]
) -> None:
    teacher, data = load_piper(open_piper(medium_voice)), Utterances(shards)
    for index in (0, 7, len(data) - 1):
        utterance = data.utterance(index)
        z, samples = utterance.z, utterance.samples
        with torch.no_grad():
            made = teacher.decode(z)[0, 0]
            latents = teacher.flow_inverse(utterance.z_p, torch.ones_like(z[:, :1]))
        assert (latents - z).abs().max() < 0.01 * z.abs().max()
        assert samples.abs().max() > 0.001
        assert (made - samples).abs().max() < 0.02 * samples.abs().max() + 1 / 32767


@pytest.mark.slow
def test_teacher_data_is_the_same_every_time_and_goes_on_where_it_stopped(
    medium_voice: Path, corpus: Path, shards: list[Path], tmp_path: Path
) -> None:
    assert len(shards) == math.ceil(len(SENTENCES) / 24)
    again = speak_corpus(medium_voice, corpus, tmp_path, hours=1e-6, workers=1)
    assert len(again) == 1  # stopped early
    stamp = again[0].stat().st_mtime_ns
    again = speak_corpus(medium_voice, corpus, tmp_path, hours=1.0, workers=2)
    assert again[0].stat().st_mtime_ns == stamp
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in shards]


@pytest.mark.slow
def test_processes_of_a_dask_cluster_say_the_same(
    medium_voice: Path, corpus: Path, shards: list[Path], tmp_path: Path
) -> None:
    workers: Any = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    with workers:
        again = speak_corpus(medium_voice, corpus, tmp_path, hours=1.0, dask=workers.scheduler_address)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in shards]


@pytest.mark.slow
def test_teacher_data_of_another_seed_is_refused(medium_voice: Path, corpus: Path, shards: list[Path]) -> None:
    with pytest.raises(TeacherDataError, match="seed"):
        speak_corpus(medium_voice, corpus, shards[0].parent, hours=1.0, seed=5)


@pytest.mark.slow
def test_cut_edges_are_not_trusted_and_true_ends_are(shards: list[Path]) -> None:
    data = Utterances(shards)
    longest = int(data.frames.max())
    whole = data.batch(np.random.default_rng(0), 4, longest, 4)
    assert (whole.trust == 1).all()  # an utterance of exactly that length has no cut edge
    cut = data.batch(np.random.default_rng(0), 64, longest // 2, 4)
    for edge in (cut.trust[:, 0], cut.trust[:, -1]):
        assert set(edge.tolist()) == {0.0, 1.0}
    assert (cut.trust[:, 4 * data.hop : -4 * data.hop] == 1).all()
    with pytest.raises(SegmentError, match="segment_frames"):
        data.batch(np.random.default_rng(0), 2, longest + 1, 4)


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_interrupted_training_goes_on_bit_for_bit(new_trainer: NewTrainer, listener: None) -> None:
    straight = new_trainer("straight")
    straight.run()
    first = new_trainer("stopped")
    for _ in range(4):  # into the adversarial phase
        first.train_step()
    first.save()
    second = new_trainer("stopped")
    second.load()
    second.run()
    assert second.step == straight.step == straight.config.steps
    for name, value in straight.student.state_dict().items():
        assert torch.equal(value, second.student.state_dict()[name]), name
    for name, value in straight.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name
    assert straight.curve[-1]["predicted_mos_change"] == second.curve[-1]["predicted_mos_change"]


@pytest.mark.slow
def test_settings_that_a_run_went_on_with_are_in_its_record(new_trainer: NewTrainer) -> None:
    first = new_trainer()
    first.train_step()
    first.save()
    second = new_trainer(adversarial_weight=2.0)
    second.load()
    assert second.record()["changed_settings"] == [{"from_step": 1, "settings": {"adversarial_weight": [1.0, 2.0]}}]


@pytest.mark.slow
def test_trainings_of_one_process_may_have_different_precisions(new_trainer: NewTrainer) -> None:
    plain, half = new_trainer("plain", precision="no"), new_trainer("half", precision="bf16")
    for trainer in (plain, half):
        for _ in range(3):
            trainer.train_step()
    pairs = list(zip(plain.student.parameters(), half.student.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert all(torch.allclose(one, other, atol=0.02) for one, other in pairs)


@pytest.mark.slow
def test_training_comes_nearer_to_the_teacher(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(regression_steps=40, hint_steps=40, adversarial_steps=0, warmup_steps=5, learning_rate=3e-3)
    steps = [{name: float(v) for name, v in trainer.train_step().items()} for _ in range(trainer.config.steps)]
    for name in ("log_magnitude", "hint"):
        early, late = (np.mean([step[name] for step in part]) for part in (steps[:5], steps[-5:]))
        assert late < 0.9 * early, name


@pytest.mark.slow
def test_a_step_with_a_non_finite_gradient_is_skipped_and_counted(new_trainer: NewTrainer) -> None:
    trainer = new_trainer()
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    bias = trainer.shipping.get_parameter("decoder.head.projection.bias")
    bias.register_hook(lambda gradient: gradient * math.nan)
    trainer.train_step()
    assert (trainer.step, trainer.skipped) == (1, 1)
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.slow
def test_a_worse_or_broken_student_does_not_replace_the_best(
    new_trainer: NewTrainer, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer()
    scores = iter([-0.5, -0.7, math.nan, -0.2])
    monkeypatch.setattr(trainer.validation, "score", lambda *_: {"predicted_mos_change": next(scores)})
    kept = []
    for _ in range(4):
        trainer.step += 1
        trainer.validate({})
        best = trainer.best()
        assert best is not None
        kept.append((best["step"], (trainer.out / "best.safetensors").stat().st_mtime_ns))
    assert [step for step, _ in kept] == [1, 1, 1, 4]
    assert kept[0][1] == kept[1][1] == kept[2][1] < kept[3][1]
    assert [entry["step"] for entry in trainer.record()["curve"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_student_that_makes_no_finite_samples_scores_nan(new_trainer: NewTrainer, listener: None) -> None:
    trainer = new_trainer()
    broken = IstftDecoder(trainer.config.decoder)
    broken.head.projection.bias.data[5] = math.nan
    scores = trainer.validation.score(lambda pair, g: broken(pair.z, g), trainer.teacher)
    assert math.isnan(scores["predicted_mos_change"]) and not trainer.is_better(scores, None)


@pytest.mark.slow
def test_each_predictor_says_its_own_and_the_teachers_scores_are_taken_once(
    medium_voice: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
    heard: list[str] = []

    class Level:
        def __init__(self, name: str):
            self.name = name

        def score(self, samples: np.ndarray) -> float:
            heard.append(self.name)
            return float(np.abs(samples).mean()) * {"distillmos": 1.0, "dnsmos_p808": 10.0}[self.name]

    monkeypatch.setattr("ttsopt_lib.distill.validation.load_predictor", Level)
    validation, teacher = Validation(Utterances(shards[:1]), 22050, 2), load_piper(open_piper(medium_voice))

    def louder(pair: Utterance, g: object) -> torch.Tensor:
        return 2 * pair.samples[None, None]

    first = validation.score(louder, teacher)
    assert first["p808_change"] == pytest.approx(10 * first["predicted_mos_change"], rel=1e-5)
    assert first["predicted_mos_change"] == pytest.approx(first["teacher_predicted_mos"], rel=1e-2) and len(heard) == 8
    assert first["held_out_log_magnitude"] == pytest.approx(math.log(2), rel=0.05)
    assert validation.score(louder, teacher) == first and len(heard) == 12
    exact = validation.score(lambda pair, g: pair.samples[None, None], teacher)
    assert exact["predicted_mos_change"] == exact["p808_change"] == exact["held_out_complex"] == 0
    assert validation.latent_error(lambda pair, g: pair.z + 1, teacher, 4.0) == pytest.approx(0.25)


@pytest.mark.slow
def test_losses_in_training_are_of_the_students_own_samples(new_trainer: NewTrainer) -> None:
    """A student that makes silence is as far off in training as on a whole utterance, however wide the margins."""
    losses = []
    for margin in (1, 8):
        trainer = new_trainer(str(margin), segment_frames=32, margin_frames=margin, batch=8, hint_steps=0)
        trainer.shipping.get_parameter("decoder.head.projection.bias").data[:513] = -14.0
        losses.append(float(trainer.train_step()["complex"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.15)


def test_a_worker_speaks_with_the_voice_that_was_asked_for(medium_voice: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherDataError, match="another voice"):
        write_shard(medium_voice, "0" * 64, {0: "the cat was red."}, 0, tmp_path / "shard.safetensors")


@pytest.mark.slow
def test_a_short_time_gets_a_schedule_that_fits(new_trainer: NewTrainer, listener: None) -> None:
    whole = DecoderSettings()
    assert whole.in_steps(10**6) is whole
    half = whole.in_steps(whole.steps // 2)
    assert half.steps == whole.steps // 2 and half.decay_steps == whole.decay_steps // 2
    tiny = whole.in_steps(9)
    assert (tiny.steps, tiny.regression_steps) == (9, 4) and tiny.validate_every == 2

    trainer = new_trainer(adversarial_steps=10**6)
    trainer.run(minutes=0.1)
    assert trainer.step <= trainer.config.steps < 10**6
    assert trainer.curve[-1]["step"] == trainer.step > 20


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [(2.0, 1.0, 1.0), (1.0, 2.0, 2.0), (2.0, 2.0, 1.0)])
def test_time_is_used_though_the_pace_changes(
    seconds: tuple[float, float, float], new_trainer: NewTrainer, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first 20 steps, until step 900, and later: on a GPU the first steps hold its start-up."""
    trainer, clock = new_trainer(adversarial_steps=10**6, regression_steps=10**6), [0.0]

    def step() -> dict[str, torch.Tensor]:
        clock[0] += seconds[(trainer.step >= 20) + (trainer.step >= 900)]
        trainer.step, trainer.steps_left = trainer.step + 1, trainer.steps_left - 1
        return {"gradient_norm": torch.ones(())}

    monkeypatch.setattr(trainer, "train_step", step)
    monkeypatch.setattr(trainer, "validate", lambda _: None)
    monkeypatch.setattr(trainer, "later_cost", lambda: 1.0)
    monkeypatch.setattr("ttsopt_lib.distill.training_run.time.monotonic", lambda: clock[0])
    trainer.run(minutes=50.0)
    assert 0.95 * 3000 < clock[0] < 1.05 * 3000
    assert trainer.steps_left <= 1  # the schedule ended with the time


@pytest.mark.parametrize(("takes", "latest"), [(20.0, 3010), (200.0, 3010), (2000.0, 7500)])
def test_the_last_validation_is_within_the_minutes_and_a_long_one_leaves_some_to_the_training(
    takes: float, latest: float, new_trainer: NewTrainer, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"adversarial_steps": 10**6, "regression_steps": 10**6, "save_every": 10**6, "validate_every": 400}
    trainer, clock = new_trainer(**long), [0.0]

    def step() -> dict[str, torch.Tensor]:
        clock[0] += 2.0  # invented seconds
        trainer.step, trainer.steps_left = trainer.step + 1, trainer.steps_left - 1
        return {"gradient_norm": torch.ones(())}

    def judge(_: Waiting) -> None:
        clock[0] += takes

    for name, stand_in in (("train_step", step), ("judge", judge), ("finished", lambda weights: (weights, {}))):
        monkeypatch.setattr(trainer, name, stand_in)
    monkeypatch.setattr("ttsopt_lib.distill.training_run.time.monotonic", lambda: clock[0])
    trainer.run(minutes=50.0)
    assert 2990 < clock[0] < latest and trainer.steps_left <= 1
    assert trainer.step > 200  # of 2 s each


# --- the whole way ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(medium_voice: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a few steps, validated by the real predictor."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
        train_decoder(medium_voice, corpus, out, tiny_config(validate_every=100))
    return out


@pytest.mark.slow
def test_a_published_student_loads_and_ships_no_pickle(medium_voice: Path, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "random" / "student"
    record = publish_student(medium_voice, run, target)
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md",
        "config.json",
        "record.json",
        "student.safetensors",
    ]
    students, loaded = load_student(target)
    assert list(students) == ["decoder"]
    decoder = students["decoder"]
    assert loaded == record and not decoder.training
    assert loaded["speed"]["student_ms"] > 0 and loaded["steps"] == 6 and loaded["curve"]
    assert decoder(torch.randn(1, 24, 10)).shape == (1, 1, 2560)
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "Licence" in card and f"{loaded['best']['predicted_mos_change']:+.3f}" in card


def test_sizes_of_a_decoder_that_is_no_longer_made_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"config.json: decoder: unknown size road"):
        new_student("decoder", {"road": "kept_stage", "blocks": 2}, tmp_path / "config.json")


@pytest.mark.parametrize("name", ["students", "istft-256x8"])
def test_the_students_that_ship_load_and_speak(name: str) -> None:
    students, record = load_student(resolve(Path("models/en_US-joe-medium") / name))
    assert record["parameters"] == sum(p.numel() for one in students.values() for p in one.parameters())
    samples = students["decoder"](torch.randn(1, 192, 10))
    assert samples.shape == (1, 1, 2560) and torch.isfinite(samples).all()


def test_the_card_of_the_students_that_ship_is_made_of_their_record() -> None:
    folder = resolve(Path("models/en_US-joe-medium/students"))
    students, record = load_student(folder)
    assert file_sha256(folder / "student.safetensors") == record["weights_sha256"]
    assert model_card(record, students) == (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_better_published_student_is_not_replaced(medium_voice: Path, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "student"
    publish_student(medium_voice, run, target, measure_speed=False)
    record = json.loads((target / "record.json").read_text(encoding="utf-8"))
    record["best"]["predicted_mos_change"] = 1.0
    earlier = {name: value for name, value in record.items() if name != "training"}
    for shipped in (record, earlier):  # an earlier version did not name the training
        (target / "record.json").write_text(json.dumps(shipped), encoding="utf-8")
        with pytest.raises(DistillError, match="better student"):
            publish_student(medium_voice, run, target, measure_speed=False)


@pytest.mark.slow
def test_a_run_goes_on_only_with_its_own_student(medium_voice: Path, corpus: Path, run: Path) -> None:
    other = IstftDecoderConfig(latent_channels=24, channels=8, inner_channels=8, blocks=2)
    with pytest.raises(DistillError, match="other sizes"):
        train_decoder(medium_voice, corpus, run, tiny_config(decoder=other))


@pytest.mark.slow
def test_a_published_student_can_be_trained_further(
    medium_voice: Path, corpus: Path, run: Path, tmp_path: Path, listener: None
) -> None:
    published = publish_student(medium_voice, run, tmp_path / "published", measure_speed=False)
    still = tiny_config(learning_rate=1e-12, adversarial_learning_rate=1e-12)
    out = tmp_path / "further"
    record = train_decoder(medium_voice, corpus, out, still, start=tmp_path / "published")
    assert record["started_from"] == published["weights_sha256"]
    assert record["started_from_minutes"] == published["total_minutes"]
    assert record["machine"]["accelerator"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    publish_student(medium_voice, out, tmp_path / "again", measure_speed=False)
    before, after = (load_student(tmp_path / name)[0]["decoder"].state_dict() for name in ("published", "again"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-3)


@pytest.mark.slow
def test_a_new_student_begins_with_what_fits_of_another_voices_students(
    new_trainer: NewTrainer, medium_voice: Path, run: Path, tmp_path: Path
) -> None:
    published = publish_student(medium_voice, run, tmp_path / "published", measure_speed=False)
    theirs = load_student(tmp_path / "published")[0]["decoder"].state_dict()
    trainer = new_trainer("same")
    (began,) = start_from_similar(trainer, tmp_path / "published").values()
    assert began["weights_sha256"] == published["weights_sha256"] and began["share"] == 1.0
    assert began["minutes"] == published["total_minutes"]
    for name, value in theirs.items():
        torch.testing.assert_close(trainer.shipping.state_dict()[f"decoder.{name}"], value)

    assert start_from_similar(trainer, tmp_path / "nowhere") == {}
    trainer.origin["voice_sha256"] = published["voice_sha256"]
    assert start_from_similar(trainer, tmp_path / "published") == {}, "they may have heard what is held out here"

    other = IstftDecoderConfig(latent_channels=24, channels=8, inner_channels=8, blocks=2)
    trainer = new_trainer("other", decoder=other)
    before = {name: value.clone() for name, value in trainer.shipping.state_dict().items()}
    assert start_from_similar(trainer, tmp_path / "published") == {}, "too little of it fits"
    for name, value in before.items():
        torch.testing.assert_close(trainer.shipping.state_dict()[name], value)


@pytest.mark.slow
def test_a_damaged_student_is_named(medium_voice: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="no such file"):
        load_student(tmp_path)
    publish_student(medium_voice, run, tmp_path / "s", measure_speed=False)
    weights = tmp_path / "s" / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DistillError, match="student.safetensors: is not whole"):
        load_student(tmp_path / "s")


@pytest.mark.slow
def test_a_voice_with_speakers_can_be_distilled(
    multi_speaker_voice: Path, corpus: Path, tmp_path: Path, listener: None
) -> None:
    distillation = Distillation(multi_speaker_voice, corpus, tmp_path, tiny_settings())
    records = [distillation.train(stage) for stage in STAGES]
    assert all(record["steps"] == 6 and record["skipped_steps"] == 0 for record in records)
    shape = hifigan_decoder(load_piper(open_piper(multi_speaker_voice))).config
    assert records[-1]["config"]["decoder"]["speaker_channels"] == shape.speaker_channels > 0
    published = publish_student(multi_speaker_voice, tmp_path, tmp_path / "published")
    assert published["speed"]["student_ms"] > 0 and set(load_student(tmp_path / "published")[0]) >= {"flow", "decoder"}


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    check_shares(tiny_config(), 2)
    with pytest.raises(SharesError, match="batch: 2 cannot be shared evenly by 3"):
        check_shares(tiny_config(), 3)


# --- the stages before the decoder --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_flow_in_speech_is_held_to_the_teachers_latents(new_trainer: NewTrainer) -> None:
    flow = FlowStudentConfig(latent_channels=24, channels=16, inner_channels=24, kernel_size=5, blocks=2)
    errors = {}
    for weight in (0.0, 30.0):
        trainer = new_trainer(
            str(weight), flow=flow, latent_weight=weight, regression_steps=60, adversarial_steps=0, hint_steps=0,
            warmup_steps=5, learning_rate=3e-3, batch=4,
        )  # fmt: skip
        terms = [trainer.train_step() for _ in range(60)]
        assert ("latent_error" in terms[0]) == (weight > 0)
        pair = trainer.validation.pairs[0]
        with torch.no_grad():
            errors[weight] = float((trainer.speech.decoded_latents(pair.z_p) - pair.z).square().mean())
    assert errors[30.0] < 0.8 * errors[0.0]


def test_a_damaged_record_of_students_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "students"
    shutil.copytree(resolve(Path("models/en_US-joe-medium/students")), folder)
    (folder / "record.json").write_text("{", encoding="utf-8")
    with pytest.raises(DistillError, match="record.json: not valid JSON"):
        load_student(folder)
    with pytest.raises(DistillError, match="record.json: not valid JSON .*remove the folder"):
        refuse_to_worsen(folder, {})
