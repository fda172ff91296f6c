"""The report's listening examples: every variant speaks the same sentences with the same noise, levels untouched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ttsopt_lib.files import atomic_folder
from ttsopt_lib.records.base import Record, read_if_current, write_record


class ListeningRecord(Record):
    """audio/listening.json: what the WAV files beside it say."""

    key: str  # hash of the model and the sentences
    sentences: list[str]  # of 0.wav, 1.wav, ...


def write_examples(
    folder: Path, key: str, sentences: Sequence[str], audio: Sequence[NDArray[np.int16]], sample_rate: int
) -> None:
    """Write 0.wav, 1.wav, ... (16 bit, mono) and what they say; the folder appears whole or stays as it was."""
    with atomic_folder(folder) as temporary:
        for number, samples in enumerate(audio):
            soundfile.write(temporary / f"{number}.wav", samples, sample_rate, subtype="PCM_16")
        write_record(temporary / "listening.json", ListeningRecord(key=key, sentences=list(sentences)))


def examples_are_current(folder: Path, key: str) -> bool:
    """Whether the examples were made from the model and sentences that `key` stands for, and none is missing."""
    record = read_if_current(folder / "listening.json", ListeningRecord, key)
    return record is not None and all((folder / f"{number}.wav").is_file() for number in range(len(record.sentences)))
