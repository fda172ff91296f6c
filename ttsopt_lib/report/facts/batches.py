"""Several sentences at once, from a device's raw samples: audio made in a second, and how many times the original's."""

from __future__ import annotations

from collections.abc import Sequence

from ttsopt_lib.records.device import BatchRow
from ttsopt_lib.report.device_schema import BatchSummary
from ttsopt_lib.report.estimates import Estimate
from ttsopt_lib.statistics.intervals import audio_per_second, times_as_much
from ttsopt_lib.study import ORIGINAL

FEWEST = 2  # rounds that an interval takes
ONE = Estimate(value=1.0, ci=(1.0, 1.0))  # the original over itself, by definition


def summarize_batches(rows: Sequence[BatchRow]) -> list[BatchSummary]:
    """Each row at each size beside the original in fp32 with the same runtime, threads and size."""
    return [_summary(row, rows) for row in rows]


def _summary(row: BatchRow, rows: Sequence[BatchRow]) -> BatchSummary:
    measured = len(row.seconds) >= FEWEST
    return BatchSummary(
        **row.model_dump(
            include={"variant", "runtime", "threads", "mode", "batch_size", "sentences", "padding", "device_memory_mb"}
        ),
        rounds=len(row.seconds),
        audio_per_second=Estimate(**audio_per_second(row)._asdict()) if measured else None,
        times_original=_times_original(row, rows) if measured else None,
        reason=row.reason,
    )


def _times_original(row: BatchRow, rows: Sequence[BatchRow]) -> Estimate | None:
    wanted = (ORIGINAL, row.runtime, row.threads, "fp32", row.batch_size)
    place = [(one.variant, one.runtime, one.threads, one.mode, one.batch_size) for one in rows]
    baseline = rows[place.index(wanted)] if wanted in place else None
    if baseline is None or len(baseline.seconds) < FEWEST:
        return None
    return ONE if row is baseline else Estimate(**times_as_much(row, baseline)._asdict())
