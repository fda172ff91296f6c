"""The table kit: one declaration makes the file, the page and the paper."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ttsopt_lib.report.numbers import CHANGE, COUNT, MS, PERCENT, REDUCTION, Unit
from ttsopt_lib.report.printing.table import Column, Table, name_of
from ttsopt_lib.report.schema import Estimate
from ttsopt_lib.study import ORIGINAL

LESS = Estimate(value=0.625, ci=(0.51, 0.74))
ROWS = [
    SimpleNamespace(
        variant=ORIGINAL, place="here", timing=SimpleNamespace(ms=43.21), less=Estimate(value=0, ci=(0, 0))
    ),
    SimpleNamespace(variant="fast", place="there", timing=None, less=LESS),
    SimpleNamespace(variant="slow", place="here", timing=SimpleNamespace(ms=431.2), less=None),
]
TABLE = Table(
    "some_times",
    "Some times",
    [
        Column("variant", "Variant", cell=name_of),
        Column("place"),
        Column("ms", "Median, ms", MS.bare, "timing.ms"),
        Column("less", "Less time", REDUCTION, interval=True),
        Column("", "Rows", COUNT, lambda row: 3),
    ],
    ROWS,
    missing="Nothing was timed.",
)


def test_the_file_has_plain_numbers_and_the_ends_of_intervals():
    frame = TABLE.frame
    assert list(frame.columns) == ["variant", "place", "ms", "less", "less_low", "less_high"]
    assert list(frame.loc[1, ["less", "less_low", "less_high"]]) == [0.625, 0.51, 0.74]
    assert frame["ms"].isna().tolist() == [False, True, False] and frame["less"].isna().tolist() == [False, False, True]


def test_a_table_without_rows_has_columns_in_the_file_and_a_sentence_on_the_page():
    empty = replace(TABLE, rows=[])
    assert list(empty.frame.columns) == list(TABLE.frame.columns)
    assert empty.html == '<p class="missing">Nothing was timed.</p>'


def test_the_page_has_headings_units_intervals_and_what_is_not_there():
    html = TABLE.html
    assert 'scope="col">Variant<' in html and 'class="number">Median, ms<' in html and "place" not in html
    first, second, third = html.partition("<tbody>")[2].split("</tr>\n")[:3]
    assert "43.2<" in first and "baseline" in first and 'data-label="Rows" class="number">3<' in first
    assert "not measured" in second and "[51, 74]" in second and REDUCTION.value(0.625) in second
    assert "431<" in third and "not measured" in third


def test_rows_of_one_group_stand_together_and_paper_names_the_file_of_the_others():
    grouped = replace(
        TABLE, group=lambda row: row.place, groups_on_paper=1, part="cpu", titles={"there": "<b>there</b>"}
    )
    html = grouped.html
    assert html.index(">here<") < html.index("slow") < html.index("<b>there</b>") < html.index("fast")
    assert html.count('<tbody class="screen-only">') == 1 and "tables/some_times.csv" in html
    assert 'id="table-some-times-cpu"' in html and "tables/" not in replace(grouped, groups_on_paper=None).html


@pytest.mark.parametrize(
    ("unit", "value", "ci", "said"),
    [
        (REDUCTION, 0.44, (0.42, 0.46), "44\N{NARROW NO-BREAK SPACE}% [42, 46]"),
        (PERCENT, 0.077, None, "7.7\N{NARROW NO-BREAK SPACE}%"),
        (CHANGE, -0.1, (-0.18, 0.02), "−0.10 [−0.18, +0.02]"),
        (MS, 43.14, (9.0, 431.0), "43.1 ms [9.00, 431]"),
        (MS.bare, 43.14, None, "43.1"),
    ],
)
def test_a_unit_prints_a_figure_with_its_interval(unit: Unit, value, ci, said):
    assert unit.figure(Estimate(value=value, ci=ci)) == said
    assert unit.figure(None) == "not measured"
