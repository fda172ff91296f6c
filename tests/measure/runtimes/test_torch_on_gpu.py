"""PyTorch's rows on a GPU that is pretended: each part where it belongs, and what a processor says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretend_device import pretended_gpu

from ttsopt_lib.measure.runtimes.batches import Batches
from ttsopt_lib.measure.runtimes.torch_runtime import open_pytorch

STUDENTS = Path(__file__).parents[3] / "models" / "en_US-joe-medium" / "students"
SCALES = [0.0, 1.0, 0.0]
IDS = np.array([1, 0, 20, 0, 120, 0, 61, 0, 100, 0, 10, 0, 2])


def row(model: Path, **changes: Any) -> dict[str, Any]:
    recipe = [{"step": "distill", "student": str(STUDENTS)}]
    about = {
        "runtime": "pytorch",
        "recipe": recipe,
        "mode": "fp32",
        "threads": 1,
        "speaks": True,
        "accelerator": "cuda",
    }
    return about | {"model": str(model)} | changes


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
def test_the_students_speak_there_as_on_a_processor(mode: str, joe: Path) -> None:
    wanted = open_pytorch(row(joe, accelerator=None, mode=mode), SCALES, None)(IDS)
    with pretended_gpu() as gpu:
        speak = open_pytorch(row(joe, mode=mode), SCALES, None)
        found = speak(IDS)
        assert gpu.launched["linear"] > 10
    assert isinstance(found, np.ndarray) and found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_several_sentences_at_once_there(monkeypatch: pytest.MonkeyPatch, joe: Path) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5e6)
    asked = {"sentences": [IDS[:9].tolist(), IDS.tolist()], "scales": SCALES, "speaker": None}
    with pretended_gpu():
        batches = Batches(open_pytorch(row(joe), SCALES, None), asked, 22_050, lambda audio: np.size(audio), row(joe))
        alone, both = batches.speak(1, 0.0), batches.speak(2, 0.0)
    assert alone["audio_seconds"] == both["audio_seconds"] > 0
    assert both["padding"] > 0 and both["device_memory_mb"] == 5.0
