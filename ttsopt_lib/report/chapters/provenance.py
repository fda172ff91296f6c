"""Who measured what, when, with which code and files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report.numbers import COUNT, SCORE, number
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.printing.table import NONE, Column, Table, name_of, reason, row_of
from ttsopt_lib.report.schema import Summary


def machines(summary: Summary) -> Table:
    """The machines that measured."""
    timed = [(device, device.system) for device in summary.timed_devices if device.system]
    return Table(
        "machines",
        "Machines that measured",
        [
            Column("device", "Device", cell=_device),
            Column("imported"),
            Column("commit"),
            Column("machine", "Machine", of=lambda row: row.board or row.machine, cell=_machine),
            *([Column("browser", of=_browser)] if any(system.browser for _, system in timed) else []),
            Column("cpu"),
            Column("logical_cores", "Cores", COUNT),
            Column("memory_mb", "Memory, GB", SCORE, cell=_memory),
            Column("instruction_sets", "Instruction sets", of=lambda row: " ".join(row.instruction_sets), cell=_sets),
            Column("accelerator", of=_accelerator),
            Column("os", "System", of=lambda row: ", ".join(filter(None, (row.os, row.kernel)))),
            Column("temperature_before_c", "Temperature, °C", of=lambda row: row.temperature_c[0], cell=_temperature),
            Column("temperature_after_c", of=lambda row: row.temperature_c[1]),
            Column("throttling_before", of=lambda row: _said(row.throttling[0])),
            Column("throttling_after", of=lambda row: _said(row.throttling[1])),
            Column("python"),
            Column("packages", "Software", of=_packages, cell=_software),
            Column("measured"),
            Column("seconds"),
        ],
        [
            row_of(
                system,
                device=device.label,
                measured=device.created,
                seconds=device.elapsed_seconds,
                imported=device.imported.file if device.imported else None,
                commit=device.commit,
                earlier=device.commit != summary.commit,
            )
            for device, system in timed
        ],
        missing="No machine has measured anything yet.",
        kind="stack",
    )


def _device(row: Any) -> str:
    commit = f", commit {row.commit[:10]}" if row.commit and (row.imported or row.earlier) else ""
    if not row.imported:
        return escape(row.device) + (f"<br>{reason(f'measured on {row.measured}{commit}')}" if commit else "")
    return f"{escape(row.device)}<br>{reason(f'imported, measured on {row.measured}{commit}')}"


def _machine(row: Any) -> str:
    machine = ", ".join(filter(None, (row.board or row.machine, row.cpu))) or "not told"
    return "<br>".join(escape(one) for one in (machine, _accelerator(row), _browser(row)) if one)


def _sets(row: Any) -> str:
    """What a browser does not tell of its machine is not nothing."""
    return NONE if row.browser and not row.instruction_sets else escape(" ".join(row.instruction_sets))


def _browser(row: Any) -> str | None:
    return row.browser.words if row.browser else None


def _memory(row: Any) -> str:
    if row.memory_mb is not None:
        return number(row.memory_mb / 1000, 1)
    told = row.browser.memory_gb if row.browser else None
    return f"{told:g} or more" if told else NONE


def _accelerator(row: Any) -> str | None:
    return row.gpu[1].words if row.gpu[1] else row.accelerator


def _software(row: Any) -> str:
    return escape(f"Python {row.python}, {_packages(row)}" if row.python and not row.browser else _packages(row))


def _packages(row: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in row.packages.items())


def _said(throttling: list[str] | None) -> str | None:
    """What a Raspberry Pi's firmware reports; None where the machine does not tell."""
    return None if throttling is None else ", ".join(throttling) or "none"


def _temperature(row: Any) -> str:
    degrees = " to ".join(f"{end:.0f}" for end in row.temperature_c if end is not None)
    throttling = _said(row.throttling[1])
    held_back = f"<br>throttling: {escape(throttling)}" if throttling else ""
    return f"{degrees}{held_back}" if degrees or held_back else NONE


def files(summary: Summary) -> Table:
    """SHA-256 of the files of every variant."""
    return Table(
        "files",
        "SHA-256 of the files of every variant",
        [
            Column("variant", "Variant", cell=name_of),
            Column("file"),
            Column("sha256", "SHA-256", cell=lambda row: f'<code class="hash">{row.sha256}</code>'),
        ],
        [
            SimpleNamespace(variant=variant.name, file=name, sha256=digest)
            for variant in summary.variants
            for name, digest in variant.files.items()
        ],
    )


def models(summary: Summary) -> str:
    """The same for the page: the models alone."""
    table = files(summary)
    rows = [row for row in table.rows if row.file == "model.onnx"]
    return replace(table, caption="SHA-256 of each variant's model.onnx", rows=rows).html
