"""Voices spoken whole and piece by piece, timed in one process: what runs in the worker."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.measure.runtimes.onnx_runtime import Speak, onnxruntime_session, piper_feeds, speaker_of
from ttsopt_lib.voices.pieces import Layout, speak_pieces
from ttsopt_lib.voices.session import runner

Ids = Sequence[np.ndarray]  # phoneme ids of each sentence of a text, int64 [phonemes]


class Streamed:
    """One voice, open whole and in two halves."""

    def __init__(self, stream: dict[str, Any], scales: list[float], speaker: int | None):
        """
        Args:
            stream: a `PlannedStream` as plain data.
            scales: as `piper_feeds` takes them, and so is `speaker`.
        """
        row = {"threads": stream["threads"], "accelerator": None}
        self.whole: Speak = speaker_of(onnxruntime_session({**row, "model": stream["model"]}), scales, speaker)
        self._encoder, self._decoder = (
            runner(onnxruntime_session({**row, "model": stream[half]})) for half in ("encoder", "decoder")
        )
        self._layout = Layout.model_validate(stream["layout"])
        self._feeds_of = piper_feeds(scales, speaker)

    def pieces(self, text: Ids, seconds: float | None) -> tuple[list[float], list[float]]:
        """When each piece of a text was there, in seconds from the beginning, and how many seconds of audio it has."""
        start, there, lengths = time.perf_counter(), [], []
        for number, ids in enumerate(text):
            feeds = self._feeds_of(ids)
            for audio in speak_pieces(self._encoder, self._decoder, self._layout, feeds, seconds, first=not number):
                there.append(time.perf_counter() - start)
                lengths.append(audio.size / self._layout.sample_rate)
        return there, lengths


class FirstSound:
    """All voices and texts of a plan, ready to be timed one after another."""

    def __init__(self, request: dict[str, Any]):
        """
        Args:
            request: `streams`, `texts`, `scales`, `speaker` and `phonemizer` of a `TimingPlan` as plain data.
        """
        self._voices = [Streamed(one, request["scales"], request["speaker"]) for one in request["streams"]]
        self._texts: list[Ids] = [
            [np.array(ids, dtype=np.int64) for ids in text["sentences"]] for text in request["texts"]
        ]
        self._words = [text["text"] for text in request["texts"]]
        self._phonemize = _phonemizer(request["phonemizer"])
        self._shortest = min(self._texts, key=lambda text: sum(ids.size for ids in text))

    @property
    def phonemizes(self) -> bool:
        """Whether this machine can turn a text into ids."""
        return self._phonemize is not None

    def time(self, text: int, voice: int | None, seconds: float | None, whole: bool) -> dict[str, float | None]:
        """Time one thing; where it is a voice, the shortest text goes before it and fills the caches.

        Args:
            text: number of the text.
            voice: number of the voice; None: the text is turned into ids.
            seconds: of every piece, in place of pieces that grow.
            whole: in one go, not in pieces.

        Returns:
            `seconds` until all was there. For pieces also `first`, until the first one was there, and `lead`, by how
            much the audio was ahead of a player at its tightest moment (None: there was one piece).
        """
        gc.collect()
        gc.disable()
        try:
            if voice is None:
                assert self._phonemize is not None
                start = time.perf_counter()
                self._phonemize(self._words[text])
                return {"seconds": time.perf_counter() - start}
            spoken = self._voices[voice]
            if whole:
                for ids in self._shortest:
                    spoken.whole(ids)
                start = time.perf_counter()
                for ids in self._texts[text]:
                    spoken.whole(ids)
                return {"seconds": time.perf_counter() - start}
            spoken.pieces(self._shortest, seconds)
            there, lengths = spoken.pieces(self._texts[text], seconds)
        finally:
            gc.enable()
        needed = there[0] + np.cumsum(lengths)[:-1]
        lead = float((needed - there[1:]).min()) if len(there) > 1 else None
        return {"seconds": there[-1], "first": there[0], "lead": lead}


def _phonemizer(voice: str | None) -> Callable[[str], Any] | None:
    """A text to ids by a voice's config; None where the phonemizer, or the voice, is not on this machine."""
    try:
        from ttsopt_lib.voices.piper import open_piper
        from ttsopt_lib.voices.text import phoneme_ids
    except ImportError:
        return None
    if voice is None or not Path(voice).is_file():
        return None
    config = open_piper(voice).config
    phoneme_ids(config, "Hello.")  # the phonemizer loads its dictionary
    return lambda text: phoneme_ids(config, text)
