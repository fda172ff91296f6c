"""All four trainings in one process on a GPU that is pretended, as `ttsopt distill` runs them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from pretend_device import pretended_gpu
from tiny_training import NewTrainer, tiny_settings

from ttsopt_lib.distill.distillation import STAGES, Distillation

GPU = torch.device("cuda")


@pytest.fixture
def new_accelerator() -> Iterator[None]:
    """accelerate remembers which device it found first in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_every_training_finds_its_tensors_where_the_one_before_left_them(
    multi_speaker_voice: Path,
    new_accelerator: None,
    corpus: Path,
    tmp_path: Path,
    listener: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.validation_beside.cpu_count", lambda: 2)  # here: a process has no such GPU
    monkeypatch.setattr("ttsopt_lib.distill.batches_ahead.AHEAD_ON_GPU", 0)  # so is what is pretended of this thread
    with pretended_gpu():
        distillation = Distillation(multi_speaker_voice, corpus, tmp_path, tiny_settings())
        for stage in STAGES:
            record = distillation.train(stage)
            assert record["machine"]["accelerator"] == "pretended GPU"
            assert record["best"], stage
            assert (tmp_path / stage / "best.safetensors").is_file()
        assert {value.device for value in distillation.teacher.parameters()} == {GPU}


@pytest.mark.slow
@pytest.mark.parametrize("ends_there", [True, False])
def test_a_run_goes_on_where_the_other_kind_of_device_left_it(
    ends_there: bool, new_accelerator: None, new_trainer: NewTrainer, listener: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pretended computes as a processor does: the same weights, bit for bit."""
    monkeypatch.setattr("ttsopt_lib.distill.validation_beside.cpu_count", lambda: 2)
    monkeypatch.setattr("ttsopt_lib.distill.batches_ahead.AHEAD_ON_GPU", 0)

    def machine(there: bool) -> AbstractContextManager[object]:
        AcceleratorState._reset_state(reset_partial_state=True)
        return pretended_gpu() if there else nullcontext()

    with machine(there=False):
        whole = new_trainer("whole")
        for _ in range(5):
            whole.train_step()
    with machine(not ends_there):
        first = new_trainer("moved")
        for _ in range(3):
            first.train_step()
        first.save()
    with machine(ends_there):
        second = new_trainer("moved")
        second.load()
        assert (second.accelerator.device == GPU) is ends_there
        for _ in range(2):
            second.train_step()
        assert {value.device == GPU for value in second.student.parameters()} == {ends_there}
        moments = [value for state in second.optimizer.state.values() for value in state.values()]
        assert {value.device == GPU for value in moments} == {ends_there}
    for one, other in ((whole.student, second.student), (whole.average, second.average)):
        there = other.state_dict()
        assert all(torch.equal(value, there[name].cpu()) for name, value in one.state_dict().items())
