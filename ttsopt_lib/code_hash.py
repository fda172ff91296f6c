"""What a result was made by: the source of a module and of all that it imports, as a hash.

A key with this hash follows the code by itself: whoever changes a module that a result depends on, or adds one, makes
the result stale. Only imports at the top of a module count. One inside a function is for what the result does not
depend on (training, drawing), or for what is hashed another way (packages by their versions).
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ttsopt_lib.paths import is_from_wheel, project_root

PACKAGE = __package__ or "ttsopt_lib"
# What these say is in a key by its value: the settings of a study, hashes and paths of files.
BY_VALUE = {
    (PACKAGE, name) for name in ("code_hash", "errors", "files", "params", "paths", "records", "step_settings", "study")
}

# A package that brings the same modules as another, and is installed in its place.
IN_PLACE_OF = {"onnxruntime": "onnxruntime-gpu"}


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 over the source of these modules and of everything of this package that they import.

    Args:
        modules: names with dots, such as `ttsopt_lib.evaluate.scores`; a package stands for every module in it.
    """
    digest = hashlib.sha256()
    for name in sorted(imported(*modules)):
        digest.update(name.encode() + b"\0" + _source(name).read_bytes())
    return digest.hexdigest()


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """The installed version of each package, or of what stands in its place; None for one that is not installed."""
    return {package: _version(package) or _version(IN_PLACE_OF.get(package)) for package in packages}


def _version(package: str | None) -> str | None:
    try:
        return version(package) if package else None
    except PackageNotFoundError:
        return None


def imported(*modules: str) -> set[str]:
    """These modules and every module of this package that they import, directly or through others.

    Raises:
        ModuleNotFoundError: one of `modules` has no source file.
    """
    found: set[str] = set()
    left = [name for module in modules for name in (module, *_inside(module))]
    while left:
        name = left.pop()
        if name not in found and tuple(name.split(".")[:2]) not in BY_VALUE:
            found.add(name)
            left += _imports(name)
    return found


def _inside(module: str) -> list[str]:
    """The modules of a package; none of a module that is a file."""
    source = _source(module)
    inner = source.parent.rglob("*.py") if source.name == "__init__.py" else ()
    return [
        ".".join((module, *path.relative_to(source.parent).with_suffix("").parts)).removesuffix(".__init__")
        for path in inner
        if path != source
    ]


@cache
def _imports(module: str) -> tuple[str, ...]:
    tree = ast.parse(_source(module).read_bytes())
    return tuple(name for statement in tree.body for name in _named(statement) if name.split(".")[0] == PACKAGE)


def _named(statement: ast.stmt) -> Iterator[str]:
    """The modules that a statement imports. `from package import name` may mean a module of that name."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module:
        yield statement.module
        for alias in statement.names:
            if _file(inner := f"{statement.module}.{alias.name}"):
                yield inner


def _source(module: str) -> Path:
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(f"{module}: no source file of that module", name=module)
    return path


def _file(module: str) -> Path | None:
    """Where a module's source lies: in this package, or wherever a module of a user's own was loaded from."""
    first, *inside = module.split(".")
    if first != PACKAGE:
        loaded = getattr(sys.modules.get(module), "__file__", None)
        return Path(loaded) if loaded else None
    base = Path(__file__).parent.joinpath(*inside)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def git_state() -> tuple[str | None, bool | None]:
    """The commit of the project and whether files differ from it; null outside git or before the first commit."""
    if is_from_wheel():  # a repository around the working directory is somebody else's
        return None, None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=project_root(), capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    status = git("status", "--porcelain") if commit else None
    return commit, None if status is None else bool(status)
