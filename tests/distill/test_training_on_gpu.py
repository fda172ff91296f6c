"""What a training does on a GPU, made to do so on a processor: batches drawn ahead, losses read late, validation in a
process of its own, larger batches. The students are the same bit for bit."""

import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_training import NewTrainer, tiny_config, tiny_settings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ttsopt_lib.distill.batches_ahead import BatchesAhead
from ttsopt_lib.distill.distillation import STAGES, Distillation
from ttsopt_lib.distill.published import DistillError
from ttsopt_lib.distill.running_losses import RunningLosses
from ttsopt_lib.distill.settings import DecoderSettings, DistillSettings, SpeechSettings, TextSettings
from ttsopt_lib.distill.train_decoder import DecoderTrainer
from ttsopt_lib.distill.training_run import TrainingRun
from ttsopt_lib.distill.utterances import Utterances
from ttsopt_lib.distill.validation_beside import ValidationBeside, Waiting
from ttsopt_lib.workers import WorkerError

CPU = torch.device("cpu")


def same_students(one: TrainingRun, other: TrainingRun) -> bool:
    """Whether two trainings came to the same weights, averages and states of the optimizer, bit for bit."""
    parts = [
        [*run.student.state_dict().values(), *run.average.state_dict().values(), *optimizer_state(run)]
        for run in (one, other)
    ]
    return all(torch.equal(a, b) for a, b in zip(*parts, strict=True))


def optimizer_state(run: TrainingRun) -> list[Tensor]:
    state = run.optimizer.state_dict()["state"]
    return [value for number in sorted(state) for _, value in sorted(state[number].items())]


# --- batches ahead ----------------------------------------------------------------------------------------------


def test_batches_are_drawn_before_they_are_asked_for_and_once_each() -> None:
    drawn: list[tuple[int, str]] = []
    third = threading.Event()

    def draw(step: int) -> int:
        drawn.append((step, threading.current_thread().name))
        if step == 2:
            third.set()
        return 10 * step

    batches = BatchesAhead(draw, CPU)
    batches.ahead = 2
    assert batches.take(0) == 0
    assert third.wait(10), "nobody has asked for step 2"
    assert [batches.take(step) for step in (1, 2, 3)] == [10, 20, 30]
    assert batches.take(7) == 70, "a run that goes on elsewhere"
    batches.close()
    steps = [step for step, _ in drawn]
    assert steps[:6] == list(range(6)) and len(set(steps)) == len(steps)
    assert all(name.startswith("batches") for _, name in drawn)


def test_batches_are_drawn_ahead_where_there_is_one_gpu() -> None:
    batches = BatchesAhead(lambda step: step, torch.device("cuda"))  # as accelerate names it, without a number
    assert batches.ahead > 0 and [batches.take(step) for step in range(4)] == list(range(4))
    batches.close()


def test_what_goes_wrong_in_the_thread_is_said_where_the_batch_is_asked_for() -> None:
    batches = BatchesAhead(lambda step: 1 // step, CPU)
    batches.ahead = 1
    with pytest.raises(ZeroDivisionError):
        batches.take(0)
    assert batches.take(1) == 1
    batches.close()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_training_is_the_same_with_its_batches_drawn_ahead(
    stage: Any, medium_voice: Path, corpus: Path, tmp_path: Path, listener: None
) -> None:
    distillation = Distillation(medium_voice, corpus, tmp_path, tiny_settings())

    def trained(ahead: int) -> TrainingRun:
        trainer = (
            distillation.text_trainer(tmp_path)
            if stage == "text_encoder"
            else distillation.speech_trainer(stage, tmp_path, None)
        )
        trainer.batches.ahead = ahead
        trainer.run()
        return trainer

    plain, ahead = trained(0), trained(2)
    assert same_students(plain, ahead)
    without_time = [[entry | {"minutes": 0} for entry in run.curve] for run in (plain, ahead)]
    assert without_time[0] == without_time[1]


@pytest.mark.slow
def test_a_pinned_batch_has_the_values_and_the_order_in_memory_of_the_batch(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is pinned where there is CUDA only; all else of the copy is the same."""
    empty_like: Callable[..., Tensor] = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda part, pin_memory: empty_like(part))
    batch = Utterances(shards).batch(np.random.default_rng(0), 4, 20, 4)
    copy = batch.pinned()
    assert torch.equal(copy.z, batch.z) and copy.z.stride() == batch.z.stride()
    half = batch.share(1, 2).pinned()
    assert torch.equal(half.z, batch.z[1::2]) and half.z.untyped_storage().nbytes() == 4 * half.z.numel()


# --- nothing waits for the device -------------------------------------------------------------------------------


def test_losses_are_the_same_whenever_they_are_read() -> None:
    rng = np.random.default_rng(0)
    steps = [{"loss": torch.tensor(rng.random()), "gradient_norm": torch.tensor(rng.random())} for _ in range(30)]
    steps[4]["gradient_norm"] = torch.tensor(math.inf)
    for step in steps[20:]:
        step["later"] = step["loss"].bfloat16()
    late, smooth = RunningLosses(), RunningLosses()
    for step in steps:
        late.add(step)
        smooth.add(step)
        smooth.read()
    expected = 0.0
    for number, step in enumerate(steps):
        if number != 4:
            value = float(step["loss"])
            expected = 0.99 * (expected if number else value) + 0.01 * value
    assert late.read() == smooth.read() and late.read()["loss"] == expected
    assert set(late.read()) == {"loss", "gradient_norm", "later"}


class AsksForValues(TorchDispatchMode):
    """Notes the operations that need a value of a tensor on the processor: on a GPU, each waits for all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        picks = name in ("index", "index_put_") and any(one is not None and one.dtype == torch.bool for one in args[1])
        if picks or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


def test_the_watcher_of_values_sees_what_waits() -> None:
    x = torch.ones(3)
    for wait in (lambda: float(x.sum()), lambda: x[x > 0], lambda: bool(x.isfinite().all())):
        with AsksForValues() as watcher:
            wait()
        assert watcher.asked


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_step_asks_for_a_value_on_the_device(stage: Any, medium_voice: Path, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_settings(decoder=tiny_config(power_weight=1.0))
    distillation = Distillation(medium_voice, corpus, tmp_path, settings)
    trainer = (
        distillation.text_trainer(tmp_path)
        if stage == "text_encoder"
        else distillation.speech_trainer(stage, tmp_path, None)
    )
    for _ in range(3):  # tables are made, the discriminators have joined
        trainer.train_step()
    with AsksForValues() as watcher:
        trainer.train_step()
    assert watcher.asked == []


@pytest.mark.slow
def test_a_broken_gradient_leaves_weights_average_and_optimizer_as_they_are(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(regression_steps=1, average=0.9)
    for _ in range(3):
        trainer.train_step()
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    average = {name: value.clone() for name, value in trainer.average.state_dict().items()}
    state = [value.clone() for value in optimizer_state(trainer)]
    heard = {name: value.clone() for name, value in trainer.discriminators.state_dict().items()}
    bias = trainer.shipping.get_parameter("decoder.head.projection.bias")
    hook = bias.register_hook(lambda gradient: gradient * math.nan)
    trainer.train_step()
    assert (trainer.step, trainer.skipped) == (4, 1)
    assert all(torch.equal(value, before[name]) for name, value in trainer.student.state_dict().items())
    assert all(torch.equal(value, average[name]) for name, value in trainer.average.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(optimizer_state(trainer), state, strict=True))
    assert any(not torch.equal(value, heard[name]) for name, value in trainer.discriminators.state_dict().items())
    hook.remove()
    trainer.train_step()
    assert trainer.skipped == 1
    assert any(not torch.equal(value, before[name]) for name, value in trainer.student.state_dict().items())
    assert any(not torch.equal(value, average[name]) for name, value in trainer.average.state_dict().items())


# --- validation beside the training -----------------------------------------------------------------------------


@pytest.mark.slow
def test_validation_beside_the_training_gives_the_same_figures_and_the_same_best(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
    runs = {}
    for name in ("in line", "beside"):
        runs[name] = new_trainer(name)
        runs[name].validates_beside = name == "beside"
        runs[name].run()
    plain, beside = runs["in line"], runs["beside"]
    assert same_students(plain, beside)
    assert [entry["step"] for entry in beside.curve] == [entry["step"] for entry in plain.curve] == [3, 6]
    for one, other in zip(plain.curve, beside.curve, strict=True):
        assert one | {"minutes": 0} == pytest.approx(other | {"minutes": 0}, rel=1e-4, abs=1e-5)
    best = [run.best() for run in (plain, beside)]
    assert best[0] and best[1] and best[0]["step"] == best[1]["step"]
    assert beside.beside is None and beside.record()["curve"] == beside.curve
    weights = [(run.out / "best.safetensors").read_bytes() for run in (plain, beside)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_run_that_stopped_while_it_validated_goes_on_with_the_same_curve(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
    straight = new_trainer("straight")
    straight.run()
    first = new_trainer("stopped", save_every=3)
    first.validates_beside = True
    save = first.save

    def stop() -> None:
        save()
        raise KeyboardInterrupt

    monkeypatch.setattr(first, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.step == 3 and first.curve == [] and first.best() is None, "the validation was still under way"
    second = new_trainer("stopped")
    second.load()
    second.run()
    assert same_students(straight, second)
    assert [entry["step"] for entry in second.curve] == [3, 6]
    for one, other in zip(straight.curve, second.curve, strict=True):
        assert one["predicted_mos_change"] == pytest.approx(other["predicted_mos_change"], abs=1e-5)


@pytest.mark.slow
def test_students_of_every_stage_can_be_scored_in_another_process(
    medium_voice: Path, corpus: Path, tmp_path: Path, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.training_run.helps", lambda device: True)
    distillation = Distillation(medium_voice, corpus, tmp_path, tiny_settings())
    for stage in STAGES:
        record = distillation.train(stage)
        assert [entry["step"] for entry in record["curve"]] == [3, 6], stage
        assert record["best"] is not None, stage


@pytest.mark.slow
def test_a_process_that_scores_begins_again_after_a_rest_and_is_missed_when_it_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation_beside.IDLE_SECONDS", 0.5)
    beside = ValidationBeside(cast(Any, str))  # "scores" are what was given, in words
    for given in (1, 2):
        beside.begin(Waiting({"step": given}, cast(Any, given)))
        waiting, figures, seconds = cast(Any, beside.take())
        assert (waiting, figures) == (Waiting({"step": given}, cast(Any, given)), str(given)) and seconds >= 0
        assert beside.take() is None and not beside.is_ready()
        time.sleep(1.5)
    beside.close()
    beside = ValidationBeside(cast(Any, signal.raise_signal))
    beside.begin(Waiting({"step": 3}, cast(Any, int(signal.SIGKILL))))
    with pytest.raises(WorkerError, match="process that validates was killed"):
        beside.take()
    beside.close()


# --- settings that follow the machine ----------------------------------------------------------------------------


def test_a_gpu_has_larger_batches_where_a_study_says_nothing_else() -> None:
    assert TextSettings().with_defaults(TextSettings().on_gpu()).batch == 64
    decoder, speech = (one.with_defaults(one.on_gpu()) for one in (DecoderSettings(), SpeechSettings()))
    for one in (decoder, speech):
        heard = (one.batch, one.adversarial_batch, one.adversarial_frames, one.discriminator_channels)
        assert heard == (32, 32, 64, 48)
        type(one).model_validate(one.model_dump())  # the segments hold what is heard
    asked = DecoderSettings(batch=8, segment_frames=60, discriminator_channels=16)
    given = asked.with_defaults(asked.on_gpu())
    assert (given.batch, given.adversarial_batch, given.discriminator_channels) == (8, 8, 16)
    assert given.adversarial_frames == 44, "all that is between the margins"
    assert (DecoderSettings().batch, DecoderSettings().adversarial_batch, TextSettings().batch) == (8, 4, 16)


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_sizes_on_another_machine(
    medium_voice: Path, corpus: Path, tmp_path: Path, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_settings().model_dump()
    for stage in ("decoder", "speech"):
        for name in ("batch", "adversarial_batch", "discriminator_channels"):
            tiny[stage].pop(name)
    settings = DistillSettings.model_validate(tiny)
    here = Distillation(medium_voice, corpus, tmp_path, settings)
    first = here.speech_trainer("decoder", tmp_path / "decoder", None)
    (tmp_path / "decoder").mkdir()
    first.train_step()
    first.save()
    assert first.config.discriminator_channels == 16

    monkeypatch.setattr("ttsopt_lib.distill.distillation.torch.cuda.is_available", lambda: True)
    new = here.config_for("decoder", tmp_path / "elsewhere")
    assert (new.batch, new.adversarial_batch, new.discriminator_channels) == (32, 32, 48)
    same = here.config_for("decoder", tmp_path / "decoder")
    assert same == first.config
    joined = here.config_for("speech", tmp_path / "speech")
    assert (joined.batch, joined.discriminator_channels) == (32, 16), "the decoder's discriminators go on"
    monkeypatch.undo()

    other = tiny_config(discriminator_channels=3)
    changed = Distillation(medium_voice, corpus, tmp_path, settings.model_copy(update={"decoder": other}))
    with pytest.raises(DistillError, match="discriminators that go on there have 16"):
        changed.train("decoder")
    assert isinstance(first, DecoderTrainer)
