"""Mean opinion scores from listeners' ratings, with intervals that respect raters and sentences.

The interval resamples raters and sentences, both with replacement and independently (two-way or "pigeonhole"
bootstrap; Owen, Annals of Applied Statistics 2007): it says how far the mean would move with other listeners
*and* other sentences. It errs on the wide side. A bootstrap over single ratings would take a thousand ratings
by ten people for a thousand opinions.

A rater who gave another answer to a trap question than the one it asked for is screened out with all ratings,
and said so. Only ACR tests make a mean opinion score: CCR and MUSHRA rows are checked and left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.ratings_file import Rating
from ttsopt_lib.records import RatingsRow
from ttsopt_lib.study import ORIGINAL

DRAWS = 4000
LEAST = 2  # raters and sentences without which no interval can be given

Array = NDArray[np.float64]


def rate_variants(
    ratings: Sequence[Rating], variants: Sequence[str], seed: int = 0
) -> tuple[list[RatingsRow] | None, str | None]:
    """One row per variant that listeners rated, in the order of ``variants``.

    Args:
        ratings: rows of a ratings file.
        variants: names in the order of the tables.
        seed: of the bootstrap.

    Returns:
        the rows, or None where no mean opinion score can be given; and the reason for that, or what is to be
        said about the rows (raters screened out), or None.
    """
    failed = sorted({rating.rater for rating in ratings if rating.trap is not None and rating.trap != rating.score})
    asked = [rating for rating in ratings if rating.test == "acr" and rating.trap is None]
    kept = [rating for rating in asked if rating.rater not in failed]
    note = (
        f"screened out for a wrong answer to a trap question: {', '.join(failed)} ({len(asked) - len(kept)} ratings)"
        if failed
        else None
    )
    raters = sorted({rating.rater for rating in kept})
    sentences = sorted({rating.sentence for rating in kept})
    if len(raters) < LEAST or len(sentences) < LEAST:
        reason = (
            f"the ratings file has {len(raters)} raters and {len(sentences)} sentences in its ACR test; "
            f"an interval needs {LEAST} of each"
        )
        return None, f"{reason}; {note}" if note else reason

    generator = np.random.default_rng(seed)
    rater_weights = _draws(generator, len(raters))
    sentence_weights = _draws(generator, len(sentences))
    tables = {}
    for name in variants:
        table = _table([rating for rating in kept if rating.variant == name], raters, sentences)
        if table is not None:
            tables[name] = table

    rows = []
    for name, table in tables.items():
        means = _means(table, rater_weights, sentence_weights)
        change = None
        if name != ORIGINAL and ORIGINAL in tables:
            change = _changes(table, tables[ORIGINAL], rater_weights, sentence_weights)
        rows.append(
            RatingsRow(
                variant=name,
                mean=float(means[0]),
                ci=_interval(means),
                raters=int(np.isfinite(table).any(axis=1).sum()),
                ratings=int(np.isfinite(table).sum()),
                change=None if change is None else float(change[0]),
                change_ci=None if change is None else _interval(change),
            )
        )
    return rows, note


def _draws(generator: np.random.Generator, count: int) -> Array:
    """How often each of ``count`` things is drawn, [1 + DRAWS, count]; the first row is the sample itself."""
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return np.vstack([np.ones(count), drawn]).astype(np.float64)


def _table(ratings: Sequence[Rating], raters: list[str], sentences: list[str]) -> Array | None:
    """Scores [raters, sentences] of one variant, NaN where a rater did not hear a sentence; None: not rated."""
    if not ratings:
        return None
    table = np.full((len(raters), len(sentences)), np.nan)
    for rating in ratings:
        table[raters.index(rating.rater), sentences.index(rating.sentence)] = rating.score
    return table


def _means(table: Array, rater_weights: Array, sentence_weights: Array) -> Array:
    """Mean over all ratings, for every draw [draws]."""
    sums, counts = _sentence_sums(table, rater_weights)
    with np.errstate(invalid="ignore"):
        return (sums * sentence_weights).sum(axis=1) / (counts * sentence_weights).sum(axis=1)


def _changes(table: Array, baseline: Array, rater_weights: Array, sentence_weights: Array) -> Array | None:
    """Mean change against the baseline, for every draw [draws]; None where nothing can be paired.

    Paired by rater and sentence where raters heard a sentence from both; where no rater ever did (every
    listener heard each sentence from one variant only), paired by sentence.
    """
    both = table - baseline
    if np.isfinite(both).any():
        return _means(both, rater_weights, sentence_weights)
    (sums, counts), (base_sums, base_counts) = (_sentence_sums(t, rater_weights) for t in (table, baseline))
    with np.errstate(invalid="ignore", divide="ignore"):
        change = sums / counts - base_sums / base_counts
    there = np.isfinite(change)
    if not there[0].any():
        return None
    weights = np.where(there, sentence_weights, 0.0)
    with np.errstate(invalid="ignore"):
        return (np.where(there, change, 0.0) * weights).sum(axis=1) / weights.sum(axis=1)


def _sentence_sums(table: Array, rater_weights: Array) -> tuple[Array, Array]:
    """Sum and number of ratings per draw and sentence, each [draws, sentences]."""
    there = np.isfinite(table)
    return rater_weights @ np.where(there, table, 0.0), rater_weights @ there.astype(np.float64)


def _interval(draws: Array) -> tuple[float, float]:
    """95 % percentile interval; draws that happened to hold no rating at all say nothing."""
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
    return float(low), float(high)
