"""Sentences as model inputs: what static quantization is calibrated on and what coverage is counted over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
from onnx import ModelProto, helper
from onnxruntime.quantization import CalibrationDataReader

from ttsopt_lib.errors import StudyError, runtime_words
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import SentenceRange
from ttsopt_lib.voices.adapters.model import Feed, TtsModel
from ttsopt_lib.voices.session import RuntimeFailure, in_words, open_session
from ttsopt_lib.voices.text import read_sentences


def sentence_feeds(
    voice: TtsModel, sentences: Sequence[str], speaker: int | None = None, noise: bool = True
) -> list[Feed]:
    """Each sentence as inputs of the voice. Raises `TextError` for one that gives no phonemes."""
    return [voice.feed(voice.utterance_ids(sentence), speaker, noise) for sentence in sentences]


def tensor_values(model: ModelProto, tensors: Sequence[str], feeds: Sequence[Feed]) -> Iterator[dict[str, np.ndarray]]:
    """What these tensors of a graph hold in each utterance. Noise is drawn anew each time unless it has seeds."""
    probe = deepcopy(model)
    del probe.graph.output[:]
    # without types: ONNX Runtime knows them
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = open_session(probe) if tensors else None
    for number, feed in enumerate(feeds, 1):
        with in_words(sentence_words(number)):
            values = session.run(list(tensors), feed) if session else []
        yield dict(zip(tensors, values, strict=True))


class SentenceReader(CalibrationDataReader):
    """Hands the calibrator one utterance at a time, in order."""

    def __init__(self, feeds: Sequence[Feed]):
        self.feeds = feeds
        self.set_range(0, len(feeds))

    def __len__(self) -> int:
        return len(self.feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self.feeds[start_index:end_index])
        self.number = start_index  # of the utterance at work, from 1 on

    def get_next(self) -> Feed | None:  # type: ignore[override]
        self.number += 1
        return next(self._rest, None)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Whatever ONNX Runtime raises in the block becomes a `RuntimeFailure` that names the sentence."""
        try:
            yield
        except Exception as error:
            at_work = f"{sentence_words(self.number)}: " if 0 < self.number <= len(self) else ""
            raise RuntimeFailure(f"{at_work}ONNX Runtime cannot quantize it: {runtime_words(error)}") from None


def sentence_words(number: int) -> str:
    """What messages call a calibration sentence."""
    return f"sentences.calibration: sentence {number}"


def calibration_texts(wanted: SentenceRange) -> list[str]:
    """The sentences of a range. Raises `StudyError` where the file ends before it begins."""
    found = read_sentences(resolve(wanted.file))[wanted.start : wanted.start + wanted.count]
    if not found:
        raise StudyError(
            f"{wanted.file}: sentences.calibration: the file has no sentence number {wanted.start} to begin with; "
            "lower 'start'"
        )
    return found
