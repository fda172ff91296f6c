"""A PyTorch row's model; imported by the worker process of such a row and by nobody else.

:mod:`ttsopt_lib.optimize.recipe` builds it from the original voice: the recipe's steps on the network, then
PyTorch's own dynamic quantization where the recipe has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.measure.worker import Speak


def prepare_pytorch(threads: int) -> None:
    """Import what loading needs and fix the number of threads, so that neither counts as loading the model."""
    import torch

    import ttsopt_lib.optimize.recipe  # noqa: F401

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def open_pytorch(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    """The voice with the row's recipe, as a function from phoneme ids [T] to the number of samples made."""
    import torch
    from pydantic import TypeAdapter

    from ttsopt_lib.optimize.recipe import build_torch
    from ttsopt_lib.study import AnyStep

    recipe = TypeAdapter(list[AnyStep]).validate_python(row["recipe"])
    model = build_torch(recipe, Path(row["model"])).eval()
    scale_values = torch.tensor(scales, dtype=torch.float32)
    sid = None if speaker is None else torch.tensor([speaker])

    @torch.inference_mode()
    def speak(ids: np.ndarray) -> int:
        return model(torch.from_numpy(ids)[None], torch.tensor([ids.size]), scale_values, sid=sid).numel()

    return speak
