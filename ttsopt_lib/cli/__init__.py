"""The command line: `ttsopt run`, its steps one by one, and what a person needs around them.

Every step says before it begins what it will do and about how long that takes, shows one progress bar with the
remaining time, and repeats nothing that is done and unchanged. Errors are one line; the exit code is

* 0: done,
* 1: `check` found a target that was missed, or not measured where `--strict` asks for all; `tune` found no voice that
  holds what was asked,
* 2: something was wrong with what was asked or found,
* 3: a defect of ttsopt itself; the line names the file with the traceback,
* 130: interrupted; what was complete is kept.
"""

from __future__ import annotations

import gc
import io
import re
import sys
import tempfile
import traceback

import typer

from ttsopt_lib.cli import listening, report, tools, tune, web
from ttsopt_lib.cli.app import app
from ttsopt_lib.errors import TtsoptError, system_words
from ttsopt_lib.terminal import err

INTERRUPTED, DEFECT = 130, 3  # exit codes

# as the help lists them
_ORDER = [module.__name__ for module in (report, tune, listening, web, tools)]
app.registered_commands.sort(key=lambda command: _ORDER.index(getattr(command.callback, "__module__", "")))


def _saved_traceback() -> str:
    """Write the traceback of the present error into a file of its own, and return its path."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="replace", prefix="ttsopt-", suffix=".txt", delete=False
    ) as file:
        file.write(traceback.format_exc())
    return file.name


def _same_voice(message: str) -> str:
    """What a message lacks that names a command, and does not know that the study was asked for on a voice."""
    if "--voice" in message or not any(word.split("=")[0] == "--voice" for word in sys.argv):
        return ""
    commands = typer.main.get_group(app).commands
    taking = [name for name, one in commands.items() if any("--voice" in option.opts for option in one.params)]
    named = re.search(rf"(?<![\w/.-])ttsopt ({'|'.join(taking)})(?![\w/.-])", message)
    return "; give it the same --voice" if named else ""


def main() -> None:
    """Entry point: errors are one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal has no sign for must not end the work
            stream.reconfigure(errors="replace")
    try:
        app()
    except TtsoptError as error:
        err.print(f"ttsopt: {error}{_same_voice(str(error))}")
        sys.exit(2)
    except OSError as error:
        err.print(f"ttsopt: {system_words(error)}")
        sys.exit(2)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "ttsopt_lib").startswith("ttsopt_lib"):
            err.print(f"ttsopt: {error}; 'ttsopt doctor' says what is missing and how to install it")
            sys.exit(2)
        what = " ".join([f"{type(error).__name__}:", *str(error).split()])[:200]
        err.print(f"ttsopt: a defect of ttsopt: {what}; please report it with {_saved_traceback()}")
        sys.exit(DEFECT)
    except SystemExit as ended:  # typer has made an exit code of the interrupt, and says nothing
        if ended.code == INTERRUPTED:
            err.print("ttsopt: interrupted; what was complete is kept, the same command goes on from there")
        raise
    finally:
        gc.freeze()  # the process ends: a last search for garbage in all that it imported takes a second
