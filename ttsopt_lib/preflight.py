"""Look at everything that a study reads, before the first minute of work: a mistake should not come out at the end.

Each step checks its own input again; this only makes sure that an hour's run does not fail in its last step over a
file that was empty from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ttsopt_lib.evaluate.ratings_file import read_ratings
from ttsopt_lib.evaluate.speak import (
    confirmation_origin,
    confirmation_texts,
    evaluation_origin,
    evaluation_texts,
)
from ttsopt_lib.optimize.distill_study import missing_students
from ttsopt_lib.optimize.recipe import calibration_texts, source_voice, variant_key
from ttsopt_lib.study import Study, StudyError, resolve
from ttsopt_lib.voices.piper import PiperVoice, VoiceError
from ttsopt_lib.voices.text import TextError, utterance_ids


def check_inputs(study: Study) -> None:
    """Open the voice and read every text, student and ratings file that the study names.

    Raises:
        VoiceError, StudyError, RatingsError: one line that names the file and key and says what would be right.
    """
    texts, further = evaluation_texts(study), confirmation_texts(study)
    if study.voice.huggingface is None:  # such a voice has no phoneme map before it is exported
        voice, asked = source_voice(study), study.sentences
        _check_phonemes(voice, texts, evaluation_origin(study), asked.evaluation.file)
        if asked.confirmation:
            _check_phonemes(voice, further, confirmation_origin(study), asked.confirmation.file)
        calibration = calibration_texts(asked.calibration)
        origin = f"{asked.calibration.file}: sentences.calibration"
        _check_phonemes(voice, calibration, origin, asked.calibration.file)
        for length_class, sentences in asked.timing.items():
            _check_phonemes(voice, sentences, f"sentences.timing.{length_class}")
        _check_phonemes(voice, asked.listening, "sentences.listening")
    if not missing_students(study):  # those that are missing are trained first
        for name in study.variant_names:
            variant_key(study, name)  # reads the calibration sentences and the students
    if study.evaluate.ratings is not None:
        read_ratings(resolve(study.evaluate.ratings), study.variant_names)


def _check_phonemes(voice: PiperVoice, texts: Iterable[str], origin: str, file: Path | None = None) -> None:
    for number, text in enumerate(texts, 1):
        try:
            utterance_ids(voice.config, text)
        except TextError as error:
            where = f" (line {_line_of(file, text)})" if file else ""
            raise StudyError(f"{origin}: sentence {number}{where}: {error}") from None
        except VoiceError as error:
            raise VoiceError(f"{voice.config_path}: {error}") from None


def _line_of(file: Path, text: str) -> int:
    """Number of the first line with this text, as an editor counts: 1 is the first."""
    lines = resolve(file).read_text(encoding="utf-8-sig").split("\n")
    return [line.strip() for line in lines].index(text) + 1
