"""Makes the virtual environment on a device: run there as a file, with the standard library alone.

`python3 -I environment.py FOLDER REQUIREMENTS [WHEELS]`. What is being done is said in JSON lines on standard output,
`doing`: the installer knows neither its steps nor its time beforehand. The stamp `.ready` is written last: a folder
without it is what an interrupted installation left, and is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def make_environment(folder: Path, requirements: Path, wheels: Path | None) -> None:
    """A virtual environment with the requirements, from the network or from `wheels` alone. Raises OSError and
    subprocess.CalledProcessError, whose `output` is all that the installer said."""
    shutil.rmtree(folder, ignore_errors=True)
    say("making an environment")
    run([sys.executable, "-m", "venv", str(folder)])
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check"]
    run([*pip, "--only-binary=:all:", *source, "--requirement", str(requirements)])
    (folder / ".ready").touch()
    shutil.rmtree(requirements.parent)


def run(command: list[str]) -> None:
    """Run an installer and say what it does, as it says so. Raises OSError and subprocess.CalledProcessError.

    No file of the working folder, the home there, stands in for a library.
    """
    said, environment = [], {**os.environ, "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            words = line.split()
            if words[:1] in (["Collecting"], ["Downloading"], ["Processing"]) and len(words) > 1:
                say(f"{words[0].lower()} {words[1].rpartition('/')[2]}")
            elif words[:3] == ["Installing", "collected", "packages:"]:
                say("installing " + " ".join(words[3:]))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "".join(said))


def say(doing: str) -> None:
    """One line to the workstation; the packages are of use even if it has gone."""
    with suppress(BrokenPipeError):
        print(json.dumps({"doing": doing}), flush=True)


def main() -> None:
    """One line on standard error where it cannot be done."""
    folder, requirements, *wheels = map(Path, sys.argv[1:])
    try:
        make_environment(folder, requirements, wheels[0] if wheels else None)
    except subprocess.CalledProcessError as error:
        said = [line for line in error.output.splitlines() if line.strip()]
        if any("ensurepip is not" in line for line in said):
            sys.exit("no virtual environment can be made there: sudo apt install python3-venv")
        errors = [line for line in said if "No space left" in line or line.startswith("ERROR:")]
        reason = errors[-1] if errors else " after: ".join([f"exit code {error.returncode}", *said[-1:]])
        sys.exit(f"the packages could not be installed: {reason}")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
