"""What an NVIDIA GPU tells about itself: driver, clocks, power, temperature, what holds it back, joules.

Read through NVML where `nvidia-ml-py` is installed (energy), else from `nvidia-smi`, which every driver
brings but which has no energy counter. Nothing here starts a CUDA context or takes memory on the GPU.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from ttsopt_lib.records.device import GpuRecord

PATIENCE_SECONDS = 20
# nvidia-smi's name of a field -> ours. Older drivers say clocks_throttle_reasons, newer ones both.
FIELDS = {
    "name": "name",
    "driver_version": "driver",
    "pstate": "performance_state",
    "clocks.sm": "clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "clocks.max.sm": "max_clock_mhz",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "temperature.gpu": "temperature_c",
    "memory.total": "memory_mib",
}
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # the same to newer and to older drivers
# Bits of nvmlClocksEventReasons (NVML API reference). Idle and the application's own clocks are no complaint.
HELD_BACK = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "clocks of another GPU",
    0x20: "temperature, by software",
    0x40: "temperature, by hardware",
    0x80: "power brake",
}


class NvidiaError(RuntimeError):
    """The GPU cannot be asked. The message says why."""


def gpu_names() -> list[str]:
    """The name of the GPU that CUDA shows first; empty where there is none, or no driver."""
    try:
        return [line for line in _ask("name").splitlines() if line]
    except NvidiaError:
        return []


def look_at_gpu() -> GpuRecord | None:
    """The first visible GPU as it is now; None where there is none, or what is said of it cannot be read.

    A field that it does not tell is null. Nothing that is timed depends on any of it.
    """
    for reasons in (*REASONS, None):  # a driver refuses the whole question for one name that it does not know
        try:
            return parse_gpu(_ask(*FIELDS, *filter(None, [reasons])))
        except (NvidiaError, ValueError):
            continue
    return None


def busier(before: GpuRecord | None, now: GpuRecord | None) -> GpuRecord | None:
    """Of two looks at a GPU the one at more power, with what held its clock back in either."""
    if before is None or now is None:
        return now or before
    known = [look.held_back for look in (before, now) if look.held_back is not None]
    held_back = list(dict.fromkeys(reason for reasons in known for reason in reasons)) if known else None
    harder = max(before, now, key=lambda look: look.power_w or 0.0)
    return harder.model_copy(update={"held_back": held_back})


def free_memory_mb() -> float | None:
    """Free memory of the first visible GPU, MB (10^6 bytes); None where it does not tell."""
    try:
        return float(_ask("memory.free").splitlines()[0]) * 1.048576  # nvidia-smi counts in MiB
    except (NvidiaError, ValueError, IndexError):  # [N/A], as for a part of a GPU
        return None


def parse_gpu(text: str) -> GpuRecord | None:
    """The first line of `nvidia-smi --query-gpu` for `FIELDS` in their order and, last, the clock's reasons."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    values: dict[str, Any] = {}
    for field, said in zip(
        (*FIELDS.values(), "held_back"), (part.strip() for part in lines[0].split(",")), strict=False
    ):
        told = said and not said.startswith(("[", "N/A"))  # [N/A], [Not Supported], [Unknown Error]
        values[field] = said if told else None
    bits = values.pop("held_back", None)
    held_back = None if bits is None else [word for bit, word in HELD_BACK.items() if int(bits, 16) & bit]
    name = values.get("name") or "NVIDIA GPU"
    return GpuRecord.model_validate({**values, "name": name, "held_back": held_back})  # makes the numbers of the texts


def first_gpu() -> str:
    """Number (in the order of the bus) or UUID of the GPU that CUDA shows first."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


def _ask(*fields: str) -> str:
    """What nvidia-smi says about the first GPU. Raises `NvidiaError`."""
    words = ["nvidia-smi", f"--id={first_gpu()}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NvidiaError(f"nvidia-smi: {error}") from None
    return done.stdout.strip()


class GpuEnergy:
    """The first GPU's energy counter: the board with its memory, since the driver was loaded."""

    source = "NVML (total energy of the GPU's board), everything that runs on it"

    def __init__(self) -> None:
        """Raises `NvidiaError` where nvidia-ml-py is missing or the GPU has no counter (before Volta)."""
        try:
            import pynvml
        except ImportError:
            raise NvidiaError("reading the GPU's energy needs nvidia-ml-py: pip install nvidia-ml-py") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            gpu = first_gpu()
            by_number = gpu.isdigit()
            find = pynvml.nvmlDeviceGetHandleByIndex if by_number else pynvml.nvmlDeviceGetHandleByUUID
            self._gpu = find(int(gpu) if by_number else gpu)
            self._first = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)  # mJ
        except pynvml.NVMLError as error:
            raise NvidiaError(f"the GPU's energy cannot be read: NVML says {error}") from None

    def joules(self) -> float:
        """Since this object was made. Raises OSError."""
        try:
            return (self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu) - self._first) / 1000
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML says {error}") from None
