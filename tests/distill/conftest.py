"""What the tests of training share: the corpus that teachers speak, and a listener that needs no predictor."""

from pathlib import Path

import numpy as np
import pytest
from tiny_training import SENTENCES


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return path


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random voice has no quality to predict: any finite figure serves where the figure is not what is tested."""
    monkeypatch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)

    class Level:
        def score(self, samples: np.ndarray) -> float:
            return float(np.abs(samples).mean())

    monkeypatch.setattr("ttsopt_lib.distill.validation.load_predictor", lambda name: Level())
