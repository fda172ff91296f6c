"""Further sentences, on which nothing was chosen: their scores alone, and their part in the verdict.

A variant that is confirmed is chosen on all evaluation sentences, and the verdict on it rests on the further ones
alone. Of another one the even-numbered evaluation sentences choose, and the verdict rests on the odd-numbered ones.
"""

from __future__ import annotations

from ttsopt_lib.records.quality import QualityRecord, QualityRow
from ttsopt_lib.study import ORIGINAL


def on_further_sentences(record: QualityRecord) -> QualityRecord | None:
    """The record as if its further sentences were all that was evaluated; None where there are none."""
    if not record.confirmation:
        return None
    return record.model_copy(
        update={
            "sentences": record.confirmation_sentences,
            "words": record.confirmation_words,
            "rows": record.confirmation,
            "anchors": [],
            "peers": [],
            "other_noise": None,
            "ratings": None,
            "confirmation": [],
        }
    )


def original_beside(row: QualityRow, record: QualityRecord) -> QualityRow:
    """The original's row, on the same sentences where `row` was scored on the first of them only."""
    original = next(one for one in record.rows if one.variant == ORIGINAL)
    count = len(row.audio_seconds)
    if count == len(original.audio_seconds):
        return original
    return original.model_copy(
        update={
            "scores": {name: scores[:count] for name, scores in original.scores.items()},
            "audio_seconds": original.audio_seconds[:count],
            "level_above_8khz_db": original.level_above_8khz_db[:count],
            "hypotheses": original.hypotheses and original.hypotheses[:count],
            "word_errors": original.word_errors and original.word_errors[:count],
        }
    )


def references(row: QualityRow, record: QualityRecord) -> list[str]:
    """What should have been heard in each transcribed sentence: its text, or what is heard of the original."""
    heard = (original_beside(row, record).hypotheses or []) if record.asr_against == "original" else record.sentences
    return heard[: len(row.hypotheses or [])]


def choosing(record: QualityRecord, row: QualityRow, predictor: str) -> tuple[list[float], list[float]]:
    """Scores of a row and of the original, pair by pair, on the sentences that choose."""
    original = original_beside(row, record)
    step = 1 if _further(record, row.variant, predictor) else 2
    return row.scores[predictor][::step], original.scores[predictor][::step]


def held_out(record: QualityRecord, row: QualityRow, predictor: str) -> tuple[list[float], list[float]]:
    """Scores of a row and of the original, pair by pair, on the sentences that the verdict rests on."""
    if further := _further(record, row.variant, predictor):
        return further, _further(record, ORIGINAL, predictor)
    return row.scores[predictor][1::2], original_beside(row, record).scores[predictor][1::2]


def _further(record: QualityRecord, variant: str, predictor: str) -> list[float]:
    """Scores on the further sentences; none of a variant that is not confirmed."""
    return next((one.scores.get(predictor, []) for one in record.confirmation if one.variant == variant), [])
