"""What the samples themselves say against believing them, as sentences for the report (after pyperf's checks)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ttsopt_lib.measure.stats import reduction
from ttsopt_lib.measure.system import usable_cores
from ttsopt_lib.records import TimingRow
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, MeasureSettings

UNSTABLE = 0.10  # standard deviation / mean of a row's blocks, pyperf's limit
ENOUGH_FOR_P95 = 20  # fewer blocks have nothing above their 95th percentile


def sample_warnings(rows: list[TimingRow], settings: MeasureSettings) -> list[str]:
    """Every doubt about rows timed together, one sentence each, with the runtime and thread count it is about."""
    found = []
    for runtime, threads in dict.fromkeys((row.runtime, row.threads) for row in rows):
        group = [row for row in rows if (row.runtime, row.threads) == (runtime, threads)]
        where = f"{runtime}, {threads} thread{'s' if threads > 1 else ''}"
        found += [f"{where}: {doubt}" for doubt in _group_doubts(group, threads, settings)]
    return found


def _group_doubts(group: list[TimingRow], threads: int, settings: MeasureSettings) -> Iterator[str]:
    blocks = len(group[0].seconds)
    if threads > usable_cores():
        yield f"the machine has {usable_cores()} cores only, so the threads waited for one another"
    if blocks < ENOUGH_FOR_P95:
        yield f"{blocks} blocks are too few for a 95th percentile; it is no more than the slowest block"
    unstable = [f"{row.name} {100 * variation(row):.0f} %" for row in group if variation(row) > UNSTABLE]
    if unstable:
        yield f"unstable latencies (standard deviation over mean): {', '.join(unstable)}"
    yield from _reduction_doubts(group, settings)


def _reduction_doubts(group: list[TimingRow], settings: MeasureSettings) -> Iterator[str]:
    """Wide intervals, and an A/A row that found a difference where there is none."""
    baseline = next(row for row in group if row.variant == ORIGINAL)
    wide = []
    for row in group:
        if row is baseline:
            continue
        value, (low, high) = reduction(row, baseline)
        if high - low >= settings.interval_width:
            wide.append(f"{row.name} {100 * (high - low):.1f}")
        if row.variant == ORIGINAL_COPY and not low <= 0 <= high:
            yield (
                f"the original timed against itself differs by {100 * value:.1f} % [{100 * low:.1f}, "
                f"{100 * high:.1f}]: do not believe differences of that size"
            )
    if wide:
        yield (
            f"intervals of the reduction wider than {100 * settings.interval_width:g} percentage points: "
            f"{', '.join(wide)}"
        )


def variation(row: TimingRow) -> float:
    """Standard deviation over mean of the blocks' seconds."""
    blocks = np.asarray(row.seconds).sum(axis=1)
    return float(blocks.std(ddof=1) / blocks.mean())
