"""What the report says about people's ratings: what they showed, and what they could not have shown."""

import json

import pytest

from ttsopt_lib.records import QualityRecord
from ttsopt_lib.report import sentences
from ttsopt_lib.report.schema import Estimate
from ttsopt_lib.report.sections import Report


def test_every_rated_variant_has_what_its_ratings_could_detect(summary):
    rated = [row.human_mos for row in summary("many").quality if row.human_mos and row.variant != "original"]
    assert rated
    for human in rated:
        assert human.detectable == pytest.approx(0.025 * (2.000 + 0.848), abs=0.001)  # t of 60: 97.5 % and 80 %
        assert human.equivalence_p is not None


@pytest.mark.parametrize(
    ("change", "ci", "p", "says"),
    [
        (-0.3, (-0.4, -0.2), 0.9, "listeners heard that it is worse"),
        (0.3, (0.2, 0.4), 0.9, "rated it higher"),
        (0.0, (-0.05, 0.05), 0.01, "no measurable difference, and none as large as 0.10 points"),
        (0.0, (-0.3, 0.3), 0.4, "too few ratings to rule out one as large as 0.10 points"),
    ],
)
def test_no_difference_is_claimed_only_where_it_was_shown(summary, change, ci, p, says):
    changed = summary("many")
    for row in changed.quality:
        if row.human_mos and row.variant != "original":
            row.human_mos.change = Estimate(value=change, ci=ci)
            row.human_mos.equivalence_p = p
    lines = sentences.what_ratings_could_show(changed)
    assert lines and all(says in line and "in 8 of 10 tests" in line for line in lines)


def test_screened_raters_are_named(summary):
    changed = summary("many")
    changed.screened_raters, changed.ratings_reason = 1, "screened out: 7-abcd (24 ratings): clicked"
    assert sentences.what_ratings_could_show(changed)[-1] == "1 rater was screened out: 7-abcd (24 ratings): clicked."


def test_comparisons_have_a_table_each(summary, case):
    report = Report(summary("many"), case("many")[2])
    text = report.mos().text
    assert "CCR" in text and "MUSHRA" in text and "comparisons-ccr" in text
    assert list(report.tables["comparisons"]["score"]) == [-0.3, 78.0]


def test_a_record_without_comparisons_still_loads(case):
    record = json.loads(case("many")[2].quality_record.read_text())
    for key in ("comparisons", "screened"):
        record.pop(key)
    for row in record["ratings"]:
        for key in ("change_error", "change_dof"):
            row.pop(key)
    assert QualityRecord.model_validate(record).comparisons == []
