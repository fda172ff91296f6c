"""A study folder as `ttsopt optimize` would leave it, the command line on a study, and a device behind ssh."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from loopback import Loopback, sshd_path
from quick_voice import SYMBOLS, write_quick_voice
from timed_study import SHORT_STUDY, add_variant

from ttsopt_lib import cli
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study


@pytest.fixture(scope="session")
def quick_voice(config_of: Callable[..., dict], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice that takes no time to open, for what is not about voices."""
    return write_quick_voice(tmp_path_factory.mktemp("quick") / "voice.onnx", config_of(SYMBOLS))


@pytest.fixture
def small_folder(tmp_path: Path, quick_voice: Path) -> Callable[..., StudyFolder]:
    """Make the folder of a study whose variants are all copies of a quick voice."""

    def make(study: Study) -> StudyFolder:
        folder = StudyFolder(study, tmp_path)
        for name in study.variant_names:
            add_variant(folder, name, quick_voice, Path(f"{quick_voice}.json"))
        return folder

    return make


@pytest.fixture
def folder(request: pytest.FixtureRequest, small_folder: Callable[..., StudyFolder]) -> StudyFolder:
    """The folder of the test file's own study."""
    return small_folder(request.module.STUDY)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str, str]]:
    """`ttsopt measure` of the short study in a project of its own: its exit code, its output, its errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    values = SHORT_STUDY.model_dump(mode="json", exclude_defaults=True)
    Path("params/timed.yaml").write_text(yaml.safe_dump({"study": values}))

    def measure(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["ttsopt", "measure", "params/timed.yaml", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return measure


@pytest.fixture
def loopback(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loopback]:
    """A real ssh server; its parameter are further lines of its configuration."""
    if sshd_path() is None or shutil.which("rsync") is None:
        pytest.skip("Debian packages openssh-server and rsync are needed: apt install openssh-server rsync")
    server = Loopback(tmp_path / "server", getattr(request, "param", ""))
    yield server
    server.close()
