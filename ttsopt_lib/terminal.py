"""What the command line prints: lines of a step, paths, durations, and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ttsopt_lib.evaluate.ratings.means import Rated
    from ttsopt_lib.evaluate.ratings.monitor import Standing
    from ttsopt_lib.report.facts.summary import Summary

# `my_module:x:` is no picture, and the folder `voices [new]` no markup
out = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False, markup=False)


def say(step: str, message: str) -> None:
    """One line that begins with the name of the step."""
    out.print(Text.assemble((f"{step:9}", "bold"), f" {message}"))


def duration(seconds: float) -> str:
    """'45 s', '12 min'."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def shown(path: Path) -> str:
    """A path from the working directory where it lies below that, else whole."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def figure(value: float | None, ci: tuple[float, float] | None, sign: str = "") -> str:
    """'1.20 [1.10, 1.30]', '1.20' without an interval, '-' without a value; with `sign` "+" as '+1.20'."""
    if value is None:
        return "-"
    return f"{value:{sign}.2f}" + (f" [{ci[0]:{sign}.2f}, {ci[1]:{sign}.2f}]" if ci else "")


def verdict_table(summary: Summary) -> Table:
    """The targets of the last report, what was measured, and whether that meets them."""
    from ttsopt_lib.report.estimates import estimate
    from ttsopt_lib.report.numbers import unit_of

    table = Table("claim", "device", "target", "measured", "verdict")
    for row in summary.verdict:
        unit, measured = unit_of(row.claim), estimate(row.measured, row.ci)
        claim, status = row.claim.removesuffix("_ms").replace("_", " "), row.status.upper().replace("_", " ")
        found = unit.beside(measured, row.target, low=row.claim != "first_sound_ms") if measured else ("-",)
        table.add_row(claim, row.device or "-", unit.exact(row.target), " ".join(found).rstrip(), status)
    return table


def standings_table(standings: Sequence[Standing]) -> Table:
    """Where a listening test stands while ratings come in."""
    table = Table("variant", "so far", "change", "anytime-valid 95 %")
    for one in standings:
        verdict = one.verdict if one.more is None else f"{one.verdict}: about {one.more}"
        change = "-" if one.change is None else f"{one.change:+.2f}"
        table.add_row(one.variant, verdict, change, f"{one.ci[0]:+.2f} to {one.ci[1]:+.2f}" if one.ci else "-")
    return table


def ratings_table(rated: Rated) -> Group:
    """Listeners' ratings: means and changes with their intervals, and what does not count."""
    table = Table("test", "variant", "mean, 95 %", "change, 95 %", "raters", "ratings")
    for row in rated.rows or ():
        change = figure(row.change, row.change_ci, "+")
        table.add_row("ACR", row.variant, figure(row.mean, row.ci), change, str(row.raters), str(row.ratings))
    for row in rated.comparisons:
        mean = figure(row.mean, row.ci, "+" if row.test == "ccr" else "")
        table.add_row(row.test.upper(), row.variant, mean, "-", str(row.raters), str(row.ratings))
    return Group(table, *(Text(f"left out: {one}") for one in rated.left_out))
