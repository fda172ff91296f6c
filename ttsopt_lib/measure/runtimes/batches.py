"""Several sentences spoken at once by a model that is open: what runs in the worker."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ttsopt_lib.measure.runtimes.onnx_runtime import Speak
from ttsopt_lib.records.device import PLAUSIBLE_LENGTH


def batch_feeds(batch: Sequence[np.ndarray], scales: Sequence[float], speaker: int | None) -> dict[str, np.ndarray]:
    """What a Piper voice is fed to speak sentences at once: shorter ones are filled up with 0.

    Args:
        batch: phoneme ids of each sentence, int64 [phonemes].
        scales: noise scale, length scale, duration noise scale.
        speaker: who speaks all of them; None for a voice with one.

    Returns:
        `input` [batch, longest] and `input_lengths` [batch], int64, `scales` float32 [3], and `sid` int64 [1].
    """
    lengths = [ids.size for ids in batch]
    padded = np.zeros((len(batch), max(lengths)), dtype=np.int64)
    for row, ids in zip(padded, batch, strict=True):
        row[: ids.size] = ids
    feeds = {
        "input": padded,
        "input_lengths": np.array(lengths, dtype=np.int64),
        "scales": np.array(scales, dtype=np.float32),
    }
    if speaker is not None:
        feeds["sid"] = np.array([speaker], dtype=np.int64)  # Piper's own files take one for a whole batch
    return feeds


class Batches:
    """The sentences of a plan's batches, each of which was spoken alone when this was made.

    Attributes:
        alone_seconds: that speaking each of them alone took; on an accelerator most of it may be the first runs'.
    """

    def __init__(
        self,
        speak: Speak,
        request: dict[str, Any],
        sample_rate: int,
        samples_of: Callable[[Any], int],
        row: dict[str, Any],
    ):
        """
        Args:
            speak: the model, which takes a graph's inputs by name.
            request: `sentences` (phoneme ids, the shortest first), `scales` and `speaker` as plain data.
            sample_rate: Hz.
            samples_of: how many samples some audio has; raises where that is no speech.
            row: the row as plain data.
        """
        self._speak, self._samples_of, self._sample_rate = speak, samples_of, sample_rate
        self._sentences = [np.array(ids, dtype=np.int64) for ids in request["sentences"]]
        self._scales, self._speaker = request["scales"], request["speaker"]
        self._feeds: dict[int, list[dict[str, np.ndarray]]] = {}
        self._cuda: Any = None
        if row["runtime"] == "pytorch" and row["accelerator"] == "cuda":
            import torch

            self._cuda = torch.cuda
        start = time.perf_counter()
        # durations have no noise, so each sentence is as long alone as in any batch
        self._samples = [samples_of(speak(feeds)) for feeds in self._batches(1)]
        self.alone_seconds = time.perf_counter() - start

    def speak(self, size: int, seconds: float) -> dict[str, Any]:
        """Speak all sentences, so many at once, again and again until so many seconds have gone by; at least once.

        Returns:
            `seconds` of wall time, `audio_seconds` of the sentences without padding, the share of `padding`, and on a
            GPU `device_memory_mb`; where this size fails only `failed`, which says why.
        """
        try:
            return self._timed(size, seconds)
        except Exception as error:  # whatever a runtime raises: the other sizes may go well
            why = " ".join(str(error).split())[:500] or type(error).__name__
        if self._cuda:  # what it had taken before its memory was short; the error, which held it, is gone
            self._cuda.empty_cache()
        return {"failed": why}

    def _timed(self, size: int, seconds: float) -> dict[str, Any]:
        first, passes = size not in self._feeds and size > 1, 0
        batches = self._batches(size)
        if self._cuda:
            self._cuda.reset_peak_memory_stats()
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            while True:
                for number, feeds in enumerate(batches):
                    audio = self._speak(feeds)
                    if first:  # such a pass counts nowhere
                        self._check(audio, self._samples[number * size : (number + 1) * size])
                passes, first = passes + 1, False
                spent = time.perf_counter() - start
                if spent >= seconds:
                    break
        finally:
            gc.enable()
        memory = {"device_memory_mb": self._cuda.max_memory_allocated() / 1e6} if self._cuda else {}
        audio_seconds = passes * sum(self._samples) / self._sample_rate
        return {"seconds": spent, "audio_seconds": audio_seconds, "padding": self._padding(size), **memory}

    def _batches(self, size: int) -> list[dict[str, np.ndarray]]:
        if size not in self._feeds:
            parts = _parts(self._sentences, size)
            self._feeds[size] = [batch_feeds(part, self._scales, self._speaker) for part in parts]
        return self._feeds[size]

    def _padding(self, size: int) -> float:
        """Share of the samples, computed in batches of that size, that belong to no sentence."""
        computed = sum(len(part) * max(part) for part in _parts(self._samples, size))
        return 1 - sum(self._samples) / computed

    def _check(self, audio: Any, samples: Sequence[int]) -> None:
        """Raise where a batch's audio is not about as long as its longest sentence, or one of them is no speech."""
        rows = np.asarray(audio).reshape(len(samples), -1)
        low, high = PLAUSIBLE_LENGTH
        if not low * max(samples) <= rows.shape[1] <= high * max(samples):
            raise ValueError(
                f"{len(samples)} sentences at once are {rows.shape[1]} samples long, the longest alone {max(samples)}"
            )
        for row, length in zip(rows, samples, strict=True):
            self._samples_of(row[:length])


def _parts(of: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """One after another so many; the last part may have fewer."""
    return [of[start : start + size] for start in range(0, len(of), size)]
