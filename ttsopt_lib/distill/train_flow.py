"""Trains the student of the flow, by regression on the latents that the teacher's flow made of prior samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ttsopt_lib.distill.settings import FlowSettings
from ttsopt_lib.distill.training_run import TrainingRun
from ttsopt_lib.distill.utterances import Segments, Utterances, latent_error
from ttsopt_lib.distill.validation import Validation
from ttsopt_lib.networks.students import FlowStudent, FlowStudentConfig
from ttsopt_lib.networks.vits import StagedVits


class FlowTrainer(TrainingRun):
    """Trains a `FlowStudent`; the teacher's own decoder says how the latents of the held-out utterances sound."""

    label: ClassVar[str] = "flow trains"
    criterion: ClassVar[str] = "held_out_latent_error"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        teacher: StagedVits,
        data: Utterances,
        validation: Validation,
        out: Path,
        config: FlowSettings,
        origin: dict[str, Any] | None = None,
    ):
        super().__init__(out, config, origin)
        self.data, self.validation = data, validation
        self.teacher = teacher.eval().requires_grad_(False).to(self.accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.flow = FlowStudent(config.flow)
        self.latent_variance = data.latent_variance()
        self.train_these(nn.ModuleDict({"flow": self.flow}).to(self.accelerator.device))

    def draw(self, step: int) -> Segments:
        """Random segments, as `Utterances.batch` cuts them."""
        c = self.config
        return self.own(
            self.data.batch(np.random.default_rng([c.seed, step]), c.batch, c.segment_frames, c.margin_frames)
        )

    def train_step(self) -> dict[str, Tensor]:
        """One batch of segments; nothing is asked of the frames at a cut edge."""
        batch = self.batches.take(self.step).to(self.accelerator.device)
        g = self.teacher.speaker(batch.speakers)
        with self.autocast():
            made = self.flow(batch.z_p, g=g)
        error = latent_error(made, batch, self.latent_variance)
        self.accelerator.backward(error)
        return self.finish_step({"latent_error": error})

    def scorer(self) -> FlowScorer:
        return FlowScorer(self.teacher, self.validation, self.config.flow, self.latent_variance)


@dataclass(frozen=True)
class FlowScorer:
    """Squared error on held-out utterances over the variance, and what the teacher's decoder makes of it."""

    teacher: StagedVits
    validation: Validation
    shape: FlowStudentConfig
    latent_variance: float

    @torch.inference_mode()
    def __call__(self, shipped: dict[str, Tensor]) -> dict[str, float]:
        students = nn.ModuleDict({"flow": FlowStudent(self.shape)}).eval()
        students.load_state_dict(shipped)
        flow = students.to(next(self.teacher.parameters()).device)["flow"]
        error = self.validation.latent_error(lambda pair, g: flow(pair.z_p, g=g), self.teacher, self.latent_variance)
        heard = self.validation.score(lambda pair, g: self.teacher.decode(flow(pair.z_p, g=g), g), self.teacher)
        return {"held_out_latent_error": error} | heard
