"""A PyTorch row's model; imported by the worker process of such a row and by nobody else.

`ttsopt_lib.optimize.torch_build` builds it from the original voice: the recipe's steps on the network, then
PyTorch's own dynamic quantization where the recipe has it. On a GPU the row's mode says how flow and decoder compute;
see `networks/gpu_modes.py`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.measure.runtimes.onnx_runtime import Speak


def prepare_pytorch(row: dict[str, Any]) -> None:
    """Import what loading needs, fix the number of threads, wake the GPU: none of it counts as loading the model."""
    import torch

    import ttsopt_lib.optimize.torch_build  # noqa: F401

    for step in row["recipe"]:
        import_module(f"ttsopt_lib.optimize.steps.{step['step']}")
    torch.set_num_threads(row["threads"])
    torch.set_num_interop_threads(1)
    if row["accelerator"] == "cuda":
        torch.zeros(1, device="cuda")


def open_pytorch(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    """The voice with the row's recipe, as a function from phoneme ids [T] to the audio, float32 [1, 1, samples].

    It also takes a batch as a Piper graph is fed it, `input` [B, T] and `input_lengths` [B]: audio [B, 1, 1, samples].
    Wherever it computes, the ids start and the audio ends in the memory of the processor.
    """
    import torch
    from pydantic import TypeAdapter

    from ttsopt_lib.networks.gpu_modes import in_mode
    from ttsopt_lib.optimize.torch_build import build_torch
    from ttsopt_lib.step_settings import AnyStep

    device = torch.device("cuda" if row["accelerator"] == "cuda" else "cpu")
    recipe = TypeAdapter(list[AnyStep]).validate_python(row["recipe"])
    model = in_mode(build_torch(recipe, Path(row["model"])).eval().to(device), row["mode"])
    scale_values = torch.tensor(scales, dtype=torch.float32, device=device)
    sid = None if speaker is None else torch.tensor([speaker], device=device)

    @torch.inference_mode()
    def speak(ids: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        batch, lengths = (ids["input"], ids["input_lengths"]) if isinstance(ids, dict) else (ids[None], [ids.size])
        given = torch.from_numpy(batch).to(device)
        speakers = None if sid is None else sid.expand(len(lengths))
        return model(given, torch.as_tensor(lengths, device=device), scale_values, sid=speakers).cpu().numpy()

    return speak
