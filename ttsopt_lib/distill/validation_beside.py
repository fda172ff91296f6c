"""Validation in a process of its own, on the processor, while a GPU trains.

It is a process and not a thread because a training on a GPU is held up by Python: it launches thousands of small
operations a step, and would share Python's lock with the thousands of a validation. It needs no GPU: it hears some
minutes of speech, and most of its time goes into predictors that compute on the processor in any case. So nothing of it
stands in the training's CUDA stream, and its figures do not depend on what else the GPU does. It is given copies: the
weights as they would ship, and once the scorer with its utterances and the teacher. Both travel as bytes of a pickle,
because tensors that are handed over as tensors lie in shared memory, of which a container may have little.
"""

from __future__ import annotations

import pickle
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from joblib import cpu_count
from joblib.externals.loky import process_executor
from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError
from torch import Tensor

from ttsopt_lib.workers import WorkerError

Weights = dict[str, Tensor]
Scorer = Callable[[Weights], dict[str, float]]

LEAST_CORES = 4  # one launches what the GPU does, one draws batches
IDLE_SECONDS = (
    900  # then the process ends, also where the one that trains was killed; another begins where it is needed
)


def helps(device: torch.device) -> bool:
    """Whether a training on this device is faster with its validations beside it: on a GPU, with cores to spare."""
    return device.type == "cuda" and cpu_count() >= LEAST_CORES


@dataclass(frozen=True)
class Waiting:
    """Weights that are to be judged, and what is known of them already: their step, their losses in training."""

    entry: dict[str, float]
    shipped: Weights


class ValidationBeside:
    """One process that scores, one set of weights at a time. `scorer` is taken as it is now; it lies on the processor.

    Attributes:
        waiting: what is being scored.
    """

    def __init__(self, scorer: Scorer):
        self.waiting: Waiting | None = None
        self._scores: Future[tuple[dict[str, float], float]] | None = None
        arguments = pickle.dumps(scorer), max(1, cpu_count() - 2)
        self._process: Any = ProcessPoolExecutor(
            1, timeout=IDLE_SECONDS, initializer=_begin, initargs=arguments, env={"CUDA_VISIBLE_DEVICES": ""}
        )

    def begin(self, waiting: Waiting) -> None:
        """Score these weights; what was scored before them was taken."""
        assert self.waiting is None
        self.waiting, self._scores = waiting, self._process.submit(_score, pickle.dumps(waiting.shipped))

    def is_ready(self) -> bool:
        """Whether `take` returns at once, with something."""
        return self._scores is not None and self._scores.done()

    def take(self) -> tuple[Waiting, dict[str, float], float] | None:
        """What was scored, its figures and the seconds they took, when they are there; None: nothing is being scored.

        Raises:
            WorkerError: the process was killed.
        """
        if self.waiting is None or self._scores is None:
            return None
        try:
            taken = (self.waiting, *self._scores.result())
        except TerminatedWorkerError:
            raise WorkerError(
                "the process that validates was killed, most likely because memory was short; the same command goes on "
                "from the last save"
            ) from None
        self.waiting, self._scores = None, None
        return taken

    def close(self) -> None:
        """End the process, also in the middle of its work."""
        self._process.shutdown(wait=True, kill_workers=True)


_pickled: list[bytes] = []  # of the process that scores
_scorer: list[Scorer] = []


def _begin(scorer: bytes, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that trains ends this one
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize  # it grows because it opens predictors
    torch.set_num_threads(threads)
    _pickled[:] = [scorer]


def _score(shipped: bytes) -> tuple[dict[str, float], float]:
    began = time.monotonic()
    if not _scorer:  # here and not in `_begin`, whose errors would reach nobody
        _scorer.append(pickle.loads(_pickled[0]))
    return _scorer[0](pickle.loads(shipped)), time.monotonic() - began
