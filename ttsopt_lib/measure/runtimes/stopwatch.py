"""What measures the seconds of a run: the wall clock, or events on the GPU's own stream.

A GPU works on after a call has returned. Events are put into the same queue as the work and are stamped by the GPU; the
seconds between them hold the copies of ids and audio, and the waiting for the processor that feeds the queue.
"""

from __future__ import annotations

import time
from typing import Any


class WallClock:
    """The monotonic clock of the process."""

    name = "wall"

    def start(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start


class DeviceEvents:
    """Two events on the GPU's current stream. `cuda` is `torch.cuda`."""

    name = "device events"

    def __init__(self, cuda: Any):
        self._cuda = cuda
        self._begin, self._end = (cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        self._cuda.synchronize()  # what an earlier run left in the queue is not this run's
        self._begin.record()

    def seconds(self) -> float:
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) / 1000  # it counts in ms


Stopwatch = WallClock | DeviceEvents  # `start` before a run, `seconds` when the audio is there
