"""Error rates: which a report has, and what they are called.

What a recognizer hears is held against the text, as errors of words and of characters; of characters alone in a
language that is written without spaces. A recognizer that does not know the language is held against what it hears of
the original. Then the original has no errors by definition, so a voice is compared with the original with other noise,
and all names say "relative".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ttsopt_lib.evaluate.intelligibility import WITHOUT_SPACES
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.report.estimates import Estimate, estimate
from ttsopt_lib.report.schema import Summary, WerSummary


class Rates(NamedTuple):
    """The rates of a report.

    Attributes:
        main: the one that is printed and tested, by its name in tables and in `summary.json`.
        heading: of its column.
        change: heading of the column with its change.
        errors: what it counts.
        fine: the rate of characters beside it, if it is one of words.
    """

    main: str
    heading: str
    change: str
    errors: str
    fine: str | None

    @property
    def relative(self) -> bool:
        """Whether what is heard of the original stands in place of the text."""
        return self is RELATIVE


WORDS = Rates("wer", "WER / CER", "WER change, points", "word errors", "cer")
CHARACTERS = Rates("cer", "CER", "CER change, points", "character errors", None)
RELATIVE = Rates(
    "relative_wer", "Relative WER", "Relative WER beside other noise, points", "relative word errors", "relative_cer"
)


def rates_of(found: QualityRecord | Summary) -> Rates:
    """The rates that a record or a report has."""
    if found.asr_against == "original":
        return RELATIVE
    return CHARACTERS if found.asr_language in WITHOUT_SPACES else WORDS


def rate_of(row: Any, name: str) -> Estimate | None:
    """A row's rate of this name, with an interval where it was counted sentence by sentence; None: not measured."""
    found, figures = getattr(row, name), figures_of(row, name)
    return estimate(found.value if isinstance(found, WerSummary) else found, figures and figures.ci)


def figures_of(row: Any, name: str) -> WerSummary | None:
    """The same with its change, where it was counted sentence by sentence."""
    return getattr(row, figures_field(name))


def figures_field(name: str) -> str:
    """Where a row has them."""
    return name if name.startswith("relative") else f"{name}_figures"
