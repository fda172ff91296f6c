"""When a voice needs no further sentences: one interim look, by the rule of Haybittle (1971) and Peto et al. (1976).

After `LOOK` sentences the interval of the change of predicted MOS is taken at `LEVEL` in place of 95 %. A voice for
which it decides everything that is asked is scored no further, and the report shows that wide interval. All others
are scored on every sentence, and their 95 % intervals need no correction: the look spends a thousandth.
"""

from __future__ import annotations

from collections.abc import Sequence

from ttsopt_lib.statistics.intervals import paired_change

LOOK = 20  # sentences
LEVEL = 0.999
SAME = 0.1  # of the target: a change that is surely smaller is none


def is_decided(scores: Sequence[float], baseline: Sequence[float], target: float) -> bool:
    """Whether further sentences could change nothing.

    Args:
        scores: predicted MOS of the first `LOOK` sentences.
        baseline: the original's, of the same sentences.
        target: change of predicted MOS that is allowed, 0 or below.

    Returns:
        True where the whole interval lies below the target, or within a tenth of the target around zero.
    """
    low, high = paired_change(scores, baseline, LEVEL).ci
    return high < target or max(abs(low), abs(high)) <= SAME * abs(target)
