"""The two ways to install agree, the package stays light, and the layers keep their order."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ttsopt_lib.doctor import APART
from ttsopt_lib.paths import SHIPPED

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def declared() -> dict[str, Requirement]:
    """Everything that a full installation by pyproject.toml asks for."""
    lines = list(PROJECT["dependencies"])
    for extra in ("device", "workstation", "browser", "peers", "test"):
        lines += PROJECT["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in requirements if r.name != "ttsopt"}


def test_conda_and_pip_describe_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    requirements = [Requirement(line) for line in pip if not line.startswith("--")]
    assert {canonicalize_name(r.name): r for r in requirements} == declared()
    assert f"python {PROJECT['requires-python']}" in environment["dependencies"]
    assert "pango" in environment["dependencies"]


def test_every_tested_version_lies_in_the_range_that_is_promised():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(name): version for name, version in pairs}
    for name, requirement in declared().items():
        assert name in versions, f"constraints.txt does not pin {name}"
        assert versions[name] in requirement.specifier, f"{name}: {versions[name]} is outside {requirement.specifier}"


def test_the_packages_that_are_installed_apart_are_said_with_the_same_versions():
    pinned_apart = [line for line in (ROOT / "nodeps.txt").read_text().splitlines() if not line.startswith("#")]
    assert set(APART) == set(pinned_apart)


def test_a_wheel_has_every_package_and_every_file_that_lies_in_one():
    tool = PYPROJECT["tool"]["setuptools"]
    own = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "ttsopt_lib").rglob("__init__.py")}
    assert set(tool["packages"]) == own | {f"ttsopt_lib.shipped.{name}" for name in SHIPPED}
    assert tool["package-dir"] == {f"ttsopt_lib.shipped.{name}": name for name in SHIPPED}
    folders = {package: ROOT / package.replace(".", "/") for package in own}
    folders |= {package: ROOT / folder for package, folder in tool["package-dir"].items()}
    named = {
        path for package, globs in tool["package-data"].items() for one in globs for path in folders[package].glob(one)
    }
    there = {path for folder in ("ttsopt_lib", "notebooks", "params", "models") for path in tracked(folder)}
    assert {path for path in there if path.suffix != ".py"} - named == set()


def tracked(folder: str) -> set[Path]:
    """The files of a folder; what git ignores, and what is nobody's but this machine's, is left out."""
    done = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return {ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}
    return {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.parametrize("top", ["ttsopt_lib", "tests"])
def test_a_folder_has_twenty_files_at_most_and_a_file_of_the_library_five_hundred_lines(top: str):
    files = tracked(top)
    assert not {str(folder) for folder, count in Counter(path.parent for path in files).items() if count > 20}
    sources = [path for path in files if path.suffix == ".py" and top == "ttsopt_lib"]
    assert not {str(path) for path in sources if len(path.read_text(encoding="utf-8").splitlines()) > 500}


def test_importing_the_package_loads_nothing_heavy():
    heavy = ["torch", "transformers", "onnx", "onnxruntime", "pandas", "matplotlib", "yaml", "scipy"]
    code = (
        f"import sys, ttsopt_lib, ttsopt_lib.study, ttsopt_lib.records; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# each layer may import itself and what stands before it
LAYERS = [
    {"code_hash", "errors", "files", "paths", "step_settings", "text_files"},
    {"study"},
    {"params", "records", "workers", "first_look"},
    {"statistics", "voices", "networks"},
    {"web"},
    {"measure", "evaluate"},
    {"listening"},
    {"distill"},
    {"optimize"},
    {"notebooks", "plain_kernel"},
    {"report"},
    {"doctor", "preflight", "own_voice", "terminal"},
    {"pipeline"},
    {"tune"},
    {"cli"},
    {"__main__"},
]

# The one exception, imported by the worker process of a PyTorch row only: such a row is made by the recipe itself.
EXCEPTIONS = {("measure/runtimes/torch_runtime.py", "ttsopt_lib.optimize.torch_build")}


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", sorted((ROOT / "ttsopt_lib").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_order_of_the_layers(path):
    file = path.relative_to(ROOT / "ttsopt_lib")
    own = file.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "ttsopt_lib" and len(parts) > 1 and (file.as_posix(), module) not in EXCEPTIONS:
                assert layer(parts[1]) <= layer(own), f"{own} must not import {module}"


def test_no_modules_import_each_other_in_a_circle():
    """Also not inside functions; what is imported for types alone does not count."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "ttsopt_lib").rglob("*.py")
    }
    arrows: dict[str, set[str]] = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text())
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        imported = [
            (node.module, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types
            for alias in node.names
        ]
        targets = {full if (full := f"{module}.{inner}") in files else module for module, inner in imported}
        arrows[name] = (targets & files.keys()) - {name, "ttsopt_lib"}
    tuple(TopologicalSorter(arrows).static_order())  # raises CycleError, which shows the circle


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_hold_parameters_calls_and_no_logic(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    for cell in code:
        source = "".join(cell["source"])
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert not re.search(r"^\s*(def|class|for|while|if)\b", source, re.MULTILINE), source


def test_the_architecture_page_names_every_room_and_only_what_is_there():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.name for path in (ROOT / "ttsopt_lib").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert {name for name in rooms if f"| `{name}/`" not in page} == set()
    table = page[page.index("## Where to change what") : page.index("## Where files come from")]
    named = {name for name in re.findall(r"`([\w/]+(?:\.\w+|/))`", table)}
    assert named
    assert {name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "ttsopt_lib"))} == {
        "summary.json"
    }


def test_files_and_functions_that_texts_name_are_there():
    """What docs, docstrings and comments put in backticks: paths of the project, and dotted names of the library."""
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "ttsopt_lib").rglob("*.py")]
    there = {f"/{path.relative_to(ROOT).as_posix()}" for path in [*ROOT.rglob("*.py"), *ROOT.rglob("*.md")]}
    named = {
        name: path.name
        for path in texts
        for name in re.findall(r"`([\w./-]+\.py|docs/[\w/-]+\.md|ttsopt_lib[\w./]*)`", path.read_text(encoding="utf-8"))
    }
    gone = {name: where for name, where in named.items() if not (_is_module(name) or (ROOT / name).exists())}
    gone = {name: where for name, where in gone.items() if not any(path.endswith(f"/{name}") for path in there)}
    assert named and gone == {"optimize/steps/my_step.py": "extending.md"}


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module, a package, or a word of the module before its last dot."""
    module, _, last = name.rpartition(".")
    for one, word in ((name, ""), (module, rf"\b{last}\b")):
        file = ROOT / one.replace(".", "/")
        for source in (file.with_suffix(".py"), file / "__init__.py"):
            if source.is_file() and re.search(word, source.read_text(encoding="utf-8")):
                return True
    return False
