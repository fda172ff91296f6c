"""Numbers as the report prints them: one way for each kind, with a true minus sign and the unit.

Prose, tables and figures all print through these functions, so that the same figure never reads two ways.
"""

from __future__ import annotations

from ttsopt_lib.report.schema import Estimate, Interval

MINUS = "\N{MINUS SIGN}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
DASH = "\N{EN DASH}"


def number(value: float, digits: int = 0) -> str:
    """``value`` with a true minus sign; never a minus zero."""
    text = f"{value:,.{digits}f}".replace(",", NARROW)
    if text.startswith("-"):
        text = MINUS + text[1:]
    return text.removeprefix(MINUS) if not any(digit in text for digit in "123456789") else text


def percent(fraction: float, digits: int = 0) -> str:
    """0.724 -> '72 %'."""
    return number(100 * fraction, digits) + NARROW + "%"


def percent_interval(ci: Interval | None) -> str:
    """(0.41, 0.46) -> '[41, 46]'; empty where there is none."""
    return f"[{number(100 * ci[0])}, {number(100 * ci[1])}]" if ci else ""


def reduction(estimate: Estimate | None) -> str:
    """'44 % [42, 46]'."""
    return f"{percent(estimate.value)} {percent_interval(estimate.ci)}".strip() if estimate else "not measured"


def less(fraction: float, smaller: str, larger: str) -> str:
    """0.44 -> '44 % smaller', -0.03 -> '3 % larger', 0.001 -> 'as large': signs in words, for prose."""
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


def change(estimate: Estimate | None, digits: int = 2) -> str:
    """'−0.10 [−0.18, −0.02]'."""
    if estimate is None:
        return "not measured"
    interval = f" [{signed(estimate.ci[0], digits)}, {signed(estimate.ci[1], digits)}]" if estimate.ci else ""
    return signed(estimate.value, digits) + interval


def score(value: float, ci: Interval | None) -> str:
    """'4.03 [3.98, 4.08]'."""
    interval = f" [{number(ci[0], 2)}, {number(ci[1], 2)}]" if ci else ""
    return number(value, 2) + interval


def milliseconds(value: float) -> str:
    """Three significant digits at most: 4.31, 43.1, 431."""
    return number(value, 2 if value < 10 else 1 if value < 100 else 0)


def megabytes(size_bytes: float) -> str:
    """MB of 10^6 bytes."""
    return number(size_bytes / 1e6, 1)


def millions(count: float) -> str:
    """Parameters in millions: '15.65'."""
    return number(count / 1e6, 2)
