"""Changes of raters who heard few sentences, or none, from both voices; and ratings that all say the same."""

import numpy as np
import pytest

from ttsopt_lib.statistics.crossed import paired_table, table_change, table_mean


def heard_apart(overlaps: int) -> tuple[np.ndarray, np.ndarray]:
    """60 raters x 12 sentences, each rated for one voice only, but for a few that tie; the second is 0.5 worse."""
    generator = np.random.default_rng(3)
    raters, sentences = generator.normal(0, 0.4, (60, 1)), generator.normal(0, 0.3, (1, 12))
    before, after = (mean + raters + sentences + generator.normal(0, 0.7, (60, 12)) for mean in (4.0, 3.5))
    first = (np.arange(60)[:, None] + np.arange(12)) % 2 == 0
    before, after = np.where(first, before, np.nan), np.where(first, np.nan, after)
    for cell in [(0, 0), (2, 2), (4, 4)][:overlaps]:
        after[cell] = before[cell]
    return after, before


@pytest.mark.parametrize("overlaps", [0, 1, 3])
def test_a_few_sentences_heard_from_both_voices_do_not_speak_for_all(overlaps):
    change, apart = table_change(*heard_apart(overlaps)), table_change(*heard_apart(0))
    assert change is not None and apart is not None
    assert change.interval() == pytest.approx(apart.interval(), abs=0.03)
    low, high = change.interval() or (0, 0)
    assert low < -0.5 < high < 0


def test_where_most_were_heard_from_both_the_pairs_alone_count():
    generator = np.random.default_rng(0)
    before = generator.normal(4, 1, (8, 8))
    after = np.where(np.arange(8) < 5, before - 0.5 + generator.normal(0, 0.1, (8, 8)), np.nan)
    change = table_change(after, before)
    assert change is not None and change.error < 0.1 and paired_table(after, before) is not None


def test_pairs_of_one_rater_leave_the_sentences_to_compare():
    after, before = (np.full((3, 4), np.nan) for _ in range(2))
    before[0], after[0] = [4, 3, 5, 4], [3, 3, 4, 4]
    after[1, :2] = [2, 3]
    assert paired_table(after, before) is not None
    change = table_change(after, before)
    assert change is not None and change.value < 0 and change.interval() is not None


@pytest.mark.parametrize("size", [(2, 2), (3, 4)])
def test_ratings_that_all_say_the_same_are_no_certainty(size):
    mean = table_mean(np.full(size, 4.0))
    apart = np.indices(size).sum(axis=0) % 2 == 0
    paired = table_change(np.full(size, 3.0), np.full(size, 3.0))
    unpaired = table_change(np.where(apart, 3.0, np.nan), np.where(apart, np.nan, 3.0))
    for value, found in ((4.0, mean), (0.0, paired), (0.0, unpaired)):
        assert found is not None and found.value == pytest.approx(value) and found.error == 0
        assert found.interval() is None and found.detectable() is None and found.equivalence_p(0.1) is None
