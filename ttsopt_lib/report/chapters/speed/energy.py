"""The report's table of energies, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ttsopt_lib.report.chapters.speed.timings import conditions
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.numbers import JOULES, REDUCTION
from ttsopt_lib.report.printing.html import FEW, bullets, not_printed
from ttsopt_lib.report.printing.table import Column, Table, name_of, row_of
from ttsopt_lib.report.schema import DeviceSummary


def energy(measured: Sequence[DeviceSummary]) -> Table:
    """Joules per second of audio, and the reduction against the original in the same runtime, with intervals."""
    return Table(
        "energy",
        "Energy",
        [
            Column("device", of="device.label"),
            Column("runtime"),
            Column("mode"),
            Column("threads"),
            Column("variant", "Variant", cell=name_of),
            Column("energy_j_per_audio_second", "Joules per second of audio", JOULES.bare, interval=True),
            Column("energy_reduction", "Less energy", REDUCTION, interval=True),
            Column("source", of="device.energy_source"),
        ],
        [row_of(row, device=device) for device in measured for row in device.rows if row.energy_j_per_audio_second],
    )


def section(measured: Sequence[DeviceSummary]) -> list[str]:
    """A table for each device that has a counter, and a sentence for those that have none."""
    found: list[str] = []
    missing: dict[str, list[str]] = {}  # the reason -> labels
    for device in measured:
        table = energy([device])
        if not table.rows:
            reason = device.energy_reason or "this record is of a version that did not measure it"
            missing.setdefault(reason, []).append(device.label)
            continue
        table = replace(
            table,
            caption=f"Energy on {device.label}, joules per second of audio. Counted by {device.energy_source}",
            part=device.device,
            group=lambda row: conditions(row, row.mode),
            groups_on_paper=None if len(measured) <= FEW else 1,
        )
        found.append(table.html)
    if len(measured) > FEW:
        found[1:] = not_printed(found[1:], "Energy on other devices: `report.html` and `tables/energy.csv`.")
    unknown = [f"Energy on {listed(labels)}: not measured ({reason})." for reason, labels in missing.items()]
    return [*found, bullets(unknown)] if unknown else found
