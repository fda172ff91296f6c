"""Look at everything that a study reads, before the first minute of work: a mistake should not come out at the end.

Each step checks its own input again; this only makes sure that an hour's run does not fail in its last step over a
file that was empty from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable

from ttsopt_lib.evaluate.ratings_file import read_ratings
from ttsopt_lib.evaluate.speak import (
    confirmation_origin,
    confirmation_texts,
    evaluation_origin,
    evaluation_texts,
)
from ttsopt_lib.optimize.distill_study import missing_students
from ttsopt_lib.optimize.recipe import source_voice, variant_key
from ttsopt_lib.study import Study, StudyError, resolve
from ttsopt_lib.voices.piper import VoiceConfig
from ttsopt_lib.voices.text import TextError, utterance_ids


def check_inputs(study: Study) -> None:
    """Open the voice and read every text, student and ratings file that the study names.

    Raises:
        VoiceError, StudyError, RatingsError: one line that names the file and key and says what would be right.
    """
    texts, further = evaluation_texts(study), confirmation_texts(study)
    if study.voice.huggingface is None:  # such a voice has no phoneme map before it is exported
        config = source_voice(study).config
        _check_phonemes(config, texts, evaluation_origin(study))
        _check_phonemes(config, further, confirmation_origin(study))
        for length_class, sentences in study.sentences.timing.items():
            _check_phonemes(config, sentences, f"sentences.timing.{length_class}")
        _check_phonemes(config, study.sentences.listening, "sentences.listening")
    if not missing_students(study):  # those that are missing are trained first
        for name in study.variant_names:
            variant_key(study, name)  # reads the calibration sentences and the students
    if study.evaluate.ratings is not None:
        read_ratings(resolve(study.evaluate.ratings), study.variant_names)


def _check_phonemes(config: VoiceConfig, texts: Iterable[str], origin: str) -> None:
    for number, text in enumerate(texts, 1):
        try:
            utterance_ids(config, text)
        except TextError as error:
            raise StudyError(f"{origin}: sentence {number}: {error}") from None
