"""From raw samples to figures with 95 % intervals. Pure functions on arrays; docs/measuring.md says why these.

Three kinds of figure, three intervals, each chosen by simulation (tests/statistics/test_interval_coverage.py):

- a *reduction*: signed ranks of the blocks' log ratios, mirrored pairs of blocks kept together;
- a *median latency*: order statistics;
- a *mean* over sentences (quality): Student's t corrected for skewness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ttsopt_lib.records.device import BatchRow, EnergyRow, TimedSentence, TimingRow

Array = NDArray[np.float64]

# What the rank interval aims at so that it covers 95 %: sampling stops when the interval looks narrow, and an
# interval that looks narrow by luck covers less. In the simulation 0.95 gave 90 to 96 %, this gives 93 to 97 %.
RANK_CONFIDENCE = 0.96
BISECTIONS = 30  # each halves the error of an interval's end: 2^-30 of the samples' range


class WithInterval(NamedTuple):
    """A figure and its 95 % confidence interval."""

    value: float
    ci: tuple[float, float]


class LatencySummary(NamedTuple):
    """Latency per utterance in ms: over blocks, of the mean over a block's sentences."""

    median: float
    p95: float
    ci: tuple[float, float]  # of the median


# --- figures of one row ---------------------------------------------------------------------------------------


def latency_summary(row: TimingRow, sentences: list[int] | None = None) -> LatencySummary:
    """Latency of a row in ms, over all its sentences or those with the given numbers."""
    latencies = 1000 * _chosen(row.seconds, sentences).mean(axis=1)
    median = median_interval(latencies)
    return LatencySummary(median.value, float(np.quantile(latencies, 0.95)), median.ci)


def rtf(row: TimingRow) -> WithInterval:
    """Real-time factor: wall seconds / seconds of audio made, both summed over a block; median over blocks."""
    return median_interval(_seconds_per_audio_second(row))


def reduction(row: TimingRow, baseline: TimingRow, sentences: list[int] | None = None) -> WithInterval:
    """How much faster a row is than its baseline: 1 - ratio of wall seconds per second of audio.

    0.6 means that 60 % of the time is saved; negative means slower. Rows are paired block by block, which are
    neighbours in time. Raises ValueError for rows that do not belong together (another runtime or number of
    threads, other blocks) or with fewer than two blocks.
    """
    if (row.runtime, row.threads) != (baseline.runtime, baseline.threads):
        raise ValueError(
            f"{row.variant} was timed in {row.runtime} with {row.threads} threads, its baseline in "
            f"{baseline.runtime} with {baseline.threads}: a reduction is within one runtime and thread count"
        )
    if len(row.seconds) != len(baseline.seconds):
        raise ValueError(f"{row.variant}: {len(row.seconds)} blocks, but its baseline has {len(baseline.seconds)}")
    ratio = _seconds_per_audio_second(row, sentences) / _seconds_per_audio_second(baseline, sentences)
    center, low, high = (float(end[0]) for end in log_ratio_interval(np.log(ratio)[None]))
    return WithInterval(1 - np.exp(center), (1 - float(np.exp(high)), 1 - float(np.exp(low))))


def joules_per_audio_second(row: EnergyRow) -> WithInterval:
    """Energy of a row in joules per second of audio, over its rounds."""
    center, low, high = log_ratio_interval(_log_energy(row)[None])
    return WithInterval(float(np.exp(center[0])), (float(np.exp(low[0])), float(np.exp(high[0]))))


def energy_reduction(row: EnergyRow, baseline: EnergyRow) -> WithInterval:
    """How much less energy a row needs than its baseline per second of audio, as a fraction; paired round by round."""
    center, low, high = (float(end[0]) for end in log_ratio_interval((_log_energy(row) - _log_energy(baseline))[None]))
    return WithInterval(1 - np.exp(center), (1 - float(np.exp(high)), 1 - float(np.exp(low))))


def _log_energy(row: EnergyRow) -> Array:
    return np.log(np.asarray(row.joules) / np.asarray(row.audio_seconds))


def audio_per_second(row: BatchRow) -> WithInterval:
    """Seconds of audio that a row makes in a second, several sentences at once; over its rounds."""
    return _typical_ratio(_log_audio_per_second(row))


def times_as_much(row: BatchRow, baseline: BatchRow) -> WithInterval:
    """How many times the baseline's audio a row makes in a second; paired round by round, as far as both have rounds.

    Raises ValueError for rows of another runtime, number of threads or batch size, or with fewer than two rounds.
    """
    if (row.runtime, row.threads, row.batch_size) != (baseline.runtime, baseline.threads, baseline.batch_size):
        raise ValueError(
            f"{row.variant} spoke {row.batch_size} sentences at once in {row.runtime} with {row.threads} threads, its "
            f"baseline {baseline.batch_size} in {baseline.runtime} with {baseline.threads}"
        )
    rounds = min(len(row.seconds), len(baseline.seconds))
    return _typical_ratio(_log_audio_per_second(row)[:rounds] - _log_audio_per_second(baseline)[:rounds])


def _log_audio_per_second(row: BatchRow) -> Array:
    return np.log(np.asarray(row.audio_seconds) / np.asarray(row.seconds))


def _typical_ratio(logs: Array) -> WithInterval:
    value, low, high = (float(np.exp(end[0])) for end in log_ratio_interval(logs[None]))
    return WithInterval(value, (low, high))


def length_classes(sentences: list[TimedSentence]) -> dict[str, list[int]]:
    """Length class -> numbers of its sentences, for the `sentences` argument of the functions above."""
    classes: dict[str, list[int]] = {}
    for number, sentence in enumerate(sentences):
        classes.setdefault(sentence.length_class, []).append(number)
    return classes


# --- figures over sentences -----------------------------------------------------------------------------------


def mean_interval(scores: ArrayLike, level: float = 0.95) -> WithInterval:
    """Mean over sentences with its interval (Hall 1992, "On the removal of skewness by transformation").

    The t statistic's cubic transformation by the sample's skewness, inverted: where a few sentences are much
    worse than the rest, plain t covers 89 to 92 %. Raises ValueError for fewer than two scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    n = values.size
    if n < 2:
        raise ValueError(f"an interval needs at least two scores, not {n}")
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread == 0:
        return WithInterval(mean, (mean, mean))
    quantiles = stats.t.ppf([(1 + level) / 2, (1 - level) / 2], n - 1) / np.sqrt(n)
    skewness = float(stats.skew(values))
    if abs(skewness) > 1e-6:
        quantiles = 3 / skewness * (np.cbrt(1 + skewness * (quantiles - skewness / (6 * n))) - 1)
    low, high = mean - spread * quantiles
    return WithInterval(mean, (float(low), float(high)))


def from_standard_error(value: float, error: float, count: int) -> tuple[float, float] | None:
    """Student's 95 % interval of a mean over `count` samples with this standard error; None for one sample."""
    if count < 2:
        return None
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return value - half, value + half


def paired_change(scores: ArrayLike, baseline_scores: ArrayLike, level: float = 0.95) -> WithInterval:
    """Mean change against the baseline on the same sentences, with its interval. Raises ValueError."""
    changed, baseline = np.asarray(scores, dtype=np.float64), np.asarray(baseline_scores, dtype=np.float64)
    if changed.shape != baseline.shape:
        raise ValueError(f"{changed.size} scores cannot be paired with {baseline.size} of the baseline")
    return mean_interval(changed - baseline, level)


# --- the interval of a reduction ------------------------------------------------------------------------------


def log_ratio_interval(logs: Array) -> tuple[Array, Array, Array]:
    """Typical value, low and high end of log ratios [run, block]; blocks 2k and 2k+1 are each other's mirror.

    The value is the Hodges-Lehmann estimate (median of all pairwise means), which a few disturbed blocks do not
    move. The interval holds every shift that a signed-rank test does not reject. The test compares the blocks'
    signed ranks summed over each mirrored pair (after Datta and Satten 2008, "A signed-rank test for clustered
    data") with Student's t: drift, which has opposite signs within a pair, cancels, and blocks that were
    disturbed together count once. Fewer than eight blocks are too few to rank; they get plain t.
    Raises ValueError for fewer than two blocks.
    """
    blocks = logs.shape[1]
    if blocks < 2:
        raise ValueError(f"an interval needs at least two blocks, not {blocks}")
    if blocks < 8:
        half = stats.t.ppf(0.975, blocks - 1) * logs.std(axis=1, ddof=1) / np.sqrt(blocks)
        center = logs.mean(axis=1)
        return center, center - half, center + half
    first, second = np.triu_indices(blocks)
    center = np.median((logs[:, first] + logs[:, second]) / 2, axis=1)
    return center, _rank_end(logs, center, -1), _rank_end(logs, center, +1)


def _rank_end(logs: Array, center: Array, side: int) -> Array:
    """The shift at which the test begins to reject, below (side -1) or above (+1) the center, by bisection."""
    pairs = (logs.shape[1] + 1) // 2
    critical = stats.t.ppf((1 + RANK_CONFIDENCE) / 2, pairs - 1)
    accepted, rejected = np.zeros_like(center), logs.max(axis=1) - logs.min(axis=1)
    for _ in range(BISECTIONS):
        middle = (accepted + rejected) / 2
        inside = np.abs(_rank_statistic(logs - (center + side * middle)[:, None])) < critical
        accepted, rejected = np.where(inside, middle, accepted), np.where(inside, rejected, middle)
    return center + side * rejected


def _rank_statistic(shifted: Array) -> Array:
    """Student's t of the signed ranks summed over mirrored pairs, per run; infinite where all sums are the same."""
    ranks = _ranks(np.abs(shifted)) * np.sign(shifted)
    sums = np.add.reduceat(ranks, np.arange(0, shifted.shape[1], 2), axis=1)
    mean, spread = sums.mean(axis=1), sums.std(axis=1, ddof=1) / np.sqrt(sums.shape[1])
    without_spread = np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
    return np.divide(mean, spread, out=without_spread, where=spread > 0)


def _ranks(values: Array) -> Array:
    """Ranks within each run [run, block], from 1; equal values share the mean of theirs.

    As `scipy.stats.rankdata`, whose overhead was half the time of a report: of so few blocks each is compared with all.
    """
    smaller = (values[:, :, None] > values[:, None, :]).sum(axis=2)
    equal = (values[:, :, None] == values[:, None, :]).sum(axis=2)
    return smaller + (equal + 1) / 2


# --- small parts ----------------------------------------------------------------------------------------------


def _chosen(samples: list[list[float]], sentences: list[int] | None) -> Array:
    """Samples as an array [block, sentence], of the sentences asked for."""
    array = np.asarray(samples, dtype=np.float64)
    return array if sentences is None else array[:, sentences]


def _seconds_per_audio_second(row: TimingRow, sentences: list[int] | None = None) -> Array:
    return _chosen(row.seconds, sentences).sum(axis=1) / _chosen(row.audio_seconds, sentences).sum(axis=1)


def median_interval(values: Array) -> WithInterval:
    """Median with the interval that order statistics give; below six samples, which give none, that of t."""
    n, median = values.size, float(np.median(values))
    if n < 2:
        raise ValueError(f"an interval needs at least two blocks, not {n}")
    if n < 6:
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
        mean = float(values.mean())
        return WithInterval(median, (min(median, max(0.0, mean - half)), max(median, mean + half)))
    # The k-th smallest and k-th largest enclose the median unless fewer than k samples lie on one of its sides.
    k = int(stats.binom.ppf(0.025, n, 0.5))
    ordered = np.sort(values)
    return WithInterval(median, (float(ordered[k - 1]), float(ordered[n - k])))
