"""From listeners' ratings to a mean opinion score, and to mean comparison scores, each with its interval.

* ACR makes the mean opinion score (MOS) of every variant, and its change against the original.
* CCR makes the comparison mean opinion score (CMOS): the variant against the original, in whichever order they were
  heard; a pair heard the other way round counts with the opposite sign, and of a pair that a listener heard in both
  orders the mean counts. Comparisons without the original are counted in `Rated.left_out`.
* MUSHRA makes a mean of 0 to 100 points.

Raters are screened first (`evaluate/ratings/screening.py`); the intervals respect raters and sentences
(`statistics/crossed.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.evaluate.ratings.file import Rating
from ttsopt_lib.evaluate.ratings.screening import screen
from ttsopt_lib.records.quality import ComparisonRow, RatingsRow, ScreenedRater
from ttsopt_lib.statistics.crossed import Components, components, paired_table, table_change, table_mean
from ttsopt_lib.study import ORIGINAL

LEAST = 2  # raters and sentences without which no interval can be given
LEAST_TO_PLAN = 8  # raters and sentences without which their spread is hardly known

Array = NDArray[np.float64]


@dataclass
class Rated:
    """What listeners said."""

    rows: list[RatingsRow] | None = None  # None: no mean opinion score can be given, `reason` says why
    reason: str | None = None
    comparisons: list[ComparisonRow] = field(default_factory=list)  # CCR and MUSHRA
    screened: list[ScreenedRater] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # which ratings say nothing here, and why
    kept: list[Rating] = field(default_factory=list)  # of listeners who count, of the voices as they are
    unknown_files: int = 0  # how many of those do not say which voice files were heard
    spread: Components | None = None  # of the changes of the mean opinion score; None: too few to know it


def rate_variants(ratings: Sequence[Rating], variants: Sequence[str], voices: Mapping[str, str] | None = None) -> Rated:
    """Everything that can be said from a ratings file.

    Args:
        ratings: of all listeners.
        variants: in this order the rows are.
        voices: variant -> what it is today (`voice_key`). Ratings of what it was before say nothing of it.
    """
    kept, screened = screen(ratings)
    kept, earlier = _of_today(kept, voices or {})
    tables = rating_tables(kept, "acr", variants)
    raters, sentences = next(iter(tables.values())).shape if tables else (0, 0)
    unknown = sum(any(name in (voices or {}) and not voice for name, voice in _heard(one)) for one in kept)
    rated = Rated(None, None, _comparisons(kept, variants), screened, earlier + _left_out(kept), kept, unknown)
    if min(raters, sentences) >= LEAST:
        counts = Counter(rating.variant for rating in kept if rating.test == "acr")
        rated.rows = [_row(name, table, counts[name], tables.get(ORIGINAL)) for name, table in tables.items()]
        rated.spread = _spread(tables)
    else:
        rated.reason = (
            f"the ratings{' of the voices as they are' if earlier else ''} have {raters} raters and "
            f"{sentences} sentences in their ACR test; an interval needs {LEAST} of each"
        )
    return rated


def change_components(ratings: Sequence[Rating], variants: Sequence[str]) -> Components | None:
    """Spread of ACR changes over raters and sentences, pooled over the variants; None where too few can be paired."""
    return _spread(rating_tables(screen(ratings)[0], "acr", variants))


def _spread(tables: Mapping[str, Array]) -> Components | None:
    if ORIGINAL not in tables:
        return None
    changes = [paired_table(table, tables[ORIGINAL]) for name, table in tables.items() if name != ORIGINAL]
    found = [components(change) for change in changes if change is not None and min(_size(change)) >= LEAST_TO_PLAN]
    if not any(one.rest for one in found):  # none could be paired, or all of them say the same
        return None
    pooled = [
        float(np.sqrt(np.mean([getattr(one, part) ** 2 for one in found]))) for part in ("rater", "sentence", "rest")
    ]
    return Components(*pooled)


def rating_tables(ratings: Sequence[Rating], test: str, variants: Sequence[str]) -> dict[str, Array]:
    """Variant -> scores [raters, sentences] of one test, NaN where a rater did not hear a sentence.

    Where a rater gave several, as of a pair in both orders, their mean.
    """
    asked = [rating for rating in ratings if rating.test == test]
    raters = {name: number for number, name in enumerate(sorted({rating.rater for rating in asked}))}
    sentences = {name: number for number, name in enumerate(sorted({rating.sentence for rating in asked}))}
    tables: dict[str, Array] = {}
    for name in variants:
        own = [rating for rating in asked if rating.variant == name]
        if not own:
            continue
        sums, counts = np.zeros((2, len(raters), len(sentences)))
        for rating in own:
            place = raters[rating.rater], sentences[rating.sentence]
            sums[place] += rating.score
            counts[place] += 1
        tables[name] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return tables


def _row(name: str, table: Array, ratings: int, original: Array | None) -> RatingsRow:
    raters, sentences = _size(table)
    mean = table_mean(table) if min(raters, sentences) >= LEAST else None
    change = table_change(table, original) if original is not None and name != ORIGINAL else None
    ci = mean.interval() if mean else None
    return RatingsRow(
        variant=name,
        mean=float(np.nanmean(table)),
        ci=ci and (max(1, ci[0]), min(5, ci[1])),
        raters=raters,
        ratings=ratings,
        change=change.value if change else None,
        change_ci=change.interval() if change else None,
        change_error=change.error if change else None,
        change_dof=change.dof if change else None,
        sentences=sentences,
    )


def _comparisons(kept: Sequence[Rating], variants: Sequence[str]) -> list[ComparisonRow]:
    turned = []
    for rating in kept:
        if rating.test != "ccr" or rating.reference == ORIGINAL:
            turned.append(rating)
        elif rating.variant == ORIGINAL:
            turned.append(replace(rating, variant=rating.reference, reference=ORIGINAL, score=-rating.score))
    rows: list[ComparisonRow] = []
    tests: tuple[Literal["ccr", "mushra"], ...] = ("ccr", "mushra")
    for test in tests:
        counts = Counter(rating.variant for rating in turned if rating.test == test)
        for name, table in rating_tables(turned, test, [*variants, *ANCHORS]).items():
            raters, sentences = _size(table)
            mean = table_mean(table) if min(raters, sentences) >= LEAST else None
            rows.append(
                ComparisonRow(
                    test=test,
                    variant=name,
                    mean=float(np.nanmean(table)),
                    ci=mean.interval() if mean else None,
                    error=mean.error if mean else None,
                    dof=mean.dof if mean else None,
                    raters=raters,
                    sentences=sentences,
                    ratings=counts[name],
                )
            )
    return rows


def _of_today(ratings: Sequence[Rating], voices: Mapping[str, str]) -> tuple[list[Rating], list[str]]:
    """The ratings of the voices as they are, and words on those of what they were."""

    def heard_before(one: Rating) -> list[str]:
        return [name for name, voice in _heard(one) if voice and voices.get(name, voice) != voice]

    before = {one: names for one in ratings if (names := heard_before(one))}
    counts = Counter(name for names in before.values() for name in dict.fromkeys(names))
    return [one for one in ratings if one not in before], [
        f"{name} ({count} ratings): what was heard was made before today's file of {name}; 'ttsopt listen' makes a "
        "test of that"
        for name, count in counts.items()
    ]


def _heard(one: Rating) -> tuple[tuple[str, str], ...]:
    """The voices of a rating, and what they were; empty: not known."""
    return (one.variant, one.variant_voice), (one.reference, one.reference_voice)


def _left_out(kept: Sequence[Rating]) -> list[str]:
    """The comparisons of two voices neither of which is the original."""
    pairs = Counter(
        tuple(sorted((one.variant, one.reference)))
        for one in kept
        if one.test == "ccr" and ORIGINAL not in (one.variant, one.reference)
    )
    return [
        f"CCR of {first} and {second} ({count} ratings): only comparisons with the original count"
        for (first, second), count in pairs.items()
    ]


def _size(table: Array) -> tuple[int, int]:
    """Raters and sentences with at least one score."""
    there = np.isfinite(table)
    return int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
