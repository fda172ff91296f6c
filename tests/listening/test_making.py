"""`ttsopt listen` makes a test of a study once, and keeps the key of every test that it made."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from small_study import study_values
from typer.testing import CliRunner

from ttsopt_lib.cli.app import app
from ttsopt_lib.errors import StudyError
from ttsopt_lib.listening.site import make_listening_test
from ttsopt_lib.params import check
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study

ASKED = {"tests": ["acr"], "sentences": 2, "raters": 3, "traps": 1}


@pytest.fixture
def listen(tmp_path: Path, plain_voice: Path, monkeypatch: pytest.MonkeyPatch):
    """Asks for a listening test of two equal voices; gives what was printed, and the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()

    def ask(*arguments: str, **changes) -> tuple[str, StudyFolder]:
        values = study_values("heard", voice={"path": str(plain_voice)}, listening_test=ASKED | changes)
        (tmp_path / "params/heard.yaml").write_text(yaml.safe_dump({"study": values}))
        folder = StudyFolder(check(Study, values, "study"))
        for name in (ORIGINAL, "fp32"):
            folder.variant(name).mkdir(parents=True, exist_ok=True)
            for end in ("", ".json"):
                shutil.copyfile(f"{plain_voice}{end}", f"{folder.model(name)}{end}")
        done = CliRunner().invoke(app, [*(arguments or ("listen",)), "params/heard.yaml"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split()), folder

    return ask


@pytest.mark.slow
def test_a_test_is_made_again_only_where_something_changed_and_no_key_is_lost(listen):
    said, folder = listen()
    assert "5 ACR; listener numbers 1 to 3" in said and "made" in said
    first = folder.listening_key.read_bytes()
    data = json.loads(re.sub(r"^[^{]*|;\s*$", "", (folder.listening / "test.js").read_text(encoding="utf-8")))
    played = {path.stem for path in (folder.listening / "audio").iterdir()}
    assert played == set(json.loads(first)["clips"]) and len(data["orders"]) == 3
    assert "fp32" not in (folder.listening / "test.js").read_text(encoding="utf-8"), "it tells who speaks"

    said, _ = listen()
    assert "nothing has changed since" in said and folder.listening_key.read_bytes() == first

    said, _ = listen(raters=4)
    assert "listener numbers 1 to 4" in said and folder.listening_key.read_bytes() != first
    (old,) = folder.listening_key.parent.glob("listening_key.*.json")
    assert old.read_bytes() == first, "ratings of the first test can no longer be read"


def test_power_asks_for_more_raters_where_there_are_fewer_sentences(listen):
    said, _ = listen("power", "--effect", "0.2")
    needed = [int(count) for count in re.findall(r"\b(?:6|12|24|48|96) \D*(\d+) \D*\d+", said)]
    assert len(needed) >= 3 and needed == sorted(needed, reverse=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listening_test": ASKED | {"variants": []}}, "listening_test.variants: is empty; leave the key out"),
        ({"variants": []}, "variants: the study has none beside the original"),
    ],
)
def test_a_test_of_the_original_alone_is_refused_by_the_key_that_asks_for_it(tmp_path, changes, words):
    study = check(Study, study_values("heard", listening_test=ASKED) | changes, "study")
    with pytest.raises(StudyError) as refused:
        make_listening_test(study, StudyFolder(study, tmp_path))
    assert str(refused.value).startswith(words)
