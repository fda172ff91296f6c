"""Is the device that a params file names really here? If not: a reason that says what to do."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from ttsopt_lib.measure.machine import nvidia
from ttsopt_lib.measure.machine.system import board_model
from ttsopt_lib.measure.plan import Accelerator
from ttsopt_lib.records.device import Runtime
from ttsopt_lib.study import Device

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_BROWSER = "apt install chromium chromium-driver"


@dataclass(frozen=True)
class Probe:
    """What was found. `reason` is None where the device can be measured here."""

    reason: str | None = None
    accelerator: Accelerator | None = None
    accelerator_name: str | None = None
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "pytorch")  # that reach the device
    notes: tuple[str, ...] = ()  # what is not measured on it although it is there


def torch_reaches_cuda() -> bool:
    """Whether the PyTorch that is installed can use the GPU. Asked in a process of its own: importing it takes seconds
    and memory, and a driver that has started CUDA would keep some of the GPU."""
    asked = [sys.executable, "-c", "import torch, sys; sys.exit(not torch.cuda.is_available())"]
    try:
        return subprocess.run(asked, capture_output=True, timeout=120).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def chromium() -> str | None:
    """The path of the browser."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def why_no_browser() -> str | None:
    """Why no browser can be measured here, and what to do; None: nothing is missing."""
    if importlib.util.find_spec("selenium") is None:
        return "Selenium, which drives the browser, is not installed: pip install 'ttsopt[browser]'"
    if chromium() is None:
        return f"there is no Chromium on this machine: {INSTALL_BROWSER}"
    if shutil.which("chromedriver") is None:
        return f"there is no chromedriver on this machine, by which Chromium is driven: {INSTALL_BROWSER}"
    return None


def probe(device: Device) -> Probe:
    """Look for the device on this machine."""
    if device.kind == "gpu":
        return _probe_gpu(device)
    if device.kind == "raspberry_pi":
        return _probe_raspberry_pi(device)
    if device.kind == "browser":
        return Probe(why_no_browser(), runtimes=("onnxruntime-web",))
    return Probe()


def _probe_gpu(device: Device) -> Probe:
    import onnxruntime

    names = nvidia.gpu_names()
    if not names:
        return Probe(
            "no CUDA device on this machine (nvidia-smi lists none); "
            "measure on one that has an NVIDIA GPU, with onnxruntime-gpu or a CUDA build of PyTorch"
        )
    runtimes: list[Runtime] = []
    notes = []
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        runtimes.append("onnxruntime")
    else:
        notes.append("this onnxruntime has no CUDA provider (install onnxruntime-gpu in its place)")
    if device.pytorch and device.runner == "local":
        if torch_reaches_cuda():
            runtimes.append("pytorch")
        else:
            notes.append("this PyTorch does not reach the GPU (install a CUDA build of it)")
    if not runtimes:
        return Probe(f"there is a {names[0]}, but {' and '.join(notes)}; then measure again")
    missing = tuple(f"not measured on {names[0]}: {note}" for note in notes)
    return Probe(accelerator="cuda", accelerator_name=names[0], runtimes=tuple(runtimes), notes=missing)


def _probe_raspberry_pi(device: Device) -> Probe:
    model = board_model()
    if model and model.startswith("Raspberry Pi"):
        return Probe()
    here = model or f"{platform.machine()} computer"
    article = "an" if here[0] in "aeio" else "a"
    return Probe(
        f"this machine is {article} {here}, not a Raspberry Pi; "
        f"run 'ttsopt measure STUDY.yaml --device {device.name}' on the Pi itself, "
        f"or write 'kind: cpu' for a computer of another make"
    )
