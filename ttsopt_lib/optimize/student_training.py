"""Trains a student decoder on teacher data: spectral regression with hints first, then adversarially.

A run is a folder. `state.pt` is everything a resumed run needs to go on bit for bit (weights, average,
optimizers, random state, step); `best.safetensors` holds the averaged weights with the best validation so far
and is never replaced by worse or non-finite ones; `record.json` is the training record. Batches are drawn
from (seed, step), so the position in the data is the step.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.networks.istft import IstftDecoder
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.discriminators import Discriminators, adversarial_losses, discriminator_loss
from ttsopt_lib.optimize.distill_config import DistillConfig
from ttsopt_lib.optimize.spectral_losses import spectral_loss
from ttsopt_lib.optimize.student_validation import Validation
from ttsopt_lib.optimize.teacher_hints import Hints, hifigan_decoder
from ttsopt_lib.optimize.utterances import Segments, Utterances
from ttsopt_lib.records import atomic_path, now
from ttsopt_lib.study import TtsoptError

LEVEL_FRAMES = 600  # seven seconds tell the mean spectrum of a voice
PACE_STEPS = 20  # enough to tell how long a step takes on this machine now
ADVERSARIAL_COST = 1.5  # how much longer an average step of the whole schedule takes than the first ones
HINT_SAMPLE = 8  # segments whose statistics scale the hints


class SharesError(TtsoptError, ValueError):
    """A batch that the processes cannot share evenly. The message names the setting."""


class Trainer:
    """One student in training: `load()` brings it to where its folder left off, `run()` goes on from there."""

    def __init__(
        self,
        teacher: StagedVits,
        data: Utterances,
        validation: Validation,
        out: Path,
        config: DistillConfig,
        origin: dict[str, Any] | None = None,
        decoder: nn.Module | None = None,
    ):
        """`decoder`: one to go on with, such as the pruned teacher, in place of a fresh student; it gets no hints."""
        self.config, self.data, self.validation, self.out = config, data, validation, out
        self.origin = origin or {}  # what the record says about where all this came from
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=not torch.cuda.is_available())
        check_shares(config, self.accelerator.num_processes)
        self.teacher = teacher.eval().requires_grad_(False).to(self.accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            networks: dict[str, Any] = {"decoder": decoder} if decoder is not None else self.fresh_student()
            discriminators = Discriminators(config.discriminator_channels)
        self.shape = copy.deepcopy(networks["decoder"])
        if "hints" in networks:
            networks["decoder"].blocks[networks["hints"].block - 1].register_forward_hook(self.keep_features)
        # Not wrapped for several processes: a student that is gone through twice a step and discriminators that are
        # frozen in between break such a wrapper's count of gradients. `update` averages them instead.
        prepared: dict[str, Any] = {
            name: self.accelerator.prepare_model(network, evaluation_mode=True)
            for name, network in (networks | {"discriminators": discriminators}).items()
        }
        self.decoder, self.discriminators = prepared["decoder"], prepared["discriminators"]
        self.hints = prepared.get("hints")
        self.student = nn.ModuleDict(networks)
        self.average = copy.deepcopy(self.plain_decoder()).eval().requires_grad_(False)
        self.optimizer = self.accelerator.prepare_optimizer(adam(self.student, config.learning_rate))
        self.critic_optimizer = self.accelerator.prepare_optimizer(
            adam(self.discriminators, config.adversarial_learning_rate)
        )
        self.step, self.skipped, self.seconds = 0, 0, 0.0
        self.steps_left: float = config.steps
        self.changes: list[dict[str, Any]] = []  # of settings, where a run went on with others
        self.curve: list[dict[str, float]] = []

    def fresh_student(self) -> dict[str, Any]:
        """A new decoder that knows what the teacher can give it, and the hints that it learns from."""
        decoder, teacher = IstftDecoder(self.config.decoder), hifigan_decoder(self.teacher)
        start_from_teacher(decoder, teacher, self.data)
        sample = self.segments(np.random.default_rng(self.config.seed), HINT_SAMPLE)
        return {"decoder": decoder, "hints": Hints(decoder, teacher, sample.z, self.teacher.speaker(sample.speakers))}

    def plain_decoder(self) -> nn.Module:
        """The student's decoder in float32, without what `accelerate` put around its forward."""
        decoder = copy.deepcopy(self.shape).to(self.accelerator.device)
        decoder.load_state_dict(self.student["decoder"].state_dict())
        return decoder

    def segments(self, rng: np.random.Generator, count: int) -> Segments:
        """`count` random segments on the device that trains."""
        c = self.config
        return self.data.batch(rng, count, c.segment_frames, c.margin_frames).to(self.accelerator.device)

    def keep_features(self, block: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.features = output

    # --- one step -------------------------------------------------------------------------------------------------

    def train_step(self) -> dict[str, float]:
        """One batch: regression on spectra and hints; once `regression_steps` are done, the discriminators as well."""
        c = self.config
        rng = np.random.default_rng([c.seed, self.step])
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        # Every process draws the same batch and works on its share of it.
        batch = self.segments(rng, c.batch).share(rank, processes)
        g = self.teacher.speaker(batch.speakers)
        made = self.decoder(batch.z, g)[:, 0]
        # At a cut edge the teacher's own samples stand in for the student's: nothing is learned from them.
        samples = batch.samples + batch.trust * (made - batch.samples)
        terms = spectral_loss(samples, batch.samples, shift=float(rng.random()))
        loss = terms["log_magnitude"] + terms["convergence"] + c.complex_weight * terms["complex"]
        # All that is asked of the samples is summed there, so the student itself is gone through once.
        (gradient,) = torch.autograd.grad(loss, samples)
        if self.step >= c.regression_steps:
            latest = c.segment_frames - c.margin_frames - c.adversarial_frames
            start = int(rng.integers(c.margin_frames, latest + 1)) * self.data.hop
            part = (
                slice(0, c.adversarial_batch // processes),
                slice(start, start + c.adversarial_frames * self.data.hop),
            )
            made = samples.detach()[part]
            self.train_discriminators(batch.samples[part], made, terms)
            gradient[part] += self.adversarial_gradient(batch.samples[part], made, gradient[part], terms)
        asked, gradients = [samples], [gradient]
        if self.hints is not None and self.step < c.hint_steps:
            terms["hint"] = self.hints(self.features, batch.z, g, c.margin_frames)
            asked.append(terms["hint"])
            gradients.append(torch.full_like(terms["hint"], c.hint_weight))
        torch.autograd.backward(asked, gradients)
        terms["gradient_norm"] = self.update(self.student, self.optimizer, c.clip, self.rate())
        self.step, self.steps_left = self.step + 1, self.steps_left - 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def train_discriminators(self, teacher: Tensor, student: Tensor, terms: dict[str, Tensor]) -> None:
        """One step of the discriminators on samples [B, N] of both."""
        self.discriminators.requires_grad_(True)
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
        with torch.no_grad():
            heard = self.discriminators(teacher)
        terms["adversarial"], terms["features"] = adversarial_losses(heard, self.discriminators(student))
        total = torch.zeros_like(student)
        ramp = min(1.0, (self.step - c.regression_steps + 1) / c.warmup_steps)
        for name, weight in (("adversarial", c.adversarial_weight), ("features", c.feature_weight)):
            (gradient,) = torch.autograd.grad(terms[name], student, retain_graph=name == "adversarial")
            total += gradient * (ramp * weight * spectral.norm() / (gradient.norm() + 1e-12))
        return total

    def update(self, network: nn.Module, optimizer: torch.optim.Optimizer, clip: float, rate: float) -> Tensor:
        """Clip, step, forget the gradient; skip and count a non-finite one. Returns the gradient's norm."""
        self.average_gradients(network)
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(network.parameters(), clip))
        if torch.isfinite(norm):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            optimizer.step()
            if network is self.student:
                self.update_average()
        else:
            self.skipped += 1
        optimizer.zero_grad()
        return norm

    def average_gradients(self, network: nn.Module) -> None:
        """Make every process's gradient the mean of all."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        mean: Any = self.accelerator.reduce(together, "mean")
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def rate(self) -> float:
        """The learning rate now, relative to its height: warm-up, plateau (lower once adversarial), linear end."""
        c = self.config
        height = 1.0 if self.step < c.regression_steps else c.adversarial_learning_rate / c.learning_rate
        warm = min(1.0, (self.step + 1) / c.warmup_steps)
        return height * warm * min(1.0, max(0.0, self.steps_left) / max(1, c.decay_steps))

    @torch.no_grad()
    def update_average(self) -> None:
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        new = [parameter.detach() for parameter in self.student["decoder"].parameters()]
        for average, value in zip(self.average.parameters(), new, strict=True):
            average.lerp_(value, 1 - keep)

    def run(self, minutes: float | None = None) -> None:
        """Train to the last step, or until validations stop improving; the state is always saved.

        With `minutes`, a new run first finds its pace and plans fewer steps where there is no time for all, and the
        end of the schedule follows the clock: the learning rate is zero when the time is over, however busy the
        machine was.
        """
        began = time.monotonic()
        if minutes is not None and self.step == 0:
            for _ in range(PACE_STEPS):
                self.train_step()
            pace = (time.monotonic() - began) / PACE_STEPS
            (steps,) = broadcast_object_list([int(60 * minutes / pace / ADVERSARIAL_COST)])
            self.config = self.config.in_steps(steps)
            self.steps_left = self.config.steps - self.step
        c = self.config
        spent, latest, pace = self.seconds, time.monotonic(), 0.0
        smooth: dict[str, float] = {}
        main = self.accelerator.is_main_process
        with tqdm(total=c.steps, initial=self.step, desc="student trains", mininterval=10, disable=not main) as bar:
            while self.step < c.steps:
                terms = self.train_step()
                bar.update(1)
                if math.isfinite(terms["gradient_norm"]):
                    smooth = {name: 0.99 * smooth.get(name, value) + 0.01 * value for name, value in terms.items()}
                bar.set_postfix({name: f"{value:.3f}" for name, value in smooth.items()}, refresh=False)
                self.seconds = spent + time.monotonic() - began
                taken, latest = time.monotonic() - latest, time.monotonic()
                # A pause (a stopped process, a validation) says nothing about the pace.
                pace = 0.99 * pace + 0.01 * min(taken, 5 * pace) if pace else taken
                if minutes is not None:
                    left = 60 * minutes - (latest - began)
                    # On the clock of the main process: all must do the same.
                    (self.steps_left,) = broadcast_object_list([min(c.steps - self.step, left / pace)])
                last = self.steps_left <= 0 or self.step == c.steps
                if self.step % c.validate_every == 0 or last:
                    if main:
                        self.validate(smooth)
                    (self.curve,) = broadcast_object_list([self.curve])
                    last = last or self.out_of_patience()
                if main and (self.step % c.save_every == 0 or last):
                    self.save()
                if last:
                    break

    def out_of_patience(self) -> bool:
        """Whether the last `patience` validations of the adversarial phase brought nothing better."""
        best: dict[str, float] | None = None
        since = 0
        for entry in self.curve:
            better = is_better(entry, best)
            best = entry if better else best
            since = 0 if better or entry["step"] <= self.config.regression_steps else since + 1
        return since >= self.config.patience

    # --- what is kept ---------------------------------------------------------------------------------------------

    def validate(self, losses: dict[str, float]) -> dict[str, float]:
        """Score the averaged weights as they would ship (float16) and keep them where nothing before was as good."""
        shipped = {name: value.half().cpu() for name, value in self.average.state_dict().items()}
        student = copy.deepcopy(self.shape).eval()
        student.load_state_dict(shipped)
        scores = self.validation.score(student, self.teacher)
        entry = {"step": self.step, "minutes": self.seconds / 60, "skipped": self.skipped, **losses, **scores}
        self.curve.append(entry)
        if is_better(entry, self.best()):
            with atomic_path(self.out / "best.safetensors") as partial:
                save_file(shipped, partial)
            self.write_json("best.json", entry)
        self.write_json("record.json", self.record())
        return entry

    def record(self) -> dict[str, Any]:
        """What was trained, on what, how, for how long, and how it went: the training record."""
        return {
            "schema": 1,
            "created": now(),
            **self.origin,
            "config": self.settings(),
            "changed_settings": self.changes,
            "parameters": sum(parameter.numel() for parameter in self.average.parameters()),
            "steps": self.step,
            "skipped_steps": self.skipped,
            "wall_minutes": round(self.seconds / 60, 1),
            "curve": self.curve,
            "best": self.best(),
        }

    def settings(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    def best(self) -> dict[str, float] | None:
        path = self.out / "best.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write_json(self, name: str, content: dict) -> None:
        with atomic_path(self.out / name) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def save(self) -> None:
        state = {
            "step": self.step,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "curve": self.curve,
            "changes": self.changes,
            "settings": self.settings(),
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "discriminators": self.accelerator.unwrap_model(self.discriminators).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        with atomic_path(self.out / "state.pt") as partial:
            torch.save(state, partial)

    def load(self) -> None:
        """Go on from `state.pt`, bit for bit."""
        state = torch.load(self.out / "state.pt", map_location="cpu", weights_only=True)
        self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
        self.curve, self.changes = state["curve"], state["changes"]
        before, now_set = state["settings"], self.settings()
        changed = {name: [before[name], value] for name, value in now_set.items() if before[name] != value}
        if changed:
            self.changes = [*self.changes, {"from_step": self.step, "settings": changed}]
        self.steps_left = self.config.steps - self.step
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.accelerator.unwrap_model(self.discriminators).load_state_dict(state["discriminators"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        for optimizer, rate in (
            (self.optimizer, self.config.learning_rate),
            (self.critic_optimizer, self.config.adversarial_learning_rate),
        ):
            for group in optimizer.param_groups:
                group["initial_lr"] = rate  # a run may go on with another schedule
        torch.set_rng_state(state["random"])


def check_shares(config: DistillConfig, processes: int) -> None:
    """Raises :class:`SharesError` where a batch cannot be shared out evenly."""
    for name in ("batch", "adversarial_batch"):
        count = getattr(config, name)
        if count % processes:
            raise SharesError(f"{name}: {count} segments cannot be shared by {processes} processes: use a multiple")


def adam(network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    groups = [{"params": list(network.parameters()), "initial_lr": learning_rate}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.8, 0.99), weight_decay=0.0, fused=True)


def is_better(entry: dict[str, float], best: dict[str, float] | None) -> bool:
    """Whether a validation beats the best so far: finite, and a smaller loss of predicted MOS."""
    value = entry["predicted_mos_change"]
    return math.isfinite(value) and (best is None or value > best["predicted_mos_change"])


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
