"""A model opened in ONNX Runtime on the CPU, for work whose time nobody measures (`measure/worker.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
from numpy.typing import NDArray

from ttsopt_lib.errors import TtsoptError, runtime_words

if TYPE_CHECKING:  # a board that times files does without it
    from onnx import ModelProto


class RuntimeFailure(TtsoptError, RuntimeError):
    """A model that a runtime cannot load or run. The message is the runtime's words, in one line."""


class Session(onnxruntime.InferenceSession):
    """ONNX Runtime's session; what it raises is of one kind, where the runtime's own errors have no common base."""

    def run(self, output_names, input_feed, run_options=None) -> Any:  # type: ignore[override]
        """As `onnxruntime.InferenceSession.run`. Raises `RuntimeFailure`."""
        with in_words("ONNX Runtime cannot run it"):
            return super().run(output_names, input_feed, run_options)


def run_graph(session: Any, feeds: Mapping[str, NDArray], outputs: Sequence[str] | None = None) -> list[NDArray]:
    """A graph's outputs, or those that are named. Of the feeds it is given those that are inputs of it."""
    return runner(session, outputs)(feeds)


def runner(session: Any, outputs: Sequence[str] | None = None) -> Callable[[Mapping[str, NDArray]], list[NDArray]]:
    """The same as a function of the feeds, for runs that are timed: what the graph's inputs are is asked once."""
    wanted = {value.name for value in session.get_inputs()}
    return lambda feeds: session.run(outputs, {name: array for name, array in feeds.items() if name in wanted})


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Whatever a runtime raises in the block becomes a `RuntimeFailure`: `what` failed, and its own words."""
    try:
        yield
    except Exception as error:
        raise RuntimeFailure(f"{what}: {runtime_words(error)}") from None


def open_session(model: ModelProto | bytes | Path, threads: int = 1, profile: Path | None = None) -> Session:
    """A session that computes with `threads` threads and prints nothing.

    One thread is the default because processes share such work, one for each core: with ONNX Runtime's own default,
    a thread for each core, they would wait for one another.

    Args:
        model: the graph, its bytes, or an `.onnx` file.
        threads: within an operator; operators run one after the other.
        profile: beginning of the path of a profile to write; None: none.

    Raises:
        RuntimeFailure: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are exceptions, and are told once
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model if isinstance(model, bytes | Path) else model.SerializeToString()
    name = f"{source}: " if isinstance(source, Path) else ""
    with in_words(f"{name}ONNX Runtime cannot load it"):
        return Session(source, options, providers=["CPUExecutionProvider"])
