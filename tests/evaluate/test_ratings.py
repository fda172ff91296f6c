import numpy as np
import pytest

from ttsopt_lib.evaluate.ratings import rate_variants
from ttsopt_lib.evaluate.ratings_file import COLUMNS, Rating, RatingsError, read_ratings

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
    return [
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


@pytest.mark.parametrize(("raters", "sentences", "apart"), [(10, 10, False), (12, 12, True)])
def test_intervals_cover_the_truth(raters, sentences, apart):
    truth = {name: true_mean(mean) for name, mean in TRUE_MEANS.items()}
    covered_mean, covered_change, trials = 0, 0, 80
    for seed in range(trials):
        rows, note = rate_variants(listen(seed, raters, sentences, apart), VARIANTS, seed)
        assert rows is not None and note is None
        original, other = rows
        assert other.change_ci is not None
        covered_mean += original.ci[0] <= truth["original"] <= original.ci[1]
        covered_change += other.change_ci[0] <= truth["fp32"] - truth["original"] <= other.change_ci[1]
    # A bootstrap over single ratings covers 60 to 75 % of these.
    assert covered_mean >= 0.88 * trials
    assert covered_change >= 0.88 * trials


def test_mean_and_paired_change_are_the_plain_ones():
    ratings = [rating("original", s, r, 4 + (r == 0)) for r in range(3) for s in range(4)]
    ratings += [rating("fp32", s, r, 3 + (r == 0)) for r in range(3) for s in range(2)]
    rows, _ = rate_variants(ratings, VARIANTS)
    assert rows is not None
    original, other = rows
    assert original.mean == pytest.approx((4 * 5 + 8 * 4) / 12)
    assert (original.raters, original.ratings, other.raters, other.ratings) == (3, 12, 3, 6)
    assert original.change is None
    # Every listener heard one point less: the change is known exactly, whoever is drawn.
    assert other.change == pytest.approx(-1) and other.change_ci == pytest.approx((-1, -1))


def test_a_biased_listener_who_heard_one_variant_only_does_not_make_a_change():
    ratings = [rating(name, s, r, 3) for name in VARIANTS for r in range(4) for s in range(4)]
    ratings += [rating("fp32", s, "enthusiast", 5) for s in range(4)]
    rows, _ = rate_variants(ratings, VARIANTS)
    assert rows is not None and rows[1].change == 0 and rows[1].mean > 3


def test_who_fails_a_trap_is_screened_out_and_named():
    ratings = [rating(name, s, r, 4) for name in VARIANTS for r in range(3) for s in range(3)]
    ratings += [rating(name, s, "clicker", 1) for name in VARIANTS for s in range(3)]
    ratings += [rating("original", "trap", r, 2, trap=2) for r in range(3)]
    ratings += [rating("original", "trap", "clicker", 1, trap=2)]
    rows, note = rate_variants(ratings, VARIANTS)
    assert rows is not None and [row.mean for row in rows] == [4, 4]
    assert note is not None and "clicker (6 ratings)" in note


def test_too_few_listeners_give_a_reason_and_no_interval():
    rows, reason = rate_variants([rating("original", s, "one", 4) for s in range(9)], VARIANTS)
    assert rows is None and reason is not None and "1 raters" in reason
    rows, reason = rate_variants([], VARIANTS)
    assert rows is None and reason is not None


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
    rows, _ = rate_variants(ratings * 1, VARIANTS)
    assert rows is None  # one rater


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("acr,s1,original,,anna,6,2,", "score '6': acr asks for a whole number from 1 to 5"),
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
