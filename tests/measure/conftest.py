"""A study folder as `ttsopt optimize` would leave it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from quick_voice import SYMBOLS, write_quick_voice
from timed_study import add_variant

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
