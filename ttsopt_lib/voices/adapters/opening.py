"""Open a model file with the adapter that fits what lies beside it."""

from __future__ import annotations

from pathlib import Path

from ttsopt_lib.voices.adapters.declared import declaration_beside, open_declared
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.piper import open_piper


def open_model(path: Path) -> TtsModel:
    """A model with its config beside it as `.onnx.json`: a Piper voice, or a variant of a declared model.

    Raises:
        VoiceError: one line that names the file and the key, and says what would be right.
    """
    declaration = declaration_beside(path)
    if declaration is None:
        return PiperModel(open_piper(path))
    return open_declared(path, declaration, f"{path}.json")
