"""How hot the processor is and whether it holds itself back, as far as the machine tells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from ttsopt_lib.measure.machine.system import read_text

PROCESSOR_SENSORS = ("cpu_thermal", "coretemp", "k10temp", "zenpower", "soc_thermal")
FIRMWARE_FLAGS = Path("/sys/devices/platform")  # soc/soc:firmware/get_throttled; a Raspberry Pi 5 has soc@... there
NOW_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "temperature limit"}
SINCE_BOOT = 16  # the same four again, so many bits higher: has happened since the board was switched on


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
