"""Processes of this machine that share work: one thread each, and they keep what they have opened from task to task."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from joblib import Parallel, parallel_config
from joblib.externals.loky import get_reusable_executor, process_executor

from ttsopt_lib.errors import TtsoptError


class WorkerError(TtsoptError, RuntimeError):
    """A process that ended before its work was done."""


@contextmanager
def local_workers(count: int) -> Iterator[Parallel]:
    """So many processes, which end with the block; with one, the work is done in this process."""
    if count == 1:
        yield Parallel(n_jobs=1, return_as="generator")
        return
    # An interrupt ends them, and Python's tracker warns of semaphores that it then removes: it is told not to.
    warnings = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (warnings, "ignore:resource_tracker")))
    with parallel_config(backend="loky", inner_max_num_threads=1, initializer=_begin):
        try:
            with Parallel(n_jobs=count, return_as="generator") as parallel:
                yield parallel
        except process_executor.TerminatedWorkerError:
            raise WorkerError(
                "a process that shared the work was killed, most likely because memory was short; what was done is "
                "kept, and the same command goes on from there"
            ) from None
        finally:
            # reuse=True: the executor that is there, whatever it was made with, and no new one only to end it
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=False)  # pyright: ignore[reportArgumentType]
            os.environ.pop("PYTHONWARNINGS")
            if warnings is not None:
                os.environ["PYTHONWARNINGS"] = warnings


def _begin() -> None:
    """What each process does first."""
    os.environ["TQDM_DISABLE"] = "1"  # one progress bar, of the process that a person started; read at the import
    # A process that has grown by 300 MB is taken for leaking, and replaced. Here it has opened its models.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
