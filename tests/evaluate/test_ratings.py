import numpy as np
import pytest
from rich.console import Console

from ttsopt_lib.evaluate.ratings.file import COLUMNS, Rating, RatingsError, read_ratings
from ttsopt_lib.evaluate.ratings.means import change_components, rate_variants
from ttsopt_lib.evaluate.ratings.screening import screen
from ttsopt_lib.statistics.crossed import table_mean
from ttsopt_lib.terminal import ratings_table

VARIANTS = ("original", "fp32")
TRUE_MEANS = {"original": 4.0, "fp32": 3.6}
RATER, SENTENCE, REST = 0.5, 0.3, 0.7  # standard deviations


def rating(variant: str, sentence: object, rater: object, score: float, **more) -> Rating:
    answer = int(np.clip(round(score), 1, 5))
    return Rating("acr", str(sentence), variant, "", str(rater), answer, None, more.get("trap"))


def listen(seed: int, raters: int, sentences: int, one_variant_per_sentence: bool = False) -> list[Rating]:
    """Ratings by simulated listeners, each with a bias of their own, of sentences with effects of their own."""
    generator = np.random.default_rng(seed)
    bias, effect = generator.normal(0, RATER, raters), generator.normal(0, SENTENCE, sentences)
    traps = [rating("original", "trap", r, answer, trap=answer) for r in range(raters) for answer in (2, 5)]
    return traps + [
        rating(name, s, r, TRUE_MEANS[name] + bias[r] + effect[s] + generator.normal(0, REST))
        for r in range(raters)
        for s in range(sentences)
        for number, name in enumerate(VARIANTS)
        if not one_variant_per_sentence or (r + s) % 2 == number
    ]


def true_mean(mean: float) -> float:
    """Of the rating that a random listener gives a random sentence, rounded to the scale."""
    draws = np.random.default_rng(1).normal(mean, np.sqrt(RATER**2 + SENTENCE**2 + REST**2), 1_000_000)
    return float(np.clip(np.round(draws), 1, 5).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("raters", "sentences", "apart"), [(10, 10, False), (24, 12, False), (12, 12, True)])
def test_intervals_cover_the_truth(raters, sentences, apart):
    truth = {name: true_mean(mean) for name, mean in TRUE_MEANS.items()}
    covered_mean, covered_change, trials = 0, 0, 200
    for seed in range(trials):
        rated = rate_variants(listen(seed, raters, sentences, apart), VARIANTS)
        assert rated.rows is not None and rated.reason is None
        original, other = rated.rows
        assert other.change_ci is not None and original.ci is not None
        covered_mean += original.ci[0] <= truth["original"] <= original.ci[1]
        covered_change += other.change_ci[0] <= truth["fp32"] - truth["original"] <= other.change_ci[1]
    # 95 % of 200 trials is 184 to 196 in 98 of 100 runs. A bootstrap over single ratings covers 60 to 75 %.
    assert 0.92 * trials <= covered_mean <= 0.985 * trials
    assert 0.92 * trials <= covered_change <= 0.985 * trials


@pytest.mark.slow
@pytest.mark.parametrize("spread", [(0.0, 0.0), (0.2, 0.1), (0.5, 0.3)])
@pytest.mark.parametrize("size", [(12, 12), (40, 12)])
def test_a_change_is_covered_however_much_raters_and_sentences_differ_in_it(size, spread):
    covered, trials = 0, 1000
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        table = generator.normal(-0.1, 1, size) + generator.normal(0, spread[0], (size[0], 1))
        ends = table_mean(table + generator.normal(0, spread[1], (1, size[1]))).interval()
        covered += ends is not None and ends[0] <= -0.1 <= ends[1]
    assert 0.93 * trials <= covered <= 0.98 * trials


def test_biased_noisy_and_random_raters():
    """Thirty who listen, with biases of their own; ten who click at random. The truth is a change of -0.4."""
    generator = np.random.default_rng(5)
    ratings = listen(5, 30, 12)
    for r in range(10):
        ratings += [rating(n, s, f"clicker{r}", int(generator.integers(1, 6))) for s in range(12) for n in VARIANTS]
        ratings += [
            rating("original", f"trap{t}", f"clicker{r}", int(generator.integers(1, 6)), trap=answer)
            for t, answer in enumerate((2, 5))
        ]
    rated = rate_variants(ratings, VARIANTS)
    assert rated.rows is not None
    caught = {one.rater for one in rated.screened}
    assert all(name.startswith("clicker") for name in caught)
    assert len(caught) >= 8  # one in twenty-five guesses both traps
    truth = true_mean(3.6) - true_mean(4.0)
    assert rated.rows[1].change_ci is not None
    assert rated.rows[1].change_ci[0] <= truth <= rated.rows[1].change_ci[1] < 0


def test_mean_and_paired_change_are_the_plain_ones():
    ratings = [rating("original", s, r, 4 + (r == 0)) for r in range(3) for s in range(4)]
    ratings += [rating("fp32", s, r, 3 + (r == 0)) for r in range(3) for s in range(2)]
    rows = rate_variants(ratings, VARIANTS).rows
    assert rows is not None
    original, other = rows
    assert original.mean == pytest.approx((4 * 5 + 8 * 4) / 12)
    assert (original.raters, original.ratings, other.raters, other.ratings) == (3, 12, 3, 6)
    assert original.change is None
    assert other.change == pytest.approx(-1) and other.change_ci is None  # all say the same, which is no certainty


def test_a_biased_listener_who_heard_one_variant_only_does_not_make_a_change():
    ratings = [rating(name, s, r, 3) for name in VARIANTS for r in range(4) for s in range(4)]
    ratings += [rating("fp32", s, "enthusiast", 5) for s in range(4)]
    rows = rate_variants(ratings, VARIANTS).rows
    assert rows is not None and rows[1].change == 0 and rows[1].mean > 3


def test_who_fails_a_trap_is_screened_out_and_named():
    ratings = [rating(name, s, r, 4) for name in VARIANTS for r in range(3) for s in range(3)]
    ratings += [rating(name, s, "clicker", 1) for name in VARIANTS for s in range(3)]
    ratings += [rating("original", "trap", r, 2, trap=2) for r in range(3)]
    ratings += [rating("original", "trap", "clicker", 1, trap=2)]
    rated = rate_variants(ratings, VARIANTS)
    assert rated.rows is not None and [row.mean for row in rated.rows] == [4, 4]
    assert rated.reason is None
    assert [one.words for one in rated.screened] == ["clicker (6 ratings): a wrong answer to 1 of 1 trap questions"]


@pytest.mark.parametrize(
    ("test", "scores", "seconds", "reason"),
    [
        ("acr", [4] * 10, 3.0, "the same answer to all 10 ACR"),
        ("acr", [4] * 9, 3.0, None),
        ("ccr", [0] * 12, 3.0, None),  # heard no difference
        ("ccr", [2] * 12, 3.0, "the same answer to all 12 CCR"),
        ("acr", [3, 4] * 4, 0.4, "less than 1 s"),
        ("mushra", [95, 80, 85, 100, 96, 97], 9.0, "the hidden reference below 90 in 2 of 6"),
        ("mushra", [95, 80, 95, 100, 96, 97, 98], 9.0, None),
    ],
)
def test_who_did_not_listen_is_screened_out(test, scores, seconds, reason):
    reference = "" if test == "acr" else "original"
    variant = "original" if test == "mushra" else "fp32"
    given = [Rating(test, f"s{n}", variant, reference, "r", score, seconds, None) for n, score in enumerate(scores)]
    kept, screened = screen(given)
    if reason is None:
        assert len(kept) == len(scores) and screened == []
    else:
        assert kept == [] and reason in screened[0].reason and screened[0].ratings == len(scores)


def test_who_answers_the_traps_may_find_all_sentences_equally_good():
    given = [rating("fp32", s, "content", 5) for s in range(20)] + [rating("fp32", "trap", "content", 2, trap=2)]
    assert screen(given)[1] == []


def test_a_comparison_counts_in_whichever_order_it_was_heard():
    given = []
    for rater in range(6):
        for sentence in range(4):
            pair = ("fp32", "original") if (rater + sentence) % 2 else ("original", "fp32")
            score = (-1 if pair[0] == "fp32" else 1) + 1  # a point worse, and the second always seems a point better
            given.append(Rating("ccr", f"s{sentence}", *pair, f"r{rater}", score, 3.0, None))
    (row,) = rate_variants(given, VARIANTS).comparisons
    assert (row.test, row.variant, row.raters, row.sentences, row.ratings) == ("ccr", "fp32", 6, 4, 24)
    assert row.mean == pytest.approx(-1) and row.ci is not None and row.ci[0] <= -1 <= row.ci[1]


def test_a_pair_that_was_heard_in_both_orders_counts_twice():
    given = [
        Rating("ccr", f"s{sentence}", *pair, f"r{rater}", score, 3.0, None)
        for rater in range(3)
        for sentence in range(3)
        for pair, score in ((("fp32", "original"), 2), (("original", "fp32"), 0))
    ]
    (row,) = rate_variants(given, VARIANTS).comparisons
    assert (row.mean, row.raters, row.sentences, row.ratings) == (1.0, 3, 3, 18)


def test_comparisons_without_the_original_are_named():
    pairs = [("fp32", "int8"), ("int8", "fp32"), ("fp32", "original")]
    given = [Rating("ccr", f"s{s}", *pair, f"r{r}", 1, 3.0, None) for r in range(2) for s in range(2) for pair in pairs]
    rated = rate_variants(given, (*VARIANTS, "int8"))
    assert [row.variant for row in rated.comparisons] == ["fp32"]
    (said,) = rated.left_out
    assert "fp32 and int8 (8 ratings)" in said
    console = Console(width=200)
    with console.capture() as printed:
        console.print(ratings_table(rated))
    assert said in printed.get()


def test_too_few_listeners_give_a_reason_and_no_interval():
    rated = rate_variants([rating("original", s, "one", 4) for s in range(9)], VARIANTS)
    assert rated.rows is None and rated.reason is not None and "1 raters" in rated.reason
    rated = rate_variants([], VARIANTS)
    assert rated.rows is None and rated.reason is not None


def write(path, *rows: str):
    path.write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")
    return path


def test_a_good_file_is_read_whole(tmp_path):
    path = write(
        tmp_path / "r.csv",
        "acr,s1,original,,anna,4,2.5,",
        'acr,"s2, quoted",fp32,,anna,5,,',
        "acr,t1,,,anna,2,1,2",
        "ccr,s1,fp32,original,anna,-1,3,",
        "mushra,s1,fp32,original,anna,87,3,",
    )
    ratings = read_ratings(path, VARIANTS)
    assert [r.score for r in ratings] == [4, 5, 2, -1, 87]
    assert ratings[1].sentence == "s2, quoted" and ratings[1].seconds is None and ratings[2].trap == 2
    assert rate_variants(ratings, VARIANTS).rows is None  # one rater


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("acr,s1,original,,anna,6,2,", "score '6': acr asks for a whole number from 1 to 5"),
        ('acr,s1,original,,anna,"4,0",2,', "score '4,0': acr asks for a whole number from 1 to 5, with a point"),
        ('acr,s1,original,,anna,4,"2,5",', "seconds '2,5': a number of seconds, or empty, with a point"),
        ("acr,s1,original,,anna,3.5,2,", "score '3.5'"),
        ("acr,s1,original,,anna,nan,2,", "score 'nan'"),
        ("acr,s1,original,,anna,,2,", "score ''"),
        ("acr,s1,orignal,,anna,3,2,", "variant 'orignal' is not in this study; it has original, fp32"),
        ("ccr,s1,fp32,,anna,1,2,", "reference ''"),
        ("abx,s1,original,,anna,3,2,", "test 'abx': known are acr, ccr, mushra"),
        ("acr,,original,,anna,3,2,", "sentence is empty"),
        ("acr,s1,original,,,3,2,", "rater is empty"),
        ("acr,s1,original,,anna,3,-2,", "seconds '-2'"),
        ("acr,s1,original,,anna,3,2,9", "trap '9'"),
        ("acr,s1,original,,anna,3", "6 fields, the header has 8"),
        ("acr,s9,original,,anna,3,2,", "already in line 2"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, row, reason):
    path = write(tmp_path / "r.csv", "acr,s9,original,,anna,4,2,", row, "acr,s2,original,,anna,4,2,")
    with pytest.raises(RatingsError) as caught:
        read_ratings(path, VARIANTS)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ") and reason in message and "\n" not in message


def test_every_bad_row_is_named(tmp_path):
    path = write(tmp_path / "r.csv", *["acr,s1,nobody,,anna,4,2,"] * 3)
    with pytest.raises(RatingsError, match=r"r.csv:2: .*bad as well, 2: line 3, 4"):
        read_ratings(path, VARIANTS)


def test_a_wrong_header_names_the_columns(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("test,sentence,variant,reference,rater,score,time\n", encoding="utf-8")
    with pytest.raises(RatingsError, match=r"r.csv:1: missing column seconds, trap; the columns are test, "):
        read_ratings(path, VARIANTS)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RatingsError, match="UTF-8"):
        read_ratings(path, VARIANTS)


def test_the_spread_of_changes_is_known_from_enough_pairs_that_differ():
    rated = rate_variants(listen(0, 12, 10), VARIANTS)
    assert rated.spread is not None and rated.spread == change_components(listen(0, 12, 10), VARIANTS)
    assert rated.rows is not None and [row.sentences for row in rated.rows] == [10, 10]
    few, equal = listen(0, 6, 10), [rating(name, s, r, 4) for name in VARIANTS for s in range(9) for r in range(9)]
    apart = listen(0, 12, 10, one_variant_per_sentence=True)
    diagonal = apart + [rating("fp32", n, n, 3 + n % 2) for n in range(10)]
    for too_little in (few, equal, apart, diagonal):
        assert rate_variants(too_little, VARIANTS).spread is None
