"""The report's listening examples: every variant speaks the same sentences with the same noise, levels untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

from ttsopt_lib.evaluate.keys import listening_key
from ttsopt_lib.files import atomic_folder
from ttsopt_lib.records.base import Record, read_if_current, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study


class ListeningRecord(Record):
    """audio/listening.json: what the WAV files beside it say."""

    key: str  # hash of the model and the sentences
    sentences: list[str]  # of 0.wav, 1.wav, ...


def write_examples(
    study: Study, folder: StudyFolder, variant: str, audio: Sequence[NDArray[np.int16]], sample_rate: int
) -> None:
    """Write 0.wav, 1.wav, ... (16 bit, mono) and what they say; the folder appears whole or stays as it was."""
    key = listening_key(study, folder, variant)
    with atomic_folder(folder.audio(variant)) as temporary:
        for number, samples in enumerate(audio):
            soundfile.write(temporary / f"{number}.wav", samples, sample_rate, subtype="PCM_16")
        record = ListeningRecord(key=key, sentences=list(study.sentences.listening))
        write_record(temporary / "listening.json", record)


def spoke_before(study: Study, folder: StudyFolder, variant: str) -> bool:
    """Whether a variant's listening examples are those of another file than its present model."""
    return (folder.audio(variant) / "listening.json").is_file() and not examples_current(study, folder, variant)


def examples_current(study: Study, folder: StudyFolder, variant: str) -> bool:
    """Whether a variant's listening examples are all there and made from its present model."""
    audio = folder.audio(variant)
    record = read_if_current(audio / "listening.json", ListeningRecord, listening_key(study, folder, variant))
    return record is not None and all((audio / f"{number}.wav").is_file() for number in range(len(record.sentences)))
