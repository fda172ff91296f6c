"""A device without a network gets its packages from wheels that are sent along."""

import base64
import hashlib
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from loopback import Loopback
from packaging.requirements import Requirement
from timed_study import study_of

from ttsopt_lib.measure.remote import environment
from ttsopt_lib.measure.remote.bundle import REQUIREMENTS, download_command
from ttsopt_lib.measure.timing import measure_device

ROOT = Path(__file__).parents[3]


def test_what_is_installed_on_a_device_is_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {*project["dependencies"], *project["optional-dependencies"]["device"]}
    assert set(REQUIREMENTS) <= declared
    assert set(project["optional-dependencies"]["device"]) <= set(REQUIREMENTS)


def test_the_command_that_fills_the_wheels_folder_asks_for_what_is_installed_and_stands_in_the_manual():
    command = download_command(Path("params/wheels"))
    assert all(f'"{one}"' in command for one in REQUIREMENTS)
    manual = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8").replace("\\\n", "")
    assert command.split() in [line.split() for line in manual.splitlines()]


def test_no_file_of_the_home_stands_in_for_a_library_of_the_installer(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('this is no library')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    environment.run([sys.executable, "-m", "json.tool", "--help"])


@pytest.mark.parametrize(
    "code, said, reason",
    [
        (-9, "Collecting numpy\nInstalling collected packages: numpy\n\n", "exit code -9 after: Installing collected"),
        (-9, "", "exit code -9"),
        (1, "ERROR: no wheel fits\n[notice] a new pip\n", "ERROR: no wheel fits"),
    ],
)
def test_an_installation_that_failed_says_why_and_one_that_was_killed_says_that(
    tmp_path, monkeypatch, code, said, reason
):
    def run(command: list[str]) -> None:
        raise subprocess.CalledProcessError(code, command, said)

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(sys, "argv", ["environment.py", str(tmp_path / "made"), str(tmp_path / "requirements.txt")])
    with pytest.raises(SystemExit) as raised:
        environment.main()
    assert f"be installed: {reason}" in str(raised.value)


@pytest.mark.slow
def test_an_environment_is_made_from_wheels_once_and_used(loopback: Loopback, tmp_path: Path, small_folder, capsys):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in with_dependencies([Requirement(one).name for one in REQUIREMENTS]):
        repack(distribution(name), wheels)
    study = study_of("fp32", budget_seconds=5, warmup_passes=1, min_blocks=2, max_blocks=2)
    base = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    device = loopback.device(wheels=str(wheels), python=base, venv=True)
    folder = small_folder(study)
    record = measure_device(study, device, folder)
    drawn = capsys.readouterr()
    assert drawn.out == "" and "an environment" in drawn.err
    assert "processing numpy-" in drawn.err and "CPU: installing " in drawn.err
    assert record.system is not None
    assert set(record.system.packages) == {"onnxruntime", "numpy", "scipy"}, "not the new environment"
    (stamp,) = loopback.folder.glob("there/environments/*/.ready")
    before = stamp.stat().st_mtime_ns
    measure_device(study, device, folder, progress=False, again=True)
    assert stamp.stat().st_mtime_ns == before


def with_dependencies(names: list[str]) -> set[str]:
    """The packages and all that they need here."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop().lower()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def repack(package: Distribution, folder: Path) -> None:
    """The wheel that an installed package came from, near enough for pip."""
    tags = [line.split(": ")[1] for line in (package.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*(tag.split("-") for tag in tags), strict=True))
    name = package.metadata["Name"].replace("-", "_").replace(".", "_")
    info = f"{name}-{package.version}.dist-info"
    rows = []
    with zipfile.ZipFile(folder / f"{name}-{package.version}-{tag}.whl", "w") as wheel:
        for file in package.files or []:
            path = Path(str(file.locate()))
            if ".." in file.parts or "__pycache__" in file.parts or file.name == "RECORD" or not path.is_file():
                continue
            inside = "/".join([info, *file.parts[1:]]) if file.parts[0].endswith(".dist-info") else str(file)
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{inside},sha256={digest},{len(content)}")
            wheel.writestr(inside, content)
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
