"""What every step of a recipe has in common.

A step is its settings (a class in `ttsopt_lib/step_settings.py`) and a file of this folder with the same name. There a
subclass of `NetworkWork` or `GraphWork` holds all the rest: what the step does, what it needs, what it reached, and its
words. Nothing else names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from onnx import ModelProto

from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.records.variant import Coverage, StepKind, StepRecord
from ttsopt_lib.step_settings import AnyStep, GraphStep, NetworkStep, Step
from ttsopt_lib.voices.onnx_file import model_sha256

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

Settings = TypeVar("Settings", bound=Step)
WORK: dict[type[Step], type[StepWork[Any]]] = {}


@dataclass(frozen=True)
class Reached:
    """What a step reached: fractions of the voice, the number of layers with weights, and a sentence about it."""

    coverage: Coverage
    layers: int
    note: str = ""


class StepWork(ABC, Generic[Settings]):
    """What a step of a recipe does. Subclasses are in the file of their step's name, which registers them.

    Attributes:
        settings: the step's settings.
        label: what sentences call the step, for example "weight quantization".
        family: what legends call voices that were made by it alone, for example "int8 weights".
        kind: what of a voice it changes, by which the report chooses its sentences. What a `removal` reached is no
            longer in the finished voice, and only its own record can tell.
        remedy: what to change where it costs too much quality, as "prune less of it".
        optimizes: False for a step that stores or orders the same numbers in another way: it counts neither as a family
            of its own beside others nor in what all steps reached together.
    """

    settings: ClassVar[type[Step]]
    label: ClassVar[str]
    family: ClassVar[str]
    kind: ClassVar[StepKind] = "other"
    remedy: ClassVar[str] = ""
    optimizes: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        if "settings" in cls.__dict__:
            WORK[cls.settings] = cls

    def needs_sentences(self, step: Settings) -> bool:
        """Whether the result depends on the calibration sentences."""
        return False

    def files(self, step: Settings) -> dict[str, str]:
        """Name and hash of every file that the result depends on, beside the voice. Raises `StudyError`."""
        return {}

    def check(self, step: Settings, voice: Path | None) -> None:
        """Look at what the step takes from elsewhere, before the first variant is made.

        Args:
            step: its settings.
            voice: the original's `.onnx`; None for a Hugging Face voice, whose file is made first.

        Raises:
            TtsoptError: one line with the file and the key of what does not fit the voice.
        """

    def trains(self, step: Settings) -> bool:
        """Whether the step trains a network first, which takes hours."""
        return False

    def times(self, step: Settings) -> bool:
        """Whether the step times graphs on this machine, so that no other variant may be made beside it."""
        return False

    def corpus(self, step: Settings) -> Path | None:
        """The text that the step would train on, where it trains something that is to be kept."""
        return None

    def reaches(self, step: Settings, layer: Layer) -> tuple[int, bool]:
        """How many of a layer's parameters the step reached in the finished voice, and whether its products."""
        return 0, False

    def reached(self, step: Settings, after: Inventory, before: Inventory) -> Reached:
        """What the step reached.

        Args:
            step: its settings.
            after: the voice after it; of a step on the network, after the export.
            before: the voice before it; of a step that removes something, the whole voice.
        """
        layers = sum(self.reaches(step, layer)[0] > 0 for layer in after.weighted)
        return Reached(self.coverage(step, after), layers, self.note(step, after, layers))

    def gained(self, step: Settings, more: Inventory, less: Inventory) -> tuple[Coverage, int]:
        """How much more of one voice than of another the step reached: fractions, and layers with weights."""
        high, low = self.coverage(step, more), self.coverage(step, less)
        coverage = Coverage(parameters=max(high.parameters - low.parameters, 0.0), macs=max(high.macs - low.macs, 0.0))
        most, least = (sum(self.reaches(step, layer)[0] > 0 for layer in voice.weighted) for voice in (more, less))
        return coverage, max(most - least, 0)

    def coverage(self, step: Settings, voice: Inventory) -> Coverage:
        """Fractions of a finished voice that the step reached."""
        return voice.coverage(lambda layer: self.reaches(step, layer))

    def stages(self, step: Settings) -> list[str]:
        """The stages of a `StagedVits` that a student takes the place of."""
        return []

    def note(self, step: Settings, after: Inventory, layers: int) -> str:
        """One sentence on what the step reached in so many layers of the voice."""
        return ""

    def in_torch(self, model: StagedVits, step: Settings) -> None:
        """Do in PyTorch what the step does, in place, so that it can be timed there. Raises `StudyError`."""
        raise StudyError(
            f"measure.pytorch: {step.step} has no equal in PyTorch; name only variants whose steps change the network, "
            "or quantize_dynamic with operators: [MatMul] and 8 bits"
        )


NetworkSettings = TypeVar("NetworkSettings", bound=NetworkStep)
GraphSettings = TypeVar("GraphSettings", bound=GraphStep)


class NetworkWork(StepWork[NetworkSettings]):
    """What a step on the PyTorch network does."""

    @abstractmethod
    def apply(self, model: StagedVits, step: NetworkSettings, context: BuildContext | None) -> None:
        """Change the network in place. Raises `StudyError`.

        Args:
            model: the voice.
            step: the settings.
            context: what the variants of a study share; None where there are no sentences, as for timing in PyTorch.
        """

    def in_graph(self, model: ModelProto, step: NetworkSettings) -> ModelProto:
        """The same in the graph of a model that is no VITS, where the step's settings say `any_model`.

        Raises:
            StudyError: the step needs a network.
        """
        raise StudyError(f"step {step.step} needs a VITS voice; take it out of the recipe")

    def in_torch(self, model: StagedVits, step: NetworkSettings) -> None:
        """As `apply`."""
        self.apply(model, step, None)


class GraphWork(StepWork[GraphSettings]):
    """What a step on the exported ONNX graph does."""

    @abstractmethod
    def apply(self, model: ModelProto, step: GraphSettings, context: BuildContext) -> ModelProto:
        """The changed graph; the one handed in is left alone. Raises `StudyError`."""


@overload
def work_of(step: NetworkStep) -> NetworkWork[Any]: ...
@overload
def work_of(step: GraphStep) -> GraphWork[Any]: ...
@overload
def work_of(step: Step) -> StepWork[Any]: ...
def work_of(step: Step) -> StepWork[Any]:
    """What a step does. Its file is loaded when it is first asked for."""
    if type(step) not in WORK:
        import_module(f"{__package__}.{step.step}")
    return WORK[type(step)]()


def record_of(step: Step, after: Inventory, before: Inventory, note: str = "") -> StepRecord:
    """The record of a step: what it reached, and its words. `note` stands in for the step's own sentence."""
    reached = work_of(step).reached(step, after, before)
    return StepRecord(
        step=step.step,
        coverage=reached.coverage,
        layers=reached.layers,
        note=note or reached.note,
        stages=work_of(step).stages(step),
        **words_of(step),
    )


def words_of(step: Step) -> dict[str, Any]:
    """What a step's record says of it whatever it reached: keys of `StepRecord`."""
    work = work_of(step)
    return {
        "label": work.label,
        "family": work.family,
        "kind": work.kind,
        "remedy": work.remedy,
        "optimizes": work.optimizes,
        "changes_arithmetic": step.changes_arithmetic,
    }


def total_coverage(recipe: Sequence[AnyStep], steps: Sequence[StepRecord], finished: Inventory) -> Coverage:
    """What all steps of a recipe reached: in the finished voice, or, of what was removed, by the steps' own records.

    Args:
        recipe: the steps.
        steps: their records, in the same order.
        finished: the voice after all of them.
    """
    works = [(work_of(step), step) for step in recipe]

    def reached(layer: Layer) -> tuple[int, bool]:
        each = [work.reaches(step, layer) for work, step in works if work.optimizes]
        return max((parameters for parameters, _ in each), default=0), any(products for _, products in each)

    found = [finished.coverage(reached), *(step.coverage for step in steps if step.kind == "removal")]
    return Coverage(parameters=max(one.parameters for one in found), macs=max(one.macs for one in found))


def source_of(step: Step) -> str:
    """The module that holds a step's work, with dots."""
    return type(work_of(step)).__module__


def refuse_other_teacher(folder: Path, record: dict[str, Any], voice: Path | None, instead: str) -> None:
    """What was trained for one voice makes another speak with two mouths, also where all sizes are the same.

    Args:
        folder: of what was trained.
        record: of its training.
        voice: the original's `.onnx`, or None where it is not there yet.
        instead: what to do, for the message.

    Raises:
        StudyError: the record names another voice's hash.
    """
    teacher = record.get("voice_sha256")
    if voice and teacher and teacher != (own := model_sha256(voice)):
        raise StudyError(
            f"{folder / 'record.json'}: key voice_sha256: trained for the voice {record.get('voice')!r} "
            f"({teacher[:8]}...), and this study's is {voice.name} ({own[:8]}...): {instead}, or leave the variant out"
        )


def file_hashes(folder: Path, *endings: str) -> dict[str, str]:
    """Name and hash of a folder's files with these endings; nothing where it is not there."""
    return {path.name: file_sha256(path) for path in sorted(folder.glob("*")) if path.suffix in endings}
