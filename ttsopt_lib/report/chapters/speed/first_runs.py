"""The first run at a new length of a text beside the later ones: on a GPU it takes much longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ttsopt_lib.report.chapters.speed.timings import conditions
from ttsopt_lib.report.facts.findings import shown_on
from ttsopt_lib.report.numbers import MS
from ttsopt_lib.report.printing.html import on_paper
from ttsopt_lib.report.printing.table import Column, Table, name_of, row_of
from ttsopt_lib.report.schema import DeviceSummary, Summary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

SHORTER = (
    ". A little shorter is the first run of each sentence without its last phoneme, a length that is new again; where "
    "lengths are rounded up (buckets) or replayed (graphs), that is no new shape unless it falls below a multiple"
)
WORTH_SHOWING = 1.5  # times the later runs; below it, only a GPU has the table


def first_runs(devices: Sequence[DeviceSummary], variants: Sequence[str] | None = None) -> Table:
    """Each row's first run of the sentences of each length class, and its median; of these `variants`, else of all."""
    shorter = any(part.new_length_ms is not None for one in devices for row in one.rows for part in row.length_classes)
    return Table(
        "first_runs",
        "First time at this length, and again",
        [
            Column("device", of="device.label"),
            Column("runtime", of="row.runtime"),
            Column("mode", of="row.mode"),
            Column("threads", of="row.threads"),
            Column("variant", "Variant", cell=name_of),
            Column("length_class", "Length", cell=lambda row: row.length_class.replace("_", " ")),
            Column("first_ms", "First time, ms", MS.bare),
            *([Column("new_length_ms", "A little shorter, ms", MS.bare)] if shorter else []),
            Column("again_ms", "Again, ms", MS.bare, "median_ms"),
        ],
        [
            row_of(part, device=device, row=row, variant=row.variant)
            for device in devices
            for row in device.rows
            if row.variant != ORIGINAL_COPY and (variants is None or row.variant in variants)
            for part in row.length_classes
            if part.first_ms is not None
        ],
    )


def section(summary: Summary) -> list[str]:
    """A table of the original and the optimized variant for each device where the first run matters."""
    shown = [device for device in summary.timed_devices if _matters(device)]
    found = []
    for device in shown:
        table = first_runs([device], [name for name in (ORIGINAL, shown_on(summary, device)) if name])
        if table.rows:
            caption = (
                f"{table.caption}, on {device.label}: ms per sentence. The first run of a sentence after the model was "
                "opened is a single figure without an interval; again is the median of its class"
            )
            if any(column.field == "new_length_ms" for column in table.columns):
                caption += SHORTER
            groups = on_paper(shown)
            table = replace(table, caption=caption, part=device.device, group=_conditions, groups_on_paper=groups)
            found.append(table.html)
    return found


def _matters(device: DeviceSummary) -> bool:
    """Whether a device has first runs that are worth a table."""
    parts = [part for row in device.rows for part in row.length_classes if part.first_ms is not None]
    return bool(parts) and (
        device.kind == "gpu" or any((part.first_ms or 0.0) > WORTH_SHOWING * part.median_ms for part in parts)
    )


def _conditions(row: Any) -> str:
    timing = row.row
    return conditions(timing, "" if timing.mode == "fp32" and timing.runtime != "pytorch" else timing.mode)
