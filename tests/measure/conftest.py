"""A study folder as `ttsopt optimize` would leave it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from timed_study import add_variant

from ttsopt_lib.records import StudyFolder
from ttsopt_lib.study import Study


@pytest.fixture
def small_folder(tmp_path: Path, medium_voice: Path) -> Callable[..., StudyFolder]:
    """Make the folder of a study whose variants are all copies of a small random voice."""

    def make(study: Study) -> StudyFolder:
        folder = StudyFolder(study, tmp_path)
        for name in study.variant_names:
            add_variant(folder, name, medium_voice, Path(f"{medium_voice}.json"))
        return folder

    return make
