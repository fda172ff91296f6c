"""Is the device that a params file names really here? If not: a reason that says what to do."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ttsopt_lib.measure.plan import Accelerator
from ttsopt_lib.study import Device


@dataclass(frozen=True)
class Probe:
    """What was found. ``reason`` is None where the device can be measured here."""

    reason: str | None = None
    accelerator: Accelerator | None = None
    accelerator_name: str | None = None


def board_model() -> str | None:
    """The board's name from the device tree, for example "Raspberry Pi 4 Model B Rev 1.4"; None elsewhere."""
    try:
        text = Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.strip("\0 \n") or None


def cuda_device_names() -> list[str]:
    """Names of the NVIDIA GPUs that the driver reports; empty where there is no driver."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def probe(device: Device) -> Probe:
    """Look for the device on this machine."""
    if device.kind == "gpu":
        return _probe_gpu()
    if device.kind == "raspberry_pi":
        return _probe_raspberry_pi(device)
    return Probe()


def _probe_gpu() -> Probe:
    import onnxruntime

    names = cuda_device_names()
    if not names:
        return Probe(
            "no CUDA device on this machine (nvidia-smi lists none); "
            "measure on one that has an NVIDIA GPU and onnxruntime-gpu"
        )
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return Probe(
            f"there is a {names[0]}, but this onnxruntime has no CUDA provider; "
            f"install onnxruntime-gpu in its place and measure again"
        )
    return Probe(accelerator="cuda", accelerator_name=names[0])


def _probe_raspberry_pi(device: Device) -> Probe:
    model = board_model()
    if model and model.startswith("Raspberry Pi"):
        return Probe()
    here = model or f"{platform.machine()} computer"
    article = "an" if here[0] in "aeio" else "a"
    return Probe(
        f"this machine is {article} {here}, not a Raspberry Pi; "
        f"run 'ttsopt measure STUDY.yaml --device {device.name}' on the Pi itself"
    )
