"""Speak while computing: sentence after sentence, and within a sentence piece after piece.

The first half of a voice (`seam.py`) runs once for a sentence. The second half (`stateful.py`) runs on pieces of its
frames, and goes on where it stopped. Put together, the pieces are the audio that the whole voice gives at the same
noise, to a ten-thousandth of full scale (in float16 to a thousandth). A voice whose samples depend on the whole
sentence (as where the range of an int8 product is found anew in every run) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, helper
from pydantic import ValidationError

from ttsopt_lib.files import replaced_together
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.graph_part import TYPES
from ttsopt_lib.voices.onnx_file import VoiceError, read_model
from ttsopt_lib.voices.pieces import DECODER, ENCODER, LAYOUT, Audio, Layout, speak_pieces
from ttsopt_lib.voices.piper import PiperVoice, open_piper
from ttsopt_lib.voices.seam import StreamError, split_voice
from ttsopt_lib.voices.session import Session, open_session, run_graph
from ttsopt_lib.voices.stateful import with_states
from ttsopt_lib.voices.text import phoneme_ids
from ttsopt_lib.voices.time_axes import NotLocal, TimeAxes

MOST_PHONEMES = 400  # of what is spoken in one go: some 30 s; the memory of attention grows with their square
PROBE_SYMBOLS = (60, 90)  # phonemes of the two utterances on which a voice is looked at


class Parts(NamedTuple):
    """A voice in two graphs that speak piece by piece."""

    encoder: ModelProto
    decoder: ModelProto
    layout: Layout


def streaming_parts(voice: PiperVoice, called: str = "") -> Parts:
    """Make a voice ready to be spoken piece by piece; this takes some seconds. Messages name it as it is `called`.

    Raises:
        StreamError: the voice cannot be spoken piece by piece; the message says which node sees everything.
    """
    model, called = read_model(voice.path), called or str(voice.path)
    encoder, decoder, handed = split_voice(model, called)
    session = open_session(encoder)
    probes = []
    phonemes = sorted({one for ids in voice.config.phoneme_id_map.values() for one in ids})
    for number, symbols in enumerate(PROBE_SYMBOLS):  # phonemes by chance
        feeds = voice_feed(voice.config, np.random.default_rng(number).choice(phonemes, symbols).tolist())
        probes.append(dict(zip(handed, run_graph(session, feeds), strict=True)))
    try:
        times = TimeAxes(decoder, probes)
        stateful = with_states(decoder, times, probes[0])
    except NotLocal as error:
        raise StreamError(
            f"{called}: cannot be streamed, because {error}; a voice whose int8 ranges are calibrated "
            "(`quantize_static`), and one without attention behind its durations, can"
        ) from None
    needed = {value.name for value in stateful.model.graph.input}
    tensors = {name: times.axes.get(name) for name in handed if name in needed}
    del encoder.graph.output[:]
    encoder.graph.output.extend(_value(session, name) for name in tensors)
    layout = Layout(
        sample_rate=voice.config.sample_rate,
        hop=int(times.rates[decoder.graph.output[0].name]),
        wait=stateful.wait,
        shortest=stateful.shortest,
        free=stateful.free,
        tensors=tensors,
        states=stateful.states,
    )
    return Parts(encoder, stateful.model, layout)


def write_streaming(voice: PiperVoice, folder: Path, called: str = "") -> Layout:
    """Write the two halves of a voice, its config and their layout into a folder, all or none of them.

    Raises:
        StreamError: the voice cannot be spoken piece by piece, or something else stands in the folder.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LAYOUT).is_file():
        raise StreamError(f"{folder}: is not empty, and holds no {LAYOUT} of an earlier export; name another folder")
    parts = streaming_parts(voice, called)
    files = [folder / name for name in (ENCODER, DECODER, f"{ENCODER}.json", LAYOUT)]
    with replaced_together(folder, files) as new:
        encoder, decoder, config, layout = map(new, files)
        onnx.save(parts.encoder, encoder)
        onnx.save(parts.decoder, decoder)
        config.write_bytes(voice.config_path.read_bytes())
        layout.write_text(parts.layout.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return parts.layout


def read_streaming(folder: Path) -> Parts:
    """The two halves of a voice from their folder.

    Raises:
        VoiceError: a file is missing or damaged; the message names it.
    """
    path = folder / LAYOUT
    try:
        layout = Layout.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VoiceError(f"{path}: no such file; 'ttsopt speak VOICE.onnx --export FOLDER' makes it") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise VoiceError(f"{path}: not the layout of a streaming voice ({str(error).splitlines()[0]})") from None
    return Parts(read_model(folder / ENCODER), read_model(folder / DECODER), layout)


class StreamingVoice:
    """A voice that is spoken piece by piece.

    Attributes:
        config: the voice's config.
        layout: how its halves are used together.
    """

    def __init__(self, path: Path, threads: int = 1):
        """
        Args:
            path: a Piper voice's `.onnx`, or the folder that `write_streaming` made.
            threads: threads the runtime may use.

        Raises:
            VoiceError: a file cannot be read.
            StreamError: the voice cannot be spoken piece by piece.
        """
        if path.is_dir():
            parts, voice = read_streaming(path), open_piper(path / ENCODER)
        else:
            voice = open_piper(path)
            parts = streaming_parts(voice)
        self.config, self.layout = voice.config, parts.layout
        self._encoder, self._decoder = (open_session(part, threads) for part in (parts.encoder, parts.decoder))

    def speak(
        self, text: str, speaker: int | None = None, seconds: float | None = None, phrases: bool = False
    ) -> Iterator[Audio]:
        """Speak a text, sentence after sentence, each in pieces: the first short, the next longer.

        Args:
            text: what to say.
            speaker: number of the speaker; None: as the voice's config says.
            seconds: of every piece, in place of pieces that grow.
            phrases: speak each phrase of a sentence by itself, as if it were a sentence: the first half of the voice
                reads less before the first sound, and does not hear how the sentence goes on.

        Yields:
            float32 [samples] at the voice's sample rate, -1 to 1.

        Raises:
            TextError: the text gives no phonemes.
            StreamError: the pieces are shorter than a frame.
        """
        for number, ids in enumerate(phoneme_ids(self.config, text, MOST_PHONEMES, phrases)):
            yield from self.speak_ids(ids, speaker=speaker, seconds=seconds, first=number == 0)

    def speak_ids(
        self, ids: Sequence[int], speaker: int | None = None, seconds: float | None = None, first: bool = True
    ) -> Iterator[Audio]:
        """Speak one sentence, as `speak` does; `first`: whether somebody waits for its first piece."""
        if seconds is not None and seconds < self.layout.frame_seconds:
            raise StreamError(
                f"pieces of {seconds:g} s: a frame of this voice takes {self.layout.frame_seconds:.3f} s, give that or "
                "more"
            )
        encoder, decoder = (partial(run_graph, session) for session in (self._encoder, self._decoder))
        feeds = voice_feed(self.config, ids, speaker)
        yield from speak_pieces(encoder, decoder, self.layout, feeds, seconds, first)


def _value(session: Session, name: str) -> ValueInfoProto:
    """An output of a session as the input or output of a graph."""
    kind = TYPES[next(value.type for value in session.get_outputs() if value.name == name)]
    return helper.make_tensor_value_info(name, kind, None)
