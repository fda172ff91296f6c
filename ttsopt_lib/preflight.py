"""Look at everything that a study reads, before the first minute of work: a mistake should not come out at the end.

Each step checks its own input again; this only makes sure that an hour's run does not fail in its last step over a
file that was empty from the beginning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import psutil

from ttsopt_lib.distill.study import missing_students, training_plan
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.ratings.file import read_ratings
from ttsopt_lib.evaluate.speak import confirmation_origin, evaluation_origin, spoken_texts
from ttsopt_lib.optimize.build import check_recipes, refuse_other_models, stale_variants
from ttsopt_lib.optimize.calibration import calibration_texts
from ttsopt_lib.optimize.steps.step import work_of
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.language import refuse_other_language
from ttsopt_lib.voices.piper import VoiceError
from ttsopt_lib.voices.source import source_before_export, source_name
from ttsopt_lib.voices.text import TextError, missing_words

ATTENTION_BYTES = 64  # for each pair of phonemes: eight matrices of float32 for each of two heads (measured: nine)


def check_inputs(study: Study) -> list[str]:
    """Open the voice and read every text, student and ratings file that the study names.

    Returns what a person should know before any work is done: a language that does not fit, what is not spoken.

    Raises:
        VoiceError, StudyError, RatingsError: one line that names the file and key and says what would be right.
    """
    voice, asked = source_before_export(study), study.sentences
    spoken = spoken_texts(study)
    files = {evaluation_origin(study): asked.evaluation.file}
    if asked.confirmation:
        files[confirmation_origin(study)] = asked.confirmation.file
    calibration = f"{asked.calibration.file}: sentences.calibration"
    files[calibration] = asked.calibration.file
    for origin, texts in {**spoken, calibration: calibration_texts(asked.calibration)}.items():
        _check_phonemes(study, voice, texts, origin, files.get(origin))
    refuse_other_models(study)
    for step in (step for variant in study.variants for step in variant.recipe):
        if corpus := work_of(step).corpus(step):
            refuse_other_language(voice.vits("a student").config, study.language, corpus)
    if study.measure.pytorch:
        voice.vits("measure.pytorch")
    if missing_students(study):  # they are trained first
        refuse_other_language(voice.vits("training").config, study.language, training_plan(study).corpus)
        stale: Collection[str] = study.variant_names
    else:
        stale = stale_variants(study, StudyFolder(study))
    if stale:
        check_recipes(study, stale)
    if study.evaluate.ratings is not None:
        read_ratings(resolve(study.evaluate.ratings), study.variant_names)
    texts = [text for texts in spoken.values() for text in texts]
    return [*voice.language_doubt(study.language), *missing_words(voice.missing_symbols(texts), len(texts))]


def _check_phonemes(study: Study, voice: TtsModel, texts: Iterable[str], origin: str, file: Path | None) -> None:
    for number, text in enumerate(texts, 1):
        try:
            _check_length(len(voice.utterance_ids(text)))
        except TextError as error:
            where = f" (line {_line_of(file, text)})" if file else ""
            raise StudyError(f"{origin}: sentence {number}{where}: {error}") from None
        except VoiceError as error:
            raise VoiceError(f"{source_name(study)}: {error}") from None


def _check_length(phonemes: int) -> None:
    """Attention holds a figure for every two phonemes. Raises `TextError` for more than memory can."""
    needed, there = ATTENTION_BYTES * phonemes**2, psutil.virtual_memory().total
    if needed > there:
        raise TextError(
            f"{phonemes} phoneme ids in one text take {needed / 1e9:.0f} GB of memory to speak, and this machine has "
            f"{there / 1e9:.0f}: put each sentence on a line of its own"
        )


def _line_of(file: Path, text: str) -> int:
    """Number of the first line with this text, as an editor counts: 1 is the first."""
    lines = resolve(file).read_text(encoding="utf-8-sig").split("\n")
    return [line.strip() for line in lines].index(text) + 1
