"""Makes the virtual environment on a device: run there as a file, with the standard library alone.

``python3 -I environment.py FOLDER REQUIREMENTS [WHEELS]``. The stamp ``.ready`` is written last: a folder without it
is what an interrupted installation left, and is made anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def make_environment(folder: Path, requirements: Path, wheels: Path | None) -> None:
    """A virtual environment with the requirements, from the network or from ``wheels`` alone. Raises OSError and
    subprocess.CalledProcessError, whose ``stderr`` is the installer's."""
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--only-binary=:all:", *source, "--requirement", str(requirements)])
    (folder / ".ready").touch()
    shutil.rmtree(requirements.parent)


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> None:
    """One line on standard error where it cannot be done."""
    folder, requirements, *wheels = map(Path, sys.argv[1:])
    try:
        make_environment(folder, requirements, wheels[0] if wheels else None)
    except subprocess.CalledProcessError as error:
        said = [line for line in (error.stderr + error.stdout).splitlines() if line.strip()]
        if any("ensurepip" in line for line in said):
            sys.exit("no virtual environment can be made there: sudo apt install python3-venv")
        errors = [line for line in said if "No space left" in line or line.startswith("ERROR:")] or said[-1:]
        sys.exit("the packages could not be installed: " + (errors[-1] if errors else str(error.returncode)))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
