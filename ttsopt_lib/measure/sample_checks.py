"""What the samples themselves say against believing them, for the report (after pyperf's checks)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ttsopt_lib.measure.machine.system import usable_cores
from ttsopt_lib.records.device import Doubt, TimingRow
from ttsopt_lib.statistics.intervals import reduction
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, MeasureSettings

UNSTABLE = 0.10  # standard deviation / mean of a row's blocks, pyperf's limit
ENOUGH_FOR_P95 = 20  # fewer blocks have nothing above their 95th percentile


Found = tuple[str, dict[str, str]]  # what is doubtful, and the rows in which it is, with their figures


def sample_doubts(rows: list[TimingRow], settings: MeasureSettings, cores: int | None = None) -> list[Doubt]:
    """Every doubt about rows timed together, with the runtime and thread count it is about.

    Args:
        cores: of the machine that timed them; None: it was this one.
    """
    cores = usable_cores() if cores is None else cores
    return [
        Doubt(text=text, runtime=runtime, threads=threads, rows=figures)
        for runtime, threads in dict.fromkeys((row.runtime, row.threads) for row in rows)
        for text, figures in _group_doubts(
            [row for row in rows if (row.runtime, row.threads) == (runtime, threads)], threads, settings, cores
        )
    ]


def _group_doubts(group: list[TimingRow], threads: int, settings: MeasureSettings, cores: int) -> Iterator[Found]:
    blocks = len(group[0].seconds)
    if threads > cores:
        yield f"the machine has {cores} cores only, so the threads waited for one another", {}
    if blocks < ENOUGH_FOR_P95:
        yield f"{blocks} blocks are too few for a 95th percentile; it is no more than the slowest block", {}
    unstable = {row.name: f"{100 * variation(row):.0f} %" for row in group if variation(row) > UNSTABLE}
    if unstable:
        yield "unstable latencies (standard deviation over mean)", unstable
    restless = {row.name: f"{100 * row.unsteady:.0f} %" for row in group if row.unsteady is not None}
    if restless:
        yield "not steady when the warm-up ended (change between its last two passes)", restless
    yield from _reduction_doubts(group, settings)


def _reduction_doubts(group: list[TimingRow], settings: MeasureSettings) -> Iterator[Found]:
    """Wide intervals, and an A/A row that found a difference where there is none."""
    baseline = next(row for row in group if row.variant == ORIGINAL)
    wide: dict[str, str] = {}
    for row in group:
        if row is baseline:
            continue
        value, (low, high) = reduction(row, baseline)
        if high - low >= settings.interval_width:
            wide[row.name] = f"{100 * (high - low):.1f}"
        if row.variant == ORIGINAL_COPY and not low <= 0 <= high:
            yield (
                (
                    f"the original timed against itself differs by {100 * value:.1f} % [{100 * low:.1f}, "
                    f"{100 * high:.1f}]: do not believe differences of that size"
                ),
                {},
            )
    if wide:
        yield f"intervals of the reduction wider than {100 * settings.interval_width:g} percentage points", wide


def variation(row: TimingRow) -> float:
    """Standard deviation over mean of the blocks' seconds."""
    blocks = np.asarray(row.seconds).sum(axis=1)
    return float(blocks.std(ddof=1) / blocks.mean())
