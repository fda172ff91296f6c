"""Workers of a Dask cluster in place of this machine's cores: joblib's Dask back end.

A task is some kilobytes to some hundred (a sentence and the original's samples, the lines of a shard); models are read
by the workers, which must see the project folder and the voice under the same paths and have the same packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from joblib import Parallel, parallel_config

from ttsopt_lib.errors import TtsoptError

TIMEOUT_SECONDS = 20


class ClusterError(TtsoptError, RuntimeError):
    """A cluster that cannot be used. The message says what to do."""


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
