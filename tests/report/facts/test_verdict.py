"""The rule that picks the optimized variant, and the verdict on it."""

from __future__ import annotations

import pytest
from rich.console import Console
from test_advice import set_latency

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import first_page
from ttsopt_lib.report.chapters.choice import choice_notes
from ttsopt_lib.report.chapters.conclusion import conclusion
from ttsopt_lib.report.facts import verdict
from ttsopt_lib.report.schema import Estimate, Summary
from ttsopt_lib.terminal import verdict_table


def set_change(summary: Summary, name: str, choosing: tuple[float, float], held_out: tuple[float, float]) -> None:
    """Give a variant other changes, as (value, half width of the interval)."""
    row = summary.quality_of(name)
    assert row
    for field, (value, half) in (("change_choosing", choosing), ("change_held_out", held_out)):
        setattr(row.predicted_mos, field, Estimate(value=value, ci=(value - half, value + half)))


def decide(summary: Summary) -> dict[str, verdict.VerdictRow]:
    """Apply the rule anew; the rows of the first device by claim."""
    device = summary.devices[0]
    summary.choices = [verdict.choose(summary, device)]
    summary.optimized[device.device] = summary.choices[0].variant
    return {row.claim: row for row in verdict.verdict(summary, summary.choices) if row.device == device.device}


@pytest.fixture
def study(summary):
    """The good study with two variants that qualify: int8-weights and the faster distilled-int8."""
    one = summary("good")
    set_change(one, "int8-weights", (0.0, 0.02), (0.0, 0.02))
    set_change(one, "distilled-int8", (-0.03, 0.02), (-0.04, 0.02))
    return one


def test_the_fastest_of_those_that_qualify_is_chosen(study):
    rows = decide(study)
    assert study.optimized["cpu"] == "distilled-int8"
    assert {claim: row.status for claim, row in rows.items()} == {
        "size_reduction": "pass",
        "latency_reduction": "pass",
        "predicted_mos_change": "pass",
        "mos_change": "not_measured",
    }


def test_a_faster_variant_that_is_too_large_is_not_chosen(study):
    set_latency(study, "fp32", 0.9)
    decide(study)
    assert study.optimized["cpu"] == "distilled-int8"


def test_a_faster_variant_that_sounds_worse_is_not_chosen(study):
    set_change(study, "distilled-int8", (-0.09, 0.02), (0.0, 0.01))  # the middle would pass, the worse end does not
    decide(study)
    assert study.optimized["cpu"] == "int8-weights"


def test_the_choice_looks_at_one_half_and_the_verdict_at_the_other(study):
    set_change(study, "distilled-int8", (0.0, 0.01), (-0.3, 0.05))
    row = decide(study)["predicted_mos_change"]
    assert study.optimized["cpu"] == "distilled-int8"
    assert (row.measured, row.status) == (-0.3, "fail")


def test_the_worse_end_of_the_interval_counts(study):
    set_latency(study, "distilled-int8", 0.61, half=0.02)
    row = decide(study)["latency_reduction"]
    assert row.measured == 0.61 > row.target
    assert row.status == "fail"


def test_baseline_and_its_copy_are_never_chosen(study):
    study.targets = study.targets.model_copy(update={"size_reduction": 0.0, "predicted_mos_change": -4.0})
    set_latency(study, "original", 0.99)
    set_latency(study, "original-copy", 0.99)
    decide(study)
    assert study.optimized["cpu"] not in ("original", "original-copy", None)


def test_where_none_qualifies_the_verdict_fails_and_says_what_came_closest(summary):
    bad = summary("bad")
    assert bad.optimized["cpu"] is None
    rows = {row.claim: row for row in bad.verdict if row.device == "cpu"}
    for claim in ("size_reduction", "latency_reduction", "predicted_mos_change"):
        assert (rows[claim].measured, rows[claim].status) == (None, "fail")
    assert rows["mos_change"].status == "not_measured"
    choice = bad.choices[0]
    assert choice.closest == "int8-weights" and len(choice.failed) == 2
    assert choice.closest in rows["size_reduction"].reason


@pytest.mark.parametrize(
    "short, said",
    [(0.05, " 5 percentage points)"), (0.01, " 1 percentage point)"), (0.0003, " 0.03 percentage points)")],
)
def test_by_how_much_a_target_is_missed_never_reads_as_nothing(study, short, said):
    study.variant("int8-weights").size_reduction = study.targets.size_reduction - short
    set_change(study, "int8-weights", (-0.0, 0.10004), (0.0, 0.02))
    size, quality = verdict.judge(study, "int8-weights").failed
    assert size.endswith(said) and "[−0.10, +0.10]" in quality and quality.endswith(" 0.00004)")


@pytest.mark.parametrize(
    "target, low, said",
    [
        (0.625, 0.6224, "[62, 66]"),
        (0.618, 0.6175, "[61.75, 66]"),
        (0.62, 0.6197, "[61.97, 66]"),
        (0.6, 0.601, "[60.1, 66]"),
    ],
)
def test_a_row_of_the_verdict_never_contradicts_itself(study, target, low, said):
    study.targets = study.targets.model_copy(update={"latency_reduction": target})
    row = study.timing_of(study.devices[0], "distilled-int8")
    row.latency_reduction = Estimate(value=0.64, ci=(low, 0.66))
    decide(study)
    study.verdict = verdict.verdict(study, study.choices)
    table = first_page.verdict(study)
    (shown,) = [row for row in table.rows if row.claim == "latency_reduction" and row.variant == "distilled-int8"]
    cells = {column.field: column.html(shown) for column in table.columns}
    assert said in cells["measured"] and f"at least {100 * target:g}" in cells["target"]


@pytest.mark.parametrize(
    "unit, target, said",
    [
        (numbers.REDUCTION, 0.625, "62.5"), (numbers.REDUCTION, 0.07, "7"), (numbers.CHANGE, -0.1, "−0.10"),
        (numbers.CHANGE, -0.125, "−0.125"), (numbers.MS, 200.0, "200"), (numbers.MS, 87.25, "87.25"),
    ],
)  # fmt: skip
def test_a_target_has_all_its_digits(unit, target, said):
    assert unit.exact(target) == said + unit.name


@pytest.mark.parametrize(
    "low, said", [(-0.12, "−0.12"), (-0.104, "−0.104"), (-0.1002, "−0.1002"), (-0.0996, "−0.0996"), (-0.10004, "−0.10")]
)
def test_only_the_end_that_is_judged_has_more_digits_and_no_more_than_it_needs(low, said):
    change = Estimate(value=-0.0701, ci=(low, -0.0433))
    assert verdict.change_beside(change, -0.1) == f"−0.07 [{said}, −0.04]"


def test_without_quality_figures_nothing_is_chosen_and_nothing_fails(study):
    study.quality = []
    rows = decide(study)
    assert study.optimized["cpu"] is None and not study.choices[0].decided
    assert {row.status for row in rows.values()} == {"not_measured"}


def test_without_quality_figures_a_study_with_no_small_variant_fails(study):
    study.quality = []
    study.targets = study.targets.model_copy(update={"size_reduction": 0.99})
    assert decide(study)["size_reduction"].status == "fail"


@pytest.mark.parametrize("why", ["with 3 threads", "no variant to choose", "predicted MOS was not measured"])
def test_why_no_variant_could_be_chosen_is_said_as_it_is(study, why):
    if "threads" in why:  # that were asked for since
        study.devices[0].threads = 3
    elif "variant" in why:
        study.variants = [one for one in study.variants if one.name == "original"]
    else:
        study.quality = []
    rows = decide(study)
    asked = [row for claim, row in rows.items() if claim != "mos_change"]
    assert asked and all(row.status == "not_measured" and row.reason.endswith(why) for row in asked)
    said = [first_page.closest_words(study), choice_notes(study)[0], conclusion(study)[0]]
    assert all(why in text for text in said) and "No conclusion can be drawn yet" in said[-1]
    assert ("MOS" in said[0]) == ("MOS" in why)


def test_a_device_that_was_not_there_has_one_claim_only(summary):
    rows = [row for row in summary("good").verdict if row.device == "gpu"]
    assert [(row.claim, row.status, row.measured) for row in rows] == [("latency_reduction", "not_measured", None)]
    assert "CUDA" in rows[0].reason


def test_with_no_device_at_all_every_claim_is_there_and_open(summary):
    rows = summary("unmeasured").verdict
    assert {row.claim for row in rows} == {
        "size_reduction",
        "latency_reduction",
        "predicted_mos_change",
        "mos_change",
    }
    assert {row.status for row in rows} == {"not_measured"}


def test_mos_comes_from_listeners_only(summary):
    rated = {row.claim: row for row in summary("many").verdict if row.device == "cpu"}
    row = summary("many").quality_of(rated["mos_change"].variant or "")
    assert row and row.human_mos and row.human_mos.change
    assert rated["mos_change"].measured == row.human_mos.change.value
    unrated = {row.claim: row for row in summary("good").verdict if row.device == "cpu"}
    assert unrated["mos_change"].measured is None and unrated["predicted_mos_change"].measured is not None


def test_the_terminal_prints_every_claim_in_its_unit(summary):
    one = summary("good")
    row = one.verdict[0]
    about = {"claim": "first_sound_ms", "target": 200.0, "measured": 87.4, "ci": (85.2, 90.1)}
    one.verdict = [row.model_copy(update=about), *one.verdict]
    console = Console(width=200)
    with console.capture() as printed:
        console.print(verdict_table(one))
    lines = printed.get().splitlines()
    first, size, *_ = [line for line in lines if "cpu" in line]
    assert "200 ms" in first and "87.4 ms [85.2, 90.1]" in first and "%" not in first
    assert "size reduction" in size and numbers.percent(one.targets.size_reduction) in size
