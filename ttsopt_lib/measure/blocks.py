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
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.stats import reduction
from ttsopt_lib.records import TimingRow
from ttsopt_lib.study import ORIGINAL, PEERS, MeasureSettings

Visit = tuple[int, int]  # number of the row, number of the sentence
WEAKEST_FIRST: list[StoppedBy] = ["budget", "max_blocks", "interval"]  # what one word for all groups should be
FIRST_SHARE = 2.0  # the first thread count is what targets refer to: it gets so many times a later one's time


@dataclass(frozen=True)
class Timing:
    """What :func:`time_rows` found."""

    rows: list[TimingRow]
    stopped_by: StoppedBy
    elapsed_seconds: float
    failed_peers: dict[str, str]  # peer -> why it has no row


def time_rows(
    plan: TimingPlan,
    tick: Callable[[float], None] = lambda elapsed: None,
    started: Callable[[list[int]], None] = lambda pids: None,
    journal: Journal | None = None,
) -> Timing:
    """Time every row of the plan, one number of threads after the other, within the plan's budget.

    ``tick`` gets the seconds since the start, often; ``started`` the process ids of each new set of workers. Pairs
    of blocks that ``journal`` has are not timed again, and each new one is added to it.
    Raises :class:`ttsopt_lib.measure.process.MeasureError` when a variant cannot be timed; a peer that does not load is
    left out. No worker outlives the
    call, and on an interrupt nothing of it is kept but the journal.
    """
    journal = journal or Journal()
    start = time.monotonic() - journal.elapsed_seconds
    failed: dict[str, str] = {}
    shares = [FIRST_SHARE, *[1.0] * (len(plan.thread_counts) - 1)]
    for position, threads in enumerate(plan.thread_counts):
        # Time that an earlier thread count did not need is there for the later ones.
        share = sum(shares[: position + 1]) / sum(shares)
        deadline = start + share * plan.settings.budget_seconds
        done = journal.with_threads(threads)
        if not done or done[-1].stopped_by is None:
            failed |= _time_together(plan, threads, deadline, start, tick, started, journal)
    rows, reasons = [], []
    for threads in plan.thread_counts:
        pairs = journal.with_threads(threads)
        rows += joined(pairs)
        reasons.append(pairs[-1].stopped_by)
    return Timing(rows, min(reasons, key=WEAKEST_FIRST.index), time.monotonic() - start, failed)


def mirrored_visits(rows: int, sentences: int, order: np.random.Generator) -> tuple[list[Visit], list[Visit]]:
    """The visits (row, sentence) of two blocks: a random order of the rows for each sentence, and the mirror."""
    forward = [(row, sentence) for sentence in range(sentences) for row in order.permutation(rows).tolist()]
    return forward, forward[::-1]


def _time_together(
    plan: TimingPlan,
    threads: int,
    deadline: float,
    start: float,
    tick: Callable[[float], None],
    started: Callable[[list[int]], None],
    journal: Journal,
) -> dict[str, str]:
    """Time the rows of one number of threads until ``deadline`` (on the monotonic clock), into the journal.

    Returns peer -> why it was left out.
    """
    settings = plan.settings
    with ExitStack() as stack:
        asked = [stack.enter_context(Worker(row)) for row in plan.rows_with(threads)]
        started([worker.pid for worker in asked])
        loaded: dict[Worker, TimingRow] = {}
        failed: dict[str, str] = {}
        for number in range(1 + settings.warmup_passes):
            for worker in asked:
                if worker.row.variant in failed:
                    continue
                try:
                    if number == 0:
                        loaded[worker] = _load(worker, plan)
                    else:
                        for sentence in range(len(plan.sentences)):
                            worker.time_sentence(sentence)
                except MeasureError as error:
                    if not worker.row.is_peer:
                        raise
                    failed[worker.row.variant] = str(error)
                    worker.close()
                tick(time.monotonic() - start)
        workers = [worker for worker in asked if worker.row.variant not in failed]
        fresh = [loaded[worker] for worker in workers]
        longest_pair, reason = 0.0, None
        while reason is None:
            done = journal.with_threads(threads)
            order = np.random.default_rng([settings.seed, threads, len(done)])
            pair_start = time.monotonic()
            rows = _time_pair(workers, fresh, len(plan.sentences), order, lambda: tick(time.monotonic() - start))
            fresh = [row.model_copy(update={"load_seconds": []}) for row in fresh]
            longest_pair = max(longest_pair, time.monotonic() - pair_start)
            pair = Pair(threads=threads, rows=rows, elapsed_seconds=time.monotonic() - start, stopped_by=None)
            another_fits = deadline - time.monotonic() >= longest_pair
            reason = _reason_to_stop(joined([*done, pair]), 2 * len(done) + 2, another_fits, settings)
            journal.add(pair.model_copy(update={"stopped_by": reason}))
    return failed


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
            tick()
    return rows


def _load(worker: Worker, plan: TimingPlan) -> TimingRow:
    """Have a worker load its model; the row that its samples will go to."""
    loaded = worker.load(plan)
    return TimingRow(
        variant=worker.row.variant,
        runtime=worker.row.runtime,
        threads=worker.row.threads,
        load_seconds=loaded["load_seconds"],
        peak_memory_mb=loaded["idle_memory_mb"],
        idle_memory_mb=loaded["idle_memory_mb"],
        seconds=[],
        audio_seconds=[],
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
    return "interval" if blocks >= settings.enough_blocks and _sharp(rows, settings.interval_width) else None


def _sharp(rows: list[TimingRow], width: float) -> bool:
    """Whether every reduction's interval is narrower than ``width`` (fraction of the baseline). Peers do not decide."""
    for row in rows:
        if row.variant in PEERS:
            continue
        baseline = next(r for r in rows if r.variant == ORIGINAL and r.runtime == row.runtime)
        if row is baseline:
            continue
        low, high = reduction(row, baseline).ci
        if not high - low < width:
            return False
    return True
