"""What the command line does with what it did not expect: names of files, terminals, its own defects."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from ttsopt_lib import cli
from ttsopt_lib.own_voice import claim, plain_name, study_on
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.terminal import out, say, shown
from ttsopt_lib.voices.onnx_file import model_sha256


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
    found = plain_name(Path(file))
    assert re.fullmatch(pattern, found)
    values = read_study(resolve(Path("params/joe.yaml"))).model_dump(mode="json")
    assert check(Study, values | {"name": found}, "study").name == found


def test_files_of_different_names_have_different_studies():
    names = ["voice-😀", "voice-😁", "voice-", "voice", "a" * 70, "a" * 71]
    assert len({plain_name(Path(f"{name}.onnx")) for name in names}) == len(names)


@pytest.fixture
def voices(tmp_path, plain_voice, medium_voice, monkeypatch):
    """Two voices of equal file name, in a project of their own."""
    for folder, voice in (("a", plain_voice), ("b", medium_voice)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "voice.onnx").write_bytes(voice.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "a/voice.onnx", tmp_path / "b/voice.onnx"


def on(voice):
    """The default study on a voice of a user's own."""
    path = resolve(Path("params/joe.yaml"))
    return study_on(voice, read_study(path), path).study


def named(voice):
    """The study of a voice, once its folder is begun."""
    asked = on(voice)
    folder = StudyFolder(asked)
    folder.path.mkdir(parents=True, exist_ok=True)
    claim(folder, voice)
    return asked.name


def test_two_voices_of_equal_file_name_have_two_folders(voices):
    one, other = voices
    assert named(one) == "voice" and re.fullmatch("voice-[0-9a-f]{6}", named(other))
    path = resolve(Path("params/joe.yaml"))
    assert study_on(other, read_study(path), path).namesake == "voice", "the user is told whose reports/voice is"
    names = named(one), named(other)
    shutil.rmtree("reports/voice")
    assert (named(other), named(one)) == (names[1], names[0]), "each keeps the folder that it has"


def test_a_voice_keeps_its_folder_when_it_is_moved_or_trained_further(voices):
    one, other = voices
    assert named(one) == "voice"
    moved = Path("moved/voice.onnx")
    moved.parent.mkdir()
    shutil.copy(one, moved)
    assert named(moved) == "voice"
    moved.write_bytes(other.read_bytes())
    assert named(moved) == "voice"


def test_a_folder_of_before_belongs_to_the_voice_that_its_variants_are_made_from(voices):
    one, other = voices
    record = Path("reports/voice/variants/original/variant.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"source_sha256": model_sha256(one)}), encoding="utf-8")
    assert plain_name(other) == "voice" != named(other) and named(one) == "voice"


def test_students_of_another_voice_of_that_name_are_not_taken_for_its_own(voices):
    one, other = voices
    student = Path("models/voice/student/record.json")
    student.parent.mkdir(parents=True)
    student.write_text(json.dumps({"voice_sha256": model_sha256(one)}), encoding="utf-8")
    distilled = {voice: on(voice) for voice in voices}
    assert distilled[one].name == "voice" and "distilled" in distilled[one].variant_names
    assert distilled[other].name != "voice" and "distilled" not in distilled[other].variant_names


def test_a_voice_behind_a_link_keeps_the_config_that_lies_beside_the_link(tmp_path, medium_voice):
    blob = tmp_path / "blobs/aaa"
    blob.parent.mkdir()
    blob.write_bytes(medium_voice.read_bytes())
    link = tmp_path / "snapshots/x.onnx"
    link.parent.mkdir()
    link.symlink_to("../blobs/aaa")
    asked = on(link)
    assert asked.voice.path == link and asked.name == "x"


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
