"""A comparison of two reports as a table for the terminal, a Markdown text and a page."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pandas as pd
from rich.table import Table

from ttsopt_lib.report.compare import WORDS, Comparison, Difference
from ttsopt_lib.report.findings import listed
from ttsopt_lib.report.html import Column, bullets, escape, paragraphs, table

HEADINGS = ("Figure", "Of", "A", "B", "B against A [95 %]", "Outcome")
STYLES = {"better": "green", "worse": "bold red", "not compared": "dim"}
TELLING = ("better", "worse")


def headline(found: Comparison) -> str:
    """How many figures changed, in one sentence."""
    counts = Counter(one.outcome for one in found.differences)
    parts = [f"{counts[outcome]} {WORDS[outcome]}" for outcome in WORDS if counts[outcome]]
    return f"{len(found.differences)} figures stand in both reports: {listed(parts)}."


def remarks(found: Comparison) -> list[str]:
    """What must be known before the table is read."""
    only = [f"Only in {label}: {listed(names)}." for label, names in zip(("A", "B"), found.only, strict=True) if names]
    return [
        *found.cautions,
        *only,
        "Better and worse: significant at 5 % after Holm's correction for the number of differences; the intervals "
        "are 95 % each, uncorrected. The two runs are taken as independent.",
    ]


def shown(found: Comparison, everything: bool) -> list[Difference]:
    """The rows of the table: what changed, or all."""
    return [one for one in found.differences if everything or one.outcome in TELLING]


def terminal(found: Comparison, everything: bool = False) -> Table:
    """A table for rich: figures that changed, or all of them."""
    grid = Table(*HEADINGS)
    for one in shown(found, everything):
        style = STYLES.get(one.outcome, "")
        grid.add_row(
            one.what, one.subject, one.before, one.after, one.printed_change or "-", _outcome(one), style=style
        )
    return grid


def markdown(found: Comparison) -> str:
    """The whole comparison as Markdown: what changed first, then the rest."""
    lines = ["# Comparison of two reports", "", f"A: {found.names[0]}", "", f"B: {found.names[1]}", ""]
    lines += [headline(found), "", *(f"- {text}" for text in remarks(found)), ""]
    for title, rows in _parts(found):
        lines += [f"## {title}", "", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
        for one in rows:
            cells = (one.what, f"`{one.subject}`", one.before, one.after, one.printed_change or "-", _outcome(one))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def page(found: Comparison) -> str:
    """The whole comparison as one HTML file in the report's look; it loads nothing."""
    css = (files("ttsopt_lib.report") / "template" / "report.css").read_text(encoding="utf-8")
    tables = [
        f"<h2>{escape(title)}</h2>"
        + table(pd.DataFrame(rows), _columns(), f"{title}: B against A", f"part-{number}", kind="stack compared")
        for number, (title, rows) in enumerate(_parts(found))
    ]
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
    return [(title, rows) for title, rows in (("What changed", changed), ("Everything else", rest)) if rows]


def _columns() -> list[Column]:
    return [
        Column(HEADINGS[0], lambda row: escape(row.what)),
        Column(HEADINGS[1], lambda row: f"<code>{escape(row.subject)}</code>"),
        Column(HEADINGS[2], lambda row: escape(row.before), True),
        Column(HEADINGS[3], lambda row: escape(row.after), True),
        Column(HEADINGS[4], lambda row: escape(row.printed_change or "-"), True),
        Column(HEADINGS[5], lambda row: escape(_outcome(row))),
    ]


def _outcome(one: Difference) -> str:
    return WORDS[one.outcome] + (f": {one.note}" if one.note else "")
