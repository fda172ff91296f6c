"""Time on a device that ssh reaches: one call sends what is missing there, runs it, and brings the findings back.

On the device, below its `folder:`: `voices/` by content hash, `environments/` (virtual environments),
`packages/` (what one is being made from), `code/` by digest, and `runs/` until their findings have arrived here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.progress import Bars
from ttsopt_lib.measure.remote import probe
from ttsopt_lib.measure.remote.bundle import ENVIRONMENT_BYTES, Bundle, collect, laid_out
from ttsopt_lib.measure.remote.ssh import RESUME, Connection
from ttsopt_lib.measure.session import Findings
from ttsopt_lib.measure.side_by_side import Compared, ComparisonPlan
from ttsopt_lib.study import Device

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)


def time_over_ssh(
    plan: TimingPlan,
    device: Device,
    connection: Connection,
    bars: Bars,
    *,
    again: bool = False,
) -> Findings:
    """Time the plan on `device`; `bars` show what is being done.

    `again` forgets what an interrupted run has left there. Raises `MeasureError`, one line that begins with
    the host; what was sent, installed and timed by then is kept there for the next call.
    """
    return Findings.model_validate(_carry_out(plan, device, connection, bars, again))


def compare_over_ssh(plan: ComparisonPlan, device: Device, connection: Connection, bars: Bars) -> Compared:
    """Compare graphs on `device`, as `time_over_ssh` times voices. Raises `MeasureError`."""
    return Compared.model_validate(_carry_out(plan, device, connection, bars))


def _carry_out(
    plan: TimingPlan | ComparisonPlan, device: Device, connection: Connection, bars: Bars, again: bool = False
) -> dict[str, Any]:
    """The findings of a plan on a device, as plain data."""
    bars.doing("looking")
    bundle = collect(plan, device)
    there = describe_device(connection, device, lambda _: bars.doing("looking"))
    voices = bundle.missing(there["voices"])
    environment = bundle.environment(there["python"]) if device.venv else None
    unmade = environment if environment not in there["environments"] else None
    _check_room(connection.host, there["free_bytes"], voices, bundle if unmade else None)

    with laid_out(bundle, voices, unmade) as folder:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        connection.send(folder, device.folder, lambda sent: bars.step("sending", sent, size))
        bars.step("sending", size, size)  # a part may have been there
    root = there["root"]
    python = device.python
    if environment:
        python = f"{root}/environments/{environment}/bin/python"
    if unmade:
        maker = f"{root}/code/{bundle.code}/ttsopt_lib/measure/remote/environment.py"
        packages = f"{root}/packages/{environment}"
        words = [device.python, "-I", maker, f"{root}/environments/{environment}", f"{packages}/requirements.txt"]
        doing = "making an environment"

        def heard(line: str) -> None:
            nonlocal doing
            doing = str(_message(line).get("doing", doing))
            bars.doing(doing)

        heard("")
        connection.run([*words, packages] if bundle.wheels else words, heard)
    bars.doing("starting")
    settings = [f"PYTHONPATH={root}/code/{bundle.code}", "PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1"]
    words = ["env", *settings, python, "-m", "ttsopt_lib.measure.remote.device_side", root, bundle.run]
    return _talk(connection, [*words, "--again"] if again else words, bars)


def describe_device(
    connection: Connection, device: Device, heard: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """What the device says about itself (see `probe.py`). Raises `MeasureError`.

    `heard` is called as by `run`: at least once a second while the device is awaited.
    """
    source = Path(probe.__file__).read_text(encoding="utf-8")
    said = connection.run([device.python, "-c", source, device.folder], heard).splitlines()
    last = said[-1] if said else ""
    there = _message(last)
    if "python" not in there:
        printed = f"printed {last[:200]!r}" if last.strip() else "printed nothing"
        raise MeasureError(
            f"{connection.host}: {device.python} should have printed a line about the machine, but the login shell "
            f"{printed}: a command over ssh "
            f"must print its own output only (look at the shell's start-up files there) and python: must be a Python"
        )
    found = tuple(there["python"])
    if not OLDEST_PYTHON <= found < NEWEST_PYTHON:
        raise MeasureError(
            f"{connection.host}: {device.python} is Python {found[0]}.{found[1]}; 3.11 to 3.13 is needed "
            f"(64-bit Raspberry Pi OS of 2023 or later has it), or name another one with python:"
        )
    if there["bits"] == 32:  # the kernel may well have 64: such systems were shipped for years
        raise MeasureError(
            f"{connection.host}: {device.python} is a 32-bit program, and ONNX Runtime has no packages for those: "
            f"install the 64-bit system (uname -m tells of the kernel alone, getconf LONG_BIT of the programs)"
        )
    return there


def _check_room(host: str, free: int, voices: dict[str, Path], to_install: Bundle | None) -> None:
    """Refuse to fill up a disk half-way."""
    needed = sum(path.stat().st_size for path in voices.values())
    if to_install:
        needed += ENVIRONMENT_BYTES + sum(wheel.stat().st_size for wheel in to_install.wheels)
    if needed > free:
        raise MeasureError(
            f"{host}: {needed / 1e6:.0f} MB are needed there and {free / 1e6:.0f} MB are free: make room, "
            f"or name a folder: on another disk"
        )


def _talk(connection: Connection, words: list[str], bars: Bars) -> dict[str, Any]:
    """Start the device's end, listen until it has its findings, and tell it that they have arrived."""
    findings: dict[str, Any] | None = None
    try:
        with connection.talk(words) as process:
            assert process.stdout is not None and process.stdin is not None
            for line in process.stdout:
                message = _message(line)
                if "elapsed" in message:
                    bars.tick(message["elapsed"])
                elif "work" in message:
                    bars.step(message["work"], message["done"], message["total"])
                elif "waiting" in message:
                    bars.doing("waiting for another run there")
                elif "error" in message:
                    error = str(message["error"])
                    advice = f": make room there; {RESUME}" if "No space left" in error else ""
                    raise MeasureError(f"{connection.host}: {error}{advice}")
                elif "findings" in message:
                    findings = message["findings"]
                    process.stdin.write(b"kept\n")
                    process.stdin.close()
    except (MeasureError, BrokenPipeError):
        if findings is None:  # with findings, a lost acknowledgement is harmless
            raise
    if findings is None:
        raise MeasureError(f"{connection.host}: it ended without findings; {RESUME}")
    return findings


def _message(line: bytes | str) -> dict[str, Any]:
    """A line of the device's end; anything else that a login prints says nothing."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
