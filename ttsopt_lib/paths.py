"""Where the files lie that a study names: in the project folder, or in what the package brings along."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

SHIPPED = ("notebooks", "params", "models")  # folders that the package brings along


def project_root() -> Path:
    """The folder that a study's relative paths start from.

    The nearest folder at or above the working directory that holds `params/` and `notebooks/`, so that a
    notebook opened in Jupyter and a command run at the top mean the same files; else the working directory.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


def shipped_root() -> Path:
    """The folder whose `notebooks/`, `params/` and `models/` come with the package.

    A wheel has them inside the package. An editable installation uses the repository's own, which are edited there.
    """
    package = Path(__file__).parent
    return package / "shipped" if is_from_wheel() else package.parent


def user_cache() -> Path:
    """Where what is made or fetched once is kept for all projects: below `XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ttsopt"


def is_from_wheel() -> bool:
    """Whether the package was installed from a wheel, so that its user has no repository and no Makefile."""
    return (Path(__file__).parent / "shipped").is_dir()


# This very package, also where another is installed; nothing else that lies beside it stands in for a library.
OWN_PACKAGE = """import sys
from importlib import machinery, util
sys.path.append(sys.argv.pop(1))
own = machinery.PathFinder.find_spec("ttsopt_lib", sys.path[-1:])
sys.modules["ttsopt_lib"] = util.module_from_spec(own)
own.loader.exec_module(sys.modules["ttsopt_lib"])
"""
RUN = f"{OWN_PACKAGE}import runpy; runpy.run_module(sys.argv.pop(1), None, '__main__', True)"


def python_command(module: str) -> list[str]:
    """How a process is started that runs a module of this package: in this Python, with arguments after it.

    No file of the working folder stands in for a library there (`-P`), and the package need not be installed.
    """
    return [sys.executable, "-P", "-c", RUN, str(Path(__file__).parents[1]), module]


def from_home(path: Path) -> Path:
    """A path whose ~ is the home folder; one of a user who is not there stays as it is, and is not found."""
    return Path(os.path.expanduser(path))


def own_path(path: Path) -> Path:
    """A path of a study as an absolute path to write to: the user's own, never one inside the package."""
    return project_root() / from_home(path)


def resolve(path: Path) -> Path:
    """A path of a study as an absolute path to read from.

    The user's own file comes first, then the one that the package brings along. A path that is at neither place is the
    user's own, so that an error names the file that a person can put there.
    """
    own = own_path(path)
    if own.exists() or not set(path.parts[:1]) & set(SHIPPED):
        return own
    shipped = shipped_root() / path
    return shipped if shipped.exists() else own


def params_file(path: Path) -> Path:
    """A params file as a person names it: from the working directory, else as the paths in a study (`resolve`)."""
    path = from_home(path)
    return path if path.is_file() else resolve(path)


def params_names(key: Literal["study", "device"]) -> list[str]:
    """Names, without `.yaml`, of the studies or devices in the user's `params/` and in the package's."""
    names = set()
    for root in (project_root(), shipped_root()):
        for file in (root / "params").glob("*.yaml"):
            lines = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
            if any(line.startswith(f"{key}:") for line in lines):
                names.add(file.stem)
    return sorted(names)
