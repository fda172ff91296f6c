"""What a device needs that has nothing but a Python: voices, the plan, the measuring code, the list of packages.

A plan times a study (`TimingPlan`), or graphs beside each other (`ComparisonPlan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import ttsopt_lib
from ttsopt_lib.files import content_key, file_sha256
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.side_by_side import ComparisonPlan
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import Strict
from ttsopt_lib.study import Device

# What timing imports: the package's own needs and its extra `device` (a test holds them to pyproject.toml).
REQUIREMENTS = (
    "numpy>=2.0,<3",
    "onnxruntime>=1.31,<2",
    "psutil>=6",
    "pydantic>=2.10,<3",
    "scipy>=1.14,<2",
)
# What of ttsopt_lib timing imports.
CODE = (
    *(f"{name}.py" for name in ("__init__", "code_hash", "errors", "files", "paths", "step_settings", "study")),
    *(f"{room}/**/*.py" for room in ("records", "statistics", "measure")),
    *(f"voices/{name}.py" for name in ("__init__", "pieces", "session", "adapters/__init__", "adapters/functions")),
)
ENVIRONMENT_BYTES = 500_000_000  # what the packages take while they are installed, roughly


class Job(Strict):
    """What a device is asked to do. The plan's files are names in its folder of voices."""

    device: Device
    plan: TimingPlan | ComparisonPlan


@dataclass(frozen=True)
class Bundle:
    """Everything that may have to be sent, by the name it has there."""

    job: Job
    voices: dict[str, Path]  # name there -> file here; the name is the hash of the content
    wheels: tuple[Path, ...]
    code: str  # digest of the measuring code

    @property
    def run(self) -> str:
        """Name of the run there: the same job by the same code goes on where it was."""
        return content_key(self.job, self.code)[:24]

    def environment(self, python: Iterable[int]) -> str:
        """Name of the virtual environment there: other packages or another Python are another one."""
        return content_key(REQUIREMENTS, list(python), [wheel.name for wheel in self.wheels])[:24]

    def missing(self, present: dict[str, int]) -> dict[str, Path]:
        """The voices that are not among `present` (name -> size) in their full length."""
        return {name: path for name, path in self.voices.items() if present.get(name) != path.stat().st_size}


def collect(plan: TimingPlan | ComparisonPlan, device: Device) -> Bundle:
    """Name each file by its content and collect what goes with it. Raises `MeasureError`."""
    names = {path: f"{file_sha256(path)}{path.suffix}" for path in plan.files}
    code = content_key({str(name): file_sha256(file) for name, file in _code().items()})
    here = Device(name=device.name, label=device.label, kind=device.kind, threads=device.threads)
    there = plan.with_files({path: Path(name) for path, name in names.items()})
    if isinstance(there, TimingPlan):
        there = there.model_copy(update={"phonemizer": None})
    job = Job(device=here, plan=there)
    return Bundle(job, {name: path for path, name in names.items()}, _wheels(device), code[:24])


def _wheels(device: Device) -> tuple[Path, ...]:
    if device.wheels is None:
        return ()
    found = tuple(sorted(resolve(device.wheels).glob("*.whl")))
    if not found:
        raise MeasureError(
            f"{device.wheels}: no wheels in it (the device's wheels:); fill it with {download_command(device.wheels)}"
        )
    return found


def download_command(folder: Path) -> str:
    """The command that fills a folder with the wheels for a 64-bit Raspberry Pi OS 12, whose Python is 3.11.

    All three tags have to be named: pip takes a wheel only if its tag is one of those given, and an older package where
    the right one has another tag, which is what the bounds of the requirements forbid.
    """
    platforms = " ".join(f"--platform manylinux_{tag}_aarch64" for tag in ("2_28", "2_27", "2_17"))
    packages = " ".join(f'"{one}"' for one in REQUIREMENTS)
    return f"pip download --only-binary=:all: {platforms} --python-version 3.11 --dest {folder} {packages}"


@contextmanager
def laid_out(bundle: Bundle, voices: dict[str, Path], environment: str | None) -> Iterator[Path]:
    """A folder as it will stand on the device, with links to the files: `voices`, code, job, and what an
    `environment` is made from, where one has to be made."""
    with TemporaryDirectory(prefix="ttsopt-") as name:
        folder = Path(name)
        for voice, path in voices.items():
            _link(folder / "voices" / voice, path)
        for inside, source in _code().items():
            _link(folder / "code" / bundle.code / "ttsopt_lib" / inside, source)
        if environment:
            packages = folder / "packages" / environment
            packages.mkdir(parents=True)
            (packages / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
            for wheel in bundle.wheels:
                _link(packages / wheel.name, wheel)
        run = folder / "runs" / bundle.run
        run.mkdir(parents=True)
        (run / "job.json").write_text(bundle.job.model_dump_json(), encoding="utf-8")
        yield folder


def _code() -> dict[Path, Path]:
    """The source files that timing needs, by their places below `ttsopt_lib`."""
    package = Path(ttsopt_lib.__file__).parent
    return {file.relative_to(package): file for pattern in CODE for file in sorted(package.glob(pattern))}


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target.absolute())
