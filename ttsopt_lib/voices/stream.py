"""Speak while computing: sentence after sentence, and within a sentence piece after piece.

The first half of a voice (`seam.py`) runs once for a sentence. The second half runs on pieces of its frames, each with
as many frames of context on both sides as decide about its samples; the samples of the context are thrown away. Put
together, the pieces are the audio that the whole voice gives, to a ten-thousandth.

How much context that is, is followed through the graph (`time_axes.py`). A voice whose samples depend on the whole
sentence (as where the range of an int8 product is found anew for every run) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ttsopt_lib.voices.onnx_file import read_model
from ttsopt_lib.voices.piper import PiperVoice, open_piper, speaker_of
from ttsopt_lib.voices.seam import Halves, StreamError, split_voice
from ttsopt_lib.voices.session import Session, open_session
from ttsopt_lib.voices.text import phoneme_ids
from ttsopt_lib.voices.time_axes import NotLocal, receptive_field

Audio = NDArray[np.float32]
Feeds = dict[str, NDArray]

FIRST_SECONDS = 0.1  # of audio in the first piece
GROWTH = 2.0  # each further piece is so many times as long as the one before
LONGEST_SECONDS = 2.0  # and no longer than this
PROBE_SYMBOLS = (60, 90)  # phonemes of the two utterances on which a voice is measured


@dataclass(frozen=True)
class Context:
    """Frames that decide about a frame's samples: before it and after it."""

    before: int
    after: int


@dataclass(frozen=True)
class Piece:
    """Frames `first` to `last` (without the last), computed from `start` to `end`."""

    first: int
    last: int
    start: int
    end: int


class StreamingVoice:
    """A voice that is spoken piece by piece.

    Attributes:
        voice: the Piper voice.
        hop: samples of a frame.
        context: what a piece needs beside its own frames.
        axes: of each tensor between the halves the axis of the frames, or None where it has none.
    """

    def __init__(self, voice: Path | PiperVoice, threads: int = 1, halves: Halves | None = None):
        """
        Args:
            voice: a Piper voice's `.onnx`, or the voice.
            threads: threads the runtime may use.
            halves: the voice in two, where it is cut already.

        Raises:
            VoiceError: the file cannot be read.
            StreamError: the voice cannot be spoken piece by piece; the message says which nodes see everything.
        """
        self.voice = voice if isinstance(voice, PiperVoice) else open_piper(voice)
        self._halves = halves or split_voice(read_model(self.voice.path), str(self.voice.path))
        self._encoder = open_session(self._halves.encoder, threads)
        decoder = _typed(self._halves.decoder, self._encoder)
        self._decoder = open_session(decoder, threads)
        probes = [self._probe(number) for number in range(len(PROBE_SYMBOLS))]
        self.axes = _frame_axes(probes)
        self.hop = self._hop(probes[0])
        self.context = self._context(decoder, probes)

    def speak(self, text: str, speaker: int | None = None, seconds: float | None = None) -> Iterator[Audio]:
        """Speak a text, sentence after sentence, each in pieces: the first short, the next longer.

        Args:
            text: what to say.
            speaker: number of the speaker; None: as the voice's config says.
            seconds: of every piece, in place of pieces that grow.

        Yields:
            float32 [samples] at the voice's sample rate, -1 to 1.

        Raises:
            TextError: the text gives no phonemes.
            StreamError: the pieces are shorter than a frame.
        """
        for number, ids in enumerate(phoneme_ids(self.voice.config, text)):
            yield from self.speak_ids(ids, speaker=speaker, seconds=seconds, first=number == 0)

    def speak_ids(
        self,
        ids: Sequence[int],
        speaker: int | None = None,
        scales: Sequence[float] | None = None,
        seconds: float | None = None,
        first: bool = True,
        noises: Sequence[NDArray] = (),
    ) -> Iterator[Audio]:
        """Speak one sentence in pieces.

        Args:
            ids: its phoneme ids.
            speaker: number of the speaker; None: as the voice's config says.
            scales: noise scale, length scale, duration noise scale; None: the voice's own.
            seconds: of every piece, in place of pieces that grow.
            first: whether somebody waits for the first piece.
            noises: the noise itself, for a voice that was cut with `noise_given`.

        Yields:
            float32 [samples].
        """
        feeds = self._feeds(ids, speaker, scales) | dict(zip(self._halves.noises, noises, strict=True))
        handed = self._encode(feeds)
        for piece in pieces(self._frames(handed), self._sizes(seconds, first), self.context):
            yield self._decode(handed, piece)

    @property
    def sample_rate(self) -> int:
        """Samples of a second."""
        return self.voice.config.sample_rate

    def _feeds(self, ids: Sequence[int], speaker: int | None, scales: Sequence[float] | None) -> Feeds:
        config = self.voice.config
        own = (config.noise_scale, config.length_scale, config.noise_w)
        feeds: Feeds = {
            "input": np.asarray(ids, dtype=np.int64)[None],
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.asarray(own if scales is None else scales, dtype=np.float32),
        }
        sid = speaker_of(config, speaker)
        if sid is not None:
            feeds["sid"] = np.array([sid], dtype=np.int64)
        return feeds

    def _encode(self, feeds: Feeds) -> Feeds:
        wanted = {value.name for value in self._encoder.get_inputs()}
        values = self._encoder.run(None, {name: value for name, value in feeds.items() if name in wanted})
        return dict(zip(self._halves.tensors, values, strict=True))

    def _decode(self, handed: Feeds, piece: Piece) -> Audio:
        """The samples of a piece."""
        part = {name: self._frames_of(name, value, piece.start, piece.end) for name, value in handed.items()}
        (audio,) = self._decoder.run(None, part)
        first, last = (self.hop * (frame - piece.start) for frame in (piece.first, piece.last))
        return audio.reshape(-1)[first:last]

    def _frames_of(self, name: str, value: NDArray, start: int, end: int) -> NDArray:
        axis = self.axes[name]
        return (
            value
            if axis is None
            else np.ascontiguousarray(np.moveaxis(np.moveaxis(value, axis, 0)[start:end], 0, axis))
        )

    def _frames(self, handed: Feeds) -> int:
        name, axis = next((name, axis) for name, axis in self.axes.items() if axis is not None)
        return handed[name].shape[axis]

    def _sizes(self, seconds: float | None, first: bool) -> Iterator[int]:
        """Frames of each piece."""
        rate = self.sample_rate / self.hop
        if seconds is not None and round(seconds * rate) < 1:
            raise StreamError(
                f"pieces of {seconds:g} s: a frame of this voice takes {1 / rate:.3f} s; give that or more"
            )
        length = seconds or (FIRST_SECONDS if first else LONGEST_SECONDS)
        while True:
            yield max(1, round(length * rate))
            if seconds is None:
                length = min(GROWTH * length, LONGEST_SECONDS)

    # --- what is found out about the voice ---

    def _probe(self, number: int) -> Feeds:
        """What the halves hand over for an utterance of phonemes by chance."""
        generator = np.random.default_rng(number)
        phonemes = sorted({one for ids in self.voice.config.phoneme_id_map.values() for one in ids})
        return self._encode(self._feeds(generator.choice(phonemes, PROBE_SYMBOLS[number]).tolist(), None, None))

    def _hop(self, handed: Feeds) -> int:
        frames = self._frames(handed)
        (audio,) = self._decoder.run(None, handed)
        if audio.size % frames:
            raise StreamError(f"{self.voice.path}: cannot be streamed: {audio.size} samples of {frames} frames")
        return audio.size // frames

    def _context(self, decoder: onnx.ModelProto, probes: Sequence[Feeds]) -> Context:
        try:
            return Context(*receptive_field(decoder, lambda number: probes[number]))
        except NotLocal as error:
            raise StreamError(
                f"{self.voice.path}: cannot be streamed, because {error}; a voice whose int8 ranges are calibrated "
                "(`quantize_static`), and one without attention behind its durations, can"
            ) from None


def pieces(frames: int, sizes: Iterator[int], context: Context) -> Iterator[Piece]:
    """Cut an utterance into pieces.

    Args:
        frames: of the utterance.
        sizes: frames of each piece.
        context: what each is computed with beside them.
    """
    first = 0
    while first < frames:
        last = min(frames, first + next(sizes))
        yield Piece(first, last, max(0, first - context.before), min(frames, last + context.after))
        first = last


def _typed(decoder: onnx.ModelProto, encoder: Session) -> onnx.ModelProto:
    """The second half with inputs of the types that the first half gives."""
    kinds = {
        "tensor(float)": onnx.TensorProto.FLOAT,
        "tensor(int64)": onnx.TensorProto.INT64,
        "tensor(bool)": onnx.TensorProto.BOOL,
        "tensor(int32)": onnx.TensorProto.INT32,
    }
    types = {value.name: kinds[value.type] for value in encoder.get_outputs()}
    typed = onnx.ModelProto()
    typed.CopyFrom(decoder)
    del typed.graph.input[:]
    typed.graph.input.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in types.items())
    return typed


def _frame_axes(probes: Sequence[Feeds]) -> dict[str, int | None]:
    """The axis on which a tensor is longer for a longer utterance."""
    one, other = probes
    axes: dict[str, int | None] = {}
    lengths = set()
    for name in one:
        differing = [axis for axis, (a, b) in enumerate(zip(one[name].shape, other[name].shape, strict=True)) if a != b]
        if len(differing) > 1:
            raise StreamError(f"cannot be streamed: {name} grows with the utterance on {len(differing)} axes")
        axes[name] = differing[0] if differing else None
        if differing:
            lengths.add(one[name].shape[differing[0]])
    if len(lengths) != 1:
        raise StreamError(f"cannot be streamed: what its halves hand over has {len(lengths)} lengths")
    return axes
