"""Open the rows of one number of threads and warm them up, in a time of their own.

On a processor rows are opened one by one, so that nothing disturbs the load times, and all are warmed up in turn. On an
accelerator, where a row takes many seconds to open and the cores wait most of them, a few rows are opened at the same
time; each is warmed up alone until it is steady. A row that is not ready in its share of the time is left out, with
what it was doing; a baseline that is not ready ends the measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock

import psutil

from ttsopt_lib.measure.machine.conditions import worker_mb
from ttsopt_lib.measure.machine.nvidia import free_memory_mb
from ttsopt_lib.measure.machine.system import usable_cores
from ttsopt_lib.measure.plan import LeftOut, PlannedRow, TimingPlan
from ttsopt_lib.measure.process import MeasureError, NoSpeechError, NotReadyError, Worker
from ttsopt_lib.records.device import TimingRow
from ttsopt_lib.study import OPENING_SHARE, ORIGINAL, ORIGINAL_COPY, MeasureSettings

MOST_AT_ONCE = 6  # rows that are opened at the same time
CORES_EACH = 2  # of a row that is being opened: importing and loading keep one busy, the driver's threads another
MOST_PASSES = 12  # of the warm-up on an accelerator, however restless it is
STEADY = 0.05  # passes that differ by less take the same time
LOOK_SECONDS = 0.1  # between two looks at the rows that are being opened
ROW_GPU_MB = 2000.0  # of a GPU's memory: what a row may take there until it is warm; assumed, not measured

Step = Callable[[str, int, int], None]


@dataclass
class Opened:
    """The rows that can be timed, each with the row for its samples, and those that cannot."""

    ready: dict[Worker, TimingRow] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    at_once: int = 1
    seconds: float = 0.0

    def leave_out(self, row: PlannedRow, error: MeasureError) -> None:
        """Go on without a row. Raises `error` where the others need it."""
        if not may_be_left_out(row, error):
            raise error
        self.left_out.append(LeftOut(row=row, reason=str(error)))


def may_be_left_out(row: PlannedRow, error: MeasureError) -> bool:
    """Whether the others are timed without it; without the original there is nothing to compare them with."""
    if row.optional:
        return True
    if isinstance(error, NotReadyError):
        return row.variant != ORIGINAL
    return isinstance(error, NoSpeechError) and row.variant not in (ORIGINAL, ORIGINAL_COPY)


def rows_at_once(rows: Sequence[PlannedRow], cores: int, free_mb: float) -> int:
    """How many rows are opened at the same time: one on a processor, else as many as cores and memory allow."""
    if not any(row.accelerator for row in rows):
        return 1
    largest = max(worker_mb(row) for row in rows)
    return max(1, min(MOST_AT_ONCE, cores // CORES_EACH, int(free_mb // largest), len(rows)))


def opening_limit(rows: int, at_once: int, settings: MeasureSettings) -> float:
    """The most that opening and warming up so many rows may take, seconds."""
    shares = settings.opening_seconds * (1 + -(-rows // at_once))  # one more: they warm up one after another
    return shares if settings.limit_seconds is None else min(shares, OPENING_SHARE * settings.limit_seconds)


def open_rows(
    rows: Sequence[PlannedRow],
    plan: TimingPlan,
    stack: ExitStack,
    started: Callable[[list[int]], None] = lambda pids: None,
    step: Step = lambda work, done, total: None,
) -> Opened:
    """Open and warm up; the workers, ready or not, end with `stack`.

    Args:
        started: gets the process ids of new workers.
        step: gets "opening" or "warming up", and how much of it is done of how much.

    Raises:
        MeasureError: a row that the others need cannot be timed, or is not ready in its share of the time.
    """
    start = time.monotonic()
    step("opening", 0, len(rows))
    open_all = _side_by_side if any(row.accelerator for row in rows) else _one_by_one
    found = open_all(rows, plan, stack, started, step)
    found.seconds = time.monotonic() - start
    return found


def _one_by_one(
    rows: Sequence[PlannedRow], plan: TimingPlan, stack: ExitStack, started: Callable[[list[int]], None], step: Step
) -> Opened:
    """All import their runtimes side by side, which is no part of a load time; then one after another loads."""
    found, settings = Opened(), plan.settings
    workers = [stack.enter_context(Worker(row)) for row in rows]
    started([worker.pid for worker in workers])

    @contextmanager
    def unless_it_fails(worker: Worker) -> Iterator[None]:
        try:
            yield
        except MeasureError as error:
            _leave_out(worker, error, found)

    for worker in workers:
        worker.prepare()
        worker.allow(settings.opening_seconds * max(1.0, len(rows) / usable_cores()))  # they share the cores
    prepared = []
    for worker in workers:
        with unless_it_fails(worker):
            worker.wait()
            prepared.append(worker)
    for number, worker in enumerate(prepared):
        step("opening", number, len(prepared))
        with unless_it_fails(worker):
            worker.allow(settings.opening_seconds)
            found.ready[worker] = _load(worker, plan)
    step("opening", len(prepared), len(prepared))
    done, total = 0, settings.warmup_passes * len(found.ready)
    for number in range(settings.warmup_passes):
        for worker in list(found.ready):
            step("warming up", done, total)
            done += 1
            with unless_it_fails(worker):
                worker.allow(settings.opening_seconds)
                _speak_all(worker, found.ready[worker], plan, first=number == 0)
    step("warming up", total, total)
    for worker in found.ready:
        worker.allow(None)
    return found


def _side_by_side(
    rows: Sequence[PlannedRow], plan: TimingPlan, stack: ExitStack, started: Callable[[list[int]], None], step: Step
) -> Opened:
    """A few rows import and load at the same time; one at a time warms up."""
    at_once = rows_at_once(rows, usable_cores(), psutil.virtual_memory().available / 1e6)
    found, share = Opened(at_once=at_once), plan.settings.opening_seconds
    most = opening_limit(len(rows), at_once, plan.settings)
    end = time.monotonic() + most
    slots = BoundedSemaphore(at_once)  # of rows that import and load
    turn = Lock()  # of the row that speaks: alone, or its first runs and its passes would be another's too
    loaded: list[PlannedRow] = []  # or failed
    running: dict[Future[TimingRow], Worker] = {}

    def late(row: PlannedRow, doing: str) -> NotReadyError:
        return NotReadyError(
            f"{row.label} was not ready within the {most:.0f} s for opening all rows: {doing}; "
            "limit_seconds in the device's file sets it"
        )

    def make_ready(worker: Worker) -> TimingRow:
        try:
            worker.allow(min(share, end - time.monotonic()))
            began = time.monotonic()
            worker.prepare()
            worker.wait()
            row = _load(worker, plan)
            left = share - (time.monotonic() - began)
        finally:
            loaded.append(worker.row)
            slots.release()
        if not turn.acquire(timeout=max(0.0, end - time.monotonic())):
            raise late(worker.row, "it was open and waited for its turn to speak")
        try:
            left = min(left, end - time.monotonic())
            worker.allow(left, share=share)
            _warm_up(worker, row, plan, time.monotonic() + left)
            # an answer that takes longer than everything before is none
            worker.allow(None, patience=share)
        finally:
            turn.release()
        return row

    def look() -> None:
        """Take what has become ready, and say how far everything is."""
        for future in [one for one in running if one.done()]:
            worker = running.pop(future)
            try:
                found.ready[worker] = future.result()
            except MeasureError as error:
                _leave_out(worker, error, found)
        if len(loaded) < len(rows):
            step("opening", len(loaded), len(rows))
        else:
            step("warming up", len(found.ready) + len(found.left_out), len(rows))

    order = sorted(rows, key=lambda row: row.optional)  # baselines first: without them there is nothing
    workers: list[Worker] = []
    with ThreadPoolExecutor(len(order), thread_name_prefix="row") as pool:
        try:
            for row in order:
                while not slots.acquire(timeout=LOOK_SECONDS):
                    look()
                while (short := _short_of_memory(len(running))) and running:
                    wait(running, LOOK_SECONDS, FIRST_COMPLETED)  # what they take is known when they are warm
                    look()
                if short:
                    slots.release()
                    loaded.append(row)
                    found.leave_out(row, NotReadyError(f"{row.label} was not opened: {short}"))
                    continue
                if time.monotonic() >= end:
                    slots.release()
                    loaded.append(row)
                    found.leave_out(row, late(row, "its turn to open never came"))
                    continue
                worker = stack.enter_context(Worker(row))  # here: it ends with the thread that started it
                workers.append(worker)
                started([worker.pid])
                running[pool.submit(make_ready, worker)] = worker
                look()
            while running:
                wait(running, LOOK_SECONDS, FIRST_COMPLETED)
                look()
        except BaseException:
            for worker in workers:
                worker.kill()  # the threads that wait for them end, too
            raise
    found.ready = dict(sorted(found.ready.items(), key=lambda opened: rows.index(opened[0].row)))
    return found


def _short_of_memory(opening: int) -> str:
    """Why the GPU has no room for one more row beside those being opened; empty where it has, or does not tell."""
    free = free_memory_mb()
    needed = ROW_GPU_MB * (opening + 1)
    if free is None or free >= needed:
        return ""
    return (
        f"{free:.0f} MB of the GPU's memory were free, and a row may take {ROW_GPU_MB:.0f} MB; time fewer variants or "
        "modes, or end what else uses the GPU"
    )


def _leave_out(worker: Worker, error: MeasureError, found: Opened) -> None:
    """Go on without a worker and its row. Raises `error` where the others need it."""
    found.leave_out(worker.row, error)
    worker.close()
    found.ready.pop(worker, None)


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


def _speak_all(worker: Worker, row: TimingRow, plan: TimingPlan, first: bool) -> float:
    """One uncounted pass over the sentences; its seconds. The `first` one has the first run of each sentence."""
    timed = [worker.time_sentence(number) for number in range(len(plan.sentences))]
    if first:
        row.first_seconds = [one["first_seconds"] for one in timed]
    return sum(one["seconds"] for one in timed)


def _warm_up(worker: Worker, row: TimingRow, plan: TimingPlan, end: float) -> None:
    """Passes until two take the same time; after the most of them, or where no other fits before `end`, as it is.

    A GPU raises its clock, and compilers and libraries choose their kernels, for longer than a fixed number tells.
    """
    before, change = None, None
    for number in range(max(MOST_PASSES, plan.settings.warmup_passes)):
        began = time.monotonic()
        spent = _speak_all(worker, row, plan, first=number == 0)
        taken = time.monotonic() - began
        # A figure beside others: it must not cost the row its time, as another compilation would.
        if number == 0 and "compiled" not in row.mode and time.monotonic() + 2 * taken < end:
            row.new_length_seconds = [worker.time_new_length(one) for one in range(len(plan.sentences))]
        if before is not None:
            change = abs(spent - before) / spent
            if number + 1 >= plan.settings.warmup_passes and change <= STEADY:
                return
            if time.monotonic() + (time.monotonic() - began) > end:
                break
        before = spent
    row.unsteady = change
