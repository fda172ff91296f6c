"""Processes that share work: of this machine, or the workers of a Dask cluster (joblib's back ends).

Each has one thread and keeps what it has opened from task to task. A task is some kilobytes to some hundred (a sentence
and the original's samples, the lines of a shard). Models are read by the workers: those of a cluster must see the
project folder and the voice under the same paths, and have the same packages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from joblib import Parallel, parallel_config
from joblib.externals.loky import get_reusable_executor, process_executor

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.paths import OWN_PACKAGE

TIMEOUT_SECONDS = 20  # for a scheduler to answer
# What each process does before it reads a task, which names functions of this package.
BEGIN = f"""import sys
sys.argv.insert(1, {str(Path(__file__).parents[1])!r})
{OWN_PACKAGE}
from ttsopt_lib.workers import _begin
_begin()
"""


class WorkerError(TtsoptError, RuntimeError):
    """A process that ended before its work was done."""


class ClusterError(TtsoptError, RuntimeError):
    """A cluster that cannot be used. The message says what to do."""


@contextmanager
def local_workers(count: int) -> Iterator[Parallel]:
    """So many processes, which end with the block; with one, the work is done in this process."""
    if count == 1:
        yield Parallel(n_jobs=1, return_as="generator")
        return
    # An interrupt ends them, and Python's tracker warns of semaphores that it then removes: it is told not to.
    # And no file of the working folder stands in for a library there.
    before = {name: os.environ.get(name) for name in ("PYTHONWARNINGS", "PYTHONSAFEPATH")}
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before["PYTHONWARNINGS"], "ignore:resource_tracker")))
    os.environ["PYTHONSAFEPATH"] = "1"
    with parallel_config(backend="loky", inner_max_num_threads=1, initializer=exec, initargs=(BEGIN, {})):
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
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def cluster_workers(address: str) -> Iterator[Parallel]:
    """All workers of the Dask scheduler at `address` (`tcp://host:8786`). Raises `ClusterError`."""
    if find_spec("distributed") is None:
        raise ClusterError("--dask: package distributed is not installed: pip install 'ttsopt[cluster]'")
    from distributed import Client

    try:
        client = Client(address, timeout=TIMEOUT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"--dask {address}: no Dask scheduler answers there ({error}); is it running?") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise ClusterError(f"--dask {address}: the scheduler has no workers; start some: dask worker {address}")
        with client.as_current(), parallel_config(backend="dask"), Parallel(return_as="generator") as parallel:
            yield parallel


def _begin() -> None:
    """What each process of this machine has to be told."""
    os.environ["TQDM_DISABLE"] = "1"  # one progress bar, of the process that a person started; read at the import
    # A process that has grown by 300 MB is taken for leaking, and replaced. Here it has opened its models.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
