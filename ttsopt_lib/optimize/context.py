"""What the steps of a recipe work with: the voice, its sentences, and what the variants of a study share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.code_hash import versions
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import content_key
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.calibration import Feed, calibration_texts, sentence_feeds, sentence_words
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.optimize.graph.to_float import to_float
from ttsopt_lib.optimize.inventory import Inventory, take_inventory
from ttsopt_lib.optimize.steps.step import work_of
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.step_settings import NetworkStep
from ttsopt_lib.study import Study
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.huggingface import load_huggingface, piper_config_for
from ttsopt_lib.voices.onnx_file import VoiceError, read_model
from ttsopt_lib.voices.piper import load_piper, open_piper
from ttsopt_lib.voices.session import RuntimeFailure, open_session
from ttsopt_lib.voices.source import source_model

LIBRARIES = ("torch", "onnx", "onnxruntime", "transformers")  # a change of these may change the bytes of a variant


class VariantError(TtsoptError, RuntimeError):
    """A variant that was built but is no voice: it does not load, or does not speak. Nothing of it is kept."""


class BuildContext:
    """What the variants of one study share: each is made when first needed, and gone when the study is built.

    Attributes:
        study: what was asked.
        folder: where the study's files lie.
        scratch: a folder for files on the way.
        variant: name of the variant that is being made.
        inventory: what that variant's file holds before the step at work.
        note: a sentence about the step at work that the finished file cannot tell; empty where there is none.
    """

    variant: str
    inventory: Inventory
    note: str = ""

    def __init__(self, study: Study, scratch: Path, folder: StudyFolder):
        self.study = study
        self.scratch = scratch
        self.folder = folder
        self._exports: dict[str, tuple[Path, Inventory]] = {}

    @cached_property
    def voice(self) -> TtsModel:
        """The original, as a file."""
        source = self.study.voice.huggingface
        if source is None:
            return self._float_form() if self.study.voice.as_float else source_model(self.study)
        folder = resolve(source)
        model, config = load_huggingface(folder), piper_config_for(folder)
        return PiperModel(open_piper(export_piper(model, config, self.scratch / "original.onnx")))

    def _float_form(self) -> TtsModel:
        """The voice that the study names with its integer arithmetic turned back into float."""
        source = source_model(self.study)
        found = to_float(read_model(source.path))
        if not found.replaced:
            raise VoiceError(f"voice.as_float: {source.path.name} has no integer arithmetic: leave the key out")
        path = self.scratch / "original-float.onnx"
        path.write_bytes(found.model.SerializeToString(deterministic=True))
        source.write_config(path)
        return open_model(path)

    def network(self) -> StagedVits:
        """A fresh copy of the original in PyTorch, free to be changed."""
        source = self.study.voice.huggingface
        if source is not None:
            return load_huggingface(resolve(source))
        return load_piper(self.voice.vits("a step that changes the network"))

    @cached_property
    def calibration(self) -> list[Feed]:
        """The calibration sentences as model inputs, with the voice's own noise."""
        texts = calibration_texts(self.study.sentences.calibration)
        return sentence_feeds(self.voice, texts, self.study.voice.speaker)

    @cached_property
    def reference(self) -> Feed:
        """One sentence without noise: what every variant speaks to be counted and checked."""
        first = calibration_texts(self.study.sentences.calibration)[:1]
        return sentence_feeds(self.voice, first, self.study.voice.speaker, noise=False)[0]

    @cached_property
    def tells_durations(self) -> bool:
        """Whether the original has a second output, the frames of each phoneme, as piper's own tool adds it."""
        graph = read_model(self.voice.path).graph
        ceils = {output for node in graph.node if node.op_type == "Ceil" for output in node.output}
        return any(output.name in ceils for output in graph.output)

    @cached_property
    def reference_samples(self) -> int:
        """How long the original speaks it."""
        try:
            return speak(self.voice.path, self.reference, self.voice.outputs).size
        except RuntimeFailure as error:
            words = sentence_words(1)
            raise VariantError(f"{self.voice.path}: {words}: the voice itself cannot speak it: {error}") from None

    @property
    def libraries(self) -> dict[str, str | None]:
        """Versions of the packages that may change the bytes of a variant."""
        return versions(LIBRARIES)

    def export(self, steps: Sequence[NetworkStep]) -> tuple[Path, Inventory]:
        """The voice after these steps on its network, as an ONNX file. Variants with the same steps share it."""
        name = content_key(list(steps))
        if name not in self._exports:
            path = self.scratch / f"{name}.onnx"
            if self.voice.is_vits:
                model = self.network()
                for step in steps:
                    work_of(step).apply(model, step, self)
                export_piper(model, self.voice.vits("the export").config, path)
            else:  # there is no network to export: its graph is what it is
                graph = read_model(self.voice.path)
                for step in steps:
                    graph = work_of(step).in_graph(graph, step)
                path.write_bytes(graph.SerializeToString(deterministic=True))
                self.voice.write_config(path)
            self._exports[name] = path, take_inventory(path, self.reference)
        return self._exports[name]


def speak(path: Path, feed: Feed, outputs: Sequence[str] = ()) -> np.ndarray:
    """Audio of one utterance, float32 [samples], as any ONNX Runtime would make it from the file.

    Of a model with a vocoder, what the vocoder is given first.

    Args:
        path: the `.onnx` file.
        feed: its inputs.
        outputs: those with the samples; none: the first of the graph.
    """
    output: Any = open_session(path).run(list(outputs) or None, dict(feed))[0]
    return output.reshape(-1)
