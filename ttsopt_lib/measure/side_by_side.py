"""Which of some graphs is faster, and by how much? They are timed beside a reference, in one process.

A block is one pass over all utterances by every graph: all graphs speak the first in random order, then the second,
and so on. The next block runs the same visits backwards (A B, B A), so that a machine that drifts touches all alike.
What is compared is the time for each sample of audio, because two voices need not speak equally long. The
interval of a ratio comes from `statistics/intervals.py`, as that of a report's reductions.

A report's timings are made elsewhere (`blocks.py`): with a process for every row. This is for a search that has to
know within a minute or two what pays on one machine. It needs nothing but files, so that a board can do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ttsopt_lib.records.base import Record
from ttsopt_lib.statistics.intervals import log_ratio_interval
from ttsopt_lib.step_settings import Strict
from ttsopt_lib.voices.session import open_session, runner

Feed = Mapping[str, np.ndarray]  # a graph's inputs by name
Timer = Callable[[str, Callable[[], Any]], float]  # runs a graph of that name once (samples); returns seconds
REFERENCE = "reference"  # the name under which a timer gets the graph that all others are compared with
LEAST_SECONDS = 1e-9  # of a run: a clock that stood still gives no ratio


class Speed(Record):
    """How fast a graph is beside the reference."""

    speedup: float  # how many times as fast: 1.25 does the same in 80 % of the time
    ci: tuple[float, float]  # its 95 % interval
    blocks: int  # that it rests on
    reference_seconds: float  # median over the blocks of what the reference took for all utterances


class Patience(Strict):
    """When a comparison stops."""

    width: float = 0.02  # an interval whose high end is less than this above its low end is narrow enough
    min_blocks: int = Field(default=8, ge=2)  # that are timed in any case; two at a time
    max_blocks: int = 40  # after which it stops, however wide the interval
    seconds: float = 60.0  # of runs after which it stops, for each group of graphs that are open together
    together: int = 4  # graphs that are open and timed beside the reference at a time: each takes memory


class Comparison(Strict):
    """Graphs that are timed beside a reference, as files."""

    reference: Path
    candidates: dict[str, Path]  # by name, which a timer gets
    feeds: Path  # utterances: see `write_feeds`
    outputs: tuple[str, ...] = ()  # that are computed, the audio first; none: all of them


class ComparisonPlan(Strict):
    """Comparisons one after another."""

    comparisons: tuple[Comparison, ...]
    threads: int = 1  # within an operator
    patience: Patience = Patience()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is opened, once."""
        files = [path for one in self.comparisons for path in (one.reference, *one.candidates.values(), one.feeds)]
        return tuple(dict.fromkeys(files))

    def with_files(self, places: Mapping[Path, Path]) -> ComparisonPlan:
        """The same plan with its files in other places."""
        comparisons = tuple(
            one.model_copy(
                update={
                    "reference": places[one.reference],
                    "candidates": {name: places[path] for name, path in one.candidates.items()},
                    "feeds": places[one.feeds],
                }
            )
            for one in self.comparisons
        )
        return self.model_copy(update={"comparisons": comparisons})


class Compared(Record):
    """What a plan's comparisons found, in their order."""

    machine: str  # the processor's name
    speeds: list[dict[str, Speed]] = []  # of each comparison's candidates, by name


def wall_seconds(name: str, run: Callable[[], Any]) -> float:
    """The seconds that a run takes on the monotonic clock. It is the timer where none is given."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(comparison: Comparison, threads: int, patience: Patience, timer: Timer = wall_seconds) -> dict[str, Speed]:
    """How fast each candidate is beside the reference on this machine.

    A candidate whose interval is narrow enough is timed no further.

    Args:
        comparison: what is compared.
        threads: within an operator.
        patience: when to stop.
        timer: runs a graph and returns the seconds.

    Raises:
        ValueError: there is no utterance.
        RuntimeFailure: ONNX Runtime cannot load or run one of the graphs.
    """
    feeds = read_feeds(comparison.feeds)
    if not feeds:
        raise ValueError("no utterance to time on: give at least one")
    names, found = list(comparison.candidates), {}
    for start in range(0, len(names), patience.together):
        together = names[start : start + patience.together]
        runs = {"": _Run(REFERENCE, comparison.reference, threads, timer, comparison.outputs)}
        runs |= {name: _Run(name, comparison.candidates[name], threads, timer, comparison.outputs) for name in together}
        found |= _time_together(runs, feeds, patience)
    return found


def _time_together(runs: Mapping[str, _Run], feeds: Sequence[Feed], patience: Patience) -> dict[str, Speed]:
    """The speeds of graphs that are open at the same time; the reference's name is empty."""
    for feed in feeds:
        for run in runs.values():
            run.speak(feed)  # a first time, which is not counted
    left, found = [name for name in runs if name], {}
    logs: dict[str, list[float]] = {name: [] for name in left}
    references: list[float] = []
    spent = 0.0
    for pair in range(max(patience.max_blocks, patience.min_blocks) // 2):
        order = np.random.default_rng([0, pair])
        timed = ["", *left]
        forward = [(timed[number], feed) for feed in feeds for number in order.permutation(len(timed)).tolist()]
        for visits in (forward, forward[::-1]):
            seconds, samples = dict.fromkeys(timed, 0.0), dict.fromkeys(timed, 0)
            for name, feed in visits:
                took, made = runs[name].timed(feed)
                seconds[name], samples[name], spent = seconds[name] + took, samples[name] + made, spent + took
            references.append(seconds[""])
            pace = {name: seconds[name] / samples[name] for name in timed}
            for name in left:
                logs[name].append(float(np.log(pace[""] / pace[name])))
        blocks = 2 * pair + 2
        if blocks >= patience.min_blocks:
            for name in left:
                found[name] = _speed(logs[name], references)
            left = [name for name in left if found[name].ci[1] / found[name].ci[0] - 1 >= patience.width]
            if not left or spent >= patience.seconds:
                break
    return found


def _speed(logs: Sequence[float], references: Sequence[float]) -> Speed:
    value, low, high = (float(np.exp(end[0])) for end in log_ratio_interval(np.asarray([logs])))
    seconds = float(np.median(references))
    return Speed(speedup=value, ci=(low, high), blocks=len(logs), reference_seconds=seconds)


class _Run:
    """An open graph."""

    def __init__(self, name: str, graph: Path, threads: int, timer: Timer, outputs: Sequence[str]):
        self._name, self._timer, self._samples = name, timer, 0
        self._run = runner(open_session(graph, threads), list(outputs) or None)

    def speak(self, feed: Feed) -> int:
        """Samples of one utterance: only its length is kept."""
        self._samples = int(np.size(self._run(feed)[0]))
        return self._samples

    def timed(self, feed: Feed) -> tuple[float, int]:
        """Seconds of one utterance, and the samples of its first output."""
        seconds = self._timer(self._name, lambda: self.speak(feed))
        return max(seconds, LEAST_SECONDS), max(self._samples, 1)


def write_feeds(path: Path, feeds: Sequence[Feed]) -> None:
    """Utterances as one `.npz` file: `<number>/<input>` -> values."""
    arrays: dict[str, Any] = {f"{number}/{name}": feed[name] for number, feed in enumerate(feeds) for name in feed}
    np.savez(path, **arrays)


def read_feeds(path: Path) -> list[dict[str, np.ndarray]]:
    """Utterances as `write_feeds` wrote them."""
    feeds: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            feeds.setdefault(int(number), {})[name] = arrays[key]
    return [feeds[number] for number in sorted(feeds)]
