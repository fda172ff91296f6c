"""What is claimed about quality beside the original: tests, equivalence, and whether a predictor is believed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttsopt_lib.evaluate.intelligibility import word_errors
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.quality import MissingSymbol, QualityRecord, UnavailablePredictor
from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import first_page, listeners, quality, quality_words
from ttsopt_lib.report.chapters.speed import peers
from ttsopt_lib.report.error_rates import rates_of
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.printing.table import Table
from ttsopt_lib.report.schema import Estimate, PredictedMos, Summary
from ttsopt_lib.report.sections import Report
from ttsopt_lib.report.tables import anchors
from ttsopt_lib.step_settings import QuantizeStatic
from ttsopt_lib.study import Study


@pytest.fixture
def record(case) -> QualityRecord:
    """The quality record of the study "good", which a test may change."""
    return read_record(case("good")[2].quality_record, QualityRecord, "evaluate")


@pytest.fixture
def summarized(case) -> Iterator[Callable[..., Summary]]:
    """The study "good" with another quality record; the first one comes back after the test."""
    good, devices, folder = case("good")
    text = folder.quality_record.read_text()

    def make(record: QualityRecord, study: Study = good) -> Summary:
        write_record(folder.quality_record, record)
        return summarize(study, devices, folder)

    yield make
    folder.quality_record.write_text(text)


def quality_page(summary: Summary) -> str:
    """What stands below the picture of the quality."""
    return "".join(quality.section(summary))


def mos(finding, p, change=-0.01, ci=(-0.03, 0.01)) -> PredictedMos:
    return PredictedMos(
        value=4.0, ci=None, change=Estimate(value=change, ci=ci), change_choosing=None, change_held_out=None,
        change_p=0.5, finding=finding, equivalence_p=p,
    )  # fmt: skip


def test_findings_are_those_that_were_invented(summary):
    made = summary("many")
    found = {row.variant: row.predicted_mos for row in made.quality if row.predictor == "distillmos"}
    assert found["int8-static"].finding == "worse" and (found["int8-static"].equivalence_p or 0) > 0.9
    assert found["fp32"].finding == "no_difference" and (found["fp32"].equivalence_p or 1) < 0.05
    assert found["original"].finding is None and found["original"].change_p is None
    words = {row.variant: row.wer_figures for row in made.quality if row.wer_figures}
    assert len(words) == len(found) and words["fp32"].finding == "no_difference"
    assert all(one.ci and one.ci[0] <= one.value <= one.ci[1] for one in words.values())


@pytest.mark.parametrize(
    ("found", "begins", "small", "doubted"),
    [
        pytest.param(mos("no_difference", 0.01), "no", True, False, id="none and shown to be small"),
        pytest.param(mos("no_difference", 0.3), "no", False, False, id="none"),
        pytest.param(mos("no_difference", 0.3, -0.05, (-0.09, -0.01)), "no", False, True, id="none once corrected"),
        pytest.param(mos("worse", 0.01), "lower", True, False, id="worse and shown to be small"),
        pytest.param(mos("worse", 0.9), "lower", False, False, id="worse"),
        pytest.param(mos("better", 0.9), "higher", False, False, id="better"),
        pytest.param(mos(None, None), "not tested", False, False, id="not tested"),
    ],
)
def test_no_difference_and_small_difference_are_told_apart(found, begins, small, doubted, golden):
    text = quality_words.mos_finding(found, 0.1)
    assert text.startswith(begins) and ("less than" in text, "corrected" in text) == (small, doubted)
    assert ("ruled out" in text) == (begins == "no" and not small)
    assert ("0.10" in text) == (small or begins == "no")
    golden(text)


@pytest.mark.slow
def test_a_predictor_that_orders_the_anchors_is_believed_and_one_that_does_not_is_not(
    summary, record, summarized, golden
):
    trusted = summary("good")
    assert all(predictor.orders_anchors for predictor in trusted.predictors)
    assert quality_words.distrusted(trusted) == [] and len(quality_words.trusted(trusted)) == 2
    record.anchors[0].scores["distillmos"] = list(np.add(record.rows[0].scores["distillmos"], 0.02))
    deaf = summarized(record)
    assert [predictor.orders_anchors for predictor in deaf.predictors] == [False, True]
    (warning,) = quality_words.distrusted(deaf)
    assert warning.startswith("DistillMOS") and "`lowpass-3500`" in warning and "`noise-10db`" not in warning
    assert warning in first_page.manager_summary(deaf)
    assert escape(warning) in quality_page(deaf)
    assert [said.partition(" ")[0] for said in quality_words.trusted(deaf)] == ["DNSMOS"]
    golden(warning)


@pytest.mark.slow
def test_naive_int8_is_an_anchor_that_a_predictor_has_to_hear_and_stays_a_variant(summary, record, summarized):
    heard = summary("good")
    for rows in (heard.anchors, heard.quality):
        assert [row.predictor for row in rows if row.variant == "int8-static"] == ["distillmos", "dnsmos_p808"]
    assert all("`int8-static` −" in words for words in quality_words.trusted(heard))
    tested: Any = quality.tests(heard).frame
    assert set(tested.loc[tested["variant"] == "int8-static", "group"]) == {"Variants"}
    naive = next(row for row in record.rows if row.variant == "int8-static")
    naive.scores["distillmos"] = list(np.add(record.rows[0].scores["distillmos"], 0.02))
    deaf = summarized(record)
    assert [predictor.orders_anchors for predictor in deaf.predictors] == [False, True]
    assert deaf.predictors[0].missed_anchors == ["int8-static"]
    (warning,) = quality_words.distrusted(deaf)
    assert "`int8-static`" in warning and "`lowpass" not in warning and escape(warning) in quality_page(deaf)


@pytest.mark.parametrize("change", ["left out", "not everywhere"])
def test_without_naive_int8_the_anchors_are_the_damaged_originals_alone(case, record, summarized, change):
    next(row for row in record.rows if row.variant == "int8-static").scores = record.rows[0].scores
    study = case("good")[0]
    some = QuantizeStatic(step="quantize_static", exclude=("/dec/",))
    variants = [
        one.model_copy(update={"recipe": (some,)}) if one.name == "int8-static" else one
        for one in study.variants
        if change == "not everywhere" or one.name != "int8-static"
    ]
    made = summarized(record, study.model_copy(update={"variants": tuple(variants)}))
    assert {row.variant for row in made.anchors} == {"lowpass-3500", "noise-10db"}
    assert all(predictor.orders_anchors and not predictor.missed_anchors for predictor in made.predictors)


def test_the_notebook_s_table_of_anchors_has_those_of_the_report(case, record, summary):
    shown = anchors(case("good")[0], record)
    assert set(shown["variant"]) == {"lowpass-3500", "noise-10db", "int8-static"}
    reported = quality.quality(summary("good").anchors).frame
    assert shown[["variant", "predicted_mos", "change"]].equals(reported[["variant", "predicted_mos", "change"]])
    cells = json.loads(Path("notebooks/evaluate.ipynb").read_text(encoding="utf-8"))["cells"]
    assert ["tables.anchors(study, record)"] in [cell["source"] for cell in cells]


@pytest.mark.slow
def test_character_errors_come_from_what_was_heard(record, summarized):
    spoken = record.sentences[:20]  # "sentence 0" to "sentence 19": 210 characters
    assert record.other_noise
    for row in (*record.rows, *record.anchors, record.other_noise):
        row.hypotheses = list(spoken)
    damaged = next(row for row in record.rows if row.variant == "int8-static")
    damaged.hypotheses = [text.replace("Sentence", "Sentense") for text in spoken]
    record.anchors[0].hypotheses = None
    made = summarized(record)
    by_name = {row.variant: row for row in (*made.quality, *made.anchors) if row.predictor == "distillmos"}
    found = by_name["int8-static"]
    assert found.cer and found.cer_figures and found.cer_figures.change
    assert found.cer == pytest.approx(20 / 210)
    assert found.cer_figures.value == found.cer_figures.change.value == found.cer
    low, high = found.cer_figures.change.ci or (0.0, 0.0)
    assert 0 < low <= found.cer <= high < 0.11 and found.cer_figures.finding == "worse"
    assert by_name["original"].cer == 0.0
    same = by_name["fp32"].cer_figures
    assert same and same.finding == "no_difference"
    assert by_name["lowpass-3500"].cer is None and by_name["lowpass-3500"].cer_figures is None
    frame: Any = quality.quality(made.quality).frame.set_index(["variant", "predictor"])
    assert frame.loc[("int8-static", "distillmos"), "cer"] == found.cer
    tests: Any = quality.tests(made).frame
    assert set(tests.loc[tests["cer_finding"] == "more errors", "variant"]) == {"int8-static"}
    text = quality_page(made)
    assert " CER" in text and numbers.percent(found.cer, 1) in text


def hears(record: QualityRecord, heard: dict[str, str], otherwise: str) -> None:
    """Let the recognizer hear something in each of three words of 20 sentences of the rows that are named."""
    assert record.other_noise and record.rows[0].variant == "original"
    record.words = [3] * 20
    expected = otherwise.split() if record.asr_against == "original" else record.sentences[0].split()
    for row in (*record.rows, *record.anchors, *record.peers, record.other_noise):
        words = heard.get(row.variant, otherwise)
        row.hypotheses = [words] * 20
        wrong = sum(one != other for one, other in zip(words.split(), expected, strict=False))
        row.word_errors, row.wer = [wrong] * 20, wrong / 3


def with_rates(made: Summary) -> list[Table]:
    """The tables that have error rates."""
    return [
        quality.quality(made.quality, rates=rates_of(made)),
        quality.tests(made),
        quality.confirmation(made.quality, made.predictors, rates_of(made)),
        peers.peers(made),
    ]


@pytest.mark.slow
def test_where_the_original_stands_for_the_text_the_figures_are_called_relative(case, record, summarized):
    record.asr_against = "original"
    hears(record, {"int8-static": "one two four"}, "one two three")
    made = summarized(record)
    assert all(row.wer is row.wer_figures is row.cer is row.cer_figures is None for row in made.quality)
    found = next(row for row in made.quality if row.variant == "int8-static")
    assert found.relative_wer and found.relative_wer.value == pytest.approx(1 / 3)
    assert found.relative_wer.finding == "worse"
    assert found.relative_cer and found.relative_cer.value == pytest.approx(5 / 13)
    for table in with_rates(made):
        headings = [column.heading for column in table.columns if column.heading]
        assert any("Relative WER" in heading for heading in headings)
        assert not any(heading.startswith(("WER", "CER")) for heading in headings)
        assert not {"wer", "cer", "wer_change"} & set(table.frame.columns)
    text = quality_page(made)
    assert "no word error rate" in text and "WER / CER" not in text and "relative word errors)" in text
    assert set(anchors(case("good")[0], record)) == set(quality.quality(made.anchors, "anchors", rates_of(made)).frame)


@pytest.mark.slow
@pytest.mark.parametrize(("voice", "finding"), [("one two four", None), ("one", "worse"), ("one two three", "better")])
def test_a_relative_rate_is_tested_beside_the_original_with_other_noise(record, summarized, voice, finding):
    """An equal voice is heard otherwise as well: that many errors are no finding."""
    record.asr_against = "original"
    assert record.other_noise
    hears(record, {record.other_noise.variant: "one two four", "int8-static": voice}, "one two three")
    record.rows[0].hypotheses = ["one two three"] * 20
    for row in record.rows:
        if row.variant == "int8-static":
            row.word_errors = [word_errors("one two three", voice)] * 20
    made = summarized(record)
    by_name = {row.variant: row.relative_wer for row in (*made.quality, *made.other_noise)}
    assert by_name["original"] and by_name["original"].value == 0.0 and by_name["original"].change is None
    noise, found = by_name[record.other_noise.variant], by_name["int8-static"]
    assert noise and noise.value == pytest.approx(1 / 3) and noise.change is noise.finding is None
    assert found and found.change and found.change.value == pytest.approx(found.value - 1 / 3)
    assert found.finding == (finding or "no_difference")
    frame: Any = quality.tests(made).frame
    words = set(frame.loc[frame["variant"] == "int8-static", "relative_wer_finding"])
    said = {"worse": "more than other noise", "better": "less than other noise", None: "no measurable difference"}
    assert words == {said[finding]}


@pytest.mark.slow
def test_where_words_are_not_written_apart_the_rate_is_one_of_characters_alone(record, summarized):
    record.asr_language = "ja"
    record.sentences = ["今日は雨です。"] * len(record.sentences)
    hears(record, {"int8-static": "今日は雪です"}, "今日は雨です")
    made = summarized(record)
    found = next(row for row in made.quality if row.variant == "int8-static")
    assert found.wer is found.wer_figures is found.relative_wer is None
    assert found.cer == pytest.approx(1 / 6) and found.cer_figures and found.cer_figures.finding == "worse"
    for table in with_rates(made):
        headings = [column.heading for column in table.columns]
        assert "cer" in table.frame.columns and not {"wer", "wer_change"} & set(table.frame.columns)
        assert any(one.startswith("CER") for one in headings) and not any("WER" in one for one in headings)
    text = quality_page(made)
    assert "CER: character error rate of" in text and "WER" not in text and "character errors)" in text


def test_figures_beside_the_original_have_intervals_and_the_same_is_among_them(summary):
    frame: Any = quality.paired(summary("good")).frame
    assert frame["variant"].iloc[0].endswith("other noise") and "original" not in set(frame["variant"])
    for name in ("speaker_similarity", "log_spectral_distance_db", "f0_error_cents", "duration_change"):
        assert (frame[f"{name}_low"] <= frame[name]).all() and (frame[name] <= frame[f"{name}_high"]).all()
    rows = summary("good").quality
    assert next(row.speaker_similarity or 1 for row in rows if row.variant == "int8-static") < 0.95
    assert "“the same”" in quality_words.what_same_means(summary("good"))[0]
    assert "`int8-static`" in quality_words.worse_than_noise(summary("good"))[0]


def test_a_figure_that_some_sentences_did_not_give_says_on_how_many_it_stands(record, summarized):
    noise = record.other_noise
    assert noise and noise.paired
    noise.paired.f0_error_cents = [None] * 32 + [12.0, 14.0, 11.0, 13.0] * 2
    noise.paired.voicing_disagreement = [0.0] * 40
    made = summarized(record)
    (row,) = (one for one in quality.paired(made).rows if one.variant == noise.variant)
    cells = {column.field: column.html(row) for column in quality.paired(made).columns if column.heading}
    assert "n = 8" in cells["f0_error_cents"] and "n =" not in cells["speaker_similarity"]
    assert row.paired.f0_error_cents.ci is None and row.paired.voicing_disagreement.ci is None
    said = "No interval: all sentences say the same, or they are fewer than 10."
    assert said in quality_page(made)


def test_a_predictor_that_is_not_there_is_a_row_with_its_reason(summary):
    changed = summary("good")
    changed.unavailable_predictors = [UnavailablePredictor(name="utmos", label="UTMOS", reason="no hub is reached")]
    (row,) = quality_words.unavailable(changed)
    assert row.startswith("UTMOS") and "no hub is reached" in row and escape(row) in quality_page(changed)


def test_only_ratings_support_that_listeners_hear_nothing(summary, golden):
    predicted = quality_words.unheard(summary("good"), "distilled-int8")
    assert "nobody rated" in predicted and "predicted MOS" in predicted and "within 0.10" in predicted
    assert "not shown" not in predicted.partition("nobody")[2]
    rated = summary("many")
    row = rated.quality_of("distilled")
    assert row and row.human_mos
    row.human_mos.equivalence_p = 0.01
    supported = quality_words.unheard(rated, "distilled")
    row.human_mos.equivalence_p = 0.2
    unsupported = quality_words.unheard(rated, "distilled")
    assert "ratings support" in supported and "not show" in unsupported
    for said in (supported, unsupported):
        assert "`distilled`" in said and "0.10" in said and "predicted" not in said
    golden(predicted, supported, unsupported)


def test_comparisons_say_what_they_could_have_found(summary, golden):
    made = summary("many")
    (worse,) = listeners.what_comparisons_could_show(made)
    assert "is worse" in worse and " 0.29 " in worse and numbers.CHANGE.figure(made.comparisons[0].score) in worse
    made.comparisons[0].score = Estimate(value=0.0, ci=(-0.2, 0.2))
    (none,) = listeners.what_comparisons_could_show(made)
    made.comparisons[0].score = Estimate(value=0.4, ci=(0.2, 0.6))
    (better,) = listeners.what_comparisons_could_show(made)
    assert "no measurable" in none and "preferred" in better and "worse" not in none + better
    golden(worse, none, better)


def test_a_record_of_before_has_no_such_figures_and_still_gives_a_report(case, summarized):
    folder = case("good")[2]
    before = json.loads(folder.quality_record.read_text())
    for key in ("other_noise", "words", "unavailable", "speaker_encoder", "speaker_reason", "pitch_reason"):
        before.pop(key)
    for row in (*before["rows"], *before["anchors"]):
        for key in ("paired", "word_errors"):
            row.pop(key)
    old = summarized(QualityRecord.model_validate(before))
    assert all(row.paired is None and row.speaker_similarity is None for row in old.quality)
    assert not quality.paired(old).rows
    assert "not compared" in Report(old, folder).quality().text


def test_what_is_not_spoken_and_another_language_stand_beside_the_quality(summary, record, summarized):
    assert "Not spoken" not in quality_page(summary("good"))
    missing = [
        MissingSymbol(symbol="\u0327", left_out_by="voice", times=1, sentences=1),
        MissingSymbol(symbol="\u00f4", left_out_by="piper", times=7, sentences=3),
    ]
    doubt = "language: the study's texts are in 'en', but the voice speaks 'de'"
    changes = {"missing_symbols": missing, "texts": 12, "language_doubts": [doubt]}
    said = summarized(record.model_copy(update=changes))
    assert (said.missing_symbols, said.texts, said.language_doubts) == (missing, 12, [doubt])
    box = r'<aside class="warning" aria-label="([^"]+)">(.*?)</aside>'
    boxes = dict(re.findall(box, quality_page(said), re.DOTALL))
    assert escape(doubt) in boxes["Another language"]
    assert "\u25cc\u0327 U+0327 (1 time, in 1 of 12 texts)" in boxes["Not spoken"]
    assert "takes \u00f4 (7 times, in 3 of 12 texts) apart" in boxes["Not spoken"]


def test_small_p_values_are_not_printed_as_zero():
    assert [quality_words.p_words(p) for p in (1e-9, 0.0123, 0.5, None)] == ["< 0.001", "0.012", "0.50", "not tested"]
