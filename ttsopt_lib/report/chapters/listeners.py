"""What listeners said: mean opinion scores, and the comparisons of CCR and MUSHRA."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts.findings import chosen, chosen_or_closest, over_all
from ttsopt_lib.report.facts.verdict import SAME_RATINGS, no_interval
from ttsopt_lib.report.numbers import CHANGE, COUNT, SCORE
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.printing.table import NONE, Column, Table, name_of, printed
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL

CAPTIONS = {
    "ccr": "Listeners' comparisons (CCR): the variant against the original, −3 much worse to 3 much better",
    "mushra": "Listeners' ratings beside a hidden reference (MUSHRA), 0 to 100",
}


def mos(summary: Summary) -> Table:
    """People's ratings of the original and the optimized voice (all rated voices where none was chosen)."""
    rated = [row.variant for row in summary.quality if row.human_mos]
    conditions = {ORIGINAL: "before optimization", **dict.fromkeys(chosen(summary), "after optimization")}
    rows = []
    for name in dict.fromkeys([ORIGINAL, *chosen_or_closest(summary), *rated]):
        row = summary.quality_of(name)
        rows.append(
            SimpleNamespace(
                variant=name,
                condition=conditions.get(name, "another variant"),
                human=row.human_mos if row else None,
                predicted=row.predicted_mos if row else None,
            )
        )
    return Table(
        "mos",
        f"Mean opinion score before and after optimization; the predicted MOS change is {over_all(summary)}",
        [
            Column("variant"),
            Column("condition", "Condition", cell=lambda row: f"{escape(row.condition)} <br>{name_of(row)}"),
            Column("mos", "MOS (listeners)", SCORE, "human", interval=True),
            Column("raters", of="human.raters"),
            Column("ratings", of="human.ratings"),
            Column("mos_change", "Change", CHANGE, "human.change", interval=True),
            Column("", "Raters (ratings)", COUNT, cell=_raters),
            Column("detectable", of="human.detectable"),
            Column("equivalence_p", of="human.equivalence_p"),
            Column("predicted_mos_change", "Predicted MOS change", CHANGE, "predicted.change", interval=True),
        ],
        rows,
    )


def _raters(row: Any) -> str:
    return f"{row.human.raters} ({row.human.ratings})" if row.human else NONE


def comparisons(summary: Summary) -> Table:
    """What listeners said in comparisons: CCR and MUSHRA."""
    return Table(
        "comparisons",
        "Listeners' comparisons",
        [
            Column("test"),
            Column("variant", "Variant", cell=name_of),
            Column("score", "Mean", SCORE, cell=_mean, interval=True),
            Column("raters", "Raters", COUNT),
            Column("sentences", "Sentences", COUNT),
            Column("ratings", "Ratings", COUNT),
            Column("detectable"),
        ],
        summary.comparisons,
    )


def _mean(row: Any) -> str:
    return printed(row.score, CHANGE if row.test == "ccr" else SCORE, row.variant)


def tables_of_comparisons(summary: Summary) -> list[str]:
    """CCR and MUSHRA, a table each, where listeners took them."""
    table = comparisons(summary)
    parts = [
        replace(table, caption=caption, part=test, rows=[row for row in table.rows if row.test == test])
        for test, caption in CAPTIONS.items()
    ]
    return [part.html for part in parts if part.rows]


def what_ratings_could_show(summary: Summary) -> list[str]:
    """For every rated variant: what listeners heard, or what they could have missed."""
    found = []
    margin = numbers.SCORE.exact(abs(summary.targets.mos_change))
    rated = {row.variant: row.human_mos for row in summary.quality if row.human_mos}
    for name, human in rated.items():
        if why := no_interval(human):
            change = f" {numbers.CHANGE.figure(human.change)}:" if human.change else ""
            found.append(f"`{name}`:{change} {why}, so nothing was tested.")
        if human.change is None or human.change.ci is None or human.detectable is None:
            continue
        smallest = numbers.number(human.detectable, 2)
        reach = f"ratings like these find a true change of {smallest} points in 8 of 10 tests"
        if human.change.ci[1] < 0:
            heard = "listeners heard that it is worse"
        elif human.change.ci[0] > 0:
            heard = "listeners rated it higher than the original"
        elif not summary.targets.mos_change:  # no ratings rule out every change
            heard = "no measurable difference"
        elif human.equivalence_p is not None and human.equivalence_p < 0.05:
            heard = f"no measurable difference, and none as large as {margin} points"
        else:
            heard = f"no measurable difference, but too few ratings to rule out one as large as {margin} points"
        found.append(f"`{name}`: {numbers.CHANGE.figure(human.change)}: {heard}; {reach}.")
    if summary.screened_raters:
        were = "rater was" if summary.screened_raters == 1 else "raters were"
        who = "; ".join(rater.words for rater in summary.screened)
        found.append(f"{summary.screened_raters} {were} screened out: {who}.")
    return found


def optimized_first(summary: Summary, sentences: list[str]) -> list[str]:
    """Sentences about variants, those about the optimized ones first."""
    names = tuple(f"`{name}`" for name in chosen(summary))
    return sorted(sentences, key=lambda said: not said.startswith(names))


def what_comparisons_could_show(summary: Summary) -> list[str]:
    """For every variant that listeners compared with the original (CCR): what they heard, or could have missed.

    In MUSHRA as well: which voices have no interval, and why.
    """
    found = []
    for row in summary.comparisons:
        if row.score.ci is None:
            few = min(row.raters, row.sentences) < 2
            why = "an interval needs two raters and two sentences" if few else SAME_RATINGS
            found.append(f"`{row.variant}` ({row.test.upper()}): {why}.")
        if row.test != "ccr" or row.score.ci is None or row.detectable is None:
            continue
        low, high = row.score.ci
        heard = "no measurable difference"
        if high < 0 or low > 0:
            heard = "listeners heard that it is worse" if high < 0 else "listeners preferred it"
        found.append(
            f"`{row.variant}` compared with the original: {numbers.CHANGE.figure(row.score)}: {heard}; comparisons "
            f"like these find a true difference of {numbers.number(row.detectable, 2)} points in 8 of 10 tests."
        )
    return found
