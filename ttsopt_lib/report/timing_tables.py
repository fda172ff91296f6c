"""Every timing, a table for each device; of many devices, paper has one table that sets them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttsopt_lib.report import columns, explanations, frames
from ttsopt_lib.report.html import FEW, not_printed, table
from ttsopt_lib.report.schema import DeviceSummary, Summary
from ttsopt_lib.report.warning_marks import Concern, concerns, marks

SIDE_BY_SIDE = 4  # devices in a printed table


def section(summary: Summary) -> list[str]:
    """The tables of all measured devices."""
    measured, found = summary.measured_devices, concerns(summary)
    tables = [_timings(device, found) for device in measured]
    if len(tables) <= FEW:
        return tables
    where = "Everything else that was timed: `report.html` and `tables/devices.csv`."
    beside = [
        _side_by_side(summary, measured[start : start + SIDE_BY_SIDE], start + 1, found)
        for start in range(0, len(measured), SIDE_BY_SIDE)
    ]
    return ['<div class="paper-only">', *beside, "</div>", *not_printed(tables, where)]


def _timings(device: DeviceSummary, found: Sequence[Concern]) -> str:
    """A body for each runtime and number of threads."""

    def doubts(row: Any) -> str:
        return marks(found, device.device, row.runtime, row.threads, _name(row))

    frame = frames.devices([device])
    groups = [_conditions(row.runtime, row.threads) for row in device.rows]
    titles = {
        _conditions(row.runtime, row.threads): _conditions(row.runtime, row.threads)
        + marks(found, device.device, row.runtime, row.threads)
        for row in device.rows
    }
    order = list(titles)
    frame = frame.assign(group=groups, order=[order.index(group) for group in groups])
    return table(
        frame.sort_values("order", kind="stable"),
        columns.devices(doubts),
        f"Every timing on {device.label}: ms per sentence; {explanations.RTF_FORMULA}",
        f"devices-{device.device}",
        group="group",
        group_titles=titles,
    )


def _conditions(runtime: str, threads: int) -> str:
    return f"{columns.RUNTIMES[runtime]}, {threads} thread" + ("s" if threads > 1 else "")


def _name(row: Any) -> str:
    """A row as warnings call it: the variant, with its mode where that is not the plain one."""
    return row.variant if row.mode == "fp32" else f"{row.variant} {row.mode}"


def _side_by_side(summary: Summary, shown: Sequence[DeviceSummary], first: int, found: Sequence[Concern]) -> str:
    """Medians and reductions where the targets look, two columns for each device."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(row.variant for device in shown for row in device.rows):
        cells: dict[str, Any] = {"variant": name}
        for number, device in enumerate(shown):
            timing = summary.timing_of(device, name)
            cells[f"median{number}"] = timing.latency_ms.median if timing else None
            cells |= frames.estimate(f"less{number}", timing.latency_reduction if timing else None)
            cells[f"doubts{number}"] = marks(found, device.device, device.runtime, device.threads, name)
        rows.append(cells)
    return table(
        pd.DataFrame(rows),
        columns.side_by_side([device.label for device in shown]),
        "Median ms per sentence, and less time per second of audio, where the targets look",
        f"devices-from-{first}",
        kind="dense",
    )
