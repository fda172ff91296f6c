"""What the command line does with what it did not expect: names of files, terminals, its own defects."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ttsopt_lib import cli
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import Study


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("my-voice.onnx", "my-voice"),
        ("en_US-joe-medium.onnx", "en_us-joe-medium"),
        ("my voice.onnx", "my-voice-[0-9a-f]{6}"),
        ("voice-😀.onnx", "voice-[0-9a-f]{6}"),
        ("声.onnx", "voice-[0-9a-f]{6}"),
        (f"{'long' * 40}.onnx", "(long){13}lo-[0-9a-f]{6}"),
    ],
)
def test_every_file_has_a_name_for_its_study(file, pattern):
    found = cli._name_of(Path(file))
    assert re.fullmatch(pattern, found)
    values = read_study(resolve(Path("params/joe.yaml"))).model_dump(mode="json")
    assert check(Study, values | {"name": found}, "study").name == found


def test_files_of_different_names_have_different_studies():
    names = ["voice-😀", "voice-😁", "voice-", "voice", "a" * 70, "a" * 71]
    assert len({cli._name_of(Path(f"{name}.onnx")) for name in names}) == len(names)


def test_a_voice_behind_a_link_keeps_the_config_that_lies_beside_the_link(tmp_path, medium_voice):
    blob = tmp_path / "blobs/aaa"
    blob.parent.mkdir()
    blob.write_bytes(medium_voice.read_bytes())
    link = tmp_path / "snapshots/x.onnx"
    link.parent.mkdir()
    link.symlink_to("../blobs/aaa")
    asked = cli._study(Path("params/joe.yaml"), link)
    assert asked.voice.path == link and asked.name == "x"


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
    commands = [
        [str(Path(sys.executable).with_name("ttsopt")), "doctor"],
        [sys.executable, "-m", "ttsopt_lib", "doctor"],
    ]
    for command in (*commands, [sys.executable, "-m", "ttsopt_lib.cli", "doctor"]):
        done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
        assert done.returncode in (0, 2) and b"Traceback" not in done.stderr and done.stdout.isascii() and done.stdout
