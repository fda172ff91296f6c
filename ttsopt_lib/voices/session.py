"""A model opened in ONNX Runtime on the CPU, for work whose time nobody measures (:mod:`ttsopt_lib.measure.worker`)."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnx import ModelProto


def open_session(
    model: ModelProto | bytes | Path, threads: int = 1, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session that computes with `threads` threads and prints no warnings.

    One thread is the default because processes share such work, one for each core: with ONNX Runtime's own default,
    a thread for each core, they would wait for one another.

    Args:
        model: the graph, its bytes, or an `.onnx` file.
        threads: within an operator; operators run one after the other.
        profile: beginning of the path of a profile to write; None: none.

    Raises what ONNX Runtime raises for a model that it cannot load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model.SerializeToString() if isinstance(model, ModelProto) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
