"""ONNX Runtime's rows on a GPU, with a session that only says that it is there."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import _pybind_state

from ttsopt_lib.measure.runtimes.onnx_runtime import onnxruntime_session, speaker_of

CUDA = "CUDAExecutionProvider"
FAILED: type[Exception] = _pybind_state.EPFail  # pyright: ignore[reportAttributeAccessIssue]
NOTHING_ELSE = pytest.mark.filterwarnings("ignore:Specified provider")  # this build has no CUDA


def row(model: Path) -> dict[str, Any]:
    return {"model": str(model), "threads": 1, "accelerator": "cuda"}


@NOTHING_ELSE
def test_what_fails_there_does_not_go_on_with_the_processor_alone(
    medium_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: [CUDA])
    session = onnxruntime_session(row(medium_voice))

    inside = session._sess

    class Failing:
        def run(self, *_: Any) -> None:
            raise FAILED("CUDA failure 2: out of memory")

        def __getattr__(self, name: str) -> Any:
            return getattr(inside, name)

    monkeypatch.setattr(session, "_sess", Failing())
    opened_again: list[Any] = []
    monkeypatch.setattr(session, "set_providers", opened_again.append)
    with pytest.raises(FAILED, match="out of memory"):
        speaker_of(session, [0.0, 1.0, 0.0], None)(np.array([1, 0, 2]))
    assert opened_again == []


@NOTHING_ELSE
def test_a_processor_does_not_stand_in_for_a_gpu(medium_voice: Path) -> None:
    with pytest.raises(RuntimeError, match="fell back to the CPU"):
        onnxruntime_session(row(medium_voice))


def test_what_decides_how_the_gpu_computes_is_said_and_left_to_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Session:
        def __init__(self, model: str, options: Any, providers: list[Any], **more: Any) -> None:
            asked.extend(providers)

        def get_providers(self) -> list[str]:
            return [CUDA]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    onnxruntime_session(row(Path("model.onnx")))
    assert asked == [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1"}), "CPUExecutionProvider"]
