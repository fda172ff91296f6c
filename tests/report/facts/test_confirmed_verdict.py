"""What further sentences bring to the verdict, to the tests and to the page."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from invented_records import FURTHER, SENTENCES, good

from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.report.chapters import quality
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.facts.verdict import HELD_OUT
from ttsopt_lib.report.schema import Estimate, PredictedMos, Summary
from ttsopt_lib.report.tables import confirmed_voices
from ttsopt_lib.statistics.intervals import paired_change
from ttsopt_lib.statistics.significance import equivalence_p


@pytest.fixture
def record(case) -> QualityRecord:
    _, _, folder = case("good")
    return read_record(folder.quality_record, QualityRecord, "evaluate")


def mos_of(summary: Summary, variant: str, predictor: str | None = None) -> PredictedMos:
    row = summary.quality_of(variant, predictor)
    assert row
    return row.predicted_mos


def known(found: Estimate | None) -> Estimate:
    assert found
    return found


def differences(rows, predictor: str) -> np.ndarray:
    scores = {row.variant: np.array(row.scores[predictor]) for row in rows}
    return scores["distilled-int8"] - scores["original"]


@pytest.mark.parametrize("predictor", ["distillmos", "dnsmos_p808"])
def test_the_verdict_on_a_confirmed_variant_rests_on_the_further_sentences_and_all_others_choose(
    summary, record, predictor
):
    one = summary("good")
    expected = differences(record.confirmation, predictor)
    mos = mos_of(one, "distilled-int8", predictor)
    assert mos.sentences_held_out == len(expected) == FURTHER
    value, ci = paired_change(expected, np.zeros(len(expected)))
    assert known(mos.change_held_out).value == pytest.approx(value) == pytest.approx(expected.mean())
    assert known(mos.change_held_out).ci == pytest.approx(ci)
    assert mos.equivalence_p_held_out == pytest.approx(equivalence_p(expected, 0.1))
    assert mos.change_choosing == mos.change
    assert known(mos.change).value == pytest.approx(differences(record.rows, predictor).mean())
    # any other variant has one half for each
    other = mos_of(one, "int8-weights", predictor)
    assert other.sentences_held_out == SENTENCES // 2
    scores = {row.variant: np.array(row.scores[predictor]) for row in record.rows}
    changes = scores["int8-weights"] - scores["original"]
    assert known(other.change_choosing).value == pytest.approx(changes[0::2].mean())
    assert known(other.change_held_out).value == pytest.approx(changes[1::2].mean())


def test_the_verdict_says_which_sentences_it_rests_on(summary):
    one = summary("good")
    row = next(row for row in one.verdict if row.claim == "predicted_mos_change")
    assert row.measured == known(mos_of(one, "distilled-int8").change_held_out).value
    assert row.reason == f"{HELD_OUT} ({FURTHER} further)"
    bare = summary("many")
    row = next(row for row in bare.verdict if row.claim == "predicted_mos_change")
    assert row.reason == f"{HELD_OUT} ({SENTENCES // 2} odd-numbered)"


def test_the_further_sentences_have_a_table_of_their_own(summary, record):
    one = summary("good")
    assert {row.variant for row in one.confirmation} == {"original", "distilled-int8"}
    assert one.confirmation_sentences == FURTHER
    frame = quality.confirmation(one.confirmation).frame.set_index("variant")
    for predictor in ("distillmos", "dnsmos_p808"):
        mean = differences(record.confirmation, predictor).mean()
        assert frame.loc["distilled-int8", f"change_{predictor}"] == pytest.approx(mean)
    errors = {row.variant: sum(row.word_errors or []) for row in record.confirmation}
    change = (errors["distilled-int8"] - errors["original"]) / sum(record.confirmation_words)
    assert frame.loc["distilled-int8", "wer_change"] == pytest.approx(change)
    html = "\n".join(quality.section(one))
    assert f"{FURTHER} further" in html[html.index('id="table-confirmation"') :].partition("</caption>")[0]
    assert f"n = {FURTHER}" in html
    pure = summary("many")
    assert "table-confirmation" not in "\n".join(quality.section(pure))


def test_the_notebook_of_the_step_shows_them_or_says_why_not(case, record):
    shown = confirmed_voices(record)
    assert isinstance(shown, pd.DataFrame) and list(shown["variant"]) == ["original", "distilled-int8"]
    _, _, folder = case("many")
    assert "evaluate.confirmed" in confirmed_voices(read_record(folder.quality_record, QualityRecord, "evaluate"))


def test_a_record_of_before_has_none(tmp_path):
    study, devices, folder = good(tmp_path)
    old = json.loads(folder.quality_record.read_text(encoding="utf-8"))
    for key in ("confirmation", "confirmation_sentences", "confirmation_words"):
        del old[key]
    folder.quality_record.write_text(json.dumps(old), encoding="utf-8")
    one = summarize(study, devices, folder)
    assert one.confirmation == [] and mos_of(one, "distilled-int8").sentences_held_out == 20
