"""What the report says of several sentences at once: figures by hand, and a sentence for each thing that can happen."""

import numpy as np
import pytest

from ttsopt_lib.records.device import BatchRow, DeviceRecord, Runtime, TimedSentence, TimingRow
from ttsopt_lib.report import tables
from ttsopt_lib.report.chapters.speed import batches
from ttsopt_lib.report.facts.batches import summarize_batches
from ttsopt_lib.report.facts.timing_rows import summarize_device
from ttsopt_lib.statistics.intervals import times_as_much
from ttsopt_lib.study import ORIGINAL, Device

GPU = Device(name="gpu", label="GPU", kind="gpu", threads=(1,), batch_sizes=(1, 8, 32))
# seconds of audio in a second, by variant, runtime, mode and sentences at once
SPEEDS: dict[tuple[str, Runtime, str], dict[int, float]] = {
    (ORIGINAL, "onnxruntime", "fp32"): {1: 100.0, 8: 400.0, 32: 800.0},
    ("fast", "onnxruntime", "fp32"): {1: 200.0, 8: 199.0},
    (ORIGINAL, "pytorch", "fp32"): {1: 50.0, 8: 250.0},
    (ORIGINAL, "pytorch", "fp16"): {1: 60.0, 8: 500.0},
}
MISSING = "out of memory: 90 GB were asked for"


def rows(rounds: int = 6) -> list[BatchRow]:
    """Rounds of half a second with noise of a per cent, and one size that did not fit."""
    rng = np.random.default_rng(0)
    found = []
    for (variant, runtime, mode), sizes in SPEEDS.items():
        for size, speed in sizes.items():
            seconds = 0.5 * (1 + 0.01 * rng.normal(size=rounds))
            audio = [0.5 * speed] * rounds
            found.append(
                BatchRow(
                    variant=variant, runtime=runtime, threads=1, mode=mode, batch_size=size, sentences=32,
                    padding=0.01 * size, seconds=seconds.tolist(), audio_seconds=audio,
                )
            )  # fmt: skip
    fast = found[4].model_copy(update={"batch_size": 32, "seconds": [], "audio_seconds": [], "reason": MISSING})
    return [*found[:5], fast, *found[5:]]


def record(found: list[BatchRow]) -> DeviceRecord:
    timed = TimingRow(
        variant=ORIGINAL, runtime="onnxruntime", threads=1, load_seconds=[1.0], peak_memory_mb=1, idle_memory_mb=1,
        seconds=[[1.0]] * 8, audio_seconds=[[2.0]] * 8,
    )  # fmt: skip
    return DeviceRecord(
        key="", device="gpu", label="GPU", kind="gpu", status="measured", reason=None, created="2026-01-01T00:00:00Z",
        system=None, sentences=[TimedSentence(length_class="short", text="a", phonemes=2)], rows=[timed], batches=found,
    )  # fmt: skip


def test_figures_are_those_of_the_samples_beside_the_original_at_the_same_size():
    by_place = {(one.variant, one.runtime, one.mode, one.batch_size): one for one in summarize_batches(rows())}
    for (variant, runtime, mode), sizes in SPEEDS.items():
        for size, speed in sizes.items():
            one = by_place[variant, runtime, mode, size]
            assert one.audio_per_second is not None and one.audio_per_second.ci is not None and one.rounds == 6
            low, high = one.audio_per_second.ci
            assert one.audio_per_second.value == pytest.approx(speed, rel=0.02)
            assert 0.97 * speed < low < one.audio_per_second.value < high < 1.03 * speed
            assert one.times_original is not None
            expected = speed / SPEEDS[ORIGINAL, runtime, "fp32"][size]
            assert one.times_original.value == pytest.approx(expected, rel=0.02)
    original = by_place[ORIGINAL, "onnxruntime", "fp32", 8]
    assert original.times_original is not None and original.times_original.ci == (1.0, 1.0)
    missing = by_place["fast", "onnxruntime", "fp32", 32]
    assert missing.audio_per_second is None and missing.times_original is None and missing.reason == MISSING


def test_a_row_that_ended_early_is_compared_in_the_rounds_that_both_have():
    original, fast = rows()[0], rows()[3]
    fast = fast.model_copy(update={"seconds": fast.seconds[:4], "audio_seconds": fast.audio_seconds[:4]})
    assert times_as_much(fast, original).value == pytest.approx(2.0, rel=0.02)
    with pytest.raises(ValueError, match="spoke 1 sentences at once"):
        times_as_much(fast, rows()[1])
    alone = [fast, original.model_copy(update={"seconds": [], "audio_seconds": []})]
    assert summarize_batches(alone)[0].times_original is None, "there is no original to be held against"
    died = fast.model_copy(update={"reason": "the worker ended with signal 9"})
    *_, said = batches.notes(summarize_device(GPU, record([original, died])))
    assert "ended after 4 rounds" in said and "signal 9" in said and "left out" not in said


def test_the_table_has_every_size_and_the_notes_what_batches_bring(golden):
    device = summarize_device(GPU, record(rows()))
    table, said = batches.section([device])
    assert "GPU" in table and "PyTorch, fp16" in table and "baseline" in table and MISSING not in table
    assert MISSING in said and "fast" in said
    frame = batches.batches([device]).frame
    assert len(frame) == sum(map(len, SPEEDS.values()))
    assert {"audio_per_second", "audio_per_second_low", "times_original_high", "padding", "rounds"} <= set(frame)
    golden(*batches.notes(device))
    assert tables.batches(record(rows())).equals(frame)


def test_where_nothing_was_asked_for_nothing_is_shown_and_where_all_failed_the_reason_is():
    assert batches.section([summarize_device(GPU, record([]))]) == []
    failed = [one.model_copy(update={"seconds": [], "audio_seconds": [], "reason": MISSING}) for one in rows()]
    (said,) = batches.section([summarize_device(GPU, record(failed))])
    assert MISSING in said and "table" not in said and said.count("<li>") == 1
