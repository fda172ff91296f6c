"""Figures from raw samples."""

from typing import Literal

import numpy as np
import pytest

from ttsopt_lib.records.device import TimedSentence, TimingRow
from ttsopt_lib.statistics.intervals import (
    latency_summary,
    length_classes,
    log_ratio_interval,
    mean_interval,
    paired_change,
    reduction,
    rtf,
)


def row(
    seconds,
    audio,
    variant: str = "original",
    runtime: Literal["onnxruntime", "pytorch"] = "onnxruntime",
    threads: int = 1,
) -> TimingRow:
    return TimingRow(
        variant=variant,
        runtime=runtime,
        threads=threads,
        load_seconds=[0.1],
        peak_memory_mb=100,
        idle_memory_mb=50,
        seconds=np.asarray(seconds).tolist(),
        audio_seconds=np.broadcast_to(audio, np.shape(seconds)).tolist(),
    )


def noisy_blocks(seed: int, blocks: int = 30) -> np.ndarray:
    """Seconds [block, 2]: a short and a long sentence on a machine with 2 % of noise."""
    noise = np.exp(0.02 * np.random.default_rng(seed).standard_normal((blocks, 1)))
    return np.array([0.05, 0.2]) * noise


def test_latency_is_the_mean_over_a_blocks_sentences_in_ms():
    summary = latency_summary(row(noisy_blocks(0), [1.0, 4.0]))
    assert summary.median == pytest.approx(125, rel=0.02)
    assert summary.ci[0] < summary.median < summary.ci[1] < summary.p95
    assert latency_summary(row(noisy_blocks(0), [1.0, 4.0]), [1]).median == pytest.approx(200, rel=0.02)


def test_real_time_factor_is_wall_time_over_audio_time():
    assert rtf(row(noisy_blocks(0), [1.0, 4.0])).value == pytest.approx(0.05, rel=0.02)


def test_reduction_is_per_second_of_audio_so_that_a_voice_gains_nothing_by_speaking_shorter():
    baseline = row(noisy_blocks(0), [1.0, 4.0])
    shorter = row(noisy_blocks(1) * 0.8, [0.8, 3.2], "shorter")
    faster = row(noisy_blocks(2) * 0.4, [1.0, 4.0], "faster")
    value, (low, high) = reduction(shorter, baseline)
    assert low <= 0 <= high and abs(value) < 0.02
    value, (low, high) = reduction(faster, baseline)
    assert low <= 0.6 <= high and value == pytest.approx(0.6, abs=0.02) and high - low < 0.02


def test_a_slower_variant_has_a_negative_reduction():
    value, (low, high) = reduction(row(noisy_blocks(1) * 1.5, 1.0), row(noisy_blocks(0), 1.0))
    assert low < value < high < -0.4


def test_reduction_by_length_class():
    baseline, sentences = row(noisy_blocks(0), 1.0), []
    for length_class in ("short", "long"):
        sentences.append(TimedSentence(length_class=length_class, text="Yes.", phonemes=9))
    only_long_gains = row(noisy_blocks(1) * np.array([1.0, 0.5]), 1.0)
    gains = {name: reduction(only_long_gains, baseline, numbers) for name, numbers in length_classes(sentences).items()}
    assert gains["short"].value == pytest.approx(0.0, abs=0.02)
    assert gains["long"].value == pytest.approx(0.5, abs=0.02)


def test_reduction_refuses_rows_that_were_not_timed_together():
    with pytest.raises(ValueError, match="within one runtime"):
        reduction(row(noisy_blocks(0), 1.0, runtime="pytorch"), row(noisy_blocks(0), 1.0))
    with pytest.raises(ValueError, match="within one runtime"):
        reduction(row(noisy_blocks(0), 1.0, threads=2), row(noisy_blocks(0), 1.0))
    with pytest.raises(ValueError, match="blocks"):
        reduction(row(noisy_blocks(0, 8), 1.0), row(noisy_blocks(0, 10), 1.0))


def test_a_few_disturbed_blocks_do_not_move_a_reduction():
    faster = noisy_blocks(1) * 0.4
    faster[[3, 11, 20]] *= 5
    value, (low, high) = reduction(row(faster, 1.0), row(noisy_blocks(0), 1.0))
    assert value == pytest.approx(0.6, abs=0.01) and high - low < 0.03


@pytest.mark.parametrize("blocks", [2, 3, 5, 7, 8, 9, 60])
def test_every_number_of_blocks_from_two_has_a_finite_interval(blocks):
    logs = 0.02 * np.random.default_rng(0).standard_normal((50, blocks))
    center, low, high = log_ratio_interval(logs)
    assert np.isfinite([low, high]).all() and (low <= center).all() and (center <= high).all()
    summary = latency_summary(row(noisy_blocks(0, blocks), 1.0))
    assert 0 <= summary.ci[0] <= summary.median <= summary.ci[1] < np.inf


def test_equal_samples_give_an_interval_of_no_width():
    same = row(np.ones((10, 2)), 1.0)
    assert reduction(same, same) == (0.0, (0.0, 0.0))
    assert mean_interval([4.0, 4.0, 4.0]) == (4.0, (4.0, 4.0))


def test_one_block_or_one_score_has_no_interval():
    with pytest.raises(ValueError, match="two blocks"):
        reduction(row(noisy_blocks(0, 1), 1.0), row(noisy_blocks(0, 1), 1.0))
    with pytest.raises(ValueError, match="two scores"):
        mean_interval([4.0])


def test_change_of_quality_is_paired_by_sentence():
    random = np.random.default_rng(0)
    baseline = random.normal(4.0, 0.5, 100)  # sentences differ by much more than the variants do
    value, (low, high) = paired_change(baseline - 0.1 + random.normal(0, 0.1, 100), baseline)
    assert low < -0.1 < high and high - low < 0.06 and value == pytest.approx(-0.1, abs=0.03)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_change(baseline, baseline[:-1])


def test_interval_of_a_mean_leans_to_where_the_bad_sentences_are():
    changes = np.zeros(100)
    changes[:5] = -1.5
    value, (low, high) = mean_interval(changes + 0.01 * np.random.default_rng(0).standard_normal(100))
    assert value - low > high - value


def test_pairs_with_equal_rank_sums_are_certain_and_not_void():
    logs = np.array([[0.001, 0.064, 0.004, 0.049, 0.009, 0.036, 0.016, 0.025]])  # all above 0: 1 + 8, 2 + 7, ...
    center, low, high = (float(end[0]) for end in log_ratio_interval(logs))
    assert 0 < low < center < high
    below, _, above = (float(end[0]) for end in log_ratio_interval(-logs))
    assert (below, above) == pytest.approx((-center, -low))
    assert [float(end[0]) for end in log_ratio_interval(np.full((1, 8), 0.3))] == pytest.approx([0.3] * 3)


def test_ranks_are_those_of_scipy_also_where_values_are_equal():
    from scipy.stats import rankdata

    from ttsopt_lib.statistics.intervals import _ranks

    values = np.random.default_rng(0).integers(0, 9, (50, 31)).astype(float)
    values[0], values[1, ::2] = 1.0, np.pi
    assert np.array_equal(_ranks(values), rankdata(values, axis=1))
