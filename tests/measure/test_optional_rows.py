"""Rows that may fail: peers, and PyTorch's modes on a GPU, are left out with the reason; other rows end the run."""

from pathlib import Path
from typing import Any

import pytest
from stand_ins import Actor
from timed_study import plan_of

from ttsopt_lib.measure import opening
from ttsopt_lib.measure.blocks import Timing, time_rows
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.plan import PlannedRow, PlannedSentence, TimingPlan
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.study import ORIGINAL

ROWS = (
    PlannedRow(variant=ORIGINAL, runtime="pytorch", threads=1, model=Path("voice.onnx")),
    PlannedRow(variant=ORIGINAL, runtime="pytorch", threads=1, model=Path("voice.onnx"), mode="fp16", optional=True),
    PlannedRow(variant=ORIGINAL, runtime="onnxruntime", threads=1, model=Path("voice.onnx")),
    PlannedRow(variant="openvino-fp32", runtime="openvino", threads=1, model=Path("voice.onnx"), optional=True),
)


class Failing(Actor):
    """A worker that fails at what it is told to."""

    # (variant, runtime, mode) -> "load", "speak", or the number of sentences that it speaks before it dies
    fails: dict[tuple[str, str, str], str | int] = {}
    spoken = 0  # by all of them
    dies_after: int | None = None

    def __init__(self, row: PlannedRow):
        super().__init__(row)
        self._fails = self.fails.get((row.variant, row.runtime, row.mode))
        self._spoken = 0

    def load(self, plan: TimingPlan) -> dict[str, Any]:
        if self._fails == "load":
            raise MeasureError(f"{self.row.label} does not load")
        return super().load(plan)

    def time_sentence(self, number: int) -> dict[str, float]:
        Failing.spoken += 1
        if Failing.dies_after is not None and Failing.spoken > Failing.dies_after:
            raise KeyboardInterrupt
        if self._fails == "speak":
            raise MeasureError(f"{self.row.label} does not speak")
        self._spoken += 1
        if isinstance(self._fails, int) and self._spoken > self._fails:
            raise MeasureError(f"{self.row.label} died")
        seconds = 0.01 + 0.001 * ROWS.index(self.row)
        return {"seconds": seconds, "audio_seconds": 1.0, "peak_memory_mb": 20.0, "first_seconds": seconds}


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch):
    """Time the rows with actors that fail as told, and are interrupted after so many sentences."""
    monkeypatch.setattr(opening, "Worker", Failing)

    def go(fails: dict, journal: Journal, most: int = 4, dies_after: int | None = None) -> Timing:
        monkeypatch.setattr(Failing, "fails", fails)
        monkeypatch.setattr(Failing, "spoken", 0)
        monkeypatch.setattr(Failing, "dies_after", dies_after)
        sentence = PlannedSentence(length_class="short", text="Yes.", ids=(1, 2))
        plan = plan_of(ROWS, sentence, budget_seconds=60, max_blocks=most, interval_width=1e-9)
        return time_rows(plan, journal=journal)

    return go


def names(timing: Timing) -> list[tuple[str, str]]:
    return [(row.variant, row.mode) for row in timing.rows]


HALF, PEER = (ORIGINAL, "pytorch", "fp16"), ("openvino-fp32", "openvino", "fp32")


def test_what_does_not_load_or_does_not_speak_is_left_out_with_the_reason(act):
    timing = act({HALF: "speak", PEER: "load"}, Journal())
    assert names(timing) == [(ORIGINAL, "fp32"), (ORIGINAL, "fp32")]
    (peer, half) = timing.left_out
    assert peer.row.is_peer and peer.reason.startswith("openvino-fp32 (openvino,") and "not load" in peer.reason
    assert not half.row.is_peer and half.reason.startswith("original (pytorch,") and "not speak" in half.reason
    assert "fp16" in half.reason


@pytest.mark.parametrize("how", ["load", "speak"])
def test_a_row_that_is_not_optional_ends_the_run(act, how: str):
    with pytest.raises(MeasureError, match=f"does not {how}"):
        act({(ORIGINAL, "onnxruntime", "fp32"): how}, Journal())


def test_a_run_that_goes_on_keeps_the_reasons_and_every_modes_samples_apart(act, tmp_path: Path):
    path = tmp_path / "blocks.jsonl"
    with pytest.raises(KeyboardInterrupt):
        act({PEER: "load"}, Journal(path), dies_after=3 + 6 + 1)  # the warm-up, one pair, and into the next
    assert len(Journal(path).pairs) == 1
    timing = act({}, Journal(path))  # it would load now, and has no samples to pair with the earlier ones
    assert names(timing) == [(ORIGINAL, "fp32"), (ORIGINAL, "fp16"), (ORIGINAL, "fp32")]
    assert [row.seconds for row in timing.rows] == [[[0.01]] * 4, [[0.011]] * 4, [[0.012]] * 4]
    assert [one.row for one in timing.left_out] == [ROWS[3]]
    finished = act({}, Journal(path))
    assert (finished.rows, finished.left_out) == (timing.rows, timing.left_out) and Failing.spoken == 0


def test_a_row_that_fails_after_an_interruption_takes_its_earlier_samples_along(act, tmp_path: Path):
    path = tmp_path / "blocks.jsonl"
    with pytest.raises(KeyboardInterrupt):
        act({}, Journal(path), dies_after=4 + 8 + 1)
    timing = act({HALF: "speak"}, Journal(path))
    assert names(timing) == [(ORIGINAL, "fp32"), (ORIGINAL, "fp32"), ("openvino-fp32", "fp32")]
    assert {len(row.seconds) for row in timing.rows} == {4}
    (half,) = timing.left_out
    assert half.reason.startswith("original (pytorch,") and "fp16" in half.reason and "not speak" in half.reason


@pytest.mark.parametrize("sentences_before", [1, 2, 3, 4])  # the warm-up is one, a pair of blocks two
def test_a_row_that_dies_later_is_left_out_and_the_others_keep_every_block(act, sentences_before: int):
    timing = act({PEER: sentences_before}, Journal())
    assert names(timing) == [(ORIGINAL, "fp32"), (ORIGINAL, "fp16"), (ORIGINAL, "fp32")]
    assert [row.seconds for row in timing.rows] == [[[0.01]] * 4, [[0.011]] * 4, [[0.012]] * 4]
    assert [one.reason for one in timing.left_out] == ["openvino-fp32 (openvino, 1 thread) died"]
    with pytest.raises(MeasureError, match="died"):
        act({(ORIGINAL, "onnxruntime", "fp32"): sentences_before}, Journal())
