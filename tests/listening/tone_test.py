"""A listening test of short tones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.evaluate.anchors import LOWPASS, NOISE
from ttsopt_lib.listening.clips import Sounds
from ttsopt_lib.listening.key import ListeningKey
from ttsopt_lib.listening.site import trap_answers, write_site
from ttsopt_lib.study import ORIGINAL, ListeningTest

RATE = 22050
VARIANTS = ("fp32", "int8")
ASKED = ListeningTest(tests=("acr",), sentences=3, raters=6, traps=1)


def tone(hertz: float, level: float, seconds: float = 0.15) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def tones(asked: ListeningTest) -> Sounds:
    """Every clip another tone at another level."""
    names = [ORIGINAL, *VARIANTS, *([LOWPASS] if "mushra" in asked.tests else [])]
    return Sounds(
        sample_rate=RATE,
        texts=[f"Sentence {number}." for number in range(asked.sentences)],
        spoken={
            name: [tone(300 + 40 * v + 7 * s, 0.05 + 0.1 * v) for s in range(asked.sentences)]
            for v, name in enumerate(names)
        },
        traps={
            test: [(score, tone(900, 0.3)) for score, _ in answers] for test, answers in trap_answers(asked).items()
        },
        practice={name: tone(500 + 50 * n, 0.1) for n, name in enumerate((ORIGINAL, LOWPASS, NOISE))},
    )


@dataclass
class Made:
    folder: Path
    key: ListeningKey

    @property
    def url(self) -> str:
        return (self.folder / "index.html").as_uri()


def make(folder: Path, **changes: Any) -> Made:
    """A test like `ASKED`, but for some keys."""
    asked = ASKED.model_copy(update=changes)
    return Made(folder, write_site(folder, tones(asked), asked))
