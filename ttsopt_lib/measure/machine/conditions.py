"""When not to believe a timing: what else the machine did meanwhile, as sentences for the report.

`ConditionsWatch` compares the machine before and after; `measure/sample_checks.py` looks at the
samples themselves. A figure that the machine does not tell raises no warning: silence is "not known", too.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import psutil

from ttsopt_lib.measure.machine.cpu_quota import Quota, find_quota
from ttsopt_lib.measure.machine.system import (
    firmware_flags,
    governor,
    read_text,
    temperature_c,
    throttling,
    throttling_words,
    usable_cores,
)
from ttsopt_lib.measure.plan import PlannedRow, TimingPlan
from ttsopt_lib.records.device import BeforeAfter

BUSY_CORES = 0.2  # others' average load that shows in the figures of a one-thread run on two cores
CLOCK_FALL = 0.85  # the clock wanders by a few percent on a healthy machine
STEAL = 0.02
SAMPLE_SECONDS = 2.0
CPUS = Path("/sys/devices/system/cpu")
# A worker's peak in MB (10^6 bytes): Python, its runtime and what a sentence takes, and so much for a byte of the file.
# Fitted to the peaks of the default study; their sum is within 10 %, a single row may be far off.
WORKER_MB, TORCH_WORKER_MB = 250.0, 600.0
WORKER_MB_PER_FILE_MB = 1.5
ACCELERATED_WORKER_MB = 2000.0  # with CUDA's libraries; assumed, nobody has measured it here
HOT_C = 80.0  # a Raspberry Pi lowers its clock from here on; other processors a little later


class ConditionsWatch:
    """Watch the machine while something is timed: `with ConditionsWatch() as watch: ...; watch.warnings`."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.temperature_c: BeforeAfter = (None, None)
        self.throttling: tuple[list[str] | None, list[str] | None] = (None, None)
        self._own_pids = {os.getpid()}
        self._clocks: list[float] = []
        self._last_sample = 0.0

    def __enter__(self) -> ConditionsWatch:
        self._start = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()
        self._processes = _process_seconds()
        self._steal = _steal_seconds()
        self._throttles = _throttle_count()
        self._quota = find_quota()
        self._swap = psutil.swap_memory().sout
        self._firmware = firmware_flags()
        self.temperature_c = (temperature_c(), None)
        self.throttling = (throttling(), None)
        return self

    def ignore(self, pids: list[int]) -> None:
        """These processes are ours, not somebody else's load."""
        self._own_pids.update(pids)

    def sample(self) -> None:
        """Note the clock frequency; call it often while a core is at work."""
        if time.monotonic() - self._last_sample < SAMPLE_SECONDS:
            return
        self._last_sample = time.monotonic()
        clock = _fastest_clock_mhz()
        if clock:
            self._clocks.append(clock)

    def __exit__(self, *_: object) -> None:
        self.look()

    def look(self) -> None:
        """Compare the machine now with how it was at the start: `warnings`, temperature, throttling."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        self.temperature_c = (self.temperature_c[0], temperature_c())
        self.throttling = (self.throttling[0], throttling())
        steal = (_steal_seconds() - self._steal) / elapsed
        self.warnings = [
            *self._busy_warnings(elapsed),
            *quota_warnings(self._quota, find_quota(), usable_cores()),
            *self._clock_and_heat_warnings(),
            *_power_warnings(),
        ]
        if steal > STEAL * usable_cores():
            self.warnings.append(
                f"the host took {steal:.2f} cores from this virtual machine (steal time): latencies include the wait"
            )
        if psutil.swap_memory().sout > self._swap:
            self.warnings.append("memory ran short and was swapped out while timing: latencies include it")

    def others_load(self) -> float:
        """Cores that processes other than ours have used on average since the start."""
        own = _own_seconds() - self._own + sum(_live_seconds(pid) for pid in self._own_pids - {os.getpid()})
        others = _busy_seconds() - self._busy - own
        return others / max(time.monotonic() - self._start, 1e-9)

    def _busy_warnings(self, elapsed: float) -> list[str]:
        """Others' load, and who it was, where the process is still there to be asked."""
        others = self.others_load()
        if others < BUSY_CORES:
            return []
        used = {
            key: (seconds - self._processes.get(key, 0.0)) / elapsed
            for key, seconds in _process_seconds().items()
            if key[0] not in self._own_pids
        }
        busiest = max(used, key=lambda key: used[key], default=None)
        who = ""
        if busiest and used[busiest] >= BUSY_CORES / 2:
            who = f"; the busiest was {busiest[1]!r} with {100 * used[busiest]:.0f} % of a core"
        return [
            f"other processes used {others:.1f} of {os.cpu_count()} cores while timing{who}: "
            f"close them and measure again for sharper figures"
        ]

    def _clock_and_heat_warnings(self) -> list[str]:
        found, clocks = [], self._clocks
        throttles = _throttle_count() - self._throttles
        if throttles > 0:
            found.append(f"the processor was throttled for heat {throttles} times while timing: cool it")
        if clocks and min(clocks) < CLOCK_FALL * max(clocks):
            found.append(
                f"the clock went between {min(clocks):.0f} and {max(clocks):.0f} MHz while timing: "
                f"latencies in ms depend on when they were taken; reductions are paired and depend less"
            )
        flags, before = firmware_flags() or 0, self._firmware or 0
        states = throttling_words(flags & ~before | flags & 0xF)  # noted since the timing began, and what is so now
        if states:
            found.append(f"the Raspberry Pi reports: {', '.join(states)}; check cooling and power supply")
        heat = self.temperature_c[1]
        if heat is not None and heat >= HOT_C:
            found.append(
                f"the processor was at {heat:.0f} °C when the timing ended: cool it, or it will lower its clock"
            )
        return found


def quota_warnings(before: Quota | None, after: Quota | None, cores: int) -> list[str]:
    """What a limit on processor time did to the timing, on a machine that shows `cores` cores."""
    if after is None or after.cores >= cores:
        return []
    held = after.held_back - (before.held_back if before else 0)
    seconds = after.seconds - (before.seconds if before else 0.0)
    did = f"held the timing back {held} times, for {seconds:.1f} s in all" if held else "did not hold the timing back"
    return [
        f"a limit on this container (processor time of {after.cores:g} of the {cores} cores that it shows) {did}: "
        "latencies with more threads than that include such waits; raise it (docker: --cpus) or ask for fewer threads"
    ]


def memory_warnings(plan: TimingPlan) -> list[str]:
    """Whether the workers that are there together, all those of one number of threads, fit into the free memory.

    Ask before they start. The machine goes on either way: it may swap, or kill a worker.
    """
    available = psutil.virtual_memory().available / 1e6
    groups = [plan.rows_with(threads) for threads in plan.thread_counts]
    largest = max(groups, key=lambda rows: sum(map(worker_mb, rows)))
    needed = sum(map(worker_mb, largest))
    if needed <= available:
        return []
    return [
        f"the {len(largest)} rows that are timed together need about {needed:.0f} MB of memory and {available:.0f} MB "
        f"were free: time a study of fewer variants on this device, or take a device with more memory"
    ]


def worker_mb(row: PlannedRow) -> float:
    """Peak memory of a row's worker as expected from its runtime and the size of its file, MB (10^6 bytes)."""
    own = TORCH_WORKER_MB if row.runtime == "pytorch" else WORKER_MB
    own = ACCELERATED_WORKER_MB if row.accelerator else own
    size = row.model.stat().st_size if row.model.is_file() else 0  # a missing file is the worker's to complain of
    return own + WORKER_MB_PER_FILE_MB * size / 1e6


def _busy_seconds() -> float:
    """Core seconds that the machine has worked since it started, without what its host took."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "nice", 0.0) + getattr(times, "softirq", 0.0)


def _own_seconds() -> float:
    """Core seconds of this process and of its ended children, the workers among them."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def _live_seconds(pid: int) -> float:
    """Core seconds of a process that has not ended yet; one that has is among the ended children, where it is ours."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _process_seconds() -> dict[tuple[int, str], float]:
    """(process id, name) -> core seconds so far, of every process that may be looked at."""
    found = {}
    for process in psutil.process_iter(["pid", "name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            found[process.info["pid"], process.info["name"]] = times.user + times.system
    return found


def _steal_seconds() -> float:
    return getattr(psutil.cpu_times(), "steal", 0.0)


def _throttle_count() -> int:
    """Times that a core was throttled for heat since the start, over all cores; 0 where it is not told."""
    counts = (read_text(path) for path in CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return sum(int(count) for count in counts if count)


def _fastest_clock_mhz() -> float | None:
    clocks = [read_text(path) for path in CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    return max((int(clock) / 1000 for clock in clocks if clock), default=None)


def _power_warnings() -> list[str]:
    found = []
    mode = governor()
    if mode and mode != "performance":
        found.append(f"the frequency governor is '{mode}', not 'performance': the clock follows the load")
    if _on_battery():
        found.append("the machine runs on battery: plug it in and measure again")
    return found


def _on_battery() -> bool:
    """Whether a battery is there and nothing charges it; psutil wants a folder of /sys that containers may lack."""
    try:
        battery = getattr(psutil, "sensors_battery", lambda: None)()
    except OSError:
        return False
    return battery is not None and battery.power_plugged is False
