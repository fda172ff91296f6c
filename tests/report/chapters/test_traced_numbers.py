"""The test helper that traces numbers to the summary: what is right passes, and what is wrong is found."""

from __future__ import annotations

import pytest
from test_sentences import NAMES, prose
from traced_numbers import NUMBER, Tracer, said

from ttsopt_lib.report import numbers
from ttsopt_lib.report.schema import Estimate, Summary

PERCENT = f"{numbers.NARROW}%"


@pytest.fixture
def one(summary) -> Summary:
    """The good study with figures of its own for distilled-int8: 78 % smaller, 64 % less time, MOS -0.04."""
    found = summary("good")
    row, timing = found.quality_of("distilled-int8"), found.timing_of(found.devices[0], "distilled-int8")
    row.predicted_mos.change = Estimate(value=-0.04, ci=(-0.07, -0.01))
    timing.latency_reduction = Estimate(value=0.64, ci=(0.63, 0.66))
    return found


@pytest.mark.parametrize(
    "sentence",
    [
        "`distilled-int8` is 78 % smaller.",
        "`distilled-int8` takes 64 % [63, 66] less time.",
        "Its predicted MOS (`distilled-int8`) changes by −0.04 [−0.07, −0.01] over all evaluation sentences.",
        "`int8-weights` is 74 % smaller, `distilled-int8` 78 % smaller.",
        "`int8-weights` stores 98.0 % of the parameters as 8-bit integers.",
        "Of 6 variants none was heard.",
    ],
)
def test_what_is_right_is_traced(sentence, one):
    assert Tracer(one).untraced(sentence.replace(" %", PERCENT)) == []


@pytest.mark.parametrize(
    "sentence, found",
    [
        ("`distilled-int8` is 79 % smaller.", "79"),
        ("`distilled-int8` is 78.1 % smaller.", "78.1"),  # right to two digits, printed with three
        ("`distilled-int8` is 78 % larger.", "78"),
        ("`distilled-int8` takes 78 % less time.", "78"),  # a figure of the file's
        ("`distilled-int8` is 74 % smaller.", "74"),  # a figure of another variant's
        ("`distilled-int8` takes 64 % [63, 67] less time.", "64"),
        ("`distilled-int8` changes by −0.04 [−0.07, 0.01].", "−0.04"),
        ("`distilled-int8` changes by +0.04.", "+0.04"),
        ("`distilled-int8` changes by −0.98.", "−0.98"),
        ("`distilled-int8` changes its level by −0.04 dB.", "−0.04"),
        ("`distilled-int8` is 22 % of something.", "22"),  # of no kind that is known
        ("`distilled-int8` is 4 points off.", "4"),
        ("Of 7 variants none was heard.", "7"),
        ("All 5 targets are met.", "5"),
    ],
)
def test_what_is_wrong_is_found(sentence, found, one):
    assert [wrong.value for wrong in Tracer(one).untraced(sentence.replace(" %", PERCENT))] == [found]


def changed(sentence: str) -> list[str]:
    """The sentence with the last digit of one of its numbers raised or lowered by one, in every way."""
    ends = [match.end(group) for match in NUMBER.finditer(sentence) for group in (1, 3, 4, 5, 6) if match.group(group)]
    digits = [(end, int(sentence[end - 1]) + step) for end in ends for step in (-1, 1)]
    return [f"{sentence[: end - 1]}{digit}{sentence[end:]}" for end, digit in digits if 0 <= digit <= 9]


@pytest.mark.parametrize("name", NAMES)
def test_nearly_every_number_that_is_off_by_one_in_its_last_digit_is_found(name, summary):
    one = summary(name)
    trace = Tracer(one)
    wrong = [text for sentence in prose(one) if said(sentence, one) for text in changed(sentence)]
    missed = [text for text in wrong if not trace.untraced(text)]
    assert len(wrong) > 40 and len(missed) < 0.12 * len(wrong), missed
