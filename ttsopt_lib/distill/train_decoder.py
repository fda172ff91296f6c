"""Trains the student that makes samples: spectral regression with hints first, then adversarially.

It is a student of the decoder alone, given the teacher's latents, or of flow and decoder together, given samples of
the prior. What all trainings share is in `training_run`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ttsopt_lib.distill.contrast import match_contrast
from ttsopt_lib.distill.discriminators import Discriminators, adversarial_losses, discriminator_loss
from ttsopt_lib.distill.losses import power_loss, spectral_loss
from ttsopt_lib.distill.settings import DecoderSettings
from ttsopt_lib.distill.teacher.hints import Hints, hifigan_decoder
from ttsopt_lib.distill.training_run import TrainingRun, adam, in_half, set_height
from ttsopt_lib.distill.utterances import Segments, Utterance, Utterances, latent_error
from ttsopt_lib.distill.validation import Validation, usable
from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.networks.istft import IstftDecoder
from ttsopt_lib.networks.students import FlowStudent, SpeechStudent
from ttsopt_lib.networks.vits import StagedVits

LEVEL_FRAMES = 600  # seven seconds tell the mean spectrum of a voice
SPECTRAL_TERMS = ("log_magnitude", "convergence", "complex", "power")
CONTRAST_UTTERANCES = 24  # a minute and a half: other ones move the stretches by a few hundredths
HINT_SAMPLE = 8  # segments whose statistics scale the hints


class DecoderTrainer(TrainingRun):
    """Trains a `SpeechStudent`."""

    criterion: ClassVar[str] = "predicted_mos_change"

    def __init__(
        self,
        teacher: StagedVits,
        data: Utterances,
        validation: Validation,
        out: Path,
        config: DecoderSettings,
        origin: dict[str, Any] | None = None,
        decoder: nn.Module | None = None,
    ):
        """`decoder`: one to go on with, such as the pruned teacher, in place of a fresh student; it gets no hints."""
        super().__init__(out, config, origin)
        self.hints: Hints | None = None
        self.data, self.validation = data, validation
        self.latent_variance = data.latent_variance()
        self.teacher = teacher.eval().requires_grad_(False).to(self.accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            if decoder is None:
                decoder = IstftDecoder(config.decoder)
                start_from_teacher(decoder, hifigan_decoder(teacher), data)
                rng = np.random.default_rng(config.seed)
                sample = data.batch(rng, HINT_SAMPLE, config.segment_frames, config.margin_frames)
                sample = sample.to(self.accelerator.device)
                hints = Hints(decoder, hifigan_decoder(teacher), sample.z, self.teacher.speaker(sample.speakers))
                self.hints = hints.to(self.accelerator.device)
            flow = FlowStudent(config.flow) if config.flow else None
            speech = SpeechStudent(copy.deepcopy(decoder), flow)
            self.shape = copy.deepcopy(speech)
            discriminators = Discriminators(config.discriminator_channels)
        # Not wrapped for several processes: a student that is gone through twice a step and discriminators that are
        # frozen in between break such a wrapper's count of gradients. `update` averages them instead.
        self.discriminators = discriminators.to(self.accelerator.device)
        self.speech = speech.to(self.accelerator.device)
        self.train_these(self.speech, also=self.hints)
        if self.hints is not None:  # only now: the average, a copy, keeps nothing
            speech.decoder.get_submodule(f"blocks.{self.hints.block - 1}").register_forward_hook(self.keep_features)
        self.critic_optimizer = self.accelerator.prepare_optimizer(
            adam(self.discriminators, config.adversarial_learning_rate)
        )

    def keep_features(self, block: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.features = output

    # --- one step -------------------------------------------------------------------------------------------------

    def in_steps(self, steps: int) -> DecoderSettings:
        """The same schedule in fewer steps; discriminators that have joined stay."""
        planned, begun = super().in_steps(steps), self.config.regression_steps
        if self.step <= begun:
            return planned
        return planned.model_copy(update={"regression_steps": begun, "adversarial_steps": planned.steps - begun})

    def later_cost(self) -> float:
        """Steps with discriminators take longer."""
        return 1.5 if self.step < self.config.regression_steps else 1.0

    def draw(self, step: int) -> tuple[Segments, np.random.Generator]:
        """Random segments, as `Utterances.batch` cuts them, and what the step draws further numbers from."""
        c = self.config
        rng = np.random.default_rng([c.seed, step])
        return self.own(self.data.batch(rng, c.batch, c.segment_frames, c.margin_frames)), rng

    def train_step(self) -> dict[str, Tensor]:
        """One batch: regression on spectra, latents and hints; after `regression_steps` the discriminators as well."""
        c = self.config
        batch, rng = self.batches.take(self.step)
        batch = batch.to(self.accelerator.device)
        g = self.teacher.speaker(batch.speakers)
        with self.autocast():
            latents = self.speech.decoded_latents(batch.z_p if c.flow else batch.z, g)
            made = self.speech.decoder(latents, g)[:, 0].float()
        # At a cut edge the teacher's own samples stand in for the student's: nothing is learned from them.
        samples = batch.samples + batch.trust * (made - batch.samples)
        terms = spectral_loss(samples, batch.samples, shift=float(rng.random()))
        loss = terms["log_magnitude"] + terms["convergence"] + c.complex_weight * terms["complex"]
        if c.power_weight:
            terms["power"] = power_loss(samples, batch.samples)
            loss = loss + c.power_weight * terms["power"]
        # All that is asked of the samples is summed there, so the student itself is gone through once.
        (gradient,) = torch.autograd.grad(loss, samples)
        if self.step >= c.regression_steps:
            latest = c.segment_frames - c.margin_frames - c.adversarial_frames
            start = int(rng.integers(c.margin_frames, latest + 1)) * self.data.hop
            part = (
                slice(0, c.adversarial_batch // self.accelerator.num_processes),
                slice(start, start + c.adversarial_frames * self.data.hop),
            )
            made = samples.detach()[part]
            self.train_discriminators(batch.samples[part], made, terms)
            gradient[part] += self.adversarial_gradient(batch.samples[part], made, gradient[part], terms)
        asked, gradients = [samples], [gradient]
        if c.flow and c.latent_weight:
            terms["latent_error"] = latent_error(latents, batch, self.latent_variance)
            asked.append(terms["latent_error"])
            gradients.append(torch.full_like(terms["latent_error"], c.latent_weight))
        if self.hints is not None and self.step < c.hint_steps:
            with self.autocast():
                terms["hint"] = self.hints(self.features, batch.z, g, c.margin_frames)
            asked.append(terms["hint"])
            gradients.append(torch.full_like(terms["hint"], c.hint_weight))
        torch.autograd.backward(asked, gradients)
        # Where the teacher stands in nothing is wrong: what is told is the student's own share, as on held-out speech.
        own = batch.trust.mean()
        return self.finish_step(terms | {name: terms[name] / own for name in terms if name in SPECTRAL_TERMS})

    def train_discriminators(self, teacher: Tensor, student: Tensor, terms: dict[str, Tensor]) -> None:
        """One step of the discriminators on samples [B, N] of both."""
        self.discriminators.requires_grad_(True)
        with self.autocast():
            loss = discriminator_loss(self.discriminators(teacher), self.discriminators(student))
        self.accelerator.backward(loss)
        self.update(self.discriminators, self.critic_optimizer, 10 * self.config.clip, 1.0)
        terms["discriminator"] = loss

    def adversarial_gradient(
        self, teacher: Tensor, student: Tensor, spectral: Tensor, terms: dict[str, Tensor]
    ) -> Tensor:
        """What the discriminators ask of the student's samples [B, N], as a gradient of a set size.

        Each part is scaled to the norm of the spectral gradient on the same samples times its weight (the
        balancer of EnCodec), so that a discriminator that grows strong or weak changes the direction of a
        step and not its size.
        """
        c = self.config
        self.discriminators.requires_grad_(False)
        student = student.requires_grad_(True)
        with self.autocast():
            with torch.no_grad():
                heard = self.discriminators(teacher)
            terms["adversarial"], terms["features"] = adversarial_losses(heard, self.discriminators(student))
        total = torch.zeros_like(student)
        ramp = min(1.0, (self.step - c.regression_steps + 1) / c.warmup_steps)
        for name, weight in (("adversarial", c.adversarial_weight), ("features", c.feature_weight)):
            (gradient,) = torch.autograd.grad(terms[name], student, retain_graph=name == "adversarial")
            total += gradient * (ramp * weight * spectral.norm() / (gradient.norm() + 1e-12))
        return total

    def height(self) -> float:
        """Lower once adversarial."""
        c = self.config
        return 1.0 if self.step < c.regression_steps else c.adversarial_learning_rate / c.learning_rate

    def counts_for_patience(self, entry: dict[str, float]) -> bool:
        return entry["step"] > self.config.regression_steps

    # --- what is kept ---------------------------------------------------------------------------------------------

    def finished(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A student that makes spectra ships with its teacher's contrast; `least_contrast` says what it had before."""
        student, teacher = with_weights(self.shape, weights, self.teacher), self.teacher
        if not isinstance(student.decoder, IstftDecoder):
            return weights, {}

        @torch.inference_mode()
        def speak(pair: Utterance) -> Tensor:
            there = pair.to(self.accelerator.device)
            return student(there.z_p if self.config.flow else there.z, teacher.speaker(there.speaker))

        bands = match_contrast(student.decoder, speak, self.heard_for_contrast, self.validation.sample_rate)
        figures = {"least_contrast": min(band["before"] for band in bands)} if bands else {}
        return in_half(student), figures

    @cached_property
    def heard_for_contrast(self) -> list[Utterance]:
        """Some of what the student trains on: held-out speech only judges."""
        lasting = usable(self.data, self.validation.sample_rate)[:CONTRAST_UTTERANCES]
        return [self.data.utterance(int(index)) for index in lasting]

    def scorer(self) -> SpeechScorer:
        return SpeechScorer(self.teacher, self.validation, self.shape, self.latent_variance)

    def other_state(self) -> dict[str, Any]:
        return {
            "discriminators": self.discriminators.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def load_other_state(self, state: dict[str, Any]) -> None:
        self.discriminators.load_state_dict(state["discriminators"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        set_height(self.critic_optimizer, self.config.adversarial_learning_rate)


@dataclass(frozen=True)
class SpeechScorer:
    """How near a `SpeechStudent` of this `shape` sounds on held-out utterances; of a flow, its latents as well."""

    teacher: StagedVits
    validation: Validation
    shape: SpeechStudent
    latent_variance: float

    def __call__(self, shipped: dict[str, Tensor]) -> dict[str, float]:
        student = with_weights(self.shape, shipped, self.teacher)
        if student.flow is None:
            return self.validation.score(lambda pair, g: student(pair.z, g), self.teacher)
        error = self.validation.latent_error(
            lambda pair, g: student.decoded_latents(pair.z_p, g), self.teacher, self.latent_variance
        )
        heard = self.validation.score(lambda pair, g: student(pair.z_p, g), self.teacher)
        return {"held_out_latent_error": error} | heard


def with_weights(shape: SpeechStudent, weights: dict[str, Tensor], teacher: StagedVits) -> SpeechStudent:
    """A student beside the one that trains, ready to speak where its teacher does."""
    student = copy.deepcopy(shape).eval().requires_grad_(False)
    student.load_state_dict(weights)
    return student.to(next(teacher.parameters()).device)


def start_from_teacher(decoder: IstftDecoder, teacher: HifiGanDecoder, data: Utterances) -> None:
    """Give a fresh student what the teacher has: its first convolution, and the mean log magnitude of its speech."""
    head = decoder.head
    with torch.no_grad():
        if decoder.conv_pre.weight.shape == teacher.conv_pre.weight.shape:
            decoder.conv_pre.load_state_dict(teacher.conv_pre.state_dict())
            if decoder.cond is not None:
                decoder.cond.load_state_dict(teacher.cond.state_dict())
        samples = torch.from_numpy(data.audio[: LEVEL_FRAMES * data.hop].astype(np.float32) / 32767)
        window = torch.hann_window(head.n_fft)
        spectrum = torch.stft(samples, head.n_fft, head.hop, window=window, return_complex=True).abs()
        head.projection.bias[: head.bins] = (spectrum + 1e-4).log().mean(-1)
        # Free complex factors start near size one, so that the magnitude alone sets the level.
        head.projection.weight[head.bins :] *= 2.0
