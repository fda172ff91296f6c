"""Whatever people bring: no traceback, the right exit code, file and key named, and an earlier report untouched."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import COMMANDS, REFUSED, RUN, TAKEN
from piper import PiperVoice as Speaker
from project import EARLIER, Project, make_project

from ttsopt_lib import cli
from ttsopt_lib.optimize.build import build_study, variant_key
from ttsopt_lib.params import read_study
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL


@pytest.fixture
def project(tmp_path: Path, plain_voice: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A sound project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, plain_voice)


@pytest.fixture
def ttsopt(project, monkeypatch, capsys):
    """Runs a command in the project as the terminal does; its exit code, and what it said of errors."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ttsopt", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def is_untouched(project: Project) -> bool:
    """Whether the earlier report is there as it was, and nothing half-written beside anything."""
    earlier = [(project.reports / name).read_text(encoding="utf-8") for name in EARLIER]
    return earlier == ["earlier"] * len(EARLIER) and not list(project.path.rglob("*.part*"))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(project, ttsopt, case):
    change, words = REFUSED[case]
    change(project)
    code, said = ttsopt(*COMMANDS.get(case, RUN))
    (line,) = [line for line in said.splitlines() if line.startswith("ttsopt:")]
    assert code == 2 and "Traceback" not in said
    assert all(word in line for word in words), line
    assert is_untouched(project)


@pytest.mark.slow
@pytest.mark.parametrize("case", TAKEN)
def test_what_piper_speaks_with_is_taken(project, case):
    TAKEN[case](project)
    study = read_study(Path("study.yaml"))
    folder = StudyFolder(study)
    check_inputs(study)
    build_study(study, folder, only=[ORIGINAL])
    speaker = Speaker.load(folder.model(ORIGINAL))
    ids = speaker.phonemes_to_ids(["a", "b"])
    assert np.asarray(speaker.phoneme_ids_to_audio(ids)).size > 0
    assert sorted(path.name for path in folder.variant(ORIGINAL).iterdir()) == [
        "model.onnx",
        "model.onnx.json",
        "variant.json",
    ]
    assert is_untouched(project)


@pytest.mark.slow
def test_weights_beside_a_voice_count_in_hash_and_size(project):
    def key() -> str:
        return variant_key(read_study(Path("study.yaml")), ORIGINAL)

    weights = project.put_weights_beside()
    study, before = read_study(Path("study.yaml")), key()
    (record,) = build_study(study, StudyFolder(study), only=[ORIGINAL])
    both = project.voice.read_bytes() + weights.read_bytes()
    assert record.source_sha256 == hashlib.sha256(both).hexdigest()
    assert record.size_bytes > weights.stat().st_size
    changed = bytearray(weights.read_bytes())
    changed[100] ^= 1
    weights.write_bytes(changed)
    assert key() != before
