"""The settings of a recipe's steps, as a study gives them: light, because a device that only times reads them too.

What a step does is in the file of its name below `ttsopt_lib/optimize/steps/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, SerializeAsAny, model_validator

STEPS: dict[str, type[Step]] = {}  # by the name that a study gives them


class Strict(BaseModel):
    """A model that refuses keys it does not know and cannot change after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(Strict):
    """One step of a recipe. `reaches_nothing: expected` lets a step find nothing to do without an error.

    A class below this one names its step with `step: Literal["my_step"]`, and a study may use it from then on.
    """

    changes_arithmetic: ClassVar[bool] = True  # False: PyTorch computes the same without it
    any_model: ClassVar[bool] = False  # True: it works on every graph, and needs no VITS voice
    searches: ClassVar[bool] = False  # whether it tries groups of layers alone and leaves a record of that
    step: str
    reaches_nothing: Literal["error", "expected"] = "error"

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name in get_args(cls.model_fields["step"].annotation):
            STEPS[name] = cls

    @model_validator(mode="wrap")
    @classmethod
    def _by_its_name(cls, values: Any, handler: ModelWrapValidatorHandler[Step]) -> Step:
        if cls not in (Step, NetworkStep, GraphStep) or isinstance(values, Step):
            return handler(values)
        name = values.get("step") if isinstance(values, dict) else None
        if not isinstance(name, str) or name not in STEPS:
            raise ValueError(f"step: {name!r} is none of {', '.join(sorted(STEPS))}")
        return STEPS[name].model_validate(values)

    @property
    def needs_trained(self) -> Path | None:
        """Folder of what was trained for one voice and fits no other; None where the step needs no such thing."""
        return None

    def with_student(self, student: Path) -> Step:
        """The same step with the students in another folder; the step itself where it uses none."""
        return self


class NetworkStep(Step):
    """A step that changes the PyTorch network, before the export."""


class GraphStep(Step):
    """A step that changes the exported ONNX graph."""

    any_model: ClassVar[bool] = True


AnyStep = SerializeAsAny[Step]


def any_model_steps() -> list[str]:
    """Names of the steps that work on every graph."""
    return [name for name, step in STEPS.items() if step.any_model]


class PruneMagnitude(NetworkStep):
    """Set the smallest weights to zero, over all weighted layers together. Stored densely: zeros shrink nothing."""

    any_model: ClassVar = True
    step: Literal["prune_magnitude"]
    amount: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3


class PruneStructured(NetworkStep):
    """Remove whole channels from stages of the voice, then train what remains of the decoder against the whole one.

    The widths are solved for so that `amount` of the multiply-accumulates (or parameters) of these stages is gone.
    """

    step: Literal["prune_structured"]
    stages: tuple[Literal["decoder", "flow", "text_encoder"], ...] = Field(default=("decoder",), min_length=1)
    amount: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    of: Literal["macs", "parameters"] = "macs"
    round_to: int = Field(default=8, ge=1, description="channel counts become multiples of this: kernels like 8 or 16")
    decoder_widths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, description="channels after the first convolution and each upsampling, in place of solved ones"
    )
    trained: Path | None = Field(
        default=None, description="folder of the fine-tuned decoder; trained for `minutes` and put there if missing"
    )
    minutes: float = Field(default=60.0, gt=0, description="how long to fine-tune, where nothing is in `trained`")
    corpus: Path = Field(
        default=Path("params/sentences/corpus_en.txt"),
        description="text that the voice speaks, for the decoder to be trained on",
    )

    @property
    def needs_trained(self) -> Path | None:
        return self.trained

    @model_validator(mode="after")
    def _trained_is_a_decoder(self) -> PruneStructured:
        if self.trained is not None and self.stages != ("decoder",):
            raise ValueError("prune_structured: trained: only the decoder can be fine-tuned; use stages: [decoder]")
        if self.decoder_widths is not None and self.stages != ("decoder",):
            raise ValueError("prune_structured: decoder_widths: goes with stages: [decoder] only")
        return self


class Distill(NetworkStep):
    """Replace stages of the voice by trained students: `student` is a folder under models/ with their record."""

    step: Literal["distill"]
    student: Path

    @property
    def needs_trained(self) -> Path:
        return self.student

    def with_student(self, student: Path) -> Distill:
        return self.model_copy(update={"student": student})


class Dequantize(GraphStep):
    """Turn the integer arithmetic of a file that was quantized before back into float, on the same weights."""

    step: Literal["dequantize"]


# Levels that a weight may take are 2 ** bits; fewer than 8 bits are chosen on the calibration sentences.
Bits = Annotated[
    int,
    Field(ge=2, le=8, description="bits of a weight; fewer than 8 make the file smaller with the step `pack` after it"),
]


MinimumSize = Annotated[int, Field(ge=1, description="smaller tensors stay float32")]
Activations = Annotated[
    Literal["unsigned", "signed"], Field(description="8-bit activations: unsigned for x86, signed for ARM")
]


class QuantizeDynamic(GraphStep):
    """Dynamic int8: weights int8 in the file, activations quantized on the fly.

    `MatMul` is what PyTorch's `quantize_dynamic` reaches (`nn.Linear`); `Conv` adds ConvInteger, which
    sherpa-onnx ships and PyTorch does not have.
    """

    step: Literal["quantize_dynamic"]
    operators: tuple[Literal["MatMul", "Conv"], ...] = ("MatMul",)
    bits: Bits = 8

    @model_validator(mode="after")
    def _few_bits_are_of_products(self) -> QuantizeDynamic:
        if self.bits < 8 and "Conv" in self.operators:
            raise ValueError("quantize_dynamic: bits: fewer than 8 go with operators: [MatMul] only")
        return self


class QuantizeWeights(GraphStep):
    """Store weights as int8, one scale per output channel; arithmetic stays float32."""

    changes_arithmetic: ClassVar = False
    step: Literal["quantize_weights"]
    minimum_size: MinimumSize = 1024
    bits: Bits = 8


class Fp16(GraphStep):
    """Store weights as float16: half the file. Arithmetic in float16 gains only where a device has kernels for it."""

    step: Literal["fp16"]
    arithmetic: Literal["float32", "float16"] = "float32"
    minimum_size: MinimumSize = 1024


class Pack(GraphStep):
    """Store what the other steps left in few bytes; ONNX Runtime unpacks it while it loads, if it may optimize."""

    changes_arithmetic: ClassVar = False
    step: Literal["pack"]


class QuantizeStatic(GraphStep):
    """Static int8: weights and activations int8, activation ranges calibrated on sentences.

    With 8 bits the layers are written in ONNX's QDQ form; with fewer, matrices become integer products.
    """

    step: Literal["quantize_static"]
    operators: tuple[Literal["MatMul", "Conv"], ...] = ("Conv",)
    bits: Bits = 8
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    exclude: tuple[str, ...] = Field(default=(), description="regular expressions of node names that stay float32")
    activations: Activations = "unsigned"

    @model_validator(mode="after")
    def _few_bits_are_of_products(self) -> QuantizeStatic:
        if self.bits < 8 and self.operators != ("MatMul",):
            raise ValueError("quantize_static: bits: fewer than 8 go with operators: [MatMul] only")
        if self.bits < 8 and self.calibration == "entropy":
            raise ValueError("quantize_static: bits: fewer than 8 go with calibration: minmax or percentile")
        return self


class RearrangeDecoder(GraphStep):
    """Lay the decoder's convolutions out so that the same arithmetic runs faster; nothing is approximated."""

    changes_arithmetic: ClassVar = False
    any_model: ClassVar = False
    step: Literal["rearrange_decoder"]


class QuantizeMixed(GraphStep):
    """Int8 arithmetic where a search finds it harmless, int8 storage of every other weight."""

    searches: ClassVar[bool] = True
    step: Literal["quantize_mixed"]
    budget_db: float = Field(
        default=0.75, ge=0.0, description="mean change of level over the mel bands, dB; 0: no int8 arithmetic"
    )
    calibration_sentences: int = Field(default=8, ge=1, description="how many of the calibration sentences give ranges")
    judged_sentences: int = Field(default=3, ge=1, description="how many of them spectra are compared on")
    weight_bits: Literal[7, 8] = Field(
        default=8, description="of weights in int8 arithmetic: 7 where processors without VNNI shall sound the same"
    )
    clock: bool = Field(
        default=False, description="int8 arithmetic only where this machine measures that it is surely faster"
    )
    clock_threads: int = Field(default=1, ge=1, description="with `clock`: threads that the voice is timed with")
    clock_device: str | None = Field(
        default=None,
        description="with `clock`: a device of params/, or its file, that measures in this machine's place",
    )
    activations: Activations = "unsigned"

    @model_validator(mode="after")
    def _device_with_clock(self) -> QuantizeMixed:
        if self.clock_device and not self.clock:
            raise ValueError("clock_device: only with clock: true")
        return self
