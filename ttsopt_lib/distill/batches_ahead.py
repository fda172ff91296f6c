"""Batches that are drawn while the step before them computes, so that a GPU waits for none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Batch = TypeVar("Batch")

AHEAD_ON_GPU = 2
"""Steps. One is enough where drawing takes less time than a step; the second is for a step that was quick."""


class BatchesAhead(Generic[Batch]):
    """What `draw(step)` draws, asked for step by step; a thread draws the `ahead` steps that follow.

    A batch is a function of its step alone, so it is the same one whoever draws it, and when. With `ahead` 0 there is
    no thread and each batch is drawn when it is asked for. That is so on a processor, whose cores have work.

    Attributes:
        ahead: how many batches the thread draws before they are asked for.
    """

    def __init__(self, draw: Callable[[int], Batch], device: torch.device):
        self.draw, self.device = draw, device
        self.ahead = AHEAD_ON_GPU if device.type == "cuda" else 0
        self._thread: ThreadPoolExecutor | None = None
        self._drawn: dict[int, Future[Batch]] = {}

    def take(self, step: int) -> Batch:
        """The batch of a step. Raises what `draw` raises."""
        if not self.ahead:
            return self.draw(step)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "batches", initializer=self._begin)
        thread, wanted = self._thread, range(step, step + self.ahead + 1)
        self._drawn = {number: self._drawn.get(number) or thread.submit(self.draw, number) for number in wanted}
        return self._drawn.pop(step).result()

    def close(self) -> None:
        """End the thread; the next `take` begins another."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread, self._drawn = None, {}

    def _begin(self) -> None:
        """Which CUDA device is the current one is known to each thread by itself. The only one has no number here."""
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)
