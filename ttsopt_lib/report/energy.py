"""The report's table of energies, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttsopt_lib.report import columns, numbers
from ttsopt_lib.report.html import Column, bullets, escape, table
from ttsopt_lib.report.schema import DeviceSummary, Estimate

FIGURES = ("energy_j_per_audio_second", "energy_reduction")


def frame(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """Joules per second of audio, and the reduction against the original in the same runtime, with intervals."""
    rows = [
        {
            "device": device.label,
            "runtime": row.runtime,
            "mode": row.mode,
            "threads": row.threads,
            "variant": row.variant,
            **_ends(FIGURES[0], row.energy_j_per_audio_second),
            **_ends(FIGURES[1], row.energy_reduction),
            "source": device.energy_source,
        }
        for device in measured
        for row in device.rows
        if row.energy_j_per_audio_second
    ]
    names = ["device", "runtime", "mode", "threads", "variant"]
    ends = [f"{figure}{end}" for figure in FIGURES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=pd.Index([*names, *ends, "source"]))


def _ends(name: str, figure: Estimate | None) -> dict[str, float | None]:
    low, high = figure.ci if figure and figure.ci else (None, None)
    return {name: figure.value if figure else None, f"{name}_low": low, f"{name}_high": high}


def section(measured: Sequence[DeviceSummary]) -> list[str]:
    """A table for each device that has a counter, and a sentence for each that has none."""
    found, missing = [], []
    for device in measured:
        own = frame([device])
        if own.empty:
            reason = device.energy_reason or "this record is of a version that did not measure it"
            missing.append(f"Energy on {device.label}: not measured ({reason}).")
            continue
        own = own.assign(group=[f"{columns.RUNTIMES.get(row.runtime, row.runtime)}, {row.mode}" for row in device.rows
                                if row.energy_j_per_audio_second])  # fmt: skip
        caption = f"Energy on {device.label}, joules per second of audio. Counted by {device.energy_source}"
        found.append(table(own, _columns(), caption, f"energy-{device.device}", group="group"))
    return [*found, bullets(missing)] if missing else found


def _columns() -> list[Column]:
    def spent(row: Any) -> str:
        low, high = row.energy_j_per_audio_second_low, row.energy_j_per_audio_second_high
        figure = numbers.number(row.energy_j_per_audio_second, 2)
        return f'<span class="figure">{figure}</span> <span class="interval">[{numbers.number(low, 2)}, ' \
            f"{numbers.number(high, 2)}]</span>"  # fmt: skip

    return [
        Column("Variant", lambda row: f"<code>{escape(row.variant)}</code>"),
        Column("Joules per second of audio", spent, True),
        Column("Less energy", lambda row: columns.reduction_cell(row, "energy_reduction"), True),
    ]
