"""Which candidate is taken: what each one misses, in which order they are tried, and which are on the front.

Everything that is asked has to hold at the worse end of its interval. Candidates that are all but equally large differ
in nothing that anyone notices, so among those the fastest comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttsopt_lib.records.tune import Asks, Candidate

AS_LARGE = 0.02  # of the smallest: a file that is larger by less counts as equally large


def missed(row: Candidate, asks: Asks) -> list[str]:
    """What of the asks a candidate does not hold, in words; of what was not measured nothing is said."""
    found = size_and_speed_missed(row, asks)
    if row.change_ci is not None and row.change_ci[0] < -asks.max_loss:
        found.append(f"predicted MOS may fall by {-row.change_ci[0]:.3f}, and {asks.max_loss:g} was allowed")
    return found


def size_and_speed_missed(row: Candidate, asks: Asks) -> list[str]:
    """The same of size and speed alone, which are known before any sentence is scored."""
    found = []
    if row.size_bytes is not None and asks.max_mb is not None and row.size_bytes > 1e6 * asks.max_mb:
        found.append(f"{row.size_bytes / 1e6:.2f} MB, and {asks.max_mb:g} was the most")
    if row.speedup_ci is not None and row.speedup_ci[0] < asks.min_speedup:
        found.append(f"may be only {row.speedup_ci[0]:.3f} times as fast, and {asks.min_speedup:g} was asked")
    return found


def preference(rows: Sequence[Candidate]) -> list[Candidate]:
    """The candidates in the order in which they are taken if they hold: the smallest first, of equally large the
    fastest. Those that were refused are left out."""
    left = [row for row in rows if row.size_bytes is not None and row.speedup_ci is not None]
    ordered: list[Candidate] = []
    while left:
        smallest = min(row.size_bytes or 0 for row in left)
        alike = [row for row in left if (row.size_bytes or 0) <= smallest * (1 + AS_LARGE)]
        ordered += sorted(alike, key=lambda row: (-(row.speedup_ci or (0.0, 0.0))[0], row.size_bytes, row.name))
        left = [row for row in left if row not in alike]
    return ordered


def nearest(rows: Sequence[Candidate], asks: Asks) -> Candidate | None:
    """The candidate that misses the fewest asks, by the least; None where none was made and measured."""
    measured = [row for row in rows if row.size_bytes is not None and row.speedup_ci is not None and row.change_ci]
    return min(measured, key=lambda row: (len(missed(row, asks)), _shortfall(row, asks)), default=None)


def _shortfall(row: Candidate, asks: Asks) -> float:
    """How far a candidate is from what was asked, all asks together: shares of size and speed, points of MOS."""
    assert row.size_bytes is not None and row.speedup_ci is not None and row.change_ci is not None
    size = math.log(row.size_bytes / (1e6 * asks.max_mb)) if asks.max_mb else 0.0
    speed = math.log(asks.min_speedup / max(row.speedup_ci[0], 1e-9))
    return max(size, 0.0) + max(speed, 0.0) + max(-asks.max_loss - row.change_ci[0], 0.0)


def on_front(rows: Sequence[Candidate]) -> set[str]:
    """Names of the candidates that no other one beats: as small, fast and good in predicted MOS, and better in one.

    Like `nearest`, for figures on the same sentences.
    """
    figures = {
        row.name: (-row.size_bytes, row.speedup, row.change)
        for row in rows
        if row.size_bytes is not None and row.speedup is not None and row.change is not None
    }
    return {
        name
        for name, own in figures.items()
        if not any(
            other != own and all(theirs >= mine for theirs, mine in zip(other, own, strict=True))
            for other in figures.values()
        )
    }
