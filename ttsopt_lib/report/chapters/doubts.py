"""Warnings of the measurement, and marks in the timing tables: a row that a warning is about leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ttsopt_lib.records.device import Doubt
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.schema import Summary

ANCHOR = "warning"


class Concern(NamedTuple):
    """A warning about rows of one device that ran in one runtime with one number of threads."""

    number: int  # of the warning in its box
    device: str
    doubt: Doubt


def concerns(summary: Summary) -> list[Concern]:
    """Every warning that says which rows it is about, in the order of the box; others are of the whole machine."""
    told = [(device.device, doubt) for device in summary.devices for doubt in device.warnings]
    return [Concern(number, *pair) for number, pair in enumerate(told, 1) if pair[1].runtime]


def marks(found: Sequence[Concern], device: str, runtime: str, threads: int, row: str | None = None) -> str:
    """Links to the warnings about a row by its name, or (None) to those about all rows of these conditions."""
    return "".join(
        f' <a class="doubt" href="#{ANCHOR}-{one.number}" aria-label="Warning {one.number}: {escape(one.doubt.text)}">'
        f"†{one.number}</a>"
        for one in found
        if (one.device, one.doubt.runtime, one.doubt.threads) == (device, runtime, threads)
        and (row in one.doubt.rows if row else not one.doubt.rows)
    )


def warnings(summary: Summary) -> list[str]:
    """The warnings that the measurement left, with the device they belong to."""
    return [f"{device.label}: {doubt.words}" for device in summary.devices for doubt in device.warnings]
