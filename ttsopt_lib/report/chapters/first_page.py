"""The first page's table: what was asked, what was measured, and the verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report import numbers
from ttsopt_lib.report.html import escape, mark
from ttsopt_lib.report.printing.table import Column, Table, name_of, printed, reason
from ttsopt_lib.report.schema import Summary, estimate

CLAIMS = {
    "size_reduction": "Size reduction",
    "latency_reduction": "Latency reduction",
    "predicted_mos_change": "Predicted MOS change",
    "mos_change": "MOS change (listeners)",
}


def verdict(summary: Summary) -> Table:
    """One row per claim and device; rows that differ only in the device are merged."""
    return Table(
        "verdict",
        "Verdict: what was asked and what was measured",
        [
            Column("claim", "Claim", cell=lambda row: escape(CLAIMS[row.claim])),
            Column("device", "Device", cell=lambda row: escape(row.device or "any")),
            Column("variant"),
            Column("target", "Target", cell=_target),
            Column("measured", "Measured [95 % interval]", cell=_measured, interval=True),
            Column("status", "Verdict", cell=lambda row: mark(row.status)),
            Column("reason"),
            Column("closest"),
        ],
        _claims(summary),
        kind="stack verdict",
    )


def _claims(summary: Summary) -> list[SimpleNamespace]:
    labels: dict[str | None, str] = {device.device: device.label for device in summary.devices}
    closest: dict[str | None, str | None] = {choice.device: choice.closest for choice in summary.choices}
    rows: dict[tuple[Any, ...], SimpleNamespace] = {}
    for row in summary.verdict:
        where = row.device if row.claim == "latency_reduction" else None
        label = labels.get(row.device, "")
        merged = rows.setdefault(
            (row.claim, where, row.variant, row.measured, row.status, row.reason),
            SimpleNamespace(
                claim=row.claim,
                device=label,
                variant=row.variant,
                target=row.target,
                measured=estimate(row.measured, row.ci),
                status=row.status,
                reason=row.reason,
                closest=closest.get(row.device) if row.measured is None and row.status == "fail" else None,
            ),
        )
        if label not in merged.device.split(", "):
            merged.device += f", {label}"
    everywhere = ", ".join(device.label for device in summary.measured_devices)
    for row in rows.values():
        if row.device == everywhere and len(summary.measured_devices) > 1:
            row.device = "every measured device"
    return list(rows.values())


def _target(row: Any) -> str:
    worst = row.claim.endswith("change")
    text = f"no worse than {numbers.signed(row.target)}" if worst else f"at least {numbers.percent(row.target)}"
    return f'<span class="figure-text">{text}</span>'


def _measured(row: Any) -> str:
    if row.measured is None:  # the lead says why
        return reason(f"no variant qualifies; `{row.closest}` came closest" if row.closest else row.reason)
    near = row.status == "fail" and row.measured.value >= row.target
    why = "<br>" + reason("the interval's worse end misses the target") if near else ""
    unit = numbers.CHANGE if row.claim.endswith("change") else numbers.REDUCTION
    return f"{printed(row.measured, unit, row.variant)} {name_of(row)}{why}"
