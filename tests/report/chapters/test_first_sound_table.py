"""What the report says of the first sound: figures by hand, and a sentence for each thing that can go wrong."""

import numpy as np
import pytest

from ttsopt_lib.records.device import FirstSoundRecord, StreamedRow, StreamedText
from ttsopt_lib.report.chapters.speed import first_sound as chapter
from ttsopt_lib.report.facts.first_sound import first_sound, slowest
from ttsopt_lib.report.facts.verdict import verdict
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL

BLOCKS = 8


def record(lead: float = 0.05, ids: float | None = 0.004, variant: str = "fast") -> FirstSoundRecord:
    """Two texts: a sentence (first 0.01 s, whole 0.1 s, streamed 0.13 s; the original whole 0.8 s), and two."""

    def row(name: str, times: float, seconds: float | None = None) -> StreamedRow:
        texts = [0] if seconds else [0, 1]
        return StreamedRow(
            variant=name,
            piece_seconds=seconds,
            texts=texts,
            first_seconds=[[0.01 * times, 0.012 * times][: len(texts)]] * BLOCKS,
            streamed_seconds=[[0.13 * times, 0.4 * times][: len(texts)]] * BLOCKS,
            lead_seconds=[[lead, None][: len(texts)]] * (BLOCKS - 1) + [[lead - 0.01, None][: len(texts)]],
            whole_texts=[0],
            whole_seconds=[[0.1 * times]] * BLOCKS,
        )

    return FirstSoundRecord(
        threads=2,
        texts=[
            StreamedText(length_class="medium", text="One.", phonemes=30, sentences=1),
            StreamedText(length_class="paragraph", text="One. Two.", phonemes=60, sentences=2),
        ],
        ids_seconds=[] if ids is None else [[ids, 2 * ids]] * BLOCKS,
        rows=[row(ORIGINAL, 8.0), row(variant, 1.0), row(variant, 1.0, 0.5)],
    )


def test_figures_are_those_of_the_samples():
    found = first_sound(record(), {})
    assert found is not None and (found.threads, found.blocks) == (2, BLOCKS)
    assert [(one.length_class, one.ids_ms.value) for one in found.ids] == [("medium", 4.0), ("paragraph", 8.0)]
    rows = {(one.variant, one.piece_seconds, one.length_class): one for one in found.rows}
    assert len(rows) == 5
    fast = rows["fast", None, "medium"]
    assert fast.first_ms.value == pytest.approx(10) and fast.streamed_ms.value == pytest.approx(130)
    assert fast.from_text_ms and fast.from_text_ms.value == pytest.approx(14)
    assert fast.whole_ms and fast.whole_ms.value == pytest.approx(100)
    assert fast.cost and fast.cost.value == pytest.approx(0.3) and fast.cost.ci == pytest.approx((0.3, 0.3))
    assert fast.share_of_original and fast.share_of_original.value == pytest.approx(0.01 / 0.8)
    assert fast.lead_ms == pytest.approx(40)  # of the worst block
    paragraph = rows["fast", None, "paragraph"]
    assert paragraph.whole_ms is paragraph.cost is paragraph.share_of_original is paragraph.lead_ms is None
    assert slowest(found, "fast") == paragraph.first_ms and slowest(found, "another") is None


def test_without_a_phonemizer_there_is_no_time_from_the_text_on():
    found = first_sound(record(ids=None), {})
    assert found and found.ids == [] and all(row.from_text_ms is None for row in found.rows)


def with_record(summary: Summary, made: FirstSoundRecord | None, not_streamed=None, target=None) -> Summary:
    """An invented study in which the first device has this record."""
    device = summary.measured_devices[0].model_copy(update={"first_sound": first_sound(made, not_streamed or {})})
    targets = summary.targets.model_copy(update={"first_sound_ms": target})
    return summary.model_copy(update={"devices": [device, *summary.devices[1:]], "targets": targets})


@pytest.mark.parametrize(
    ("made", "not_streamed", "says"),
    [
        pytest.param(record(), {}, [], id="in time"),
        pytest.param(record(lead=-0.02), {}, ["`fast` would have run dry", "medium in growing pieces"], id="late"),
        pytest.param(record(ids=None), {}, ["not on this device"], id="no phonemizer"),
        pytest.param(record(ids=0.04, variant="distilled-int8"), {}, ["80.0 ms"], id="slow phonemizer"),
        pytest.param(None, {"fast": "a node sees everything"}, ["`fast` has no first sound: a node"], id="whole only"),
    ],
)
def test_what_goes_wrong_is_said(summary, golden, request, made, not_streamed, says):
    found = with_record(summary("good"), made, not_streamed)
    notes = chapter.notes(found, found.devices[0])
    for words in says:
        assert any(words in note for note in notes), (words, notes)
    assert any("run dry" in note for note in notes) == ("late" in request.node.name)
    golden(*notes)


def test_a_device_without_a_record_says_nothing(summary):
    found = with_record(summary("good"), None)
    assert chapter.notes(found, found.devices[0]) == [] and chapter.lead(found) == ""


@pytest.mark.parametrize(("target", "status"), [(12.5, "pass"), (11.5, "fail")])
def test_a_target_is_met_by_the_text_that_takes_longest(summary, target, status):
    plain = summary("good")
    chosen = next(name for name in plain.optimized.values() if name)
    found = with_record(plain, record(variant=chosen), target=target)
    rows = [row for row in verdict(found, found.choices) if row.claim == "first_sound_ms"]
    assert [row.status for row in rows if row.device == found.devices[0].device] == [status]
    assert rows[0].measured == pytest.approx(12.0) and rows[0].variant == chosen
    assert "slowest of the timed texts is typically heard after 12.0 ms" in chapter.lead(found)
    untargeted = with_record(plain, record(variant=chosen))
    assert not [row for row in verdict(untargeted, untargeted.choices) if row.claim == "first_sound_ms"]
    assert np.isclose(rows[0].target, target)


def test_a_target_without_a_measurement_is_not_measured(summary):
    found = with_record(summary("good"), None, target=20.0)
    rows = [row for row in verdict(found, found.choices) if row.claim == "first_sound_ms"]
    assert {row.status for row in rows} == {"not_measured"} and "measure.first_sound" in rows[0].reason
