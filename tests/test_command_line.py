"""What the command line does with what it did not expect: names of files, terminals, its own defects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from ttsopt_lib import cli
from ttsopt_lib.terminal import out, say, shown


def test_names_in_brackets_are_printed_as_they_are(capsys):
    path = Path("/tmp/voices [new]/[bold]x")
    say("web", f"in {shown(path)}")
    out.print(f"  {shown(path)}")
    table = Table("voice")
    table.add_row(path.name)
    out.print(table)
    said = capsys.readouterr().out
    assert said.count(str(path)) == 2 and said.count("[bold]x") == 3 and said.startswith("web ")


def test_a_defect_is_one_line_and_its_traceback_a_file(monkeypatch, capsys):
    def broken():
        raise ValueError("first\nsecond")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit, match="3"):
        cli.main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "ValueError: first second" in line
    saved = Path(line.split()[-1])
    assert "in broken" in saved.read_text(encoding="utf-8")
    saved.unlink()


@pytest.mark.slow
def test_a_terminal_of_few_signs_shows_what_it_can():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    python = [sys.executable, "-m"]
    for command in ([Path(sys.executable).with_name("ttsopt")], [*python, "ttsopt_lib"], [*python, "ttsopt_lib.cli"]):
        done = subprocess.run([*command, "doctor"], env=environment, capture_output=True, timeout=300)
        assert done.returncode in (0, 2) and b"Traceback" not in done.stderr and done.stdout.isascii() and done.stdout
