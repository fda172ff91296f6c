"""A comparison of two reports as tables for the terminal, a Markdown text and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from typing import get_args

from rich.console import Group as Tables
from rich.table import Table as Grid

from ttsopt_lib.report.comparison.compare import WORDS, Comparison, Difference, OneSided
from ttsopt_lib.report.comparison.figures import Group
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.numbers import COUNT, counted
from ttsopt_lib.report.printing.html import bullets, escape, paragraphs
from ttsopt_lib.report.printing.table import Column, Table

HEADINGS = ("Figure", "Of", "A", "B", "B against A [95 %]", "Outcome")
ONE_SIDED = ("Figure", "Of", "Only in", "Value")
CHANGED, REST, ALONE = "What changed", "Everything else", "In one report only"
STYLES = {"better": "green", "worse": "bold red", "not compared": "dim", "not tested": "dim"}
TELLING = ("better", "worse")


def headline(found: Comparison) -> str:
    """How many figures changed, in one sentence."""
    counts = Counter(one.outcome for one in found.differences)
    parts = [f"{counts[outcome]} {WORDS[outcome]}" for outcome in WORDS if counts[outcome]]
    return f"{len(found.differences)} figures stand in both reports: {listed(parts)}."


def remarks(found: Comparison) -> list[str]:
    """What must be known before the tables are read."""
    only = [f"Only in {label}: {listed(names)}." for label, names in zip(("A", "B"), found.only, strict=True) if names]
    return [
        *found.cautions,
        *only,
        *_figures_alone(found),
        "Better and worse: significant at 5 % after Holm's correction for the number of differences; the intervals "
        "are 95 % each, uncorrected. The two runs are taken as independent.",
        *_untested(found),
    ]


def _figures_alone(found: Comparison) -> list[str]:
    """Which figures one report has alone, and of how many voices and timings."""
    texts = []
    for report in ("A", "B"):
        counts = Counter(_named(one) for one in found.one_sided if one.report == report)
        if counts:
            names = [f"{what} ({counted(count, 'row')})" for what, count in counts.items()]
            texts.append(f"Figures that only {report} has, of variants and peers in both: {listed(names)}.")
    return texts


def _untested(found: Comparison) -> list[str]:
    names = list(dict.fromkeys(_named(one) for one in found.differences if one.outcome == "not tested"))
    if not names:
        return []
    return [
        f"Not tested, because a report has one value and no interval: {listed(names)}. Such a difference may be chance."
    ]


def _named(one: Difference | OneSided) -> str:
    return f"{one.what} of peers" if one.group == "Peers" else one.what


def shown(found: Comparison, everything: bool) -> list[Difference]:
    """The rows of the tables: what changed, or all."""
    return [one for one in found.differences if everything or one.outcome in TELLING]


def terminal(found: Comparison, everything: bool = False) -> Tables:
    """Tables for rich: figures that changed, or all of them."""
    grids = []
    for group, rows in _grouped(shown(found, everything)):
        grid = Grid(*HEADINGS, title=group, title_justify="left")
        for one in rows:
            grid.add_row(*_cells(one), style=STYLES.get(one.outcome, ""))
        grids.append(grid)
    if everything and found.one_sided:
        grid = Grid(*ONE_SIDED, title=ALONE, title_justify="left")
        for one in found.one_sided:
            grid.add_row(*_cells_alone(one))
        grids.append(grid)
    return Tables(*grids)


def markdown(found: Comparison) -> str:
    """The whole comparison as Markdown: what changed first, then the rest."""
    lines = ["# Comparison of two reports", "", f"A: {found.names[0]}", "", f"B: {found.names[1]}", ""]
    lines += [headline(found), "", *(f"- {text}" for text in remarks(found)), ""]
    for title, rows in _parts(found):
        lines += [f"## {title}", ""]
        for group, members in _grouped(rows):
            lines += [f"### {group}", "", *_pipes(HEADINGS, [_cells(one) for one in members]), ""]
    if found.one_sided:
        cells = [_cells_alone(one) for one in found.one_sided]
        lines += [f"## {ALONE}", "", *_pipes(ONE_SIDED, cells), ""]
    return "\n".join(lines)


def _pipes(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, in which the second column names something."""
    cells = [(what, f"`{subject}`", *rest) for what, subject, *rest in rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}", *lines]


def page(found: Comparison) -> str:
    """The whole comparison as one HTML file in the report's look; it loads nothing."""
    css = (files("ttsopt_lib.report") / "template" / "report.css").read_text(encoding="utf-8")
    tables = []
    for part, (title, rows) in enumerate(_parts(found)):
        tables.append(f"<h2>{escape(title)}</h2>")
        for number, (group, members) in enumerate(_grouped(rows)):
            caption = f"{title}, {group[0].lower()}{group[1:]}: B against A"
            cells = [_cells(one) for one in members]
            tables.append(_table(f"part-{part}-{number}", caption, HEADINGS, cells, (2, 3, 4)).html)
    if found.one_sided:
        tables.append(f"<h2>{ALONE}</h2>")
        rows = [_cells_alone(one) for one in found.one_sided]
        tables.append(_table("one-sided", "Figures that one of the two reports has", ONE_SIDED, rows, (3,)).html)
    body = "\n".join(
        [
            '<div class="lead">' + paragraphs([headline(found)]) + "</div>",
            paragraphs([f"A: {found.names[0]}", f"B: {found.names[1]}"]),
            bullets(remarks(found)),
            *tables,
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Comparison of two reports</title><style>{css}</style></head>\n"
        f'<body class="comparison"><header><h1>Comparison of two reports</h1></header><main id="report">{body}</main>'
        "</body></html>\n"
    )


def _parts(found: Comparison) -> list[tuple[str, list[Difference]]]:
    changed = shown(found, everything=False)
    rest = [one for one in found.differences if one not in changed]
    return [(title, rows) for title, rows in ((CHANGED, changed), (REST, rest)) if rows]


def _grouped(rows: Sequence[Difference]) -> list[tuple[Group, list[Difference]]]:
    """One table's rows after the other's; no table without rows."""
    groups = [(group, [one for one in rows if one.group == group]) for group in get_args(Group)]
    return [(group, members) for group, members in groups if members]


def _cells(one: Difference) -> tuple[str, ...]:
    return one.what, one.subject, one.before, one.after, one.printed_change or "-", _outcome(one)


def _cells_alone(one: OneSided) -> tuple[str, ...]:
    return _named(one), one.subject, one.report, one.value


def _table(
    name: str, caption: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]], numeric: Sequence[int]
) -> Table:
    """Printed cells as a table, in which the second column names something."""

    def column(number: int) -> Column:
        def cell(row: tuple[str, ...]) -> str:
            return f"<code>{escape(row[1])}</code>" if number == 1 else escape(row[number])

        return Column("", headings[number], COUNT if number in numeric else None, cell=cell)

    columns = [column(number) for number in range(len(headings))]
    return Table(name, caption, columns, rows, kind="stack compared")


def _outcome(one: Difference) -> str:
    return WORDS[one.outcome] + (f": {one.note}" if one.note else "")
