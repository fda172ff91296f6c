"""How many listeners it takes, and verdicts while they come in."""

import numpy as np
import pytest

from ttsopt_lib.evaluate.ratings.file import Rating
from ttsopt_lib.evaluate.ratings.monitor import standings
from ttsopt_lib.statistics.crossed import Components, components, table_mean
from ttsopt_lib.statistics.power import ASSUMED, power, raters_needed


def differences(seed: int, raters: int, sentences: int, change: float, spread: Components) -> np.ndarray:
    generator = np.random.default_rng(seed)
    table = change + generator.normal(0, spread.rest, (raters, sentences))
    return table + generator.normal(0, spread.rater, (raters, 1)) + generator.normal(0, spread.sentence, (1, sentences))


@pytest.mark.parametrize(("raters", "sentences"), [(30, 20), (80, 30)])
def test_the_power_that_is_promised_is_the_power_that_simulated_tests_have(raters, sentences):
    promised = power(0.1, raters, sentences, ASSUMED)
    found, trials = 0, 400
    for seed in range(trials):
        ends = table_mean(differences(seed, raters, sentences, 0.1, ASSUMED)).interval()
        found += ends is not None and not ends[0] <= 0 <= ends[1]
    assert found / trials == pytest.approx(promised, abs=0.07)


def test_more_raters_help_until_the_sentences_are_the_limit():
    counts = [raters_needed(0.1, sentences, ASSUMED) for sentences in (24, 48, 100)]
    assert all(counts) and counts == sorted(counts, reverse=True)  # type: ignore[type-var]
    assert raters_needed(0.1, 8, ASSUMED) is None
    few = raters_needed(0.1, 48, ASSUMED)
    assert few is not None and power(0.1, few, 48, ASSUMED) >= 0.8 > power(0.1, few - 1, 48, ASSUMED)
    assert power(0.0, 30, 20, ASSUMED) == pytest.approx(0.05)


def test_where_only_the_rest_varies_the_number_of_ratings_decides():
    needed = [raters_needed(0.1, sentences, Components(0, 0, 0.98)) for sentences in (12, 24, 48, 96)]
    assert all(needed) and needed == sorted(needed, reverse=True)  # type: ignore[type-var]


def test_the_spread_is_found_again_in_ratings():
    true = Components(rater=0.3, sentence=0.2, rest=0.9)
    found = [components(differences(seed, 40, 40, 0, true)) for seed in range(20)]
    assert np.mean([one.rater for one in found]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([one.sentence for one in found]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([one.rest for one in found]) == pytest.approx(0.9, abs=0.02)


def test_what_could_be_detected_and_what_is_equivalent():
    exact = table_mean(differences(0, 60, 60, 0.0, Components(0.05, 0.05, 0.5)))
    assert (exact.detectable() or 1) < 0.1 and (exact.equivalence_p(0.1) or 1) < 0.05
    vague = table_mean(differences(0, 8, 8, 0.0, Components(0.3, 0.3, 1.0)))
    assert (vague.detectable() or 0) > 0.3 and (vague.equivalence_p(0.1) or 0) > 0.05
    worse = table_mean(differences(0, 60, 60, -0.5, Components(0.05, 0.05, 0.5)))
    assert (worse.equivalence_p(0.1) or 0) > 0.99


def test_a_verdict_while_ratings_come_in():
    generator = np.random.default_rng(0)
    ratings = [
        Rating("acr", f"s{s}", name, "", f"r{r}", int(np.clip(round(mean + generator.normal(0, 0.6)), 1, 5)), 3.0, None)
        for r in range(24)
        for s in range(40)
        for name, mean in (("original", 4.0), ("same", 4.0), ("worse", 3.0))
    ]
    found = {one.variant: one for one in standings(ratings, ("original", "same", "worse"), margin=0.3)}
    assert list(found) == ["same", "worse"]
    assert found["worse"].verdict == "different" and found["worse"].ci is not None and found["worse"].ci[1] < 0
    assert found["same"].verdict in ("equivalent", "more raters", "more sentences", "more raters and sentences")
    names = ("original", "same")
    early = standings([r for r in ratings if r.rater == "r0"], ("original", "worse"), margin=0.3)
    assert [one.verdict for one in early] == ["too early to say"]
    tied = [Rating("acr", f"s{s}", n, "", f"r{r}", 4, 3.0, None) for r in range(24) for s in range(40) for n in names]
    assert [one.verdict for one in standings(tied, names, margin=0.3)] == ["too early to say"]
