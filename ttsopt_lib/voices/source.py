"""Open and check the voice that a study names.

Nothing is built here: `optimize.build.build_original` exports a Hugging Face voice.
"""

from __future__ import annotations

from pathlib import Path

from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.huggingface import piper_config_for
from ttsopt_lib.voices.piper import PiperVoice, VoiceConfig, VoiceError, open_piper, packaged_voice, speaker_of


def source_path(study: Study, folder: StudyFolder | None = None) -> Path:
    """Say where the `.onnx` of the voice that a study names lies.

    A Hugging Face voice is no Piper file: what stands for it is its export, the variant `original`.

    Args:
        study: names the voice.
        folder: where the study's files lie, by default below the project folder.
    """
    source = study.voice
    if source.package is not None:
        return packaged_voice(source.package)
    if source.path is not None:
        return resolve(source.path)
    return (folder or StudyFolder(study)).model(ORIGINAL)


def source_voice(study: Study, folder: StudyFolder | None = None) -> PiperVoice:
    """Open and check the voice that a study names.

    Args:
        study: names the voice.
        folder: where the study's files lie, by default below the project folder.

    Raises:
        VoiceError: the voice is not there, not sound, or has no such speaker as the study asks for.
    """
    path = source_path(study, folder)
    if study.voice.huggingface is not None and not path.is_file():
        raise VoiceError(
            f"{path}: no such file; the Hugging Face voice {study.voice.huggingface} has to be exported first: "
            f"ttsopt optimize STUDY --variant {ORIGINAL}"
        )
    voice = open_piper(path)
    speaker_of(voice.config, study.voice.speaker)
    return voice


def source_config(study: Study) -> VoiceConfig:
    """Read what the config of the voice that a study names says; that of a Hugging Face folder before its export.

    Raises:
        VoiceError: as `source_voice`.
    """
    if study.voice.huggingface is None:
        return source_voice(study).config
    config = piper_config_for(resolve(study.voice.huggingface))
    speaker_of(config, study.voice.speaker)
    return config
