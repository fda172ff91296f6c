"""Carry out a plan: workers side by side, one running at a time, visited in blocks until the figures are sharp.

A block is one pass over all sentences by every row, sentence by sentence: all rows speak the first, in random
order, then all speak the second, and so on, so that rows which are compared are neighbours within a second or two.
The next block runs the same visits backwards. A machine that drifts (warms up, gets busy) touches all rows alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from ttsopt_lib.measure.journal import Journal, Pair, StoppedBy, joined
from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.measure.plan import LeftOut, PlannedRow, PlannedSentence, TimingPlan
from ttsopt_lib.measure.process import MeasureError, NoSpeechError, Worker
from ttsopt_lib.records.device import PLAUSIBLE_LENGTH, StopRecord, TimingRow
from ttsopt_lib.statistics.intervals import reduction
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, PEERS, MeasureSettings

Visit = tuple[int, int]  # number of the row, number of the sentence
MOST_WARM_UPS = 30  # passes, however restless an accelerator is
STEADY = 0.05  # passes that differ by less take the same time
WEAKEST_FIRST: list[StoppedBy] = [
    "budget",
    "max_blocks",
    "interval",
]  # the run reports the weakest reason of its groups
FIRST_SHARE = 4.0  # the first thread count is what targets refer to: it gets so many times a later one's time


@dataclass(frozen=True)
class Timing:
    """What `time_rows` found."""

    rows: list[TimingRow]
    left_out: list[LeftOut]  # optional rows, peers among them
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

    `tick` gets the seconds since the start, often; `started` the process ids of each new set of workers. Pairs
    of blocks that `journal` has are not timed again, and each new one is added to it.
    Raises `MeasureError` when a row cannot be timed; an optional one that
    fails, at once or later, is left out, and so is a variant that runs and does not speak. No worker outlives the call,
    and on an interrupt nothing of it is kept but the journal.
    """
    journal = journal or Journal()
    start = time.monotonic() - journal.elapsed_seconds
    shares = [FIRST_SHARE, *[1.0] * (len(plan.thread_counts) - 1)]
    for position, threads in enumerate(plan.thread_counts):
        # Time that an earlier thread count did not need is there for the later ones; the first may take theirs as
        # long as it has not enough blocks.
        share = sum(shares[: position + 1]) / sum(shares)
        last = start + plan.settings.budget_seconds
        deadlines = (start + share * plan.settings.budget_seconds, last if position == 0 else 0.0)
        done = journal.with_threads(threads)
        if not done or done[-1].stopped_by is None:
            _time_together(plan, threads, deadlines, start, tick, started, journal)
    rows, left_out, stops = [], [], []
    for threads in plan.thread_counts:
        pairs = journal.with_threads(threads)
        found = joined(pairs)
        rows += found
        left_out += pairs[-1].left_out
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
) -> None:
    """Time the rows of one number of threads into the journal.

    `deadlines` are on the monotonic clock: the first holds once there are enough blocks, until then the later one.
    """
    settings = plan.settings

    def tick_now() -> None:
        tick(time.monotonic() - start)

    rows, left_out = _rows_as_before(plan, threads, journal)
    with ExitStack() as stack:
        asked = [stack.enter_context(Worker(row)) for row in rows]
        started([worker.pid for worker in asked])
        ready, failed = _make_ready(asked, plan, tick_now)
        workers, fresh = list(ready), list(ready.values())
        left_out += failed
        longest_pair, reason = 0.0, None
        while reason is None:
            done = journal.with_threads(threads)
            order = np.random.default_rng([settings.seed, threads, len(done)])
            pair_start = time.monotonic()
            samples, failed = _time_pair(workers, fresh, plan.sentences, order, tick_now)
            left_out = left_out + failed
            gone = [one.row for one in failed]
            kept = [(worker, row) for worker, row in zip(workers, fresh, strict=True) if worker.row not in gone]
            workers = [worker for worker, _ in kept]
            fresh = [row.model_copy(update={"load_seconds": []}) for _, row in kept]
            if not failed:  # one that waited for a dead worker says nothing about the next
                longest_pair = max(longest_pair, time.monotonic() - pair_start)
            elapsed = time.monotonic() - start
            pair = Pair(threads=threads, rows=samples, elapsed_seconds=elapsed, stopped_by=None, left_out=left_out)
            blocks = 2 * len(done) + 2
            deadline = deadlines[0] if blocks >= settings.enough_blocks else max(deadlines)
            another_fits = deadline - time.monotonic() >= longest_pair
            reason = _reason_to_stop(joined([*done, pair]), blocks, another_fits, settings)
            journal.add(pair.model_copy(update={"stopped_by": reason}))


def _rows_as_before(plan: TimingPlan, threads: int, journal: Journal) -> tuple[tuple[PlannedRow, ...], list[LeftOut]]:
    """The rows to time, and those that are not: a run that goes on has no rows without samples in earlier blocks."""
    done = journal.with_threads(threads)
    left_out = list(done[-1].left_out) if done else []
    return plan.without(left_out).rows_with(threads), left_out


def _make_ready(
    workers: list[Worker], plan: TimingPlan, tick: Callable[[], None]
) -> tuple[dict[Worker, TimingRow], list[LeftOut]]:
    """Load and warm up; the workers that can be timed, each with the row for its samples, and what is left out.

    The warm-up is a fixed number of uncounted passes, on an accelerator also until two passes take the same time: a GPU
    raises its clock, and compilers and libraries choose their kernels, for longer than a fixed number tells.
    """
    ready: dict[Worker, TimingRow] = {}
    left_out: list[LeftOut] = []

    @contextmanager
    def unless_it_fails(worker: Worker) -> Iterator[None]:
        try:
            yield
        except MeasureError as error:
            if not _may_be_left_out(worker.row, error):
                raise
            worker.close()
            ready.pop(worker, None)
            left_out.append(LeftOut(row=worker.row, reason=str(error)))
        tick()

    for worker in workers:
        worker.prepare()
    prepared = []
    for worker in workers:
        with unless_it_fails(worker):
            worker.wait()
            prepared.append(worker)
    for worker in prepared:
        with unless_it_fails(worker):
            ready[worker] = _load(worker, plan)
    passes, before = plan.settings.warmup_passes, dict.fromkeys(workers, 0.0)
    for number in range(MOST_WARM_UPS):
        restless = False
        for worker in list(ready):
            if number >= passes and not worker.row.accelerator:
                continue
            with unless_it_fails(worker):
                spent = sum(worker.time_sentence(sentence)["seconds"] for sentence in range(len(plan.sentences)))
                restless |= worker.row.accelerator is not None and abs(spent - before[worker]) > STEADY * spent
                before[worker] = spent
        if number + 1 >= passes and not restless:
            break
    return ready, left_out


def _time_pair(
    workers: list[Worker],
    fresh: list[TimingRow],
    sentences: Sequence[PlannedSentence],
    order: np.random.Generator,
    tick: Callable[[], None],
) -> tuple[list[TimingRow], list[LeftOut]]:
    """Two mirrored blocks: copies of the `fresh` rows with their samples.

    An optional row whose worker fails meanwhile is not among them; it is left out from then on, with the reason. So is
    any but the original's that does not speak.
    """
    rows = [row.model_copy(deep=True) for row in fresh]
    failed: dict[int, LeftOut] = {}
    for visits in mirrored_visits(len(workers), len(sentences), order):
        for row in rows:
            row.seconds.append([0.0] * len(sentences))
            row.audio_seconds.append([0.0] * len(sentences))
        for number, sentence in visits:
            if number in failed:
                continue
            worker, row = workers[number], rows[number]
            try:
                timed = worker.time_sentence(sentence)
            except MeasureError as error:
                if not _may_be_left_out(worker.row, error):
                    raise
                worker.close()
                failed[number] = LeftOut(row=worker.row, reason=str(error))
                continue
            row.seconds[-1][sentence] = timed["seconds"]
            row.audio_seconds[-1][sentence] = timed["audio_seconds"]
            row.peak_memory_mb = max(row.peak_memory_mb, timed["peak_memory_mb"])
            row.device_memory_mb = timed.get("device_memory_mb")
            tick()
    spoke = {number: row for number, row in enumerate(rows) if number not in failed}
    original = next((row for row in spoke.values() if row.variant == ORIGINAL), None)
    for number, row in spoke.items():
        worker = workers[number]
        reason = _odd_length(worker.row, row, original, sentences) if original else None
        if reason:
            worker.close()
            failed[number] = LeftOut(row=worker.row, reason=reason)
    return [row for number, row in enumerate(rows) if number not in failed], list(failed.values())


def _may_be_left_out(row: PlannedRow, error: MeasureError) -> bool:
    """Whether the others are timed without it; without the original there is nothing to compare them with."""
    return row.optional or (isinstance(error, NoSpeechError) and row.variant not in (ORIGINAL, ORIGINAL_COPY))


def _odd_length(
    row: PlannedRow, timed: TimingRow, original: TimingRow, sentences: Sequence[PlannedSentence]
) -> str | None:
    """Why a row does not speak as the original does: it takes much less or more time for a sentence; None: it does."""
    if not row.speaks or any(peer.another_voice for name, peer in CATALOGUE.items() if name == row.variant):
        return None
    low, high = PLAUSIBLE_LENGTH
    for number, sentence in enumerate(sentences):
        audio, expected = timed.audio_seconds[-1][number], original.audio_seconds[-1][number]
        if not low * expected <= audio <= high * expected:
            return (
                f"{row.label} does not speak: its audio of {sentence.text!r} is {audio:.3f} s long, "
                f"the original's {expected:.3f} s"
            )
    return None


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
        if row.variant in PEERS:
            continue
        baseline = next(r for r in rows if r.variant == ORIGINAL and r.runtime == row.runtime)
        if row is not baseline:
            low, high = reduction(row, baseline).ci
            widths.append(high - low)
    return max(widths, default=None)
