"""The report's table of energies, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttsopt_lib.report import columns, numbers
from ttsopt_lib.report.findings import listed
from ttsopt_lib.report.html import FEW, Column, bullets, escape, not_printed, table
from ttsopt_lib.report.schema import DeviceSummary, Estimate, TimingSummary

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
    """A table for each device that has a counter, and a sentence for those that have none."""
    found: list[str] = []
    missing: dict[str, list[str]] = {}  # the reason -> labels
    for device in measured:
        own = frame([device])
        if own.empty:
            reason = device.energy_reason or "this record is of a version that did not measure it"
            missing.setdefault(reason, []).append(device.label)
            continue
        groups = [_conditions(row) for row in device.rows if row.energy_j_per_audio_second]
        order = [list(dict.fromkeys(groups)).index(group) for group in groups]
        own = own.assign(group=groups, order=order).sort_values("order", kind="stable")
        caption = f"Energy on {device.label}, joules per second of audio. Counted by {device.energy_source}"
        found.append(
            table(
                own,
                _columns(),
                caption,
                f"energy-{device.device}",
                group="group",
                groups_on_paper=None if len(measured) <= FEW else 1,
                csv="energy",
            )
        )
    if len(measured) > FEW:
        found[1:] = not_printed(found[1:], "Energy on other devices: `report.html` and `tables/energy.csv`.")
    unknown = [f"Energy on {listed(labels)}: not measured ({reason})." for reason, labels in missing.items()]
    return [*found, bullets(unknown)] if unknown else found


def _conditions(row: TimingSummary) -> str:
    """'ONNX Runtime, fp32, 2 threads'."""
    runtime = columns.RUNTIMES.get(row.runtime, row.runtime)
    return f"{runtime}, {row.mode}, {row.threads} thread" + ("s" if row.threads > 1 else "")


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
