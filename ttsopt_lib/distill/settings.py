"""How students are trained: sizes, losses, schedules. Unknown keys are refused, so no typo passes silently.

Some defaults are larger on a GPU (`on_gpu`). What a study sets is what is used on either.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ttsopt_lib.networks.istft import IstftDecoderConfig
from ttsopt_lib.networks.students import DurationStudentConfig, FlowStudentConfig, TextEncoderStudentConfig


class TrainingSettings(BaseModel):
    """Schedules count steps, so a busy machine changes how long training takes, not what comes out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    batch: int = Field(default=8, ge=1)
    precision: Literal["no", "bf16"] = "bf16"
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=300, ge=1, description="steps over which learning rate and new losses come in")
    decay_steps: int = Field(default=3_000, ge=0, description="last steps, over which the learning rate goes to zero")
    clip: float = Field(default=1.0, gt=0, description="largest norm of a gradient")
    average: float = Field(
        default=0.9985, ge=0, lt=1, description="decay of the exponential moving average of the weights"
    )
    validation_utterances: int = Field(default=20, ge=1)
    validate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=250, ge=1)
    patience: int = Field(default=20, ge=1, description="validations without improvement before training stops")

    def on_gpu(self) -> dict[str, Any]:
        """The defaults that are others on a GPU."""
        return {}

    def with_defaults(self, defaults: dict[str, Any]) -> Self:
        """The same with these values where nothing else was set."""
        return self.model_copy(update={name: v for name, v in defaults.items() if name not in self.model_fields_set})

    def _scaled(self, part: float, steps: int) -> dict[str, int]:
        """What any schedule changes where only `steps`, a `part` of its steps, are taken."""
        return {
            "decay_steps": round(self.decay_steps * part),
            "warmup_steps": min(self.warmup_steps, max(1, steps // 10)),
            "validate_every": min(self.validate_every, max(1, steps // 4)),
        }


class RegressionSettings(TrainingSettings):
    """A student that learns its teacher's outputs by regression alone."""

    steps: int = Field(default=6_000, ge=1)

    def in_steps(self, steps: int) -> Self:
        """The same schedule in fewer steps, where there is time for no more."""
        steps = max(steps, 2)
        if steps >= self.steps:
            return self
        return self.model_copy(update={"steps": steps, **self._scaled(steps / self.steps, steps)})


class TextSettings(RegressionSettings):
    """The text encoder and the duration predictor, on sentences alone: nothing need be spoken for that."""

    text_encoder: TextEncoderStudentConfig = TextEncoderStudentConfig()
    durations: DurationStudentConfig = DurationStudentConfig()
    contour_weight: float = Field(default=0.3, ge=0, description="weight of the prior's error over half a second")
    duration_weight: float = Field(default=1.0, ge=0, description="weight of the durations' error beside the prior's")
    lines: int = Field(default=8_000, ge=2, description="lines of the corpus that the teacher's encoder reads")
    short_texts: float = Field(default=0.25, ge=0, description="texts of one to four words cut from each line")
    batch: int = Field(default=16, ge=1, description="sentences of a step; 64 on a GPU")

    def on_gpu(self) -> dict[str, Any]:
        return {"batch": 64}


class FlowSettings(RegressionSettings):
    """The flow, from prior samples to the latents that the teacher's flow made of them."""

    flow: FlowStudentConfig = FlowStudentConfig()
    batch: int = Field(default=16, ge=1, description="segments of a step")
    segment_frames: int = Field(default=144, ge=1)
    margin_frames: int = Field(default=32, ge=1, description="frames at a cut edge, which no loss counts")

    @model_validator(mode="after")
    def _segments_hold_more_than_margins(self) -> FlowSettings:
        if self.segment_frames <= 2 * self.margin_frames:
            raise ValueError(
                f"segment_frames {self.segment_frames} less two margins of {self.margin_frames} leaves nothing to "
                "learn from"
            )
        return self


class DecoderSettings(TrainingSettings):
    """The decoder, by spectra, hints and discriminators; with `flow`, the student of the flow trains with it."""

    decoder: IstftDecoderConfig = IstftDecoderConfig()
    flow: FlowStudentConfig | None = Field(
        default=None, description="the flow's student, trained together with the decoder; None: the decoder alone"
    )
    latent_weight: float = Field(default=4.0, ge=0, description="weight of the teacher's latents, the flow's target")

    segment_frames: int = Field(default=80, ge=1)
    margin_frames: int = Field(
        default=8, ge=1, description="frames at a cut edge, where the student lacks the teacher's context"
    )
    regression_steps: int = Field(default=2_000, ge=0, description="steps before the discriminators come in")
    complex_weight: float = Field(default=0.5, ge=0, description="weight of the difference of complex spectra")
    power_weight: float = Field(default=0.0, ge=0, description="weight of the power of bands over a tenth of a second")
    hint_weight: float = Field(default=1.0, ge=0, description="weight of the teacher's inner activations as targets")
    hint_steps: int = Field(default=5_000, ge=0, description="steps in which the teacher's activations are targets")

    adversarial_steps: int = Field(default=10_000, ge=0)
    adversarial_learning_rate: float = Field(default=6e-4, gt=0)
    adversarial_batch: int = Field(
        default=4, ge=1, description="segments of each step that the discriminators hear; all of them on a GPU"
    )
    adversarial_frames: int = Field(
        default=32, ge=5, description="frames of each segment that they hear; on a GPU 64, or all between the margins"
    )
    adversarial_weight: float = Field(
        default=1.0, ge=0, description="size of the adversarial gradient against the spectral one"
    )
    feature_weight: float = Field(
        default=1.0, ge=0, description="size of the gradient of feature matching against the spectral one"
    )
    discriminator_channels: int = Field(default=16, ge=1, description="48 on a GPU")

    def on_gpu(self) -> dict[str, Any]:
        """Those of a training on a GPU that went well (docs/notes/distillation.md)."""
        batch = self.batch if "batch" in self.model_fields_set else 32
        return {"batch": batch, "adversarial_batch": batch, "adversarial_frames": 64, "discriminator_channels": 48}

    def with_defaults(self, defaults: dict[str, Any]) -> Self:
        """The same with these values where nothing else was set; no more frames are heard than a segment has."""
        most = self.segment_frames - 2 * self.margin_frames
        if "adversarial_frames" in defaults:
            defaults = defaults | {"adversarial_frames": min(most, defaults["adversarial_frames"])}
        return super().with_defaults(defaults)

    @property
    def steps(self) -> int:
        return self.regression_steps + self.adversarial_steps

    def in_steps(self, steps: int) -> DecoderSettings:
        """The same schedule in fewer steps, where there is time for no more.

        Half of them at most are regression: a student that is far from its teacher gains more from spectra.
        """
        steps = max(steps, 2)
        if steps >= self.steps:
            return self
        part = steps / self.steps
        regression = min(self.regression_steps, steps // 2)
        changes = {
            "regression_steps": regression,
            "adversarial_steps": steps - regression,
            "hint_steps": max(regression, round(self.hint_steps * part)) if self.hint_steps else 0,
        }
        return self.model_copy(update=changes | self._scaled(part, steps))

    @model_validator(mode="after")
    def _can_be_trained(self) -> DecoderSettings:
        if self.decoder.blocks < 2:  # the hints are taken behind one, and others turn them into samples
            raise ValueError(f"decoder.blocks {self.decoder.blocks}: give 2 or more")
        if not self.steps:
            raise ValueError("regression_steps and adversarial_steps are both 0: no step is left to train in")
        return self

    @model_validator(mode="after")
    def _segments_hold_what_is_heard(self) -> DecoderSettings:
        inner = self.segment_frames - 2 * self.margin_frames
        if inner < self.adversarial_frames:
            raise ValueError(
                f"segment_frames {self.segment_frames} less two margins of {self.margin_frames} leaves {inner} frames, "
                f"adversarial_frames asks for {self.adversarial_frames}"
            )
        return self


class SpeechSettings(DecoderSettings):
    """Flow and decoder together, from students that are near their teachers: no hints, wider margins, smaller steps."""

    regression_steps: int = Field(default=300, ge=0, description="steps before the discriminators come in")
    adversarial_steps: int = Field(default=4_000, ge=0)
    hint_steps: int = Field(default=0, ge=0, description="steps in which the teacher's activations are targets")
    segment_frames: int = Field(default=112, ge=1)
    margin_frames: int = Field(default=24, ge=1, description="frames at a cut edge")
    learning_rate: float = Field(default=5e-4, gt=0)
    adversarial_learning_rate: float = Field(default=5e-4, gt=0)
    warmup_steps: int = Field(default=200, ge=1)
    # What the decoder alone could not predict cannot be predicted here either, so only its level is matched.
    complex_weight: float = Field(default=0.15, ge=0, description="weight of the difference of complex spectra")
    power_weight: float = Field(default=1.0, ge=0, description="weight of the power of bands over a tenth of a second")


class DistillSettings(BaseModel):
    """Settings of all the trainings. `speech` trains the students of `flow` and `decoder` with settings of its own.

    `hours` of speech the teacher is asked for (0.4 GB of memory each while a training hears it), `workers` processes
    that make them side by side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(default=8.0, gt=0)
    workers: int = Field(default=2, ge=1)
    text_encoder: TextSettings = TextSettings()
    flow: FlowSettings = FlowSettings()
    decoder: DecoderSettings = DecoderSettings()
    speech: SpeechSettings = SpeechSettings()
