"""Let a variant speak the study's sentences: its own durations, the voice's natural scales, shared noise.

Every variant is given the same random numbers for the same sentence, so that two of them differ by what was
done to them and not by chance. Durations are the variant's own: a damaged duration predictor has to be heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.errors import StudyError, TtsoptError
from ttsopt_lib.evaluate.signal.waveform import as_written
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import SentenceRange, Study
from ttsopt_lib.voices.adapters.model import Speaker, TtsModel
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.onnx_file import read_model
from ttsopt_lib.voices.text import TextError, read_sentences

EVALUATION, LISTENING, OTHER_NOISE, CONFIRMATION = 0, 1, 2, 3  # streams of noise
SHORTEST_SECONDS = 0.02  # of audio that can be a sound of speech


class SpeechError(TtsoptError, RuntimeError):
    """A variant that does not speak. The message names the model file."""


@dataclass(frozen=True)
class Utterance:
    """One sentence as a variant is to speak it."""

    voice: Path  # whose config says how the model is fed: the same file, or of a peer the original
    model: Path
    model_sha256: str  # so that a changed file is opened anew
    ids: tuple[int, ...]
    scales: tuple[float, ...]  # of a Piper voice: noise_scale, length_scale, noise_w
    speaker: int | None
    seed: int
    sample_rate: int  # Hz


def utterances(study: Study, voice: TtsModel, texts: Sequence[str], origin: str, stream: int) -> list[Utterance]:
    """The sentences as `voice` is to speak them; sentence i has the same noise whichever the variant.

    Args:
        study: says which speaker of the voice, and the seed.
        voice: the variant.
        texts: the sentences.
        origin: file and key of the texts, for messages.
        stream: `EVALUATION`, `LISTENING`, `OTHER_NOISE` or `CONFIRMATION`.

    Raises:
        StudyError: a sentence gives no phonemes, named by `origin` and its number.
        VoiceError: the voice has no such speaker.
    """
    found = []
    for index, text in enumerate(texts):
        try:
            ids = voice.utterance_ids(text)
        except TextError as error:
            raise StudyError(f"{origin}: sentence {index + 1}: {error}") from None
        utterance = Utterance(
            voice=voice.path,
            model=voice.path,
            model_sha256=voice.onnx_sha256,
            ids=ids if isinstance(ids, tuple) else tuple(ids),  # a model may give more than numbers: `model.Ids`
            scales=voice.scales,
            speaker=voice.speaker(study.voice.speaker),
            seed=int(np.random.SeedSequence([study.evaluate.seed, stream, index]).generate_state(1)[0]),
            sample_rate=voice.sample_rate,
        )
        found.append(utterance)
    return found


def evaluation_texts(study: Study) -> list[str]:
    """The evaluation sentences.

    Raises `StudyError`, naming file and key, where the file holds too few or one of them calibrates variants as well.
    """
    texts = _texts(study.sentences.evaluation, "sentences.evaluation")
    _refuse_common(evaluation_origin(study), texts, _calibration(study), "a calibration sentence")
    return texts


def confirmation_texts(study: Study) -> list[str]:
    """The further sentences that `evaluate.confirmed` speaks; none where it names nothing.

    Raises `StudyError` as above, and where one of them is an evaluation sentence as well.
    """
    asked = study.sentences.confirmation
    if asked is None or not study.evaluate.confirmed:
        return []
    texts, origin = _texts(asked, "sentences.confirmation"), confirmation_origin(study)
    _refuse_common(origin, texts, evaluation_texts(study), "an evaluation sentence")
    _refuse_common(origin, texts, _calibration(study), "a calibration sentence")
    return texts


def _calibration(study: Study) -> list[str]:
    asked = study.sentences.calibration
    return read_sentences(resolve(asked.file))[asked.start : asked.start + asked.count]


def _refuse_common(origin: str, texts: Sequence[str], others: Sequence[str], what: str) -> None:
    """Raises `StudyError` where a sentence is one of the others too: a figure on it would flatter what it made."""
    heard = set(others)
    for number, text in enumerate(texts, 1):
        if text in heard:
            raise StudyError(
                f"{origin}: sentence {number} is {what} too: {text!r}; what judges variants must have had no part in "
                "making or choosing them"
            )


def spoken_texts(study: Study) -> dict[str, Sequence[str]]:
    """Every text that is timed, scored or heard, by file and key. Raises `StudyError` as above."""
    return {
        evaluation_origin(study): evaluation_texts(study),
        confirmation_origin(study): confirmation_texts(study),
        **{f"sentences.timing.{length}": texts for length, texts in study.sentences.timing.items()},
        "sentences.listening": study.sentences.listening,
    }


def _texts(asked: SentenceRange, key: str) -> list[str]:
    try:
        texts = read_sentences(resolve(asked.file))[asked.start : asked.start + asked.count]
    except TextError as error:
        raise StudyError(f"{key}: {error}") from None
    if len(texts) < asked.count:
        raise StudyError(
            f"{asked.file}: {key}: asks for {asked.count} sentences from number {asked.start} on, "
            f"the file has {len(texts)}; lower start or count, or add sentences"
        )
    return texts


def evaluation_origin(study: Study) -> str:
    """What messages call the evaluation sentences."""
    return f"{study.sentences.evaluation.file}: sentences.evaluation"


def confirmation_origin(study: Study) -> str:
    """What messages call the further sentences of `evaluate.confirmed`."""
    asked = study.sentences.confirmation
    return f"{asked.file if asked else ''}: sentences.confirmation"


def speak(utterance: Utterance) -> NDArray[np.int16]:
    """The samples that a WAV file of the utterance holds. Raises `SpeechError`."""
    return speak_with(utterance)[0]


def speak_with(
    utterance: Utterance, durations: tuple[int, ...] | None = None
) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    """The samples that a WAV file of the utterance holds, and how many frames each phoneme lasted.

    `durations` are frames to speak with in place of the variant's own. Raises `SpeechError`.
    """
    session = _open_session(utterance.voice, utterance.model, utterance.model_sha256)
    waveform, lasted = session.speak(
        utterance.ids, seed=utterance.seed, durations=durations, scales=utterance.scales, sid=utterance.speaker
    )
    wrong = why_no_speech(waveform, utterance.sample_rate)
    if wrong:
        raise SpeechError(f"{utterance.model}: the voice gives {wrong}; make this variant anew or leave it out")
    return as_written(waveform), tuple(int(frames) for frames in lasted)


def why_no_speech(waveform: NDArray[np.floating], sample_rate: int) -> str | None:
    """What a waveform, float [samples], is where no text can sound like that; None for speech. The rate is in Hz."""
    if not len(waveform):
        return "no samples"
    if not np.isfinite(waveform).all():
        return "NaN or infinite samples"
    if len(waveform) < SHORTEST_SECONDS * sample_rate:
        return f"{len(waveform)} samples, too few for a sound"
    return None if waveform.any() else f"{len(waveform)} samples of silence"


@lru_cache(maxsize=1)
def _open_session(voice: Path, model: Path, sha256: str) -> Speaker:
    return open_model(voice).open(None if model == voice else read_model(model))
