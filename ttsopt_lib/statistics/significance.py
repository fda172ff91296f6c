"""Which changes stand out from chance, and which are shown to be small.

Three questions about a variant, all on differences paired by sentence:

* *Is there a change?* A p-value that agrees with the interval of `intervals.mean_interval` (the same t
  corrected for skewness: below 0.05 just where the 95 % interval leaves out zero), corrected for the number of
  variants by Holm's method (`holm`). For word errors, which are few and lumpy, a
  permutation test.
* *Is it small?* No measurable change is no proof that there is none. Two one-sided tests (TOST; Schuirmann, 1987) ask
  whether the change is shown to be nearer to zero than a margin.
* *How large is it?* For figures of any distribution (cosines, cents) the bootstrap's interval (BCa; Efron, 1987).
  Where all sentences say the same there is none, because they do not tell how far others may differ; nor of fewer than
  `FEWEST` sentences, of which it covers too little.

Random numbers are drawn from a fixed seed: the same scores give the same figures.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 1999
ALPHA = 0.05
FEWEST = 10  # sentences of a bootstrap; the interval of 3 covers 75 %


class Bootstrapped(NamedTuple):
    """A figure and the bootstrap's 95 % interval, where there is one."""

    value: float
    ci: tuple[float, float] | None


class ErrorRateChange(NamedTuple):
    """Change of an error rate against the baseline on the same sentences, as a fraction of what was spoken."""

    value: float
    ci: tuple[float, float] | None
    p: float  # two-sided, of no change


def change_p(differences: ArrayLike) -> float | None:
    """Two-sided p-value of "the mean difference is zero"; None for fewer than two."""
    t, dof = _statistic(differences, 0.0)
    return None if dof < 1 else float(2 * stats.t.sf(abs(t), dof))


def equivalence_p(differences: ArrayLike, margin: float) -> float | None:
    """p-value of TOST: below 0.05, the mean difference is shown to lie within +-`margin`. None for fewer than two."""
    above, dof = _statistic(differences, -margin)
    below, _ = _statistic(differences, margin)
    return None if dof < 1 else float(max(stats.t.sf(above, dof), stats.t.cdf(below, dof)))


def holm(p_values: list[float]) -> list[float]:
    """p-values corrected for there being several (Holm, 1979), in the same order."""
    order = np.argsort(p_values)
    raised = np.arange(len(order), 0, -1) * np.asarray(p_values)[order]
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return corrected.tolist()


def _statistic(differences: ArrayLike, null: float) -> tuple[float, int]:
    """Student's t of the mean against `null`, corrected for skewness as the interval is (Hall, 1992), and its dof."""
    values = np.asarray(differences, dtype=np.float64)
    count = values.size
    if count < 2:
        return 0.0, 0
    spread = float(values.std(ddof=1))
    away = float(values.mean()) - null
    if spread == 0:
        return (float(np.copysign(np.inf, away)) if away else 0.0), count - 1
    skewness, ratio = float(stats.skew(values)), away / spread
    if abs(skewness) > 1e-6:
        ratio = ((1 + skewness * ratio / 3) ** 3 - 1) / skewness + skewness / (6 * count)
    return ratio * float(np.sqrt(count)), count - 1


def bootstrap_mean(values: Sequence[float]) -> Bootstrapped | None:
    """Mean of figures of any distribution with the bootstrap's 95 % interval; None for fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2:
        return None
    return Bootstrapped(float(array.mean()), _bootstrap((array,), lambda x, axis: np.mean(x, axis=axis)))


def error_rate(errors: Sequence[int], words: Sequence[int]) -> Bootstrapped | None:
    """Errors per word spoken over all sentences, with the bootstrap's interval over sentences; None for too few.

    `words` are the characters spoken where characters are counted.
    """
    return _rate(np.asarray(errors, dtype=np.float64), np.asarray(words, dtype=np.float64))


def error_rate_change(errors: Sequence[int], baseline: Sequence[int], words: Sequence[int]) -> ErrorRateChange | None:
    """How a word or character error rate changes against the baseline's on the same sentences; None for too few.

    The p-value is that of swapping the two voices at random, sentence by sentence.
    """
    more = np.asarray(errors, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    found = _rate(more, np.asarray(words, dtype=np.float64))
    if found is None:
        return None
    if not more.any():
        return ErrorRateChange(0.0, found.ci, 1.0)
    test = stats.permutation_test(
        (more,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    return ErrorRateChange(found.value, found.ci, float(test.pvalue))


def _rate(errors: NDArray[np.float64], words: NDArray[np.float64]) -> Bootstrapped | None:
    if errors.size < 2 or errors.shape != words.shape or not words.sum():
        return None

    def rate(e: NDArray[np.float64], w: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return e.sum(axis=axis) / np.maximum(1, w.sum(axis=axis))  # some draws may have no sentence with words

    return Bootstrapped(float(rate(errors, words, -1)), _bootstrap((errors, words), rate))


def _bootstrap(samples: tuple[NDArray[np.float64], ...], statistic: object) -> tuple[float, float] | None:
    """The BCa interval over sentences; None for fewer than `FEWEST`, and where all of them say the same."""
    if samples[0].size < FEWEST or not samples[0].any() or all(np.ptp(one) == 0 for one in samples):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where nearly all are the same BCa has no interval: then the percentiles'
        for method in ("BCa", "percentile"):
            found = stats.bootstrap(
                samples, statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
            if np.isfinite([found.low, found.high]).all():
                break
    return float(found.low), float(found.high)
