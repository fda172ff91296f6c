"""Where the time goes: which stages count as faster, what bounds the whole, and which operators are shown."""

from __future__ import annotations

import pytest
from golden_pages import prose_of

from ttsopt_lib.records.device import ProfileRecord
from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters.speed import profiles
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.printing.table import Table
from ttsopt_lib.report.schema import Estimate, Summary

BEFORE = {"text encoder": 0.10, "durations": 0.05, "flow": 0.15, "decoder": 0.68, "other": 0.02}


def profiled(summary: Summary, after: dict[str, dict[str, float]]) -> Summary:
    """The study with these stages of each variant, in seconds, and of the original those of `BEFORE`."""
    summary.devices[0].profiles = [
        ProfileRecord(variant=name, threads=1, stages=stages, operators={"Conv": sum(stages.values())})
        for name, stages in {"original": BEFORE, **after}.items()
    ]
    return summary


def section(summary: Summary) -> str:
    """What the page shows of the profiles, without the picture."""
    return "\n".join(profiles.section(summary, None))


def headings(table: Table) -> set[str]:
    """The headings of a table's bodies."""
    assert table.group
    return {table.group(row) for row in table.rows}


def test_stages_that_all_became_a_little_faster_bound_nothing(summary):
    little = {stage: seconds - 0.04 * (seconds > 0.04) for stage, seconds in BEFORE.items()}
    one = profiled(summary("good"), {"fp32": little, "distilled-int8": BEFORE | {"decoder": 0.1, "other": 0.01}})
    (row,) = profiles.amdahl(one.measured_devices).frame.to_dict("records")
    assert (row["variant"], row["faster_stages"]) == ("distilled-int8", "decoder")
    assert row["bound"] == pytest.approx(1 - 0.31) and row["bound"] > row["profiled_reduction"]


def test_the_bound_lies_above_what_was_reached_whatever_the_other_stages_gave(summary):
    after = BEFORE | {"text encoder": 0.0, "durations": 0.01, "flow": 0.11, "decoder": 0.64}
    (row,) = profiles.amdahl(profiled(summary("good"), {"fp32": after}).measured_devices).frame.to_dict("records")
    assert row["faster_stages"] == "text encoder"
    assert row["bound"] == pytest.approx(row["profiled_reduction"]) == pytest.approx(0.22)


def test_a_stage_has_to_save_more_than_the_original_differs_from_itself(summary):
    one = profiled(summary("good"), {"fp32": BEFORE | {"decoder": 0.60}})
    assert len(profiles.amdahl(one.measured_devices).rows) == 1
    copy = one.timing_of(one.devices[0], "original-copy")
    assert copy
    copy.latency_reduction = Estimate(value=0.02, ci=(-0.05, 0.09))
    assert not profiles.amdahl(one.measured_devices).rows


def test_where_nothing_became_faster_there_is_a_sentence_and_no_table(summary, golden):
    text = section(profiled(summary("good"), {"fp32": BEFORE}))
    (none,) = [said for said in prose_of(text) if f"saved {numbers.percent(profiles.GAINED)}" in said]
    assert "Amdahl" not in text
    (caption,) = [said for said in prose_of(section(summary("good"))) if "Amdahl" in said]
    assert "no row" in caption and numbers.percent(profiles.GAINED) in caption
    golden(none, caption)


def test_the_operators_of_original_and_optimized_are_on_the_screen_and_add_up(summary):
    one = summary("good")
    assert one.optimized["cpu"] == "distilled-int8"
    for profile in one.devices[0].profiles:
        if profile.variant == "original":
            profile.operators = {"Conv": 0.5, **{f"Small{i}": 0.05 for i in range(8)}, "Gone": 0.1}
        if profile.variant == "distilled-int8":
            profile.operators = {"Conv": 0.02, "MatMul": 0.08}
    table = profiles.top_operators(one)
    frame = table.frame
    assert list(frame["operator"])[:3] == ["`MatMul`", "`Conv`", "`Gone`"]
    assert len(frame) == 7 and list(frame["operator"])[-1] == "5 others"
    sums = {name: sum(frame[name]) for name in ("share", "share_after", "before_ms", "after_ms")}
    assert sums == pytest.approx({"share": 1, "share_after": 1, "before_ms": 1000, "after_ms": 100})
    text = section(one)
    shown = text[text.index('<div class="screen-only">') :]
    assert shown.index("tables/operators.csv") < shown.index("</div>\n</div>") < shown.index("Amdahl")
    (group,) = headings(table)
    assert group.index("original") < group.index("`distilled-int8`")
    assert escape(group) in shown and "<code>MatMul</code>" in shown


def test_where_none_qualifies_the_operators_are_those_of_what_came_closest(summary):
    (group,) = headings(profiles.top_operators(summary("bad")))
    assert group.startswith("CPU") and group.index("original") < group.index("`int8-weights`")
