"""The losses of a training, smoothed over its steps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

KEPT, NEW = 0.99, 0.01  # how much of what was before is left after a step, and how much of the step comes in


class RunningLosses:
    """Takes the losses of each step as they are, and brings those of many steps over from a GPU at once.

    To read a number from a GPU is to wait until it has computed all that it was given. What is read late is the same
    number, so smoothing them in the order of the steps gives the same figures whenever they are read.
    """

    def __init__(self) -> None:
        self._smooth: dict[str, float] = {}
        self._unread: list[dict[str, Tensor]] = []

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take the losses of one step, a number each, and its `gradient_norm`."""
        self._unread.append(terms)

    def read(self) -> dict[str, float]:
        """The smoothed losses; steps with a gradient that is not finite do not count."""
        if self._unread:
            together = torch.stack([value.float() for terms in self._unread for value in terms.values()])
            values: Iterator[float] = iter(together.tolist())
            for terms in self._unread:
                one = {name: next(values) for name in terms}
                if math.isfinite(one["gradient_norm"]):
                    before = self._smooth
                    self._smooth = {name: KEPT * before.get(name, value) + NEW * value for name, value in one.items()}
            self._unread = []
        return self._smooth
