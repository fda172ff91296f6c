"""What every runtime gives to timing, a function from ids to audio, and ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.study import BUCKETS
from ttsopt_lib.voices.adapters.functions import function_of

# Phoneme ids [T] (a text, where a peer takes texts; a graph's inputs, where it takes others) -> samples, of any shape.
Speak = Callable[[Any], Any]

ORT_LOADS = 3  # session creation is short and noisy: a few samples are cheap
# A convolution, y = 2 x of one number, as a serialized ONNX file
CONVOLUTION = bytes.fromhex(
    "080812003a590a0f0a01780a01771201792204436f6e761201672a1108010801080110012204000000404201775a170a017812120a"
    "100801120c0a0208010a0208010a02080162170a017912120a100801120c0a0208010a0208010a02080142040a00100d"
)

CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm for every new length, for seconds
    "use_tf32": "1",  # the default, which users have, whatever a later version's is
}


def session_options(threads: int) -> Any:
    """ONNX Runtime's options for a worker that computes with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads may spin within a run, as they do for a user; between runs they must not take the core of the
    # worker whose turn it is.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return options


def piper_feeds(scales: list[float], speaker: int | None) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What a Piper voice is fed, by input, as a function of the phoneme ids [T].

    Args:
        scales: noise scale, length scale, duration noise scale.
        speaker: number of the speaker; None for a voice with one.
    """
    fixed: dict[str, np.ndarray] = {"scales": np.array(scales, dtype=np.float32)}
    if speaker is not None:
        fixed["sid"] = np.array([speaker], dtype=np.int64)
    return lambda ids: {"input": ids[None], "input_lengths": np.array([ids.size], dtype=np.int64), **fixed}


def onnxruntime_session(row: dict[str, Any], profile: str | None = None) -> Any:
    """A session on the row's ONNX file, which may be its bytes.

    With `profile`, the beginning of a file name, it keeps a profile. On an accelerator it never goes on with the
    processor alone: what fails there fails. Raises RuntimeError where onnxruntime cannot load the file, or silently
    left the accelerator aside.
    """
    import onnxruntime

    options = session_options(row["threads"])
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    wanted: list[Any] = []
    more: dict[str, Any] = {}
    if row["accelerator"] == "cuda":
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries where pip has put them
        wanted = [("CUDAExecutionProvider", CUDA_OPTIONS)]
        # The default opens it anew on the processor where the GPU fails, also in the middle of timing.
        more = {"enable_fallback": 0}
    session = onnxruntime.InferenceSession(row["model"], options, [*wanted, "CPUExecutionProvider"], **more)
    if wanted and session.get_providers()[0] != wanted[0][0]:
        raise RuntimeError("onnxruntime fell back to the CPU: its CUDA provider could not be started")
    return session


def compute_on_gpu() -> None:
    """Find out whether onnxruntime reaches the GPU, and cuDNN, without which it computes no convolution there.

    Raises whatever it raises, or RuntimeError, where it does not.
    """
    session = onnxruntime_session({"model": CONVOLUTION, "threads": 1, "accelerator": "cuda"})
    session.run(None, {"x": np.ones((1, 1, 1), np.float32)})


def speaker_of(session: Any, scales: list[float], speaker: int | None, row: dict[str, Any] | None = None) -> Speak:
    """A session as a function from phoneme ids [T], or from a graph's inputs, to the audio, float32 [1, 1, samples].

    Args:
        session: of ONNX Runtime.
        scales: as `piper_feeds` takes them, and so is `speaker`.
        row: says which outputs hold the samples, or what makes samples of them; None: the first one does.
    """
    wanted, finish = None, _first
    if row:
        wanted = list(row["outputs"]) or None
        if row["vocoder"]:
            finish = function_of(row["vocoder"], row["code"] and Path(row["code"]))
    feeds_of = piper_feeds(scales, speaker)

    def speak(ids: np.ndarray | dict[str, np.ndarray]) -> Any:
        if isinstance(ids, dict):
            return finish(*session.run(wanted, ids))
        return session.run(wanted, feeds_of(ids))[0]

    return speak


def open_onnxruntime(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    """The row's ONNX file, ready to speak; with its lengths rounded up where the row's mode says so.

    Raises RuntimeError as `onnxruntime_session` does, and `VoiceError` where lengths cannot be rounded up.
    """
    if row["mode"] == BUCKETS:
        from ttsopt_lib.voices.length_buckets import BucketSpeaker, with_rounded_frames
        from ttsopt_lib.voices.onnx_file import read_model  # a board that times files does without onnx

        changed = with_rounded_frames(read_model(Path(row["model"])), row["variant"]).SerializeToString()
        return BucketSpeaker(onnxruntime_session({**row, "model": changed}), piper_feeds(scales, speaker))
    return speaker_of(onnxruntime_session(row), scales, speaker, row)


def _first(first: Any, *_: Any) -> Any:
    return first
