"""The machine that measures, and how hot it is, as far as it tells; nothing here is guessed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

import psutil

from ttsopt_lib.code_hash import versions
from ttsopt_lib.records.device import SystemRecord

# What int8 and bf16 kernels ask for: x86 dot products and matrix tiles, Arm dot products and matrix multiply.
TELLING_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
PROCESSOR_SENSORS = ("cpu_thermal", "coretemp", "k10temp", "zenpower", "soc_thermal")
FIRMWARE_FLAGS = Path("/sys/devices/platform")  # soc/soc:firmware/get_throttled; a Raspberry Pi 5 has soc@... there
NOW_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "temperature limit"}
SINCE_BOOT = 16  # the same four again, so many bits higher: has happened since the board was switched on
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "scipy")


def describe_system(accelerator: str | None = None) -> SystemRecord:
    """This machine and the software that times on it. `accelerator` is the GPU's name where one was used."""
    return SystemRecord(
        hostname_hash=hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
        machine=platform.machine(),
        cpu=cpu_name(),
        board=board_model(),
        logical_cores=usable_cores(),
        memory_mb=round(psutil.virtual_memory().total / 1e6),
        os=_os_name(),
        kernel=platform.release(),
        governor=governor(),
        instruction_sets=_instruction_sets(),
        accelerator=accelerator,
        python=platform.python_version(),
        packages={name: found for name, found in versions(PACKAGES).items() if found},
    )


def board_model() -> str | None:
    """The board's name from the device tree, for example "Raspberry Pi 4 Model B Rev 1.4"; None elsewhere."""
    return read_text("/proc/device-tree/model")


def usable_cores() -> int:
    """Cores that this process may run on (a container may have fewer than the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def governor() -> str | None:
    """The first core's frequency governor, for example "performance"; None where Linux does not tell."""
    return read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cpu_name() -> str:
    """The processor as it calls itself; on Arm, which has no name, its implementer and part numbers."""
    info = read_text("/proc/cpuinfo") or ""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", info, re.MULTILINE)
    if found:
        return " ".join(found.group(1).split())
    implementer = re.search(r"^CPU implementer\s*:\s*(\S+)", info, re.MULTILINE)
    part = re.search(r"^CPU part\s*:\s*(\S+)", info, re.MULTILINE)
    if implementer and part:
        return f"{platform.machine()} implementer {implementer.group(1)} part {part.group(1)}"
    return platform.processor() or platform.machine()


def temperature_c() -> float | None:
    """The processor's temperature in degrees Celsius, the hottest of its sensors; None where there is none."""
    sensors = getattr(psutil, "sensors_temperatures", dict)()
    for name in PROCESSOR_SENSORS:
        if sensors.get(name):
            return max(sensor.current for sensor in sensors[name])
    return None


def throttling() -> list[str] | None:
    """A Raspberry Pi's own report, in words; empty: nothing to report; None: the machine does not tell."""
    flags = firmware_flags()
    return None if flags is None else throttling_words(flags)


def throttling_words(flags: int) -> list[str]:
    """The bits of get_throttled (Raspberry Pi documentation, "vcgencmd"): what is so now, and what was since boot."""
    now = [name for bit, name in NOW_BITS.items() if flags >> bit & 1]
    before = [f"{name} since boot" for bit, name in NOW_BITS.items() if flags >> (bit + SINCE_BOOT) & 1]
    return now + before


def firmware_flags() -> int | None:
    """The number behind get_throttled: from the kernel, else from vcgencmd; None on any other machine."""
    for path in sorted(FIRMWARE_FLAGS.glob("soc*/soc*firmware/get_throttled")):
        text = read_text(path)
        if text:
            return int(text, 16)
    try:
        said = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=10, check=True)
        return int(said.stdout.strip().rpartition("=")[2], 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def read_text(path: str | Path) -> str | None:
    """A small file of /proc or /sys, stripped; None where it is not there or may not be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(aliased=True, terse=True)


def _instruction_sets() -> list[str]:
    info = read_text("/proc/cpuinfo") or ""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return [flag for flag in TELLING_FLAGS if flag in flags]
