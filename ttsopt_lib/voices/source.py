"""Open and check the voice that a study names.

Nothing is built here: `optimize.build.build_original` exports a Hugging Face voice.
"""

from __future__ import annotations

from pathlib import Path

from ttsopt_lib.paths import resolve, user_cache
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.adapters.declaration import Declaration, read_declaration
from ttsopt_lib.voices.adapters.declared import open_declared
from ttsopt_lib.voices.adapters.kokoro import declare_kokoro
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.huggingface import piper_config_for
from ttsopt_lib.voices.piper import PiperVoice, VoiceError, open_piper, packaged_voice


def source_path(study: Study, folder: StudyFolder | None = None) -> Path:
    """Say where the `.onnx` of the voice that a study names lies.

    A Hugging Face voice is no ONNX file: what stands for it is its export, the variant `original`, in the study's
    `folder` (by default below the project folder).

    Raises:
        VoiceError: the package, or what declares the model, is not there or not sound.
    """
    source = study.voice
    if source.package is not None:
        return packaged_voice(source.package)
    if source.path is not None:
        return resolve(source.path)
    declaration = source_declaration(study)
    if declaration is not None:
        assert declaration.model is not None
        return declaration.model
    return (folder or StudyFolder(study)).model(ORIGINAL)


def source_declaration(study: Study) -> Declaration | None:
    """What declares the study's model; None for a Piper or a Hugging Face voice. Raises as `source_path`."""
    source = study.voice
    if source.kokoro is not None:
        return declare_kokoro(source.kokoro, user_cache())
    return read_declaration(resolve(source.declared)) if source.declared is not None else None


def source_name(study: Study) -> str:
    """What messages call the voice that a study names: a file, a package, or a key."""
    source = study.voice
    path = source.huggingface or source.declared
    return source.package or (f"{source.path}.json" if source.path else str(resolve(path)) if path else "voice.kokoro")


def source_model(study: Study, folder: StudyFolder | None = None) -> TtsModel:
    """Open and check the voice that a study names; `folder` as for `source_path`.

    Raises:
        VoiceError: the voice is not there, not sound, or has no such speaker as the study asks for.
    """
    declaration = source_declaration(study)
    if declaration is not None:
        assert declaration.model is not None
        model: TtsModel = open_declared(declaration.model, declaration, source_name(study))
    else:
        path = source_path(study, folder)
        if study.voice.huggingface is not None and not path.is_file():
            raise VoiceError(
                f"{path}: no such file; the Hugging Face voice {study.voice.huggingface} has to be exported first: "
                f"ttsopt optimize STUDY --variant {ORIGINAL}"
            )
        model = PiperModel(open_piper(path))
    model.speaker(study.voice.speaker)
    return model


def source_before_export(study: Study) -> TtsModel:
    """The same; of a Hugging Face folder that may have no export yet, what reads texts and cannot speak them."""
    if study.voice.huggingface is None:
        return source_model(study)
    config = piper_config_for(resolve(study.voice.huggingface))
    model = PiperModel(PiperVoice(source_path(study), config, onnx_sha256=""))
    model.speaker(study.voice.speaker)
    return model
