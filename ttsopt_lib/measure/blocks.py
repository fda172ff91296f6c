"""Carry out a plan: workers side by side, one running at a time, visited in blocks until the figures are sharp.

A block is one pass over all sentences by every row, sentence by sentence: all rows speak the first, in random
order, then all speak the second, and so on, so that rows which are compared are neighbours within a second or two.
The next block runs the same visits backwards. A machine that drifts (warms up, gets busy) touches all rows alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import numpy as np

from ttsopt_lib.measure.journal import Journal, Pair, StoppedBy, joined
from ttsopt_lib.measure.machine.energy import FEWEST_ROUNDS, energy_seconds
from ttsopt_lib.measure.opening import Opened, Step, may_be_left_out, open_rows
from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.measure.plan import LeftOut, PlannedRow, PlannedSentence, TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.scenarios.batches import batch_reserve
from ttsopt_lib.records.device import PLAUSIBLE_LENGTH, StopRecord, TimingRow
from ttsopt_lib.statistics.intervals import reduction
from ttsopt_lib.study import ORIGINAL, PEERS, MeasureSettings

Visit = tuple[int, int]  # number of the row, number of the sentence
WEAKEST_FIRST: list[StoppedBy] = ["budget", "max_blocks", "interval"]  # a run reports the weakest of its reasons
FIRST_SHARE = 4.0  # the first thread count is what targets refer to: it gets so many times a later one's time


@dataclass(frozen=True)
class Timing:
    """What `time_rows` found."""

    rows: list[TimingRow]
    left_out: list[LeftOut]  # optional rows, peers among them
    stopped_by: StoppedBy  # one word for all numbers of threads: the weakest of their reasons
    stops: list[StopRecord]
    elapsed_seconds: float
    workers: list[Worker] = field(default_factory=list)  # still open: those that `keep` holds


@dataclass
class _Clock:
    """How long a run has worked: its earlier sittings count, what is not counted towards the budget does not.

    On an accelerator opening has a time of its own; elsewhere it counts towards the budget.
    """

    start: float  # on the monotonic clock, moved back by what earlier sittings took
    opening_seconds: float  # so far, where they have a time of their own
    end: float  # of the blocks, on the monotonic clock, whatever is missing then

    @property
    def elapsed(self) -> float:
        """Seconds of the run, with its opening."""
        return time.monotonic() - self.start

    @property
    def counted(self) -> float:
        """Those that count towards the budget."""
        return self.elapsed - self.opening_seconds


def time_rows(
    plan: TimingPlan,
    tick: Callable[[float], None] = lambda elapsed: None,
    started: Callable[[list[int]], None] = lambda pids: None,
    journal: Journal | None = None,
    step: Step = lambda work, done, total: None,
    opened: Callable[[Opened], None] = lambda found: None,
    keep: ExitStack | None = None,
) -> Timing:
    """Time every row of the plan, one number of threads after the other, within the plan's budget.

    Pairs of blocks that `journal` has are not timed again, and each new one is added to it at once. No worker outlives
    the call, except with `keep`, and on an interrupt nothing of it is kept but the journal.

    Args:
        tick: gets the seconds of the budget that are gone, often.
        started: gets the process ids of new workers.
        step: gets how far opening and warming up are.
        opened: gets what was opened, before it is timed.
        keep: holds the accelerator's workers of the first number of threads open for what follows.

    Raises:
        MeasureError: a row cannot be timed. An optional one that fails, at once or later, is left out, and so is a
            variant that runs and does not speak, or is not ready in time.
    """
    journal = journal or Journal()
    settings = plan.settings
    begun, limit = time.monotonic(), settings.limit_seconds
    end = float("inf") if limit is None else begun + limit - energy_reserve(plan) - batch_reserve(plan)
    clock = _Clock(begun - journal.elapsed_seconds, journal.opening_seconds, end)
    shares = [FIRST_SHARE, *[1.0] * (len(plan.thread_counts) - 1)]
    accelerated = any(row.accelerator for row in plan.rows)
    timed: list[Worker] = []
    for position, threads in enumerate(plan.thread_counts):
        # Time that an earlier thread count did not need is there for the later ones; the first may take theirs as
        # long as it has not enough blocks.
        share = sum(shares[: position + 1]) / sum(shares)
        budgets = (share * settings.budget_seconds, settings.budget_seconds if position == 0 else 0.0)
        done = journal.with_threads(threads)
        if not done or done[-1].stopped_by is None:
            held = keep if position == 0 and accelerated else None
            gone = list(done[-1].left_out) if done else []  # a run that goes on has the rows of its earlier blocks
            with nullcontext(held) if held else ExitStack() as stack:
                rows = open_rows(plan.without(gone).rows_with(threads), plan, stack, started, step)
                rows.left_out = gone + rows.left_out
                clock.opening_seconds += rows.seconds if accelerated else 0.0
                opened(rows)
                workers = _time_together(plan, threads, rows, budgets, clock, tick, journal)
            timed = workers if held else timed
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
    return Timing(rows, left_out, weakest, stops, journal.elapsed_seconds, timed)


def energy_reserve(plan: TimingPlan) -> float:
    """What is kept of `limit_seconds` for the fewest rounds of energy, and one to spare."""
    return 0.0 if plan.only_timing else energy_seconds(len(plan.rows_with(plan.thread_counts[0])), FEWEST_ROUNDS + 1)


def mirrored_visits(rows: int, sentences: int, order: np.random.Generator) -> tuple[list[Visit], list[Visit]]:
    """The visits (row, sentence) of two blocks: a random order of the rows for each sentence, and the mirror."""
    forward = [(row, sentence) for sentence in range(sentences) for row in order.permutation(rows).tolist()]
    return forward, forward[::-1]


def _time_together(
    plan: TimingPlan,
    threads: int,
    opened: Opened,
    budgets: tuple[float, float],
    clock: _Clock,
    tick: Callable[[float], None],
    journal: Journal,
) -> list[Worker]:
    """Time open rows of one number of threads into the journal; the workers that are left.

    The first of the `budgets` holds once there are enough blocks, until then the larger one.
    """
    settings = plan.settings
    workers, fresh, left_out = list(opened.ready), list(opened.ready.values()), opened.left_out
    longest_pair, reason = 0.0, None
    while reason is None:
        done = journal.with_threads(threads)
        order = np.random.default_rng([settings.seed, threads, len(done)])
        pair_start = time.monotonic()
        samples, failed = _time_pair(workers, fresh, plan.sentences, order, lambda: tick(clock.counted))
        left_out = left_out + failed
        gone = [one.row for one in failed]
        kept = [(worker, row) for worker, row in zip(workers, fresh, strict=True) if worker.row not in gone]
        workers = [worker for worker, _ in kept]
        fresh = [
            row.model_copy(update={"load_seconds": [], "first_seconds": [], "new_length_seconds": []})
            for _, row in kept
        ]
        if not failed:  # one that waited for a dead worker says nothing about the next
            longest_pair = max(longest_pair, time.monotonic() - pair_start)
        pair = Pair(
            threads=threads,
            rows=samples,
            elapsed_seconds=clock.elapsed,
            opening_seconds=clock.opening_seconds,
            stopped_by=None,
            left_out=left_out,
        )
        blocks = 2 * len(done) + 2
        budget = budgets[0] if blocks >= settings.enough_blocks else max(budgets)
        another_fits = clock.counted + longest_pair <= budget
        reason = _reason_to_stop(joined([*done, pair]), blocks, another_fits, settings)
        if reason is None and time.monotonic() + longest_pair > clock.end:
            reason = "budget"
        journal.add(pair.model_copy(update={"stopped_by": reason}))
    return workers


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
                if not may_be_left_out(worker.row, error):
                    raise
                worker.close()
                failed[number] = LeftOut(row=worker.row, reason=str(error))
                continue
            row.seconds[-1][sentence] = timed["seconds"]
            row.audio_seconds[-1][sentence] = timed["audio_seconds"]
            row.peak_memory_mb = max(row.peak_memory_mb or 0.0, timed["peak_memory_mb"])
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


def _odd_length(
    row: PlannedRow, timed: TimingRow, original: TimingRow, sentences: Sequence[PlannedSentence]
) -> str | None:
    """Why a row does not speak as the original does: it takes much less or more time for a sentence; None: it does."""
    if not row.speaks or (row.is_peer and CATALOGUE[row.variant].another_voice):
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
