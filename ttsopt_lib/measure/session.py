"""Carry out a plan on this machine and say what was found: the same on a workstation and on a board far away."""

from __future__ import annotations

from collections.abc import Callable

from ttsopt_lib.measure.blocks import time_rows
from ttsopt_lib.measure.conditions import ConditionsWatch
from ttsopt_lib.measure.doubts import sample_warnings
from ttsopt_lib.measure.journal import Journal, StoppedBy
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.system import describe_system
from ttsopt_lib.records import ProfileRecord, Record, SystemRecord, TimingRow
from ttsopt_lib.study import ORIGINAL_COPY, PEERS


class Findings(Record):
    """Everything that timing a plan found out: plain data, so that it can travel."""

    system: SystemRecord
    rows: list[TimingRow]
    stopped_by: StoppedBy
    elapsed_seconds: float
    warnings: list[str]
    profiles: list[ProfileRecord] = []
    peer_rows: list[TimingRow] = []
    failed_peers: dict[str, str] = {}  # peer -> why it has no row


def time_plan(
    plan: TimingPlan,
    tick: Callable[[float], None] = lambda elapsed: None,
    journal: Journal | None = None,
    accelerator_name: str | None = None,
) -> Findings:
    """Time the plan on this machine and watch the machine meanwhile.

    ``tick`` gets the seconds since the start, often. With a ``journal`` on disk an interrupted run goes on where it
    was. Raises :class:`ttsopt_lib.measure.process.MeasureError` when a model cannot be timed.
    """
    journal = journal or Journal()
    resumed = bool(journal.pairs)
    system = describe_system(accelerator=accelerator_name)
    watch = ConditionsWatch()

    def tick_and_look(elapsed: float) -> None:
        watch.sample()
        tick(elapsed)

    try:
        with watch:
            timing = time_rows(plan, tick_and_look, watch.ignore, journal)
    except BaseException:
        journal.note_warnings(watch.warnings)
        raise
    system.temperature_c, system.throttling = watch.temperature_c, watch.throttling
    found = [*journal.warnings, *watch.warnings]
    profiles = []
    try:
        profiles = profile_rows(plan)
    except MeasureError as error:
        found.append(f"where the time goes was not measured: {error}")
    if resumed:
        found.append("the run was interrupted and went on later: its blocks come from more than one sitting")
    rows = [row for row in timing.rows if row.variant not in PEERS]
    return Findings(
        system=system,
        rows=rows,
        peer_rows=[row for row in timing.rows if row.variant in PEERS],
        failed_peers=timing.failed_peers,
        stopped_by=timing.stopped_by,
        elapsed_seconds=timing.elapsed_seconds,
        warnings=[*dict.fromkeys(found), *sample_warnings(rows, plan.settings)],
        profiles=profiles,
    )


def profile_rows(plan: TimingPlan) -> list[ProfileRecord]:
    """Where the time of each variant goes, with the first number of threads. Raises MeasureError.

    Each in a process of its own, one after another; an accelerator's kernels end after the runtime's clock has
    stopped, so its rows have no profile.
    """
    profiles = []
    for row in plan.rows_with(plan.thread_counts[0]):
        if row.runtime != "onnxruntime" or row.variant == ORIGINAL_COPY or row.is_peer or row.accelerator:
            continue
        with Worker(row) as worker:
            profiles.append(ProfileRecord(variant=row.variant, threads=row.threads, **worker.profile(plan)))
    return profiles
