"""How the two halves of a streaming voice are used together, with what a Raspberry Pi has: numpy and pydantic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Audio = NDArray[np.float32]
Feeds = Mapping[str, NDArray]
Run = Callable[[Feeds], Sequence[NDArray]]  # a graph: the values of its outputs for those of its inputs

ENCODER, DECODER, LAYOUT = "encoder.onnx", "decoder.onnx", "streaming.json"
FIRST, LAST = "streaming_first", "streaming_last"  # inputs, int64 [1]: 1 for the first piece, for the last one
FIRST_SECONDS = 0.1  # of audio in the first piece
GROWTH = 2.0  # each further piece is so many times as long as the one before
LONGEST_SECONDS = 2.0  # and no longer than this


class StateLayout(BaseModel):
    """What a state is before the first piece: an array filled with one number."""

    model_config = ConfigDict(extra="forbid")

    shape: list[int]
    type: str
    fill: int


class Layout(BaseModel):
    """streaming.json: how the two files of a streaming voice are used together."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    sample_rate: int
    hop: int = Field(description="samples of a frame")
    wait: int = Field(description="frames that the first piece needs beside its own")
    shortest: int = Field(default=0, description="frames of the longest sentence that is spoken in one piece")
    free: int = Field(default=0, description="frames of a piece that take no longer than fewer")
    tensors: dict[str, int | None] = Field(description="what the encoder gives the decoder, and its axis of frames")
    noises: list[str] = Field(default=[], description="always empty: the encoder draws its noise itself")
    states: dict[str, StateLayout] = Field(description="inputs of the decoder, each with an output NAME_next")

    @property
    def frame_seconds(self) -> float:
        """Seconds of audio in a frame."""
        return self.hop / self.sample_rate

    def start(self) -> dict[str, NDArray]:
        """The states before the first piece."""
        return {name: np.full(one.shape, one.fill, one.type) for name, one in self.states.items()}

    def lengths(self, seconds: float | None, first: bool) -> Iterator[int]:
        """Frames of each piece: of so many seconds, or growing where that is None.

        Args:
            seconds: of every piece; at least `frame_seconds`.
            first: whether somebody waits for the first piece, which then is a short one.
        """
        if seconds is not None:
            return repeat(round(seconds / self.frame_seconds))
        growing = accumulate(
            repeat(GROWTH),
            lambda length, growth: min(max(growth * length, self.free * self.frame_seconds), LONGEST_SECONDS),
            initial=FIRST_SECONDS if first else LONGEST_SECONDS,
        )
        return (max(1, round(length / self.frame_seconds)) for length in growing)


def speak_pieces(
    encoder: Run, decoder: Run, layout: Layout, feeds: Feeds, seconds: float | None = None, first: bool = True
) -> Iterator[Audio]:
    """Speak one sentence in pieces.

    Args:
        encoder: the first half; it runs once.
        decoder: the second half; it runs for each piece.
        layout: how they belong together.
        feeds: the inputs of the voice.
        seconds: of every piece, in place of pieces that grow.
        first: whether somebody waits for the first piece.

    Yields:
        float32 [samples].
    """
    lengths = layout.lengths(seconds, first)
    handed = dict(zip(layout.tensors, encoder(feeds), strict=True))
    frames = next(handed[name].shape[axis] for name, axis in layout.tensors.items() if axis is not None)
    states, done = layout.start(), 0
    while done < frames:
        end = min(frames, max(layout.shortest, done + next(lengths) + (0 if done else layout.wait)))
        part = {name: _between(handed[name], axis, done, end) for name, axis in layout.tensors.items()}
        flags = {FIRST: np.array([int(done == 0)]), LAST: np.array([int(end == frames)])}
        audio, *kept = decoder(part | flags | states)
        states = dict(zip(states, kept, strict=True))
        done = end
        yield audio.reshape(-1)


def _between(value: NDArray, axis: int | None, start: int, end: int) -> NDArray:
    return value if axis is None else np.take(value, np.arange(start, end), axis)
