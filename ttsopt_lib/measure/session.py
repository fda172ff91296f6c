"""Carry out a plan on this machine and say what was found: the same on a workstation and on a board far away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from ttsopt_lib.measure.blocks import Timing, time_rows
from ttsopt_lib.measure.journal import Journal, StoppedBy
from ttsopt_lib.measure.machine.conditions import ConditionsWatch, memory_warnings
from ttsopt_lib.measure.machine.energy import measure_energy
from ttsopt_lib.measure.machine.nvidia import busier, look_at_gpu
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.opening import Opened, Step, open_rows
from ttsopt_lib.measure.plan import LeftOut, TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.sample_checks import sample_doubts
from ttsopt_lib.measure.scenarios.batches import batch_reserve, batch_rows, measure_batches
from ttsopt_lib.measure.scenarios.first_sound import measure_first_sound
from ttsopt_lib.records.base import Record, now
from ttsopt_lib.records.device import (
    BatchRow,
    Doubt,
    EnergyRecord,
    FirstSoundRecord,
    GpuRecord,
    ProfileRecord,
    SittingRecord,
    StopRecord,
    SystemRecord,
    TimingRow,
)
from ttsopt_lib.study import ORIGINAL_COPY, PEERS


class Findings(Record):
    """Everything that timing a plan found out: plain data, so that it can travel."""

    system: SystemRecord
    rows: list[TimingRow]
    stopped_by: StoppedBy
    stops: list[StopRecord]
    sittings: list[SittingRecord]
    energy: EnergyRecord | None = None
    batches: list[BatchRow] = []
    elapsed_seconds: float
    warnings: list[Doubt]
    profiles: list[ProfileRecord] = []
    peer_rows: list[TimingRow] = []
    left_out: list[LeftOut] = []  # optional rows, peers among them
    first_sound: FirstSoundRecord | None = None


def time_plan(
    plan: TimingPlan,
    tick: Callable[[float], None] = lambda elapsed: None,
    journal: Journal | None = None,
    accelerator_name: str | None = None,
    step: Step = lambda work, done, total: None,
) -> Findings:
    """Time the plan on this machine and watch the machine meanwhile.

    `tick` gets the seconds of the budget that are gone, often; `step` the units done and in all of what comes before
    and after the timing: "opening", "warming up"; "energy", "sentences at once", "where the time goes". Neither is
    called while anything is being timed. With a `journal` on disk an interrupted run goes on where it was. Raises
    `MeasureError` when a model cannot be timed.
    """
    journal = journal or Journal()
    limit = plan.settings.limit_seconds
    end = float("inf") if limit is None else time.monotonic() + limit
    system = describe_system(accelerator=accelerator_name)
    watch, short_memory = ConditionsWatch(), memory_warnings(plan)
    number, seen, sitting = len(journal.sittings), len(journal.pairs), SittingRecord(started=now())
    accelerated = any(row.accelerator for row in plan.rows)
    gpu_before, gpu_at_work = look_at_gpu() if accelerated else None, None

    def note_opening(found: Opened) -> None:
        sitting.opening_seconds = (sitting.opening_seconds or 0.0) + found.seconds
        sitting.opened_at_once = found.at_once
        note_sitting()

    def note_sitting() -> None:
        sitting.temperature_c, sitting.throttling = watch.temperature_c, watch.throttling
        sitting.warnings = [*short_memory, *watch.warnings]
        journal.note_sitting(number, sitting)

    def look_again() -> None:
        nonlocal gpu_at_work
        if accelerated:  # between two pieces of work: nothing may run beside what is timed
            gpu_at_work = busier(gpu_at_work, look_at_gpu())

    def tick_and_look(elapsed: float) -> None:
        nonlocal seen
        watch.sample()
        if len(journal.pairs) > seen:  # persist now: after a kill this is lost
            seen = len(journal.pairs)
            watch.look()
            note_sitting()
            look_again()
        tick(elapsed)

    with ExitStack() as kept:
        try:
            with watch:
                note_sitting()
                timing = time_rows(plan, tick_and_look, watch.ignore, journal, step, note_opening, kept)
        finally:
            note_sitting()
        system.temperature_c, system.throttling = watch.temperature_c, watch.throttling
        sittings = journal.counted_sittings()
        look_again()
        plan = plan.without(timing.left_out)
        energy = _energy(plan, timing, end - batch_reserve(plan), step)
        look_again()
        batches = _batches(plan, timing, end, step)
        look_again()
        system.gpu = (gpu_before, gpu_at_work)
        found = [*_warnings(sittings, timing), *gpu_warnings(gpu_at_work)]
    profiles: list[ProfileRecord] = []
    first_sound = None
    if not plan.only_timing:
        try:
            first_sound = measure_first_sound(plan, partial(step, "first sound"), end)
        except MeasureError as error:
            found.append(f"first sound was not measured: {error}")
        try:
            profiles = profile_rows(plan, partial(step, "where the time goes"))
        except MeasureError as error:
            found.append(f"where the time goes was not measured: {error}")
    rows = [row for row in timing.rows if row.variant not in PEERS]
    return Findings(
        system=system,
        rows=rows,
        peer_rows=[row for row in timing.rows if row.variant in PEERS],
        left_out=timing.left_out,
        stopped_by=timing.stopped_by,
        stops=timing.stops,
        sittings=sittings,
        energy=energy,
        batches=batches,
        elapsed_seconds=timing.elapsed_seconds,
        warnings=[*(Doubt(text=text) for text in dict.fromkeys(found)), *sample_doubts(rows, plan.settings)],
        profiles=profiles,
        first_sound=first_sound,
    )


def _warnings(sittings: list[SittingRecord], timing: Timing) -> list[str]:
    """What the machine was like, what was left out, and whether the run was interrupted."""
    found = [text for one in sittings for text in one.warnings]
    variants = [one for one in timing.left_out if not one.row.is_peer]  # a peer's row says it
    found += [f"not measured: {one.reason}" for one in variants]
    if sum(not one.first_look for one in sittings) > 1:
        found.append("the run was interrupted and went on later: its blocks come from more than one sitting")
    return found


def _energy(plan: TimingPlan, timing: Timing, end: float, step: Step) -> EnergyRecord:
    """Joules, or why there are none; an accelerator's rows stay open for them, because opening takes minutes."""
    if plan.only_timing:
        return EnergyRecord(source=None, reason="a first look times blocks alone; the complete report measures energy")

    def opened(stack: ExitStack) -> list[Worker]:
        if timing.workers:
            return timing.workers
        return list(open_rows(plan.rows_with(plan.thread_counts[0]), plan, stack, step=step).ready)

    accelerated = any(row.accelerator for row in plan.rows)
    try:
        return measure_energy(plan, step=partial(step, "energy"), opened=opened if accelerated else None, end=end)
    except MeasureError as error:
        return EnergyRecord(source=None, reason=str(error))


def _batches(plan: TimingPlan, timing: Timing, end: float, step: Step) -> list[BatchRow]:
    """Several sentences at once; last, because an accelerator's rows that take no part are closed before it."""

    def opened(stack: ExitStack) -> list[Worker]:
        return timing.workers or list(open_rows(batch_rows(plan), plan, stack, step=step).ready)

    accelerated = any(row.accelerator for row in plan.rows)
    return measure_batches(plan, partial(step, "sentences at once"), opened if accelerated else None, end)


def gpu_warnings(gpu: GpuRecord | None) -> list[str]:
    """What the GPU says against its own clock while it was at work; its clock where it tells that."""
    if gpu is None or not gpu.held_back:
        return []
    clock = "" if gpu.clock_mhz is None else f": {gpu.clock_mhz:.0f} MHz"
    return [f"the GPU's clock was held back while timing ({', '.join(gpu.held_back)}){clock}"]


def profile_rows(plan: TimingPlan, step: Callable[[int, int], None] = lambda done, total: None) -> list[ProfileRecord]:
    """Where the time of each variant goes, with the first number of threads. Raises MeasureError.

    Each in a process of its own, one after another; an accelerator's kernels end after the runtime's clock has
    stopped, so its rows have no profile.
    """
    rows = [
        row
        for row in plan.rows_with(plan.thread_counts[0])
        if row.runtime == "onnxruntime" and row.variant != ORIGINAL_COPY and not row.is_peer and not row.accelerator
    ]
    profiles = []
    for row in rows:
        step(len(profiles), len(rows))
        with Worker(row) as worker:
            profiles.append(ProfileRecord(variant=row.variant, threads=row.threads, **worker.profile(plan)))
    step(len(profiles), len(rows))
    return profiles
