import jiwer
import pytest

from ttsopt_lib.evaluate.characters import character_error_rate, character_errors, spoken_characters

SPOKEN = ["It's a well-known café.", "Two cats sat."]
HEARD = ["its a well known cafes", "too cats"]


def test_each_character_that_is_heard_wrong_missed_or_added_counts_once():
    assert character_errors("Two cats sat.", "Two cats sat") == 0
    assert character_errors("Two cats sat.", "too cats sat") == 1
    assert character_errors("Two cats sat.", "two cats") == 4  # the space as well
    assert character_errors("Two cats", "two cats sat") == 4
    assert character_errors("Two cats", "") == spoken_characters("Two cats") == 8


def test_the_rate_is_that_of_jiwer_on_the_text_that_words_are_compared_in():
    expected = jiwer.cer(["its a well known cafe", "two cats sat"], ["its a well known cafes", "too cats"])
    assert character_error_rate(SPOKEN, HEARD) == pytest.approx(expected)
    assert expected == pytest.approx((1 + 5) / (21 + 12))


def test_a_sentence_without_words_has_no_characters_to_miss():
    assert character_error_rate(["..."], ["what"]) is None and character_error_rate([], []) is None
    assert character_error_rate(["...", "a cat"], ["what", "a cut"]) == pytest.approx(1 / 5)
