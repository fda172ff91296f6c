"""Numbers as the report prints them: one way for each kind, with a true minus sign and the unit.

Prose, tables and figures all print through this file, so that the same figure never reads two ways. A figure with its
interval is printed by its `Unit`; the table of units is at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from ttsopt_lib.report.estimates import Estimate, Interval

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"


def number(value: float, digits: int = 0) -> str:
    """`value` with a true minus sign; never a minus zero."""
    text = f"{value:,.{digits}f}".replace(",", NARROW)
    if text.startswith("-"):
        text = MINUS + text[1:]
    return text.removeprefix(MINUS) if not any(digit in text for digit in "123456789") else text


def percent(fraction: float, digits: int = 0) -> str:
    """0.724 -> '72 %'."""
    return number(100 * fraction, digits) + NARROW + "%"


def less(fraction: float, smaller: str, larger: str) -> str:
    """0.44 -> '44 % smaller', -0.03 -> '3 % larger', 0.001 -> '0 % smaller': signs in words, for prose."""
    if percent(abs(fraction)).startswith("0"):
        return f"{percent(0.0)} {smaller}"
    return f"{percent(abs(fraction))} {smaller if fraction > 0 else larger}"


def percent_change(reduced_by: float) -> str:
    """A reduction as a change: 0.72 -> '−72 %', -0.02 -> '+2 %', 0.001 -> '±0 %'."""
    text = signed(-100 * reduced_by, 0)
    return ("±0" if text == "0" else text) + NARROW + "%"


def signed(value: float, digits: int = 2) -> str:
    """-0.1 -> '−0.10', 0.02 -> '+0.02'."""
    text = number(value, digits)
    return text if text.startswith(MINUS) or not any(digit in text for digit in "123456789") else "+" + text


def milliseconds(value: float) -> str:
    """Three significant digits at most: 4.31, 43.1, 431."""
    return number(value, _three(value))


def _three(value: float) -> int:
    return 2 if value < 10 else 1 if value < 100 else 0


def millions(count: float) -> str:
    """Parameters in millions: '15.65'."""
    return MILLIONS.number(count)


def counted(count: int, what: str) -> str:
    """'1 thread', '2 threads'."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def megabytes(size_bytes: float) -> str:
    """MB of 10^6 bytes."""
    return FILE_SIZE.number(size_bytes)


class Unit(NamedTuple):
    """How a kind of figure is printed: alone, with its interval, and as a difference between two reports.

    Attributes:
        name: The unit, with the space before it.
        digits: Digits after the point. None: three significant ones at most.
        scale: What the figure is multiplied by before it is printed.
        per: What it is divided by.
        ratio: Whether two reports differ by a ratio (in per cent) or by a difference.
        signed: Whether a plus sign is printed.
        change: Unit of a difference. None: `name`.
        relative: Whether the figure is against the original, whose own is zero by definition.
    """

    name: str
    digits: int | None
    scale: float = 1.0
    ratio: bool = False
    signed: bool = False
    change: str | None = None
    relative: bool = False
    per: float = 1.0

    @property
    def bare(self) -> Unit:
        """The unit as it is printed below a heading that names it."""
        return self._replace(name="")

    def number(self, value: float, digits: int | None = None) -> str:
        """'−0.10', without the unit; with the unit's digits unless others are given."""
        value = self.scale * value / self.per
        digits = self._least(value) if digits is None else digits
        return (signed if self.signed else number)(value, digits)

    def _least(self, scaled: float) -> int:
        return _three(scaled) if self.digits is None else self.digits

    def value(self, value: float) -> str:
        """'12.3 ms'."""
        return self.number(value) + self.name

    def interval(self, ci: Interval | None) -> str:
        """'[12.1, 12.6]'; empty where there is none."""
        return f"[{self.number(ci[0])}, {self.number(ci[1])}]" if ci else ""

    def figure(self, estimate: Estimate | None) -> str:
        """'12.3 ms [12.1, 12.6]'."""
        return f"{self.value(estimate.value)} {self.interval(estimate.ci)}".rstrip() if estimate else "not measured"

    def exact(self, target: float) -> str:
        """A target with all the digits that the study wrote: '62.5 %', and '−0.10' with no fewer than any figure."""
        scaled = self.scale * target / self.per
        least = self._least(scaled)
        digits = next((d for d in range(least, 10) if abs(round(scaled, d) - scaled) < 1e-9), least)
        return self.number(target, digits) + self.name

    def digits_beside(self, end: float, target: float) -> int:
        """The fewest digits that print `end` on its own side of a target; where even four do not, the unit's."""
        end, target = (self.scale * one / self.per for one in (end, target))
        target, least = round(target, 9), self._least(end)

        def apart(digits: int) -> bool:
            shown = round(end, digits)
            return shown != target and (shown < target) == (end < target)

        return next((digits for digits in range(least, 5) if apart(digits)), least)

    def beside(self, estimate: Estimate, target: float, *, low: bool = True) -> tuple[str, str]:
        """A figure and its interval as they stand beside a target, which the `low` end or the other has to meet."""
        judged = estimate.ends[0 if low else 1]
        judged_number = self.number(judged, self.digits_beside(judged, target))
        if estimate.ci is None:
            return judged_number + self.name, ""
        ends = (judged_number, self.number(estimate.ci[1])) if low else (self.number(estimate.ci[0]), judged_number)
        return self.value(estimate.value), f"[{', '.join(ends)}]"

    def difference(self, change: Estimate) -> str:
        """'+1.5 % [+1.0, +2.0]', '+0.10 dB'; the `change` of a ratio is a fraction of the figure before."""
        return self._of_differences.figure(change)

    def is_nothing(self, change: Estimate) -> bool:
        """Whether a change is so small that it prints as zero."""
        return not any(digit in self._of_differences.number(change.value) for digit in "123456789")

    @property
    def _of_differences(self) -> Unit:
        if self.ratio:
            return Unit(" %", 1, 100, signed=True)
        return self._replace(name=self.name if self.change is None else self.change, signed=True)


# --- the table of units -----------------------------------------------------------------------------------------

COUNT = Unit("", 0)
FILE_SIZE = Unit(" MB", 1, ratio=True, per=1e6)
MEMORY = Unit(" MB", 0, ratio=True)
MILLIONS = Unit("", 2, per=1e6)  # of parameters
MS = Unit(" ms", None)
MILLISECONDS = Unit(" ms", 1, ratio=True)
MS_PER_SECOND = Unit(" ms", 1, 1000, ratio=True)
RTF = Unit("", 3)
AUDIO_PER_SECOND = Unit(" s", None)
TIMES = Unit(" times", 2)
JOULES = Unit(" J", 2, ratio=True)
SHARE = Unit(f"{NARROW}%", 0, 100)
PERCENT = Unit(f"{NARROW}%", 1, 100, change=" percentage points")
REDUCTION = Unit(f"{NARROW}%", 0, 100, relative=True)
RATE_CHANGE = Unit("", 1, 100, signed=True, relative=True)  # of an error rate, in points of a per cent
SCORE = Unit("", 2)
CHANGE = Unit("", 2, signed=True, relative=True)  # of a score
COSINE = Unit("", 3)
DECIBELS = Unit(" dB", 2)
LEVEL_CHANGE = Unit(" dB", 1, signed=True, relative=True)
CENTS = Unit(" cents", 1)


def unit_of(claim: str) -> Unit:
    """The unit of a claim of the verdict, and of its target."""
    if claim == "first_sound_ms":
        return MS
    return CHANGE if claim.endswith("change") else REDUCTION
