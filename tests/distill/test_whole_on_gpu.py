"""All four trainings in one process on a GPU that is pretended, as `ttsopt distill` runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from pretend_device import pretended_gpu
from tiny_training import tiny_settings

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
