from typing import Any

import numpy as np
import pytest
from scipy import stats

from ttsopt_lib.statistics.intervals import mean_interval
from ttsopt_lib.statistics.significance import (
    bootstrap_mean,
    change_p,
    equivalence_p,
    error_rate,
    error_rate_change,
    holm,
)


@pytest.mark.parametrize("shift", np.linspace(-0.9, 0.9, 13))
def test_p_is_below_5_percent_just_where_the_interval_leaves_out_zero(shift):
    values = np.random.default_rng(1).exponential(1.0, 20) - 1 + shift
    low, high = mean_interval(values).ci
    p = change_p(values)
    assert p is not None and (p < 0.05) == (not low <= 0 <= high)


def student_p(values: np.ndarray, mean: float, alternative: str = "two-sided") -> float:
    tested: Any = stats.ttest_1samp(values, mean, alternative=alternative)
    return tested.pvalue


def test_without_skewness_it_is_students_t():
    half = np.random.default_rng(0).normal(0.2, 1.0, 15)
    values = np.concatenate([half, 2 * half.mean() - half])  # symmetric
    assert change_p(values) == pytest.approx(student_p(values, 0))
    greater, less = student_p(values, -0.5, "greater"), student_p(values, 0.5, "less")
    assert equivalence_p(values, 0.5) == pytest.approx(max(greater, less))


def test_equivalence_is_shown_only_by_enough_sentences_near_zero():
    generator = np.random.default_rng(0)
    many, few = generator.normal(0.0, 0.2, 100), generator.normal(0.0, 0.2, 5)
    found = [equivalence_p(values, 0.1) for values in (many, few, many - many.mean() - 0.1, many - 0.3)]
    assert found[0] < 0.01 < 0.05 < found[1]  # type: ignore[operator]
    assert found[2] == pytest.approx(0.5, abs=0.02) and found[3] > 0.99  # type: ignore[operator]


@pytest.mark.slow
def test_equivalence_is_claimed_wrongly_in_one_test_of_twenty_at_the_margin():
    generator = np.random.default_rng(0)
    claimed = [equivalence_p(generator.gamma(2, 0.1, 40) - 0.2 - 0.1, 0.1) for _ in range(800)]
    assert np.mean([p < 0.05 for p in claimed if p is not None]) == pytest.approx(0.05, abs=0.02)


@pytest.mark.slow
def test_of_many_variants_that_do_nothing_holm_lets_one_study_in_twenty_find_one():
    generator = np.random.default_rng(0)
    studies = [holm([change_p(generator.normal(0, 1, 40)) or 0.0 for _ in range(7)]) for _ in range(300)]
    assert np.mean([min(study) < 0.05 for study in studies]) == pytest.approx(0.05, abs=0.03)


def test_values_that_never_differ_have_no_doubt():
    assert change_p([0.0] * 5) == 1.0 and equivalence_p([0.0] * 5, 0.1) == 0.0
    assert change_p([-0.2] * 5) == 0.0 and equivalence_p([-0.2] * 5, 0.1) == 1.0
    assert change_p([0.1]) is None and equivalence_p([0.1], 0.1) is None and bootstrap_mean([0.1]) is None


def test_a_bootstrap_of_few_sentences_or_of_equal_ones_has_no_interval():
    few, enough = bootstrap_mean([1.0, 2.0, 4.0] * 3), bootstrap_mean([1.0, 2.0, 4.0] * 4)
    assert few is not None and few.value == pytest.approx(7 / 3) and few.ci is None
    assert enough is not None and enough.ci is not None
    assert bootstrap_mean([2.0] * 30) == (2.0, None)
    assert error_rate([0] * 30, [8, 4, 6] * 10) == (0.0, None)
    assert error_rate([1] * 30, [5] * 30) == (0.2, None)


@pytest.mark.slow
def test_bootstrap_intervals_of_skewed_figures_cover_their_mean():
    generator = np.random.default_rng(0)
    found = [bootstrap_mean(generator.exponential(1.0, 60)) for _ in range(200)]  # type: ignore[arg-type]
    assert np.mean([one.ci[0] <= 1.0 <= one.ci[1] for one in found if one and one.ci]) == pytest.approx(0.94, abs=0.04)


def test_a_change_of_the_word_error_rate_counts_words_not_sentences():
    words = [8, 8, 4, 8] * 10
    baseline = [0, 1, 0, 1] * 10
    worse = [2, 3, 0, 3] * 10
    rate, change = error_rate(worse, words), error_rate_change(worse, baseline, words)
    assert rate is not None and rate.value == pytest.approx(8 / 28)
    assert change is not None and change.value == pytest.approx(6 / 28)
    assert change.ci is not None and 0 < change.ci[0] < change.value < change.ci[1] and change.p < 0.01
    same = error_rate_change(baseline, baseline, words)
    assert same == (0.0, None, 1.0)
    lucky = error_rate_change([1, *baseline[1:]], baseline, words)
    assert lucky is not None and lucky.p == 1.0 and lucky.ci is not None and lucky.ci[0] <= 0 <= lucky.ci[1]
    assert error_rate([1], [8]) is None and error_rate_change([], [], []) is None


def test_a_rate_varies_with_the_words_where_every_sentence_has_as_many_errors():
    rate = error_rate([1] * 12, [3, 10, 20, 40] * 3)
    assert rate is not None and rate.ci is not None and rate.ci[0] < rate.value == 4 / 73 < rate.ci[1]
    silent = error_rate([1, 2] * 5, [0, 5] * 5)  # the original was heard to say nothing in half of them
    assert silent is not None and silent.ci is not None and np.isfinite(silent.ci).all()
