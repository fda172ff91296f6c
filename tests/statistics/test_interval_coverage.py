"""The choice of intervals: simulated machines, fixed seeds, how often the interval contains the truth."""

import numpy as np
import pytest

from ttsopt_lib.statistics.intervals import log_ratio_interval, mean_interval

RUNS = 1000
ROWS = 8  # rows timed together; the first is the baseline, the second is looked at
WORST = 0.93


def machine(kind: str, blocks: int, seed: int = 5) -> np.ndarray:
    """Time [run, block, 2] that two rows of equal work take, visited in a random order and its mirror in turn."""
    random = np.random.default_rng(seed)
    visits = blocks * ROWS
    shape = (RUNS, visits)
    slowness = np.exp(0.02 * random.standard_normal(shape))
    along = np.linspace(0, 1, visits)
    if kind == "drift":  # gets 35 % slower, and wanders
        slowness *= np.exp(0.3 * along + np.cumsum(0.01 * random.standard_normal(shape), 1))
    elif kind == "wave":  # a neighbour that comes and goes: a period of 3.3 blocks never meets a whole pair
        slowness *= 1 + 0.2 * np.sin(2 * np.pi * (along * blocks / 3.3 + random.random((RUNS, 1))))
    elif kind == "heavy tails":
        slowness *= 1 + (random.random(shape) < 0.15) * 0.2 * random.pareto(1.5, shape)
    elif kind == "bimodal":  # switches between two clock speeds now and then
        slowness *= 1 + 0.25 * (np.cumsum(random.random(shape) < 0.05, 1) % 2)
    elif kind == "bimodal, fast":
        slowness *= 1 + 0.25 * (random.random(shape) < 0.5)
    elif kind == "interruptions":  # every tenth visit takes half as long again
        slowness *= 1 + 0.5 * (random.random(shape) < 0.1)
    forward = np.argsort(random.random((RUNS, blocks // 2, ROWS)), axis=2)
    orders = np.stack([forward, forward[:, :, ::-1]], axis=2).reshape(RUNS, blocks, ROWS)
    position = np.argsort(orders, axis=2)[:, :, :2] + ROWS * np.arange(blocks)[:, None]
    return np.take_along_axis(slowness, position.reshape(RUNS, -1), 1).reshape(RUNS, blocks, 2)


def delayed_log_ratios(blocks: int, seed: int = 5) -> np.ndarray:
    """Log ratios [run, block] of two rows on a machine with small delays, less the logarithm of their works' ratio.

    The second row has 2.5 times less to do. Each delay takes 5 % of the first row's time; that row meets one in a run
    on average, and the second fewer, because it is done sooner.
    """
    random = np.random.default_rng(seed)
    work = np.array([1.0, 0.4])
    shape = (RUNS, blocks, 2)
    times = work * np.exp(0.02 * random.standard_normal(shape)) + 0.05 * random.poisson(work, shape)
    return np.log(times[:, :, 1] / times[:, :, 0]) - np.log(work[1] / work[0])


MACHINES = ["quiet", "drift", "wave", "heavy tails", "bimodal", "bimodal, fast", "interruptions"]


def log_ratios(kind: str, blocks: int) -> np.ndarray:
    times = machine(kind, blocks)
    return np.log(times[:, :, 1] / times[:, :, 0])


def covered(low: np.ndarray, high: np.ndarray) -> float:
    """Share of runs whose interval contains the truth: equal work, a log ratio of 0."""
    return float(np.mean((low <= 0) & (high >= 0)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MACHINES)
def test_interval_of_a_reduction_contains_the_truth(kind):
    for blocks in (8, 12, 30, 60):
        _, low, high = log_ratio_interval(log_ratios(kind, blocks))
        assert covered(low, high) >= WORST, f"{blocks} blocks"


@pytest.mark.parametrize("blocks, least", [(8, WORST), (12, WORST), (30, WORST), (60, 0.90)])
def test_interval_of_a_faster_variant_contains_the_truth_where_delays_are_small(blocks, least):
    """The value is 0.3 points off, which the narrow interval of 60 blocks begins to notice."""
    logs = delayed_log_ratios(blocks)
    _, low, high = log_ratio_interval(logs)
    assert covered(low, high) >= least


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quiet", "drift", "heavy tails", "bimodal"])
def test_interval_holds_when_sampling_stops_as_soon_as_it_is_narrow(kind):
    logs = log_ratios(kind, 60)
    low, high, going = np.zeros(RUNS), np.zeros(RUNS), np.arange(RUNS)
    for blocks in (*range(8, 60, 4), 60):
        _, low[going], high[going] = log_ratio_interval(logs[going, :blocks])
        going = going[np.exp(high[going]) - np.exp(low[going]) >= 0.04]
        if not going.size:
            break
    assert covered(low, high) >= WORST


def test_ranks_are_much_sharper_than_students_t_where_a_machine_is_interrupted():
    logs = log_ratios("heavy tails", 30)
    _, low, high = log_ratio_interval(logs)
    t_width = 2 * 2.045 * logs.std(axis=1, ddof=1) / np.sqrt(30)
    assert np.median(high - low) < 0.6 * np.median(t_width)


@pytest.mark.slow
def test_interval_of_a_mean_contains_the_truth_for_skewed_scores():
    random = np.random.default_rng(0)
    for count in (20, 40, 100):
        scores = 0.3 - random.exponential(0.3, (RUNS, count))
        ends = np.array([mean_interval(one).ci for one in scores])
        assert covered(ends[:, 0], ends[:, 1]) >= WORST, f"{count} sentences"
