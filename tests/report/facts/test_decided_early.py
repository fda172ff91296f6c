"""A voice that was scored on the first sentences only is compared with the original on those."""

import invented_records as records
import pytest

from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.quality import QualityRecord, QualityRow
from ttsopt_lib.report.chapters import first_page, quality, quality_words
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.numbers import PERCENT
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.statistics.intervals import paired_change
from ttsopt_lib.statistics.stopping import LEVEL, LOOK

HEARD_MORE = 10  # sentences, beside the LOOK that the invented records have


def cut(row: QualityRow, count: int) -> QualityRow:
    """A row as if its first sentences had decided."""
    lists = ("audio_seconds", "level_above_8khz_db", "hypotheses", "word_errors")
    scores = {name: values[:count] for name, values in row.scores.items()}
    return row.model_copy(
        update={"scores": scores, "stopped": True, **{name: getattr(row, name)[:count] for name in lists}}
    )


@pytest.fixture(scope="module")
def decided(tmp_path_factory) -> tuple[QualityRecord, Summary]:
    """The study `good`, where one variant and the first anchor stopped."""
    study, devices, folder = records.good(tmp_path_factory.mktemp("reports"))
    early = read_record(folder.quality_record, QualityRecord, "evaluate")
    early.words += early.words[:HEARD_MORE]
    for row in (*early.rows, *early.anchors):
        if row.hypotheses and row.word_errors:
            row.hypotheses += row.hypotheses[:HEARD_MORE]
            row.word_errors += row.word_errors[:HEARD_MORE]
    early.rows[1], early.anchors[0] = cut(early.rows[1], LOOK), cut(early.anchors[0], LOOK)
    write_record(folder.quality_record, early)
    return early, summarize(study, devices, folder)


def test_its_changes_are_paired_on_its_own_sentences_at_the_level_of_the_look(decided):
    record, summary = decided
    stopped, original = record.rows[1], record.rows[0]
    rows = [row for row in summary.quality if row.variant == stopped.variant]
    assert [row.predictor for row in rows] == ["distillmos", "dnsmos_p808"]
    for row in rows:
        scores, baseline = stopped.scores[row.predictor], original.scores[row.predictor][:LOOK]
        value, ci = paired_change(scores, baseline, LEVEL)
        assert (row.predicted_mos.change.value, row.predicted_mos.change.ci) == (value, ci)
        assert row.predicted_mos.change_held_out.ci == paired_change(scores[1::2], baseline[1::2], LEVEL).ci
        assert (row.sentences, row.predicted_mos.level) == (LOOK, LEVEL)
        assert row.predicted_mos.finding and row.predicted_mos.equivalence_p is not None
        assert row.wer_figures.change and row.wer_figures.finding and row.cer_figures.change
        lengths = zip(stopped.audio_seconds, original.audio_seconds[:LOOK], strict=True)
        change = sum(seconds / before - 1 for seconds, before in lengths) / LOOK
        assert row.paired.duration_change.value == pytest.approx(change)


def test_its_error_rate_stands_beside_the_original_s_on_the_same_sentences(decided):
    record, early = decided
    row = next(row for row in early.quality if row.variant == record.rows[1].variant)
    expected = sum(record.rows[0].word_errors[:LOOK]) / sum(record.words[:LOOK])
    assert row.wer_figures.sentences == LOOK and row.wer_figures.beside == pytest.approx(expected)
    assert row.wer_figures.fewer and not any(one.wer_figures.fewer for one in early.quality if not one.fewer)
    table = quality.quality([row])
    cell = next(one for one in table.columns if one.field == "wer").html(row)
    assert f"n = {LOOK}, original {PERCENT.value(expected)}" in cell
    assert table.frame.loc[0, "wer_sentences"] == LOOK and table.frame.loc[0, "wer_beside"] == pytest.approx(expected)


def test_other_voices_are_as_they_were(decided, summary):
    record, early = decided
    whole = summary("good")
    kept = [row for row in early.quality if row.variant != record.rows[1].variant]
    before = [row for row in whole.quality if row.variant != record.rows[1].variant]
    assert [row.predicted_mos.change for row in kept] == [row.predicted_mos.change for row in before]
    assert {row.predicted_mos.level for row in kept} == {0.95}


def test_the_page_says_on_how_many_sentences_and_at_which_level(decided, summary, golden):
    _, early = decided
    columns = {one.heading: one for one in quality.quality([]).columns if one.heading}
    shown = {"Predicted MOS": LOOK, "Change, evaluation": LOOK, "Change, held out": LOOK // 2, "WER / CER": LOOK}
    for heading, count in (shown | {"Level above 8 kHz, dB": LOOK}).items():
        for row in early.quality:
            stopped = row.predicted_mos.level == LEVEL
            assert (f"n = {count}" in columns[heading].html(row)) == stopped, (heading, row.variant)
    voice = next(one for one in quality.paired(early).columns if one.field == "variant")
    assert [f"n = {LOOK}" in voice.html(row) for row in quality.paired(early).rows] == [
        row.predicted_mos.level == LEVEL for row in quality.paired(early).rows
    ]
    assert "n of its cell" in quality.section(early)[-1] and "n of its cell" not in quality.section(summary("good"))[-1]
    assert "up to" in findings.quality_title(early) and "up to" not in findings.quality_title(summary("good"))
    (sentence,) = quality_words.decided(early)
    assert quality_words.decided(summary("good")) == []
    golden(sentence)


def test_a_first_look_says_which_variants_it_heard_less_of(decided, tmp_path):
    study, devices, folder = records.good(tmp_path)
    record = read_record(folder.quality_record, QualityRecord, "evaluate")
    names = [row.variant for row in record.rows[1:3]]
    record.rows[1:3] = [cut(row, 8).model_copy(update={"stopped": False}) for row in record.rows[1:3]]
    record.stage = "first_look"
    write_record(folder.quality_record, record)
    looked = summarize(study, devices, folder)
    assert findings.heard_on_few(looked) == dict.fromkeys(names, 8)
    note = first_page.stage_note(looked)
    assert note and f"{looked.evaluation_sentences} sentences (8 of 2 variants)" in note
    assert findings.over_all(looked) == "over all evaluation sentences (the first 8 of variants with n = 8)"
    assert f"The first look hears `{names[0]}` and `{names[1]}` on the first 8 sentences only" in " ".join(
        quality_words.decided(looked)
    )
    row = next(row for row in looked.quality if row.variant == names[0])
    scores, baseline = record.rows[1].scores[row.predictor], record.rows[0].scores[row.predictor][:8]
    assert row.predicted_mos.change and row.predicted_mos.change.ci == paired_change(scores, baseline, 0.95).ci

    _, early = decided  # scored completely, and timed anew: only the look of 99.9 % stopped anything
    early = early.model_copy(update={"stage": "first_look"})
    assert findings.heard_on_few(early) == {} and "variant" not in (first_page.stage_note(early) or "")
