"""Marks in the timing tables: a row that a warning of the measurement is about leads to that warning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ttsopt_lib.report.html import escape
from ttsopt_lib.report.schema import Summary

PLACE = re.compile(r"(\w+), (\d+) threads?: (.+)")
NAMED = re.compile(r"(.+?) [\d.]+(?: %)?")  # a row (a variant, with its mode where it has one) and a figure
ANCHOR = "warning"


class Concern(NamedTuple):
    """A warning about rows of one device that ran in one runtime with one number of threads."""

    number: int  # of the warning in its box
    text: str
    device: str
    runtime: str
    threads: int
    rows: tuple[str, ...]  # their names; none: it is about all of them


def concerns(summary: Summary) -> list[Concern]:
    """Every warning that says which rows it is about, in the order of the box; others are of the whole machine."""
    told = [(device.device, text) for device in summary.devices for text in device.warnings]
    found = []
    for number, (device, text) in enumerate(told, 1):
        if place := PLACE.fullmatch(text):
            doubt, _, names = place[3].rpartition(": ")
            rows = [NAMED.fullmatch(name) for name in names.split(", ")]
            named = tuple(row[1] for row in rows if row) if all(rows) else ()
            about = doubt if named else place[3]
            found.append(Concern(number, about, device, place[1], int(place[2]), named))
    return found


def marks(found: Sequence[Concern], device: str, runtime: str, threads: int, row: str | None = None) -> str:
    """Links to the warnings about a row by its name, or (None) to those about all rows of these conditions."""
    here = [one for one in found if (one.device, one.runtime, one.threads) == (device, runtime, threads)]
    return "".join(
        f' <a class="doubt" href="#{ANCHOR}-{one.number}" aria-label="Warning {one.number}: {escape(one.text)}">'
        f"†{one.number}</a>"
        for one in here
        if (row in one.rows if row else not one.rows)
    )
