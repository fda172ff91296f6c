"""Make two variants of a voice speak with the same noise and, where wanted, the same durations.

A VITS voice draws its noise inside the graph, from a generator the whole graph shares: seeding does not make two
variants comparable, because one inserted node changes every later draw. So the graph is copied in memory, with the
noise turned into inputs, and cut in two behind the node that rounds durations up: the first part says how long each
phoneme lasts, the second speaks with durations it is given. The file itself is left alone.

The nodes are found by what they do (the one Ceil; the random node it depends on; the random node that depends on it),
never by name, so this works on any Piper voice: the original, our exports, quantized ones. No PyTorch is needed.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ttsopt_lib.voices.graph_part import as_inputs, part_of
from ttsopt_lib.voices.onnx_file import VoiceError, read_model
from ttsopt_lib.voices.session import open_session, run_graph
from ttsopt_lib.voices.vits_graph import NORMAL, VitsGraph

_SHAPE = "paired_prior_shape"


def duration_noise(seed: int, phonemes: int) -> np.ndarray:
    """The duration predictor's noise of an utterance, float32 [2, phonemes]."""
    return _draw(seed, 0, phonemes, 2)


def prior_noise(seed: int, channels: int, frames: int) -> np.ndarray:
    """The latent frames' noise of an utterance, float32 [channels, frames].

    Drawn frame by frame, so that a variant that speaks longer starts with the same frames."""
    return _draw(seed, 1, frames, channels)


def _draw(seed: int, stream: int, steps: int, channels: int) -> np.ndarray:
    draws = np.random.default_rng((seed, stream)).standard_normal((steps, channels), dtype=np.float32)
    return np.ascontiguousarray(draws.T)


class PairedSession:
    """A Piper-format voice in ONNX Runtime whose noise and durations are handed in.

    Not for timing: the text encoder runs twice when durations are predicted.

    Attributes:
        speakers: how many speakers the voice has.
        latent_channels: channels of the prior's noise; None where they are not known yet, and for a voice without such
            noise. One who knows them can set them: with durations given, half of the voice then need not be opened.
    """

    def __init__(self, voice: str | Path | onnx.ModelProto, open_part: Callable[[onnx.ModelProto], Any] = open_session):
        """
        Args:
            voice: path of an `.onnx` file, or the loaded model (which is not changed).
            open_part: makes a session of a graph, with the methods `get_inputs` and `run` of ONNX Runtime's.

        Raises:
            VoiceError: if the graph is not one of a VITS voice.
        """
        source = "the model" if isinstance(voice, onnx.ModelProto) else str(voice)
        model = voice if isinstance(voice, onnx.ModelProto) else read_model(Path(voice))
        graph = VitsGraph(model)
        self.speakers = graph.embedding_rows("sid") or 1
        self._needs_sid = "sid" in graph.inputs

        ceils = [node for node in model.graph.node if node.op_type == "Ceil"]
        if len(ceils) != 1 or "input" not in graph.inputs:
            raise VoiceError(f"{source}: not a Piper voice: {len(ceils)} Ceil nodes, where one rounds up the durations")
        self._durations = ceils[0].output[0]
        before = graph.ancestors(ceils[0])
        random = [node for node in model.graph.node if node.op_type in NORMAL]
        duration_noises = [node for node in random if node.output[0] in before]
        prior_noises = [node for node in random if node.output[0] not in before]
        for kind, found in (("duration", duration_noises), ("prior", prior_noises)):
            if len(found) > 1:
                raise VoiceError(f"{source}: not a Piper voice: more than one source of {kind} noise")
        self._duration_noise = duration_noises[0].output[0] if duration_noises else None
        self._prior_noise = prior_noises[0].output[0] if prior_noises else None

        noises = [node.output[0] for node in duration_noises + prior_noises]
        inputs = as_inputs(model, [*noises, self._durations], rank=3)
        kinds = {value.name: value.type.tensor_type.elem_type for value in inputs}
        self._types = {name: onnx.helper.tensor_dtype_to_np_dtype(kind) for name, kind in kinds.items()}
        shape = [onnx.helper.make_node("Shape", [node.input[0]], [_SHAPE]) for node in prior_noises]
        lasts = [self._durations, *([_SHAPE] if shape else [])]
        self.latent_channels: int | None = None
        self._open_timing = partial(open_part, part_of(model, lasts, inputs[:-1], shape))
        self._speech = open_part(part_of(model, [model.graph.output[0].name], inputs))

    @cached_property
    def _timing(self) -> Any:
        """The part that says how long each phoneme lasts, opened when it is first asked."""
        return self._open_timing()

    def speak(
        self,
        ids: Sequence[int],
        seed: int = 0,
        durations: np.ndarray | Sequence[int] | None = None,
        scales: Sequence[float] = (0.667, 1.0, 0.8),
        sid: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Speak one utterance.

        Args:
            ids: phoneme ids.
            seed: decides the noise; the same for every variant that shall speak the same.
            durations: frames each phoneme lasts, in place of the voice's own.
            scales: noise scale, length scale, duration noise scale.
            sid: speaker, for a voice that has several (`speaker_of` says who).

        Returns:
            the waveform, float32 [samples], with the numbers that the graph gives, and the frames each phoneme lasted,
            int64 [phonemes].

        Raises:
            ValueError: if there are no ids, or durations do not fit them.
        """
        phonemes = len(ids)
        if not phonemes:
            raise ValueError("no phoneme ids: an utterance has at least one")
        feeds = {
            "input": np.asarray(ids, dtype=np.int64)[None],
            "input_lengths": np.array([phonemes], dtype=np.int64),
            "scales": np.asarray(scales, dtype=np.float32),
        }
        if self._needs_sid:
            if sid is None:
                raise ValueError(f"the voice has {self.speakers} speakers: give sid, a number below that")
            feeds["sid"] = np.array([sid], dtype=np.int64)
        if self._duration_noise:
            feeds |= self._typed(self._duration_noise, duration_noise(seed, phonemes)[None])

        lasting = None if durations is None else np.asarray(durations, dtype=np.float32).reshape(1, 1, -1)
        if lasting is None or (self._prior_noise and self.latent_channels is None):
            predicted, *shape = run_graph(self._timing, feeds)
            if shape:
                self.latent_channels = int(shape[0][1])
            if lasting is None:
                lasting = predicted.astype(np.float32).reshape(1, 1, -1)
        if lasting.shape[-1] != phonemes:
            raise ValueError(f"{lasting.shape[-1]} durations for {phonemes} phoneme ids: give one each")
        feeds |= self._typed(self._durations, lasting)
        if self._prior_noise:
            assert self.latent_channels is not None
            frames = max(int(lasting.sum()), 1)
            feeds |= self._typed(self._prior_noise, prior_noise(seed, self.latent_channels, frames)[None])
        (waveform,) = run_graph(self._speech, feeds)
        return waveform.astype(np.float32, copy=False).reshape(-1), lasting.reshape(-1).astype(np.int64)

    def speak_feed(
        self, feed: dict[str, np.ndarray], seed: int = 0, durations: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of a graph's inputs: `input`, `scales`, and `sid` of a voice with several speakers."""
        sid = int(feed["sid"][0]) if "sid" in feed else None
        ids = [int(one) for one in feed["input"].reshape(-1)]
        return self.speak(ids, seed=seed, durations=durations, scales=feed["scales"].tolist(), sid=sid)

    def _typed(self, name: str, value: np.ndarray) -> dict[str, np.ndarray]:
        """An input of ours, in the type that the graph wants."""
        return {name: value.astype(self._types[name], copy=False)}
