"""How many raters and sentences it takes: the power of a listening test to find a change of mean opinion score.

A change is measured as the mean over raters and sentences of (score of the variant - score of the original). Its
variance is

    V = rater^2 / R + sentence^2 / S + rest^2 / (R S)

with the standard deviations of `Components` of such *differences*: more raters
alone do not help where sentences differ, and the other way round.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from scipy import stats

from ttsopt_lib.statistics.crossed import Components

# Where no ratings are there to learn from: differences of two ratings of a 5-point scale whose own rest is 0.65.
ASSUMED = Components(rater=0.15, sentence=0.15, rest=0.9)
MOST_RATERS = 2000


def power(effect: float, raters: int, sentences: int, spread: Components) -> float:
    """Probability that a two-sided test at 5 % finds a true change of `effect` points. Needs two of each."""
    rest = spread.rest**2 / (raters * sentences)
    by_rater, by_sentence = spread.rater**2 / raters + rest, spread.sentence**2 / sentences + rest
    variance = by_rater + by_sentence - rest
    if variance == 0:
        return 1.0 if effect else 0.05
    parts = by_rater**2 / (raters - 1) + by_sentence**2 / (sentences - 1) + rest**2 / (raters - 1) / (sentences - 1)
    dof = variance**2 / parts
    critical = stats.t.ppf(0.975, dof)
    shift = abs(effect) / np.sqrt(variance)
    # Student's t moved by the shift: as good here as the noncentral t, which SciPy cannot compute for large shifts
    return float(stats.t.sf(critical - shift, dof) + stats.t.cdf(-critical - shift, dof))


def raters_needed(effect: float, sentences: int, spread: Components) -> int | None:
    """The fewest raters, each hearing every sentence, who find it in 8 of 10 tests; None where no number is enough."""

    def is_enough(raters: int) -> bool:
        return power(effect, raters, sentences, spread) >= 0.8

    fewest = bisect_left(range(MOST_RATERS + 1), True, lo=2, key=is_enough)
    return fewest if fewest <= MOST_RATERS else None
