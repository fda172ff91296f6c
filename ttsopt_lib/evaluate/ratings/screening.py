"""Which listeners' ratings count: who did not listen is left out with all ratings, and named.

The rules are those of ITU-T P.808 (attention checks, no variance, too fast) and, for MUSHRA, of ITU-R BS.1534-3,
section 4.1.2 (the hidden reference). They are applied to all of a rater's answers together and are fixed before
anybody listens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttsopt_lib.evaluate.ratings.file import Rating
from ttsopt_lib.records.quality import ScreenedRater

CONSTANT_FROM = 10  # ratings; a rater who gave so many and always the same did not listen
FASTEST = 1.0  # seconds from the first play to the answer; shorter than any sentence
HIDDEN_REFERENCE = 90  # points that the hidden reference should get
HIDDEN_MISSED = 0.15  # fraction of its sentences on which it may get less


def screen(ratings: Sequence[Rating]) -> tuple[list[Rating], list[ScreenedRater]]:
    """The ratings that count, traps no longer among them; and the raters that do not, with the reason."""
    by_rater: dict[str, list[Rating]] = {}
    for rating in ratings:
        by_rater.setdefault(rating.rater, []).append(rating)
    kept: list[Rating] = []
    screened: list[ScreenedRater] = []
    for rater, given in sorted(by_rater.items()):
        rated = [rating for rating in given if rating.trap is None]
        reason = _reason(given, rated)
        if reason:
            screened.append(ScreenedRater(rater=rater, reason=reason, ratings=len(rated)))
        else:
            kept += rated
    return kept, screened


def _reason(given: Sequence[Rating], rated: Sequence[Rating]) -> str | None:
    traps = [rating for rating in given if rating.trap is not None]
    wrong = sum(rating.trap != rating.score for rating in traps)
    if wrong:
        return f"a wrong answer to {wrong} of {len(traps)} trap questions"
    seconds = [rating.seconds for rating in rated if rating.seconds is not None]
    if seconds and float(np.median(seconds)) < FASTEST:
        return f"most answers less than {FASTEST:g} s after the sentence began"
    for test in sorted({rating.test for rating in rated}):
        # traps among them: who answers those as told did listen, and may find all sentences equally good
        scores = [rating.score for rating in given if rating.test == test]
        # who hears no difference says so in every comparison: 0 throughout is an answer
        if len(scores) >= CONSTANT_FROM and len(set(scores)) == 1 and (test != "ccr" or scores[0] != 0):
            return f"the same answer to all {len(scores)} {test.upper()} questions"
    hidden = [r.score for r in rated if r.test == "mushra" and r.variant == r.reference]
    missed = sum(score < HIDDEN_REFERENCE for score in hidden)
    if hidden and missed > HIDDEN_MISSED * len(hidden):
        return f"the hidden reference below {HIDDEN_REFERENCE} in {missed} of {len(hidden)} sentences"
    return None
