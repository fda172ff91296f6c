import json
from collections import Counter

import pytest
from tone_test import make

from ttsopt_lib.listening.orders import rating_order, swapped, williams, with_traps


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_a_williams_design_is_balanced_for_place_and_predecessor(count):
    rows = williams(count)
    for place in range(count):
        assert set(Counter(row[place] for row in rows).values()) == {len(rows) // count}
    pairs = Counter(pair for row in rows for pair in zip(row, row[1:], strict=False))
    assert len(pairs) == count * (count - 1) and len(set(pairs.values())) <= 1


@pytest.mark.parametrize("conditions", [3, 4, 6])
def test_every_rater_hears_everything_once_in_an_order_of_their_own(conditions):
    raters, sentences = 24, 5
    orders = [rating_order(rater, sentences, conditions, seed=0) for rater in range(raters)]
    assert all(len(set(order)) == sentences * conditions == len(order) for order in orders)
    assert len({tuple(order) for order in orders}) == raters
    for order in orders:
        assert all(a[0] != b[0] for a, b in zip(order, order[1:], strict=False))
    for turn in range(conditions):  # over the raters, every variant of a sentence is as often first, second, ...
        heard = Counter(pair for order in orders for pair in order[turn * sentences : (turn + 1) * sentences])
        assert set(heard.values()) == {raters // conditions}


def test_a_pair_is_turned_round_for_half_of_the_raters_and_half_of_the_pairs():
    assert sum(swapped(rater, 3, 1) for rater in range(10)) == 5
    assert sum(swapped(4, s, c) for s in range(4) for c in range(3)) == 6


def test_traps_stand_among_the_trials_and_never_first():
    for rater in range(50):
        order = with_traps([[n] for n in range(5)], [[90], [91]], 0, rater)
        assert order[0] == [0] and sorted(order) == [[0], [1], [2], [3], [4], [90], [91]]


def test_the_page_plays_each_rater_what_the_order_says(tmp_path):
    made = make(tmp_path / "listening", tests=("acr", "ccr"), raters=12)
    script = (made.folder / "test.js").read_text()
    data = json.loads(script.removeprefix("window.LISTENING_TEST = ").removesuffix(";\n"))
    first = Counter()
    for order in data["orders"]:
        trials = [(data["trials"][number], inside) for number, *inside in order]
        heard = [made.key.clips[trial["clips"][0]] for trial, _ in trials if trial["test"] == "acr"]
        rated = [(clip.sentence, clip.variant) for clip in heard if clip.use == "rated"]
        assert len(rated) == len(set(rated)) == 9 and len(heard) == 10
        for trial, inside in trials:
            if trial["test"] == "ccr":
                first[made.key.clips[trial["clips"][inside[0]]].variant == "original"] += 1
    assert first[True] - 12 == first[False]  # a trap's two clips are the original's own
