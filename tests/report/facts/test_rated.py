"""What follows from listeners' ratings: where they allow no test, of which voices they count, how many are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import invented_records as records
import pytest

from ttsopt_lib.evaluate.anchors import LOWPASS
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.report.chapters import listeners, quality_words
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.report.sections import Report
from ttsopt_lib.study import ORIGINAL

CHOSEN = "distilled-int8"
Rated = Callable[..., Summary]


@pytest.fixture
def rated(tmp_path: Path) -> Rated:
    """The summary of an invented study with ratings, after its record was changed."""
    study, devices, folder = records.good(tmp_path)
    records.write_quality(folder, records.GOOD, ratings=True, confirmed=(CHOSEN,))

    def get(change: Callable[[QualityRecord], None] = lambda record: None, **targets: float) -> Summary:
        record = read_record(folder.quality_record, QualityRecord, "evaluate")
        change(record)
        write_record(folder.quality_record, record)
        aims = study.targets.model_copy(update=targets)
        return summarize(study.model_copy(update={"targets": aims}), devices, folder)

    return get


def tied(record: QualityRecord) -> None:
    """All raters say that both voices are the same, and in CCR that they hear no difference."""
    for row in record.ratings or []:
        row.ci = None
        if row.variant != ORIGINAL:
            row.change, row.change_ci, row.change_error = 0.0, None, 0.0
    for row in record.comparisons:
        row.mean, row.ci, row.error = 0.0, None, 0.0


def test_ratings_that_all_say_the_same_meet_no_target_and_show_no_equivalence(rated):
    found = rated(tied)
    (row,) = (one for one in found.verdict if one.claim == "mos_change" and one.variant == CHOSEN)
    assert row.status == "not_measured" and "the same" in row.reason
    human = found.quality_of(CHOSEN).human_mos
    assert human.change.value == 0 and human.detectable is None and human.equivalence_p is None
    said = " ".join(listeners.what_ratings_could_show(found))
    assert f"`{CHOSEN}`: 0.00: all ratings say the same" in said and "0.00 points" not in said
    assert "allow no test" in quality_words.unheard(found, CHOSEN)
    compared = listeners.what_comparisons_could_show(found)
    assert len(compared) == 2 and all("all ratings say the same" in one for one in compared)


def test_ratings_that_cannot_be_paired_are_not_called_none(rated):
    def unpaired(record: QualityRecord) -> None:
        for row in record.ratings or []:
            row.change = row.change_ci = row.change_error = row.change_dof = None

    found = rated(unpaired)
    (row,) = (one for one in found.verdict if one.claim == "mos_change" and one.variant == CHOSEN)
    assert row.status == "not_measured" and "compared with the original" in row.reason
    said = " ".join(listeners.what_ratings_could_show(found))
    assert f"`{CHOSEN}`: too few" in said and "`original`" not in said


@pytest.mark.parametrize("how", ["made anew since", "no longer in the study"])
def test_ratings_and_comparisons_of_another_voice_count_for_nothing(rated, how):
    def change(record: QualityRecord) -> None:
        record.comparisons += [records.comparison(name, "mushra", 40.0) for name in (LOWPASS, "gone")]
        if how == "made anew since":
            next(row for row in record.rows if row.variant == CHOSEN).model_sha256 = "f" * 64
        else:
            for row in (*record.comparisons, *(record.ratings or [])):
                row.variant = "gone" if row.variant == CHOSEN else row.variant

    before, found = rated(), rated(change)
    assert [row.variant for row in found.comparisons] == [LOWPASS]
    p_before, p = (one.quality_of("int8-weights").human_mos.equivalence_p for one in (before, found))
    assert p < p_before  # it is tested with one voice fewer


def test_a_target_of_no_change_at_all_gives_a_report(rated):
    found = rated(mos_change=0.0, predicted_mos_change=0.0, latency_reduction=0.0, size_reduction=0.0)
    assert found.quality_of(CHOSEN).human_mos.equivalence_p > 0.05
    assert all("0.00 points" not in one for one in listeners.what_ratings_could_show(found))


def test_ratings_that_do_not_say_which_files_were_heard_are_counted_once(rated, case):
    def unknown(record: QualityRecord) -> None:
        record.ratings_unknown_files = 144

    said = "Which voice files were heard is not known for"
    assert said not in Report(rated(), case("good")[2]).mos().text
    assert Report(rated(unknown), case("good")[2]).mos().text.count(f"{said} 144 ratings.") == 1
