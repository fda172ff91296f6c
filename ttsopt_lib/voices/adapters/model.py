"""What every kind of text-to-speech model can be asked, whatever it is fed: the interface of an adapter.

An adapter is one file beside this one. `opening.py` finds the one that fits a model file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from onnx import ModelProto, load

from ttsopt_lib.records.quality import MissingSymbol
from ttsopt_lib.voices.onnx_file import VoiceError, all_nodes
from ttsopt_lib.voices.piper import PiperVoice
from ttsopt_lib.voices.vits_graph import NORMAL, UNIFORM

Feed = dict[str, np.ndarray]  # a graph's inputs by name


class Ids(tuple[int, ...]):
    """A text's ids, with what a graph is given beside them: `beside`, name -> numbers."""

    beside: Mapping[str, Any]

    def __new__(cls, ids: Iterable[int], beside: Mapping[str, Any] | None = None) -> Ids:
        made = super().__new__(cls, ids)
        made.beside = beside or {}
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.beside

    def __eq__(self, other: object) -> bool:
        beside = getattr(other, "beside", {})
        if tuple.__eq__(self, other) is not True or self.beside.keys() != beside.keys():
            return False
        return all(np.array_equal(self.beside[name], beside[name]) for name in beside)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


class Speaker(Protocol):
    """A model in ONNX Runtime whose noise is handed in, so that two variants of it can be compared."""

    def speak(
        self,
        ids: Sequence[int],
        seed: int = 0,
        *,
        durations: Sequence[int] | np.ndarray | None = None,
        scales: Sequence[float] = (),
        sid: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Speak one utterance.

        Args:
            ids: what the model is fed for the text, as `TtsModel.utterance_ids` gives it.
            seed: decides the noise; the same for every variant that shall speak the same.
            durations: frames each phoneme lasts, where the model takes them; others speak with their own.
            scales: as `TtsModel.scales`.
            sid: as `TtsModel.speaker`.

        Returns:
            the waveform, float32 [samples], and the frames each phoneme lasted, int64 [phonemes] (empty for a model
            that does not tell them).
        """
        ...

    def speak_feed(
        self, feed: Feed, seed: int = 0, durations: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of a graph's inputs, as `TtsModel.feed` gives them."""
        ...


class TtsModel(ABC):
    """A model that was opened and found sound.

    Attributes:
        path: the `.onnx` file.
        onnx_sha256: its hash; where weights lie in files beside it, of it and of them.
        kind: what messages call it: `a Piper voice`.
        sample_rate: of the audio, Hz.
        language_code: what it speaks, as in `en_US` or `en-us`; empty where nobody says.
        scales: what `speak` is given to speak as the model does unless told otherwise; empty where there is nothing.
        outputs: the graph's output with the samples, or those that the vocoder makes samples of; none: the first.
        vocoder: `module:function` of what makes samples of the outputs; None: they are samples.
        code: folder where the vocoder's module is looked for first.
        is_vits: whether it is one, so that there is a network to load and to export (`vits`).
    """

    path: Path
    onnx_sha256: str
    kind: str
    sample_rate: int
    language_code: str
    scales: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()
    vocoder: str | None = None
    code: Path | None = None
    is_vits: ClassVar[bool] = False

    @property
    def timing_scales(self) -> tuple[float, ...]:
        """`scales` where every run has to last as long as the one before."""
        return self.scales

    @property
    def has_noise(self) -> bool:
        """Whether the graph draws random numbers, without which it speaks a text the same each time."""
        model = load(self.path, load_external_data=False)
        return any(node.op_type in NORMAL + UNIFORM for node in all_nodes(model))

    def speaker(self, asked: int | None) -> int | None:
        """Number of the speaker: whom a study asks for, or the model's own default. Raises `VoiceError`."""
        if asked is not None:
            raise VoiceError(f"voice.speaker: {asked}, but {self.path.name} has one voice: leave the key out")
        return None

    @abstractmethod
    def utterance_ids(self, text: str) -> Sequence[int]:
        """What the model is fed for a text spoken in one go. Raises `TextError` where that is nothing."""

    @abstractmethod
    def missing_symbols(self, texts: Sequence[str]) -> list[MissingSymbol]:
        """What of some texts is not spoken, the most frequent first. Raises as `utterance_ids`."""

    @abstractmethod
    def language_doubt(self, language: str | None) -> list[str]:
        """What to say where the model speaks another language than the texts are in; nothing where it is the same."""

    @abstractmethod
    def feed(self, ids: Sequence[int], speaker: int | None = None, noise: bool = True) -> Feed:
        """One utterance as the graph's inputs.

        Args:
            ids: of `utterance_ids`.
            speaker: whom a study asks for.
            noise: with the model's own noise scales; False for none, where they are inputs.
        """

    @abstractmethod
    def open(self, graph: ModelProto | None = None) -> Speaker:
        """The model ready to speak on one thread; `graph`, a variant of it, in its place.

        Raises:
            VoiceError: the graph is none of such a model.
            RuntimeFailure: ONNX Runtime cannot load it.
        """

    @abstractmethod
    def write_config(self, model: Path) -> None:
        """Write what goes with `model`, a variant's `.onnx` file, beside it: `model.onnx.json`."""

    def vits(self, what: str) -> PiperVoice:
        """The model as the VITS voice that some work needs.

        Args:
            what: the work, as messages name it.

        Raises:
            VoiceError: it is none.
        """
        raise VoiceError(f"{self.path}: {what} needs a VITS voice, and this is {self.kind}")
