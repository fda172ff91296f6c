"""A user without the repository: a wheel, an empty environment, an empty folder, and the commands of the README."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from small_study import study_values

ROOT = Path(__file__).parents[1]

STUDY = {
    "study": study_values(
        "few",
        variants=[{"name": "fp32"}, {"name": "int8-weights", "recipe": [{"step": "quantize_weights"}]}],
        measure={"budget_seconds": 5, "min_blocks": 4, "max_blocks": 4, "warmup_passes": 1},
    )
}

# What the default study reads, where its notebooks are, and a notebook of the user's own in the kernel that all get.
LOOK = """
import json
from pathlib import Path

import ttsopt_lib
from ttsopt_lib.notebooks import notebook_path, run_notebook
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.params import read_devices, read_study
from ttsopt_lib.paths import resolve

study = read_study(Path("params/joe.yaml"))
check_inputs(study)
run_notebook("where", Path("where.ipynb"), {})
print(json.dumps({
    "package": ttsopt_lib.__file__,
    "notebook": str(notebook_path("report")),
    "student": str(resolve(study.training.student)),
    "devices": [device.name for device in read_devices(None)],
}))
"""

pytestmark = pytest.mark.slow


class Installed:
    """A wheel in an environment of its own, whose other packages are those that the tests have."""

    def __init__(self, folder: Path, wheel: Path):
        self.prefix = folder / "environment"
        venv.create(self.prefix, symlinks=os.name == "posix")
        self.packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(self.prefix)}))
        pip(["--python", str(self.program("python")), "install", "--no-deps", "--no-index", str(wheel)], folder)
        # A folder named in a .pth file is searched last, and the .pth files in it (an editable ttsopt's) are not read.
        others = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (self.packages / "others.pth").write_text("\n".join(others) + "\n")
        # nbconvert's templates lie beside the packages.
        (self.prefix / "share").mkdir(exist_ok=True)
        (self.prefix / "share/jupyter").symlink_to(Path(sys.prefix) / "share/jupyter")

    def program(self, name: str) -> Path:
        return self.prefix / "bin" / name

    def run(self, name: str, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment["COLUMNS"] = "400"  # tables with paths in one line
        command = [str(self.program(name)), *arguments]
        return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, timeout=900)

    def files(self) -> dict[str, tuple[int, int]]:
        """Everything below site-packages but compiled modules."""
        there = [path for path in self.packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in there}


def pip(arguments: list[str], at: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_"))}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from links to the sources, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    for name in ("ttsopt_lib", "notebooks", "params", "models"):
        (folder / "source" / name).symlink_to(ROOT / name)
    pip(["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", ".", "./source"], folder)
    (built,) = folder.glob("ttsopt-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_is_small_enough_to_send_and_has_the_top_levels_folders(wheel):
    assert wheel.stat().st_size < 25e6
    names = {name.removeprefix("ttsopt_lib/shipped/") for name in zipfile.ZipFile(wheel).namelist()}
    assert names >= {
        "models/en_US-joe-medium/students/student.safetensors",
        "notebooks/report.ipynb",
        "params/joe.yaml",
        "params/sentences/harvard.txt",
        "ttsopt_lib/listening/page/page.js",
        "ttsopt_lib/report/template/index.html.j2",
    }


def test_doctor_misses_nothing_in_an_empty_folder(installed, tmp_path):
    done = installed.run("ttsopt", "doctor", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models/en_US-joe-medium/students" in done.stdout
    assert f"{tmp_path}: reports/ is written here" in done.stdout
    assert f"{installed.packages}/ttsopt_lib/shipped: notebooks/, params/, models/" in done.stdout
    assert "make install" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_default_study_and_its_notebooks_are_the_packages_and_a_kernel_works_in_the_own_folder(installed, tmp_path):
    (tmp_path / "notebooks").mkdir()
    source = "import os, ttsopt_lib\nprint(os.getcwd(), ttsopt_lib.__file__)"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "notebooks/where.ipynb").write_text(json.dumps(notebook))
    done = installed.run("python", "-c", LOOK, at=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    package = installed.packages / "ttsopt_lib"
    assert Path(found["package"]) == package / "__init__.py"
    assert Path(found["notebook"]) == package / "shipped/notebooks/report.ipynb"
    assert Path(found["student"]) == package / "shipped/models/en_US-joe-medium/students"
    assert found["devices"] == ["cpu", "gpu", "raspberry_pi"]
    printed = json.loads((tmp_path / "where.ipynb").read_text())["cells"][-1]["outputs"][0]["text"]
    assert "".join(printed).split() == [str(tmp_path), str(package / "__init__.py")]


def test_a_voice_becomes_a_report_in_a_folder_that_has_nothing_else(installed, medium_voice, tmp_path):
    for ending in ("", ".json"):
        shutil.copy(f"{medium_voice}{ending}", tmp_path / f"my.onnx{ending}")
    (tmp_path / "my-study.yaml").write_text(yaml.safe_dump(STUDY))
    before = installed.files()
    done = installed.run("ttsopt", "run", "my-study.yaml", "--voice", "my.onnx", "--device", "cpu", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"my.onnx", "my.onnx.json", "my-study.yaml", "reports"}
    report = tmp_path / "reports/my"
    assert (report / "report.html").stat().st_size > 100_000
    summary = json.loads((report / "summary.json").read_text())
    assert [variant["name"] for variant in summary["variants"]] == ["original", "fp32", "int8-weights"]
    assert summary["commit"] is None
    for variant in ("original", "fp32", "int8-weights"):
        assert (report / "variants" / variant / "model.onnx").stat().st_size > 10_000
    (cpu,) = summary["devices"]
    assert cpu["status"] == "measured"
    assert {row["variant"] for row in cpu["rows"]} >= {"original", "fp32", "int8-weights"}
    executed = {file.stem for file in (report / "notebooks").glob("*.ipynb")}
    assert executed == {"optimize", "measure-cpu", "evaluate", "report"}
    assert installed.files() == before


def test_what_is_not_there_is_one_line_that_names_what_is(installed, tmp_path):
    done = installed.run("ttsopt", "run", "params/mine.yaml", at=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ttsopt: params/mine.yaml: no such file; ") and "params/joe.yaml" in line
    done = installed.run("ttsopt", "run", "--device", "toaster", at=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--device toaster: " in line and "cpu, gpu, raspberry_pi" in line
