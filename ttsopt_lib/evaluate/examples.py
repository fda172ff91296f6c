"""The report's listening examples: every variant speaks the same sentences with the same noise, levels untouched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ttsopt_lib.evaluate.keys import listening_key, voice_key
from ttsopt_lib.files import atomic_folder
from ttsopt_lib.records.base import Record, RecordError, read_if_current, read_record, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study


class ListeningRecord(Record):
    """audio/listening.json: what the WAV files beside it say, and who says it."""

    key: str  # hash of all that they were made from
    voice: str | None = None  # of that the `voice_key`; None: an older record
    sentences: list[str]  # of 0.wav, 1.wav, ...


def write_examples(
    study: Study, folder: StudyFolder, variant: str, audio: Sequence[NDArray[np.int16]], sample_rate: int
) -> None:
    """Write 0.wav, 1.wav, ... (16 bit, mono) and what they say; the folder appears whole or stays as it was."""
    record = ListeningRecord(
        key=listening_key(study, folder, variant),
        voice=voice_key(study, folder, variant),
        sentences=list(study.sentences.listening),
    )
    with atomic_folder(folder.audio(variant)) as temporary:
        for number, samples in enumerate(audio):
            soundfile.write(temporary / f"{number}.wav", samples, sample_rate, subtype="PCM_16")
        write_record(temporary / "listening.json", record)


def examples_of(folder: StudyFolder, variant: str, texts: Sequence[str]) -> list[Path | None]:
    """The WAV file in which a variant says each of the texts; None where there is none."""
    audio, said = folder.audio(variant), list(texts)
    with suppress(RecordError):
        said = read_record(audio / "listening.json", ListeningRecord, "evaluate").sentences
    paths = [audio / f"{said.index(text)}.wav" if text in said else None for text in texts]
    return [path if path and path.is_file() else None for path in paths]


def spoke_before(study: Study, folder: StudyFolder, variant: str) -> bool:
    """Whether a variant was another voice when it spoke its listening examples; False where nobody can tell."""
    with suppress(RecordError):  # no record, or no model here
        record = read_record(folder.audio(variant) / "listening.json", ListeningRecord, "evaluate")
        return record.voice not in (None, voice_key(study, folder, variant))
    return False


def examples_current(study: Study, folder: StudyFolder, variant: str) -> bool:
    """Whether a variant's listening examples are all there and made from its present model."""
    audio = folder.audio(variant)
    record = read_if_current(audio / "listening.json", ListeningRecord, listening_key(study, folder, variant))
    return record is not None and all((audio / f"{number}.wav").is_file() for number in range(len(record.sentences)))
