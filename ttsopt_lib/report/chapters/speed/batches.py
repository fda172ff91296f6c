"""Several sentences at once: what a device makes in a second where it serves many, and what batches bring there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ttsopt_lib.report.chapters.speed.timings import conditions
from ttsopt_lib.report.device_schema import BatchSummary, DeviceSummary
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.numbers import AUDIO_PER_SECOND, COUNT, SHARE, TIMES, counted
from ttsopt_lib.report.printing.html import bullets, on_paper
from ttsopt_lib.report.printing.table import BASELINE, Column, Table, name_of, printed, row_of
from ttsopt_lib.study import ORIGINAL


def batches(devices: Sequence[DeviceSummary]) -> Table:
    """Each row at each size, with the original at the same size beside it; without those that were not measured."""
    return Table(
        "sentences_at_once",
        "Sentences at once",
        [
            Column("device", of="device.label"),
            Column("runtime"),
            Column("mode"),
            Column("threads"),
            Column("variant", "Variant", cell=name_of),
            Column("batch_size", "Sentences at once", COUNT),
            Column("audio_per_second", "Audio made in a second, s", AUDIO_PER_SECOND.bare, interval=True),
            Column("times_original", "Times the original", TIMES.bare, cell=_times, interval=True),
            Column("padding", "Padding", SHARE),
            Column("device_memory_mb"),
            Column("sentences"),
            Column("rounds"),
        ],
        [row_of(row, device=one) for one in devices for row in one.batches if row.audio_per_second],
    )


def section(measured: Sequence[DeviceSummary]) -> list[str]:
    """A table and its sentences for each device that was asked for batches."""
    asked = [device for device in measured if device.batches]
    found = []
    for device in asked:
        table = batches([device])
        if table.rows:
            caption = f"{table.caption} on {device.label}: seconds of audio made in a second of wall time"
            group = {"group": lambda row: conditions(row, _mode(row)), "groups_on_paper": on_paper(asked)}
            found.append(replace(table, caption=caption, part=device.device, **group).html)
        found.append(bullets(notes(device)))
    return found


def notes(device: DeviceSummary) -> list[str]:
    """What the table means, what batches bring to each row, and what has no figure."""
    measured = [row for row in device.batches if row.audio_per_second]
    said = []
    if measured:
        sentences = counted(measured[0].sentences, "sentence")
        said.append(
            f"What a server makes on {device.label} where it always has enough to say: {sentences} in batches, sorted "
            "by length. Padding is computed and not counted as audio. With several at once each sentence waits for the "
            "slowest of its batch, so this is no latency."
        )
    for _, rows in groupby(measured, key=lambda row: (row.runtime, row.mode, row.threads, row.variant)):
        said += _gain(list(rows))
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in device.batches:
        if row.reason:
            how = f"`{row.variant}` ({conditions(row, _mode(row))}, {row.batch_size} at once)"
            what = f"ended after {counted(row.rounds, 'round')}" if row.audio_per_second else "left out"
            reasons.setdefault((what, row.reason), []).append(how)
    return said + [
        f"Sentences at once on {device.label}, {what}: {listed(who)}: {why}." for (what, why), who in reasons.items()
    ]


def _gain(rows: Sequence[BatchSummary]) -> list[str]:
    """What the best size makes beside the smallest one; nothing where there is one size alone, or it is the best."""
    smallest = min(rows, key=lambda row: row.batch_size)
    best = max(rows, key=_made)
    if len(rows) < 2 or smallest.audio_per_second is None or best.audio_per_second is None:
        return []
    who = f"`{best.variant}` ({conditions(best, _mode(best))})"
    if best is smallest or best.audio_per_second.ends[0] <= smallest.audio_per_second.ends[1]:
        before = f"with {smallest.batch_size}: {AUDIO_PER_SECOND.figure(smallest.audio_per_second)} in a second"
        return [f"{who} does not make measurably more with several at once than {before}."]
    made, before = (AUDIO_PER_SECOND.figure(row.audio_per_second) for row in (best, smallest))
    beside = f"beside {before} with {smallest.batch_size}"
    return [f"{who} makes most with {best.batch_size} at once: {made} in a second, {beside}."]


def _made(row: BatchSummary) -> float:
    return row.audio_per_second.value if row.audio_per_second else 0.0


def _mode(row: Any) -> str:
    return "" if row.mode == "fp32" and row.runtime != "pytorch" else row.mode


def _times(row: Any) -> str:
    if row.variant == ORIGINAL and row.mode == "fp32":
        return BASELINE
    return printed(row.times_original, TIMES.bare)
