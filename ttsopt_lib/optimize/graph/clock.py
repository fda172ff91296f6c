"""Is a changed graph faster here? It is timed beside the graph that it was made from, in this process.

A block is one pass over all utterances by every graph: all graphs speak the first in random order, then the second,
and so on. The next block runs the same visits backwards (A B, B A), so that a machine that drifts touches all alike.
What is compared is the time for each sample of audio, because two voices need not speak equally long. The
interval of a ratio comes from `statistics/intervals.py`, as that of a report's reductions.

A report's timings are made elsewhere (`measure/`): with a process for every row, on any device. This clock is for a
search that has to know within a minute or two what pays on the machine that it runs on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.statistics.intervals import log_ratio_interval
from ttsopt_lib.voices.onnx_file import read_model
from ttsopt_lib.voices.session import Session, open_session

Graph = ModelProto | Path
Timer = Callable[[str, Callable[[], Any]], float]  # runs a graph of that name once (samples); returns seconds
REFERENCE = "reference"  # the name under which a timer gets the graph that all others are compared with
WARMUP_PASSES = 1
LEAST_SECONDS = 1e-9  # of a run: a clock that stood still gives no ratio


@dataclass(frozen=True)
class Speed:
    """How fast a graph is beside the reference.

    Attributes:
        speedup: how many times as fast: 1.25 does the same in 80 % of the time.
        ci: its 95 % interval.
        blocks: how many blocks it rests on.
        reference_seconds: median over the blocks of what the reference took for all utterances.
    """

    speedup: float
    ci: tuple[float, float]
    blocks: int
    reference_seconds: float

    @property
    def is_surely_faster(self) -> bool:
        """Whether even the worse end of the interval is faster than the reference."""
        return self.ci[0] > 1


@dataclass(frozen=True)
class Patience:
    """When the clock stops.

    Attributes:
        width: an interval whose high end is less than this above its low end (0.02: 2 %) is narrow enough.
        min_blocks: blocks that are timed in any case; two at a time.
        max_blocks: blocks after which it stops, however wide the interval.
        seconds: of runs after which it stops, for each group of graphs that are open together.
        together: how many graphs are open and timed beside the reference at a time: each takes memory.
    """

    width: float = 0.02
    min_blocks: int = 8
    max_blocks: int = 40
    seconds: float = 60.0
    together: int = 4


def wall_seconds(name: str, run: Callable[[], Any]) -> float:
    """The seconds that a run takes on the monotonic clock. It is the timer where none is given."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_graphs(
    candidates: Mapping[str, Graph],
    reference: Graph,
    feeds: Sequence[Feed],
    threads: int = 1,
    patience: Patience | None = None,
    timer: Timer | None = None,
    outputs: Sequence[str] = (),
) -> dict[str, Speed]:
    """How fast each candidate is beside the reference on this machine.

    A candidate whose interval is narrow enough is timed no further. Nodes that draw noise get the same seeds in every
    graph; the models handed in are left alone.

    Args:
        candidates: name -> graph, or the `.onnx` file that holds it. A name is what the timer gets.
        reference: the graph that they are compared with.
        feeds: utterances, each as inputs by name.
        threads: within an operator.
        patience: when to stop; default: `Patience()`.
        timer: runs a graph and returns the seconds; default: `wall_seconds`.
        outputs: to compute, the audio first; none: all of them. What a vocoder makes of them is not timed.

    Raises:
        ValueError: there is no utterance, or `patience` asks for fewer than two blocks.
        RuntimeFailure: ONNX Runtime cannot load or run one of the graphs.
    """
    patience, timer = patience or Patience(), timer or wall_seconds
    if not feeds:
        raise ValueError("no utterance to time on: give at least one")
    if patience.min_blocks < 2:
        raise ValueError(f"min_blocks: {patience.min_blocks}, but an interval needs at least two blocks")
    names, found = list(candidates), {}
    for start in range(0, len(names), patience.together):
        part = {name: candidates[name] for name in names[start : start + patience.together]}
        found |= _time_together(part, reference, feeds, threads, patience, timer, outputs)
    return found


def _time_together(
    candidates: Mapping[str, Graph],
    reference: Graph,
    feeds: Sequence[Feed],
    threads: int,
    patience: Patience,
    timer: Timer,
    outputs: Sequence[str],
) -> dict[str, Speed]:
    """The same of graphs that are open at the same time."""
    runs = {"": _Run(REFERENCE, reference, threads, timer, outputs)}
    runs |= {name: _Run(name, graph, threads, timer, outputs) for name, graph in candidates.items()}
    for _ in range(WARMUP_PASSES):
        for feed in feeds:
            for run in runs.values():
                run.speak(feed)
    left, found = list(candidates), {}
    logs: dict[str, list[float]] = {name: [] for name in candidates}
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
    return Speed(value, (low, high), len(logs), float(np.median(references)))


class _Run:
    """An open graph."""

    def __init__(self, name: str, graph: Graph, threads: int, timer: Timer, outputs: Sequence[str]):
        self._name, self._timer, self._outputs = name, timer, list(outputs) or None
        self._session = _open(graph, threads)
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._samples = 0

    def speak(self, feed: Feed) -> int:
        """Samples of one utterance: only its length is kept."""
        outputs: Any = self._session.run(self._outputs, {name: feed[name] for name in feed if name in self._inputs})
        self._samples = int(np.size(outputs[0]))
        return self._samples

    def timed(self, feed: Feed) -> tuple[float, int]:
        """Seconds of one utterance, and the samples of its first output."""
        seconds = self._timer(self._name, lambda: self.speak(feed))
        return max(seconds, LEAST_SECONDS), max(self._samples, 1)


def _open(graph: Graph, threads: int) -> Session:
    """A session whose noise has seeds: those of its first random node, its second ..., whatever nodes lie between."""
    model = read_model(graph) if isinstance(graph, Path) else graph
    seeded = ModelProto()
    seeded.CopyFrom(model)
    random = [node for node in seeded.graph.node if node.op_type.startswith("Random")]
    for number, node in enumerate(random, 1):
        if not any(one.name == "seed" for one in node.attribute):
            node.attribute.append(helper.make_attribute("seed", float(number)))
    return open_session(seeded, threads)
