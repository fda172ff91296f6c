"""A study on a voice of a user's own (`--voice`): its name, its folder, its students, and the commands that take it."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ttsopt_lib import cli
from ttsopt_lib.cli.app import app
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.own_voice import claim, plain_name, study_on
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
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


def test_every_command_of_a_study_takes_a_voice_as_well():
    taken = [inspect.signature(one.callback).parameters for one in app.registered_commands if one.callback]
    of_studies = [found for found in taken if "study" in found]
    assert len(of_studies) > 10 and all("voice" in found for found in of_studies)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["check"], "run 'ttsopt run params/joe.yaml --voice a/voice.onnx' first"),
        (["clean", "--yes"], "reports/voice: nothing there"),
        (["power"], "assumed: too few ratings are there yet"),
        (["listen"], "reports/voice/variants/original"),
        (["web"], "reports/voice/variants/original"),
        (["report"], "reports/voice/variants/original"),
    ],
)
def test_a_command_with_a_voice_works_in_that_voices_folder(voices, command, said):
    done = CliRunner().invoke(app, [*command, "--voice", "a/voice.onnx"], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, (SystemExit, TtsoptError)), done.exception
    assert said in f"{done.output}{done.exception or ''}"


@pytest.fixture
def hf(tmp_path, monkeypatch):
    """A project with what a Hugging Face folder is known by."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("config.json", "{}"), ("model.safetensors", "weights")):
        (tmp_path / "MMS-0.1").mkdir(exist_ok=True)
        (tmp_path / "MMS-0.1" / name).write_text(text)
    return Path("MMS-0.1")


def test_a_hugging_face_folder_is_a_voice_too(hf):
    assert on(hf).voice.huggingface == hf.resolve()
    assert named(hf) == named(Path("./MMS-0.1/")) == "mms-0.1"
    other = Path("b") / hf
    shutil.copytree(hf, other)
    (other / "model.safetensors").write_text("other weights")
    assert named(other) != named(hf)


def test_students_of_a_hugging_face_voice_stay_its_own_without_its_reports(hf):
    name = named(hf)
    student = Path("models") / name / "student/record.json"
    student.parent.mkdir(parents=True)
    for source, its_own in (("of another", False), (file_sha256(hf / "model.safetensors"), True)):
        student.write_text(json.dumps({"voice_sha256": "of the export", "source_sha256": source}))
        assert on(hf).name == name and ("distilled" in on(hf).variant_names) is its_own
    shutil.rmtree("reports")
    assert on(hf).name == name and "distilled" in on(hf).variant_names


def test_students_of_before_are_known_by_the_export_that_the_reports_hold(hf):
    reports, student = Path("reports") / named(hf), Path("models/mms-0.1/student/record.json")
    original = reports / "variants/original/variant.json"
    for record, said in (
        (student, {"voice_sha256": "of the export"}),
        (original, {"source_sha256": "of the export"}),
    ):
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps(said))
    assert "distilled" in on(hf).variant_names
    original.write_text(json.dumps({"source_sha256": "of another"}))
    assert "distilled" not in on(hf).variant_names
    original.write_text(json.dumps({"source_sha256": "of the export"}))
    student.write_text(json.dumps({"voice_sha256": "of the export", "source_sha256": "of another"}))
    assert "distilled" not in on(hf).variant_names


def test_a_message_that_names_a_command_says_that_it_takes_the_voice(voices, monkeypatch, capsys):
    for arguments, hint in ((["--voice", "a/voice.onnx"], True), ([], False)):
        monkeypatch.setattr(sys, "argv", ["ttsopt", "report", *arguments])
        with pytest.raises(SystemExit, match="2"):
            cli.main()
        said = capsys.readouterr().err
        assert "run 'ttsopt optimize' first" in said and ("; give it the same --voice" in said) is hint


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("run 'ttsopt evaluate' again", True),
        ("not run yet (ttsopt run --peers)", True),
        ("another ttsopt works on this study; wait for it", False),
        ("with the package; install ttsopt again", False),
        ("'ttsopt doctor' says what is missing", False),
        ("my/ttsopt report/joe.yaml: no such file", False),
        ("ttsopt run.yaml: no such file", False),
        ("ttsopt distill params/joe.yaml --voice voice.onnx trains students", False),
    ],
)
def test_only_a_message_that_names_a_command_with_that_option_says_so(monkeypatch, capsys, message, hint):
    def refused(path: Path, voice: Path) -> Study:
        raise TtsoptError(message)

    monkeypatch.setattr("ttsopt_lib.cli.report.asked_study", refused)
    for spelling in (["--voice", "voice.onnx"], ["--voice=voice.onnx"]):
        monkeypatch.setattr(sys, "argv", ["ttsopt", "report", *spelling])
        with pytest.raises(SystemExit, match="2"):
            cli.main()
        said = " ".join(capsys.readouterr().err.split())
        assert message in said and ("; give it the same --voice" in said) is hint


def test_what_is_no_voice_is_said_in_one_line(hf):
    (hf / "config.json").unlink()
    for path, said in ((hf, "of a Piper voice give the .onnx file"), (Path("none"), "no such file")):
        with pytest.raises(TtsoptError, match=said) as error:
            on(path)
        assert "\n" not in str(error.value)


def test_a_study_is_not_made_wider_on_a_voice_without_students(voices):
    path = resolve(Path("params/joe.yaml"))
    study = read_study(path)
    for asked in ((), ("distilled",), ("distilled", "int8-weights"), None):
        narrow = study.model_copy(
            update={
                "measure": study.measure.model_copy(update={"more_threads": asked}),
                "listening_test": study.listening_test.model_copy(update={"variants": ("distilled",)}),
            }
        )
        found = study_on(voices[0], narrow, path).study
        left = None if asked is None else tuple(name for name in asked if name != "distilled")
        assert found.measure.more_threads == left and found.heard_names == ("original",)


def test_a_voice_of_a_users_own_is_looked_at_without_pytorch():
    code = "import sys, ttsopt_lib.own_voice; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
