"""A recipe's voice in PyTorch, for timing it there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.steps.step import work_of
from ttsopt_lib.step_settings import AnyStep
from ttsopt_lib.voices.piper import load_piper, open_piper


def build_torch(recipe: Sequence[AnyStep], voice_path: Path) -> StagedVits:
    """A recipe's voice in PyTorch.

    Args:
        recipe: steps that PyTorch has an equal of.
        voice_path: the original `.onnx` with its config beside it.

    Raises:
        StudyError: PyTorch has no equal of a step.
        VoiceError: the voice is not sound.
    """
    model = load_piper(open_piper(voice_path)).eval()
    for step in recipe:
        work_of(step).in_torch(model, step)
    return model
