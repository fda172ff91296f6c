"""What the tests of training share: the corpus that teachers speak, and a listener that needs no predictor."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import SENTENCES, NewTrainer, tiny_config

from ttsopt_lib.distill.teacher.speech import speak_corpus
from ttsopt_lib.distill.train_decoder import DecoderTrainer
from ttsopt_lib.distill.utterances import Utterances
from ttsopt_lib.distill.validation import Validation
from ttsopt_lib.voices.piper import load_piper, open_piper


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


@pytest.fixture(scope="session")
def shards(medium_voice: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return speak_corpus(medium_voice, corpus, tmp_path_factory.mktemp("teacher"), hours=1.0, workers=1)


@pytest.fixture
def new_trainer(medium_voice: Path, shards: list[Path], tmp_path: Path) -> NewTrainer:
    """Makes a trainer in a folder of this name, of tiny settings with these changes."""

    def make(name: str = "run", **changes: Any) -> DecoderTrainer:
        (tmp_path / name).mkdir(exist_ok=True)
        config = tiny_config(**changes)
        validation = Validation(Utterances(shards[:1]), 22050, config.validation_utterances)
        teacher, data = load_piper(open_piper(medium_voice)), Utterances(shards[1:])
        return DecoderTrainer(teacher, data, validation, tmp_path / name, config)

    return make
