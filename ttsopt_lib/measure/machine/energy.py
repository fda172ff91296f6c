"""What a second of speech costs in joules, where the machine has a counter, whose name stands beside the figure.

Intel's and AMD's processors count the energy of their packages (RAPL, read through Linux' powercap), NVIDIA's GPUs
since Volta that of the whole board (NVML). Both count everything that runs there, idle power included: figures are of
the machine at work on one voice, and differences between voices transfer to other machines better than the figures
themselves.

Counters are updated every millisecond (RAPL) to every tenth of a second (NVML), so energy is not read around single
sentences: each row speaks for a while, row after row, forwards and then backwards, after the timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ttsopt_lib.measure.machine import nvidia
from ttsopt_lib.measure.machine.system import read_text
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.records.device import EnergyRecord, EnergyRow

POWERCAP = Path("/sys/class/powercap")
ROUNDS = 8  # of every row; rounds 2k and 2k + 1 are each other's mirror
ROUND_SECONDS = 1.0  # a thousand updates of RAPL, ten of NVML
FEWEST_ROUNDS = 4  # where `limit_seconds` leaves no time for more; below that nothing is measured
OVERHEAD = 1.15  # of a round: its last pass goes on past the second; and of the uncounted pass of each row


class NoCounterError(RuntimeError):
    """No energy counter can be read here. The message says why, and what to do where something can be done."""


class RaplCounter:
    """The processor packages of this machine. To be read at least once in the minutes that a zone takes to wrap."""

    def __init__(self, zones: list[Path]):
        self._zones = zones
        self._ranges = [_microjoules(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_microjoules(zone / "energy_uj") for zone in zones]
        self._total = 0
        names = ", ".join(read_text(zone / "name") or zone.name for zone in zones)
        self.source = f"RAPL ({names}): the whole processor without memory, everything that runs on it"

    def joules(self) -> float:
        """Since this object was made; it never goes back. Raises OSError."""
        now = [_microjoules(zone / "energy_uj") for zone in self._zones]
        for before, after, most in zip(self._last, now, self._ranges, strict=True):
            self._total += after - before if after >= before else after - before + most
        self._last = now
        return self._total / 1e6


EnergyCounter = RaplCounter | nvidia.GpuEnergy  # `source`: what is counted and by whom, for the report


def find_counter(accelerator: bool, powercap: Path = POWERCAP) -> EnergyCounter:
    """The counter of the GPU, or that of the processor. Raises `NoCounterError`."""
    if accelerator:
        try:
            return nvidia.GpuEnergy()
        except nvidia.NvidiaError as error:
            raise NoCounterError(str(error)) from None
    # intel-rapl:0 is a package, intel-rapl:0:0 a part of it; AMD's packages have the same names.
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    packages = [zone for zone in zones if (read_text(zone / "name") or "").startswith("package")]
    if not packages:
        raise NoCounterError(f"this machine has no energy counter that Linux shows ({powercap}/intel-rapl:*)")
    try:
        return RaplCounter(packages)
    except PermissionError as error:
        raise NoCounterError(
            f"{error.filename} may be read by root alone; "
            f"'sudo chmod a+r {powercap}/intel-rapl:*/energy_uj' allows it until the next start"
        ) from None
    except (OSError, ValueError) as error:
        raise NoCounterError(f"the processor's energy counter cannot be read: {error}") from None


def _microjoules(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _joules(counter: EnergyCounter) -> float:
    try:
        return counter.joules()
    except OSError as error:
        raise NoCounterError(f"the energy counter stopped answering: {error}") from None


def energy_seconds(rows: int, rounds: int) -> float:
    """About how long so many rounds of so many rows take."""
    return OVERHEAD * ROUND_SECONDS * rows * rounds


def rounds_within(rows: int, seconds: float) -> int:
    """The rounds of each row that fit, an even number; 0 where those are too few."""
    fitting = 2 * int(min(ROUNDS, seconds / energy_seconds(max(1, rows), 1)) / 2)
    return fitting if fitting >= FEWEST_ROUNDS else 0


def measure_energy(
    plan: TimingPlan,
    powercap: Path = POWERCAP,
    round_seconds: float = ROUND_SECONDS,
    step: Callable[[int, int], None] = lambda done, total: None,
    opened: Callable[[ExitStack], list[Worker]] | None = None,
    end: float = float("inf"),
) -> EnergyRecord:
    """Joules of every row with the first number of threads, or why there are none.

    Args:
        step: gets the rounds done and in all, the uncounted ones among them, and is never called within a round: its
            own time is in no figure.
        opened: gives workers that are open and warm; default: new ones, which are opened one by one.
        end: on the monotonic clock; fewer rounds are made where not all fit before it.

    Raises:
        MeasureError: a model cannot be timed.
    """
    rows = plan.rows_with(plan.thread_counts[0])
    found: dict[Worker, EnergyRow] = {}

    @contextmanager
    def unless_it_fails(worker: Worker) -> Iterator[None]:
        """An optional row that fails is left out."""
        try:
            yield
        except MeasureError:
            if not worker.row.optional:
                raise
            worker.close()
            del found[worker]

    try:
        counter = find_counter(any(row.accelerator for row in rows), powercap)
        with ExitStack() as stack:
            workers = opened(stack) if opened else [stack.enter_context(Worker(row)) for row in rows]
            rounds = rounds_within(len(workers), end - time.monotonic())
            if not rounds:
                raise NoCounterError("no time was left for it within limit_seconds")
            done, total = 0, (1 + rounds) * len(workers)
            for worker in workers:
                step(done, total)
                done += 1
                row = worker.row
                found[worker] = EnergyRow(variant=row.variant, runtime=row.runtime, mode=row.mode, threads=row.threads)
                with unless_it_fails(worker):
                    if opened is None:
                        worker.load(plan)
                    worker.repeat(0.0)  # one uncounted pass
            for number in range(rounds):
                for worker in list(found) if number % 2 == 0 else list(found)[::-1]:
                    step(done, total)
                    done += 1
                    with unless_it_fails(worker):
                        before = _joules(counter)
                        spoken = worker.repeat(round_seconds)
                        found[worker].joules.append(_joules(counter) - before)
                        found[worker].audio_seconds.append(spoken["audio_seconds"])
                        found[worker].seconds.append(spoken["seconds"])
            step(done, done)  # fewer than the total where a row dropped out
    except NoCounterError as error:
        return EnergyRecord(source=None, reason=str(error))
    if any(sum(row.joules) <= 0 for row in found.values()):
        return EnergyRecord(source=None, reason=f"{counter.source}: the counter stood still, as it does in some clouds")
    return EnergyRecord(source=counter.source, reason=None, rows=list(found.values()))
