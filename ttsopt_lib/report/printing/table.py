"""The table kit: a table of the report is declared once, and printed as a CSV file, as HTML and on paper.

A `Column` says what stands in the file, under which heading it stands on the page, and in which unit it is printed.
A row is any object; a column reads its value from it. A figure with an interval takes three columns of the file, whose
names end in nothing, `_low` and `_high`, and one of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from pydantic import BaseModel

from ttsopt_lib.report.numbers import Unit
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.schema import Interval
from ttsopt_lib.study import ORIGINAL

BASELINE = '<span class="none">baseline</span>'
NONE = '<span class="none">not measured</span>'
ENDS = ("", "_low", "_high")


@runtime_checkable
class Measured(Protocol):
    """A figure that came from samples."""

    value: float
    ci: Interval | None


def row_of(model: BaseModel, **more: Any) -> SimpleNamespace:
    """The fields of a part of the summary, and what else belongs to its row."""
    return SimpleNamespace(**{**dict(model), **more})


def name_of(row: Any) -> str:
    """The cell that names a variant."""
    return f"<code>{escape(row.variant)}</code>"


def figure_cell(text: str, interval: str = "") -> str:
    """The cell of a figure, which breaks before its interval and nowhere else."""
    figure = f'<span class="figure">{text}</span>'
    return f'{figure} <span class="interval">{interval}</span>' if interval else figure


def reason(text: str) -> str:
    """Small words in a cell."""
    return f'<span class="reason">{escape(text)}</span>'


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        field: Its name in the CSV file. Empty: it stands on the page alone.
        heading: Its heading on the page. Empty: it stands in the file alone.
        unit: How its figures are printed. None: it holds text.
        of: Where its value is in a row: a path of attributes, or a function of the row. Empty: the attribute `field`.
        cell: HTML of its cell. None: the value, printed in `unit`.
        interval: Whether the value is a figure with an interval.
    """

    field: str
    heading: str = ""
    unit: Unit | None = None
    of: str | Callable[[Any], Any] = ""
    cell: Callable[[Any], str] | None = None
    interval: bool = False

    @property
    def names(self) -> list[str]:
        """The names of its columns in the CSV file."""
        return [f"{self.field}{end}" for end in (ENDS if self.interval else ENDS[:1])] if self.field else []

    def value(self, row: Any) -> Any:
        """What the column reads from a row; None where a part on the path is not there."""
        if callable(self.of):
            return self.of(row)
        for part in (self.of or self.field).split("."):
            row = None if row is None else getattr(row, part)
        return row

    def values(self, row: Any) -> list[Any]:
        """What a row holds in the CSV file, in the order of `names`."""
        if not self.field:
            return []
        value = self.value(row)
        if not self.interval:
            return [value]
        return [value.value, *(value.ci or (None, None))] if value else [None, None, None]

    def html(self, row: Any) -> str:
        """The cell of a row on the page."""
        if self.cell:
            return self.cell(row)
        value = self.value(row)
        return printed(value, self.unit, getattr(row, "variant", "")) if self.unit else escape(value)


def printed(value: Measured | float | None, unit: Unit, variant: str = "") -> str:
    """The cell of a figure, with or without an interval; `variant` tells the original, whose changes are none."""
    number, ci = (value.value, value.ci) if isinstance(value, Measured) else (value, None)
    if number is None or math.isnan(number):
        return NONE
    if not isinstance(value, Measured) and not unit.relative:
        return unit.value(number)
    if unit.relative and variant == ORIGINAL and number == 0.0:  # by definition; a change of runtime is not
        return BASELINE
    return figure_cell(unit.value(number), unit.interval(ci))


@dataclass(frozen=True)
class Table:
    """A table of the report: `columns` of `rows`.

    Attributes:
        name: The name of its CSV file, without the ending.
        caption: What it shows.
        columns: Its columns; the first of the page heads a row there.
        rows: Its rows.
        missing: The sentence that stands on the page in place of a table without rows.
        part: What tells it on the page from other tables of the same file.
        kind: How it looks, as a class of report.css.
        group: The heading of the body that a row belongs to. None: there is one body.
        groups_on_paper: How many bodies are printed; the others are on the screen and in the file. None: all.
        titles: HTML of the bodies' headings, where they are more than text.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    missing: str = ""
    part: str = ""
    kind: str = ""
    group: Callable[[Any], str] | None = None
    groups_on_paper: int | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The table as its CSV file has it: numbers in base units. Without rows it still has its columns."""
        rows = [[value for column in self.columns for value in column.values(row)] for row in self.rows]
        return pd.DataFrame(rows, columns=pd.Index([name for column in self.columns for name in column.names]))

    @property
    def html(self) -> str:
        """The table for the page. On a screen it scrolls inside its own box where it is wider than the page."""
        if not self.rows:
            return f'<p class="missing">{escape(self.missing)}</p>'
        shown = [column for column in self.columns if column.heading]
        head = "".join(f'<th scope="col"{_number(column)}>{escape(column.heading)}</th>' for column in shown)
        bodies: dict[str, str] = {}
        for row in self.rows:
            key = self.group(row) if self.group else ""
            if key not in bodies:
                title = f'<th scope="rowgroup" colspan="{len(shown)}">{self.titles.get(key, escape(key))}</th>'
                bodies[key] = f'<tr class="group">{title}</tr>' if self.group else ""
            bodies[key] += f"<tr>{_cells(shown, row)}</tr>\n"
        printed = len(bodies) if self.groups_on_paper is None else self.groups_on_paper
        kinds = ["" if number < printed else ' class="screen-only"' for number in range(len(bodies))]
        body = "".join(f"<tbody{kind}>{rows}</tbody>" for kind, rows in zip(kinds, bodies.values(), strict=True))
        rest = f' <span class="paper-only">{escape(f"(all of them: `tables/{self.name}.csv`)")}</span>'
        label = "table-" + "-".join(filter(None, [self.name.replace("_", "-"), self.part]))
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{label}">'
            f'<table class="{self.kind}"><caption id="{label}"><span>{escape(self.caption)}'
            f"{rest if len(bodies) > printed else ''}</span></caption>"
            f"<thead><tr>{head}</tr></thead>{body}</table></div>"
        )


def _cells(columns: Sequence[Column], row: Any) -> str:
    first, *others = columns
    cells = [f'<th scope="row">{first.html(row)}</th>']
    for column in others:
        label = escape(column.heading.split(" [")[0])
        cells.append(f'<td data-label="{label}"{_number(column)}>{column.html(row)}</td>')
    return "".join(cells)


def _number(column: Column) -> str:
    return ' class="number"' if column.unit else ""
