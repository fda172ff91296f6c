"""Is the device that a params file names really here? If not: a reason that says what to do."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ttsopt_lib.errors import plain_words
from ttsopt_lib.measure.machine import nvidia
from ttsopt_lib.measure.machine.system import board_model
from ttsopt_lib.measure.plan import Accelerator
from ttsopt_lib.paths import OWN_PACKAGE
from ttsopt_lib.records.device import Runtime
from ttsopt_lib.study import Device

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_BROWSER = "apt install chromium chromium-driver"
INSTALL_GPU = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
# A GPU that is there may be too new for a package's kernels, or miss the libraries that it was built for: the runtimes
# compute something, each in a process of its own, because a driver that has started CUDA keeps some of the GPU.
ASK_TORCH = "import torch; torch.ones(2, device='cuda').sum().item()"
ASK_ONNXRUNTIME = "from ttsopt_lib.measure.runtimes.onnx_runtime import compute_on_gpu; compute_on_gpu()"
ASK = """try:
    {}
except Exception as error:
    sys.exit(" ".join(str(error).split()) or type(error).__name__)
"""
NOT_LOADED = "Failed to load library"  # which ONNX Runtime prints before it goes on without its provider
ASK_SECONDS = 120  # importing a large package for the first time


@dataclass(frozen=True)
class Probe:
    """What was found. `reason` is None where the device can be measured here."""

    reason: str | None = None
    accelerator: Accelerator | None = None
    accelerator_name: str | None = None
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "pytorch")  # that reach the device
    notes: tuple[str, ...] = ()  # what is not measured on it although it is there


@cache
def why_not_on_gpu(ask: str) -> str | None:
    """Why a runtime computes nothing on the GPU, in its own words; None: it does.

    Args:
        ask: `ASK_TORCH` or `ASK_ONNXRUNTIME`.
    """
    try:
        words = [sys.executable, "-P", "-c", OWN_PACKAGE + ASK.format(ask), str(Path(__file__).parents[2])]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_SECONDS} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    if not said or done.returncode != 1:
        return f"exit code {done.returncode}"
    reasons = [line[line.index(NOT_LOADED) :].split("\x1b")[0] for line in said if NOT_LOADED in line]
    return plain_words((reasons or said)[-1])


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
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        notes.append(f"this onnxruntime has no CUDA provider ({INSTALL_GPU} in its place)")
    elif why := why_not_on_gpu(ASK_ONNXRUNTIME):
        needs = f"it needs the CUDA and the cuDNN that it was built for ({INSTALL_GPU})"
        notes.append(f"this onnxruntime does not compute on the GPU ({why}); {needs}")
    else:
        runtimes.append("onnxruntime")
    if device.pytorch:
        if why := why_not_on_gpu(ASK_TORCH):
            notes.append(f"this PyTorch does not compute on the GPU ({why}); install a build for it")
        else:
            runtimes.append("pytorch")
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
