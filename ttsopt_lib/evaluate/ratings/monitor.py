"""While ratings come in: a verdict per variant that may be looked at as often as one likes.

A usual 95 % interval holds for one look at the end. The package `anytimemonitor` (MIT) keeps a confidence sequence
(Howard et al., 2021) on the differences per sentence, with a floor for the raters, which holds at every look. It is
wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ttsopt_lib.evaluate.ratings.file import Rating
from ttsopt_lib.study import ORIGINAL


@dataclass(frozen=True)
class Standing:
    """What can be said so far about a variant against the original."""

    variant: str
    verdict: str  # different, equivalent, more raters, more sentences, more raters and sentences, too early to say
    change: float | None
    ci: tuple[float, float] | None  # anytime-valid, 95 %
    more: int | None  # how many more raters or sentences


def standings(ratings: Sequence[Rating], variants: Sequence[str], margin: float) -> list[Standing]:
    """One verdict per variant from screened ACR ratings; `margin` is the change that does not matter (points)."""
    import pandas as pd
    from anytimemonitor import AnytimeMonitor

    asked = [rating for rating in ratings if rating.test == "acr"]
    if not any(rating.variant == ORIGINAL for rating in asked):
        return []
    monitor = AnytimeMonitor(mde_threshold=margin)
    given = [(rating.rater, rating.sentence, rating.variant, float(rating.score)) for rating in asked]
    monitor.add_ratings(pd.DataFrame(given, columns=["listener_id", "item", "system", "rating"]))
    rated = {rating.variant for rating in asked}
    return [_standing(monitor.decision(name, ORIGINAL), name) for name in variants if name in rated - {ORIGINAL}]


def _standing(decision, name: str) -> Standing:
    """The package's words in ours; of two ways on, the one that takes fewer."""
    ends = (decision.ci_lo, decision.ci_hi)
    if decision.verdict == "WAIT" or (None not in ends and ends[0] == ends[1]):  # ratings that all say the same
        return Standing(name, "too early to say", None, None, None)
    ci = None if None in ends else (float(ends[0]), float(ends[1]))
    change = float(decision.diff_mean)
    words = {"STOP": "different", "STOP_SEP": "different", "STOP_EQUIV": "equivalent"}
    if decision.verdict in words:
        return Standing(name, words[decision.verdict], change, ci, None)
    ways = {"more raters": decision.n_more_listeners, "more sentences": decision.n_more_items}
    open_ways = {way: int(count) for way, count in ways.items() if count is not None and count > 0}
    if not open_ways:
        return Standing(name, "more raters and sentences", change, ci, None)
    way = min(open_ways, key=lambda one: open_ways[one])
    return Standing(name, way, change, ci, open_ways[way])
