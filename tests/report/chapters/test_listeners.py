"""What the report says about people's ratings: what they showed, and what they could not have shown."""

import json

import pytest

from ttsopt_lib.records.quality import QualityRecord, ScreenedRater
from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import listeners
from ttsopt_lib.report.schema import Estimate


def test_every_rated_variant_has_what_its_ratings_could_detect(summary):
    rated = [row.human_mos for row in summary("many").quality if row.human_mos and row.variant != "original"]
    assert rated
    for human in rated:
        assert human.detectable == pytest.approx(0.025 * (2.000 + 0.848), abs=0.001)  # t of 60: 97.5 % and 80 %
        assert human.equivalence_p is not None


@pytest.mark.parametrize(
    ("change", "ci", "p", "says"),
    [
        pytest.param(-0.3, (-0.4, -0.2), 0.9, "is worse", id="worse"),
        pytest.param(0.3, (0.2, 0.4), 0.9, "higher", id="better"),
        pytest.param(0.0, (-0.05, 0.05), 0.01, "none as", id="none"),
        pytest.param(0.0, (-0.3, 0.3), 0.4, "too few", id="too few"),
    ],
)
def test_no_difference_is_claimed_only_where_it_was_shown(summary, change, ci, p, says, golden):
    changed = summary("many")
    for row in changed.quality:
        if row.human_mos and row.variant != "original":
            row.human_mos.change = Estimate(value=change, ci=ci)
            row.human_mos.equivalence_p = p
    lines = listeners.what_ratings_could_show(changed)
    branches = ("is worse", "higher", "none as", "too few")
    reach = {row.variant: row.human_mos.detectable for row in changed.quality if row.human_mos}
    assert lines
    for line in lines:
        assert [branch for branch in branches if branch in line] == [says]
        assert numbers.CHANGE.figure(Estimate(value=change, ci=ci)) in line and ("0.10" in line) == (change == 0.0)
        assert f" {numbers.number(reach[line.split('`')[1]], 2)} " in line
    golden(lines[0])


def test_screened_raters_are_named(summary):
    changed = summary("many")
    changed.screened_raters, changed.screened = 1, [ScreenedRater(rater="7-abcd", ratings=24, reason="clicked")]
    screened = listeners.what_ratings_could_show(changed)[-1]
    assert screened.startswith("1 rater ") and screened.endswith(" 7-abcd (24 ratings): clicked.")


def test_comparisons_have_a_table_each(summary):
    ccr, mushra = listeners.tables_of_comparisons(summary("many"))
    assert "CCR" in ccr and "MUSHRA" in mushra and "comparisons-ccr" in ccr
    assert [row.score.value for row in listeners.comparisons(summary("many")).rows] == [-0.3, 78.0]


def test_a_record_without_comparisons_still_loads(case):
    record = json.loads(case("many")[2].quality_record.read_text())
    for key in ("comparisons", "screened"):
        record.pop(key)
    for row in record["ratings"]:
        for key in ("change_error", "change_dof"):
            row.pop(key)
    assert QualityRecord.model_validate(record).comparisons == []
