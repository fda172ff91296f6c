"""Further sentences, on which nothing was chosen: their scores alone, and their part in the verdict.

The rule chooses on the even-numbered evaluation sentences. The verdict on the chosen variant rests on all the others
that it spoke: the odd-numbered ones and, where it is confirmed, every further sentence.
"""

from __future__ import annotations

from ttsopt_lib.records import QualityRecord, QualityRow
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


def held_out(record: QualityRecord, row: QualityRow, predictor: str) -> tuple[list[float], list[float]]:
    """Scores of a row and of the original, pair by pair, on every sentence that had no part in the choice."""
    original = next(one for one in record.rows if one.variant == ORIGINAL)
    scores, baseline = row.scores[predictor][1::2], original.scores[predictor][1::2]
    further = {one.variant: one.scores for one in record.confirmation}
    if predictor in further.get(row.variant, {}):
        scores = scores + further[row.variant][predictor]
        baseline = baseline + further[ORIGINAL][predictor]
    return scores, baseline
