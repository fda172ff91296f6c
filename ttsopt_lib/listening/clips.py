"""The audio of a listening test: what is spoken, made equally loud, and written under names that say nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ttsopt_lib.evaluate.anchors import LOWPASS, NOISE, degrade
from ttsopt_lib.evaluate.signal.waveform import as_float
from ttsopt_lib.evaluate.speak import SpeechError, evaluation_origin, evaluation_texts, speak, utterances
from ttsopt_lib.files import file_sha256
from ttsopt_lib.listening.key import Clip
from ttsopt_lib.listening.loudness import loudness
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.session import RuntimeFailure

LISTENING_TEST = 2  # stream of noise; evaluate.speak has 0 and 1
TARGET_LUFS = -23.0  # EBU R 128's level; lowered for all clips together where one would clip
HIGHEST_PEAK = 0.98

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Sounds:
    """Everything that is heard, before it is made equally loud; float32 [samples] in [-1, 1]."""

    sample_rate: int
    texts: list[str]
    spoken: dict[str, list[Audio]]  # variant (the original first) or anchor -> one waveform per sentence
    traps: dict[str, list[tuple[int, Audio]]]  # test -> answer to give, the original saying so
    practice: dict[str, Audio]  # the original and the anchors on a sentence that is not rated


def speak_all(study: Study, folder: StudyFolder, trap_answers: dict[str, list[tuple[int, str]]]) -> Sounds:
    """Let every variant speak: the same noise for all, durations of their own, as in the evaluation.

    A progress bar on standard error counts the sentences.

    Args:
        study: what was asked.
        folder: with the variants' models.
        trap_answers: test -> (score, label) of each trap question.
    """
    asked = study.listening_test
    texts = evaluation_texts(study)[: asked.sentences]
    names = study.heard_names
    voices = {name: open_model(folder.model(name)) for name in names}

    rate = voices[ORIGINAL].sample_rate
    total = len(names) * len(texts) + 1 + sum(map(len, trap_answers.values()))
    with tqdm(total=total, desc="listen", unit="sentence", dynamic_ncols=True) as bar:

        def say(name: str, sentences: list[str], origin: str) -> list[Audio]:
            bar.set_postfix_str(name)
            audio = []
            for one in utterances(study, voices[name], sentences, origin, LISTENING_TEST):
                try:
                    audio.append(as_float(speak(one)))
                except RuntimeFailure as error:
                    raise SpeechError(f"{one.model}: {origin}: sentence {len(audio) + 1}: {error}") from None
                bar.update()
            return audio

        spoken = {name: say(name, texts, evaluation_origin(study)) for name in names}
        (example,) = say(ORIGINAL, [study.sentences.listening[0]], "sentences.listening")
        traps = {
            test: [
                (
                    score,
                    say(ORIGINAL, [asked.trap_sentence.replace("{label}", label)], "listening_test.trap_sentence")[0],
                )
                for score, label in answers
            ]
            for test, answers in trap_answers.items()
        }
    if "mushra" in asked.tests:
        spoken[LOWPASS] = [_damaged(LOWPASS, clip, rate) for clip in spoken[ORIGINAL]]
    practice = {ORIGINAL: example, **{anchor: _damaged(anchor, example, rate) for anchor in (LOWPASS, NOISE)}}
    return Sounds(rate, texts, spoken, traps, practice)


def _damaged(anchor: str, clip: Audio, sample_rate: int) -> Audio:
    return np.asarray(degrade(anchor, clip, sample_rate, seed=0), dtype=np.float32)


class ClipWriter:
    """Writes clips under random names, every one with the gain that makes it as loud as the others."""

    def __init__(self, folder: Path, sample_rate: int, everything: Iterable[Audio]):
        self.folder = folder
        self.sample_rate = sample_rate
        self.clips: dict[str, Clip] = {}
        headroom = [HIGHEST_PEAK / peak for clip in everything if (peak := _peak(clip, sample_rate)) > HIGHEST_PEAK]
        self.target = TARGET_LUFS + 20 * float(np.log10(min([1.0, *headroom])))

    def write(
        self,
        use: Literal["rated", "reference", "trap", "practice", "sound"],
        audio: Audio,
        test: str = "",
        sentence: str = "",
        variant: str = ORIGINAL,
        trap: int | None = None,
        side: int | None = None,
    ) -> str:
        """Write one clip and give its name; `side` 0 or 1: on the left or right ear only."""
        name = secrets.token_hex(6)
        before = loudness(audio, self.sample_rate)
        gain = self.target - before if np.isfinite(before) else 0.0
        samples = audio * 10 ** (gain / 20)
        if side is not None:
            silence = np.zeros_like(samples)
            samples = np.stack([samples, silence][:: 1 if side == 0 else -1], axis=1)
        path = self.folder / f"{name}.wav"
        soundfile.write(path, samples, self.sample_rate, subtype="PCM_16")
        self.clips[name] = Clip(
            use=use,
            test=test,
            sentence=sentence,
            variant=variant,
            trap=trap,
            loudness_lufs=round(before, 2) if np.isfinite(before) else -120.0,
            gain_db=round(gain, 3),
            sha256=file_sha256(path),
        )
        return name


def _peak(clip: Audio, sample_rate: int) -> float:
    """Peak of a clip once it is as loud as the target."""
    level = loudness(clip, sample_rate)
    return float(np.abs(clip).max()) * 10 ** ((TARGET_LUFS - level) / 20) if np.isfinite(level) else 0.0
