"""In which order each rater hears what: balanced over raters, and for every rater another.

The order in which a rater hears the variants of one sentence is a row of a Williams design: a Latin square in which
every variant also follows every other one equally often (Williams, 1949). Row number = rater + sentence, so the rows
balance over raters for every sentence, and over sentences for every rater. A rater hears every sentence once before
any is repeated, in an order of sentences that is drawn for the rater and the round.
"""

from __future__ import annotations

import numpy as np


def williams(count: int) -> list[list[int]]:
    """A balanced Latin square of 0 ... count-1: `count` rows, or twice as many where `count` is odd."""
    first = [0]
    for number in range(1, count):
        first.append((number + 1) // 2 if number % 2 else count - number // 2)
    rows = [[(value + shift) % count for value in first] for shift in range(count)]
    return rows if count % 2 == 0 else rows + [row[::-1] for row in rows]


def rating_order(rater: int, sentences: int, conditions: int, seed: int) -> list[tuple[int, int]]:
    """(sentence, condition) of every trial, in the order in which rater number `rater` (from 0) hears them."""
    square = williams(conditions)
    order: list[tuple[int, int]] = []
    for turn in range(conditions):
        drawn = [int(s) for s in np.random.default_rng((seed, rater, turn)).permutation(sentences)]
        if order and order[-1][0] == drawn[0]:  # not the same sentence twice in a row
            drawn.append(drawn.pop(0))
        order += [(s, square[(rater + s) % len(square)][turn]) for s in drawn]
    return order


def swapped(rater: int, sentence: int, condition: int) -> bool:
    """Whether a pair is played variant first: for half of a rater's pairs, and for half of a pair's raters."""
    return (rater + sentence + condition) % 2 == 1


def shuffled(count: int, *key: int) -> list[int]:
    """0 ... count-1 in an order that `key` decides."""
    return [int(number) for number in np.random.default_rng(key).permutation(count)]


def with_traps(trials: list[list[int]], traps: list[list[int]], *key: int) -> list[list[int]]:
    """The trials with traps among them, never first, at places that `key` decides."""
    result = list(trials)
    places = np.random.default_rng(key).integers(1, max(2, len(trials)), size=len(traps))
    for trap, place in zip(traps, sorted(places, reverse=True), strict=True):
        result.insert(int(place), trap)
    return result
