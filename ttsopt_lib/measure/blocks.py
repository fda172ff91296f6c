"""Carry out a plan: workers side by side, one running at a time, visited in blocks until the figures are sharp.

A block is one pass over all sentences by every row, sentence by sentence: all rows speak the first, in random
order, then all speak the second, and so on, so that rows which are compared are neighbours within a second or two.
The next block runs the same visits backwards. A machine that drifts (warms up, gets busy) touches all rows alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ttsopt_lib.measure.journal import Journal, Pair, StoppedBy, joined
from ttsopt_lib.measure.plan import PlannedRow, TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.stats import reduction
from ttsopt_lib.records import StopRecord, TimingRow
from ttsopt_lib.study import ORIGINAL, MeasureSettings

Visit = tuple[int, int]  # number of the row, number of the sentence
MOST_WARM_UPS = 30  # passes, however restless an accelerator is
STEADY = 0.05  # passes that differ by less take the same time
WEAKEST_FIRST: list[StoppedBy] = ["budget", "max_blocks", "interval"]  # what one word for all groups should be
FIRST_SHARE = 4.0  # the first thread count is what targets refer to: it gets so many times a later one's time


@dataclass(frozen=True)
class Timing:
    """What :func:`time_rows` found."""

    rows: list[TimingRow]
    left_out: list[str]  # optional rows that could not be loaded, and why
    stopped_by: StoppedBy  # one word for all numbers of threads: the weakest of their reasons
    stops: list[StopRecord]
    elapsed_seconds: float


def time_rows(
    plan: TimingPlan,
    tick: Callable[[float], None] = lambda elapsed: None,
    started: Callable[[list[int]], None] = lambda pids: None,
    journal: Journal | None = None,
) -> Timing:
    """Time every row of the plan, one number of threads after the other, within the plan's budget.

    ``tick`` gets the seconds since the start, often; ``started`` the process ids of each new set of workers. Pairs
    of blocks that ``journal`` has are not timed again, and each new one is added to it.
    Raises :class:`ttsopt_lib.measure.process.MeasureError` when a model cannot be timed. No worker outlives the
    call, and on an interrupt nothing of it is kept but the journal.
    """
    journal = journal or Journal()
    start = time.monotonic() - journal.elapsed_seconds
    shares = [FIRST_SHARE, *[1.0] * (len(plan.thread_counts) - 1)]
    left_out: list[str] = []
    for position, threads in enumerate(plan.thread_counts):
        # Time that an earlier thread count did not need is there for the later ones; the first may take theirs as
        # long as it has not enough blocks.
        share = sum(shares[: position + 1]) / sum(shares)
        last = start + plan.settings.budget_seconds
        deadlines = (start + share * plan.settings.budget_seconds, last if position == 0 else 0.0)
        done = journal.with_threads(threads)
        if not done or done[-1].stopped_by is None:
            left_out += _time_together(plan, threads, deadlines, start, tick, started, journal)
    rows, stops = [], []
    for threads in plan.thread_counts:
        pairs = journal.with_threads(threads)
        found = joined(pairs)
        rows += found
        reason = pairs[-1].stopped_by
        assert reason is not None, "timing ended without a reason"
        stops.append(
            StopRecord(threads=threads, blocks=2 * len(pairs), stopped_by=reason, widest_interval=widest(found))
        )
    weakest = min((stop.stopped_by for stop in stops), key=WEAKEST_FIRST.index)
    return Timing(rows, left_out, weakest, stops, time.monotonic() - start)


def mirrored_visits(rows: int, sentences: int, order: np.random.Generator) -> tuple[list[Visit], list[Visit]]:
    """The visits (row, sentence) of two blocks: a random order of the rows for each sentence, and the mirror."""
    forward = [(row, sentence) for sentence in range(sentences) for row in order.permutation(rows).tolist()]
    return forward, forward[::-1]


def _time_together(
    plan: TimingPlan,
    threads: int,
    deadlines: tuple[float, float],
    start: float,
    tick: Callable[[float], None],
    started: Callable[[list[int]], None],
    journal: Journal,
) -> list[str]:
    """Time the rows of one number of threads into the journal; returns which optional rows were left out, and why.

    ``deadlines`` are on the monotonic clock: the first holds once there are enough blocks, until then the later one.
    """
    settings = plan.settings
    rows, left_out = _rows_as_before(plan, threads, journal)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(row)) for row in rows]
        started([worker.pid for worker in workers])
        fresh: list[TimingRow] = []
        for worker in list(workers):
            try:
                fresh.append(_load(worker, plan, lambda: tick(time.monotonic() - start)))
            except MeasureError as error:
                if not worker.row.optional or journal.with_threads(threads):  # its earlier blocks want their neighbours
                    raise
                workers.remove(worker)
                left_out.append(f"not measured: {error}")
        _warm_up(workers, len(plan.sentences), settings, lambda: tick(time.monotonic() - start))
        longest_pair, reason = 0.0, None
        while reason is None:
            done = journal.with_threads(threads)
            order = np.random.default_rng([settings.seed, threads, len(done)])
            pair_start = time.monotonic()
            rows = _time_pair(workers, fresh, len(plan.sentences), order, lambda: tick(time.monotonic() - start))
            fresh = [row.model_copy(update={"load_seconds": []}) for row in fresh]
            longest_pair = max(longest_pair, time.monotonic() - pair_start)
            pair = Pair(threads=threads, rows=rows, elapsed_seconds=time.monotonic() - start, stopped_by=None)
            blocks = 2 * len(done) + 2
            deadline = deadlines[0] if blocks >= settings.enough_blocks else max(deadlines)
            another_fits = deadline - time.monotonic() >= longest_pair
            reason = _reason_to_stop(joined([*done, pair]), blocks, another_fits, settings)
            journal.add(pair.model_copy(update={"stopped_by": reason}))
    return left_out


def _rows_as_before(plan: TimingPlan, threads: int, journal: Journal) -> tuple[tuple[PlannedRow, ...], list[str]]:
    """The rows to time, and why others are not: a run that goes on has the rows that it began with."""
    rows, done = plan.rows_with(threads), journal.with_threads(threads)
    if not done:
        return rows, []
    begun = {(row.variant, row.runtime, row.mode) for row in done[0].rows}
    missing = [row for row in rows if (row.variant, row.runtime, row.mode) not in begun]
    reasons = [f"not measured: {row.label} could not be loaded when the run began" for row in missing]
    return tuple(row for row in rows if row not in missing), reasons


def _warm_up(workers: list[Worker], sentences: int, settings: MeasureSettings, tick: Callable[[], None]) -> None:
    """Uncounted passes: a fixed number, on an accelerator also until two passes take the same time.

    A GPU raises its clock, and compilers and libraries choose their kernels, for longer than a fixed number tells.
    """
    before: dict[int, float] = {}
    for number in range(MOST_WARM_UPS):
        restless = False
        for worker in workers:
            if number >= settings.warmup_passes and not worker.row.accelerator:
                continue
            spent = sum(worker.time_sentence(sentence)["seconds"] for sentence in range(sentences))
            restless |= abs(spent - before.get(worker.pid, 0.0)) > STEADY * spent
            before[worker.pid] = spent
            tick()
        if number + 1 >= settings.warmup_passes and not (restless and any(w.row.accelerator for w in workers)):
            return


def _time_pair(
    workers: list[Worker],
    fresh: list[TimingRow],
    sentences: int,
    order: np.random.Generator,
    tick: Callable[[], None],
) -> list[TimingRow]:
    """Two mirrored blocks: copies of the ``fresh`` rows with their samples."""
    rows = [row.model_copy(deep=True) for row in fresh]
    for visits in mirrored_visits(len(workers), sentences, order):
        for row in rows:
            row.seconds.append([0.0] * sentences)
            row.audio_seconds.append([0.0] * sentences)
        for number, sentence in visits:
            timed, row = workers[number].time_sentence(sentence), rows[number]
            row.seconds[-1][sentence] = timed["seconds"]
            row.audio_seconds[-1][sentence] = timed["audio_seconds"]
            row.peak_memory_mb = max(row.peak_memory_mb, timed["peak_memory_mb"])
            row.device_memory_mb = timed.get("device_memory_mb")
            tick()
    return rows


def _load(worker: Worker, plan: TimingPlan, tick: Callable[[], None]) -> TimingRow:
    """Have a worker load its model; the row that its samples will go to."""
    loaded = worker.load(plan)
    tick()
    return TimingRow(
        variant=worker.row.variant,
        runtime=worker.row.runtime,
        threads=worker.row.threads,
        load_seconds=loaded["load_seconds"],
        peak_memory_mb=loaded["idle_memory_mb"],
        idle_memory_mb=loaded["idle_memory_mb"],
        seconds=[],
        audio_seconds=[],
        mode=worker.row.mode,
        clock=loaded["clock"],
    )


def _reason_to_stop(
    rows: list[TimingRow], blocks: int, another_pair_fits: bool, settings: MeasureSettings
) -> StoppedBy | None:
    """Why no further pair of blocks is timed; None: one more."""
    if blocks < settings.min_blocks:
        return None
    if blocks + 2 > settings.max_blocks:
        return "max_blocks"
    if not another_pair_fits:
        return "budget"
    if blocks < settings.enough_blocks:
        return None
    width = widest(rows)
    return "interval" if width is None or width < settings.interval_width else None


def widest(rows: list[TimingRow]) -> float | None:
    """Width of the widest interval of a reduction (fraction of the baseline); None where there is a baseline alone."""
    widths = []
    for row in rows:
        baseline = next(r for r in rows if r.variant == ORIGINAL and r.runtime == row.runtime)
        if row is not baseline:
            low, high = reduction(row, baseline).ci
            widths.append(high - low)
    return max(widths, default=None)
