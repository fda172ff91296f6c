"""What every training of a student shares: the loop, the average that ships, what is kept and how a run goes on.

A run is a folder. `state.pt` is everything a resumed run needs to go on (weights, average, optimizers, random state,
step), on a processor bit for bit; a GPU adds up gradients in varying order, so that two runs of one seed drift apart
there. `best.safetensors` holds the averaged weights with the best validation so far and is never replaced by worse or
non-finite ones; `record.json` is the training record. Batches are drawn from (seed, step), so the position in the data
is the step.

A step asks nothing of the device that it would have to wait for: its batch is there, its losses stay there until
`RunningLosses` reads those of many steps, and a gradient that is not finite is skipped where it is found. So a GPU has
the next step before it has done this one.
"""

from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from ttsopt_lib.distill.batches_ahead import BatchesAhead
from ttsopt_lib.distill.running_losses import RunningLosses
from ttsopt_lib.distill.settings import TrainingSettings
from ttsopt_lib.distill.utterances import Tensors
from ttsopt_lib.distill.validation_beside import Scorer, ValidationBeside, Waiting, helps
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_path
from ttsopt_lib.records.base import now

PACE_STEPS = 20  # enough to tell roughly how long a step takes on this machine now
REPLAN_STEPS = 100  # after so many, and twice as many each time, the pace is known better: the first steps warm up
LAST_SHARE = 0.1  # of a training's time at most, kept for the validation after its last step
READ_STEPS = 20  # after so many the bar shows losses, and what was validated beside the training is taken

Batch = TypeVar("Batch", bound=Tensors)


class SharesError(TtsoptError, ValueError):
    """A batch that the processes cannot share evenly. The message names the setting."""


class TrainingRun(ABC):
    """A student in training: `load()` brings it to where its folder left off, `run()` goes on from there.

    A subclass makes the networks, gives them to `train_these` and says what one step and one validation are.

    Attributes:
        student: all that trains.
        shipping: the part of it whose averaged weights are published.
        batches: what the steps train on.
        validates_beside: whether a process of its own validates while the training goes on (`validation_beside`).
    """

    label: ClassVar[str] = "student trains"
    criterion: ClassVar[str]  # name of the validation figure that decides which weights are best
    higher_is_better: ClassVar[bool] = True
    criterion_settings: ClassVar[tuple[str, ...]] = ("validation_utterances",)  # what that figure depends on

    def __init__(self, out: Path, config: Any, origin: dict[str, Any] | None = None):
        self.config: Any = config
        self.asked: Any = config  # before it was made shorter for a time
        self.out = out
        self.origin = origin or {}  # what the record says about where all this came from
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        check_shares(config, self.accelerator.num_processes)
        self.batches: BatchesAhead[Any] = BatchesAhead(self.draw, self.accelerator.device)
        self.validates_beside = helps(self.accelerator.device)
        self.beside: ValidationBeside | None = None
        self.left_over: Waiting | None = (
            None  # what was being validated when the state was saved that this run goes on from
        )
        self.step, self.seconds = 0, 0.0
        self.broken_steps = torch.zeros((), dtype=torch.int64, device=self.accelerator.device)
        self.steps_left: float = config.steps
        self.validation_seconds = 0.0  # that the latest took, and the last one is expected to take after the last step
        self.changes: list[dict[str, Any]] = []  # of settings, where a run went on with others
        self.curve: list[dict[str, float]] = []

    def train_these(self, shipping: nn.Module, also: nn.Module | None = None) -> None:
        """Take the networks, once they are on the device that trains: what ships, and what trains with it."""
        parts = {"shipping": shipping} | ({} if also is None else {"also": also})
        self.shipping, self.student = shipping, nn.ModuleDict(parts)
        self.average = copy.deepcopy(shipping).float().eval().requires_grad_(False)
        self.optimizer = self.accelerator.prepare_optimizer(adam(self.student, self.config.learning_rate))

    @property
    def skipped(self) -> int:
        """Steps that were skipped, because their gradient was not finite. A GPU is waited for."""
        return int(self.broken_steps)

    # --- what a subclass says -------------------------------------------------------------------------------------

    @abstractmethod
    def draw(self, step: int) -> Any:
        """What a step trains on, this process's `own` share of it: a function of the step, the seed and the sizes of a
        batch alone. A thread may call it, ahead of the step."""

    @abstractmethod
    def train_step(self) -> dict[str, Tensor]:
        """One of `batches`; returns its losses and `gradient_norm`, numbers on the device. Ends with `finish_step`."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """What makes validation figures of weights as they would ship: on the teacher's device, and free of all that
        only a training needs."""

    def finished(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Averaged weights as they ship, where more is done to them than rounding, and figures of that."""
        return weights, {}

    def in_steps(self, steps: int) -> Any:
        """The configuration with the same schedule in fewer steps."""
        return self.asked.in_steps(steps)

    def later_cost(self) -> float:
        """How much longer an average step to come takes than one does now."""
        return 1.0

    def other_state(self) -> dict[str, Any]:
        """What else the run needs to go on."""
        return {}

    def load_other_state(self, state: dict[str, Any]) -> None:
        """Take `other_state` back."""
        return

    def counts_for_patience(self, entry: dict[str, float]) -> bool:
        """Whether a validation that brought nothing better is a reason to stop."""
        return True

    # --- one step -------------------------------------------------------------------------------------------------

    def autocast(self) -> torch.autocast:
        """In what the networks compute, as the settings say. Not accelerate's, which is one for the whole process."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def own(self, batch: Batch) -> Batch:
        """Of a batch that every process draws alike, what this one works on; ready to be copied to a GPU."""
        share = batch.share(self.accelerator.process_index, self.accelerator.num_processes)
        return share.pinned() if self.accelerator.device.type == "cuda" else share

    def finish_step(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the student with the gradients it has; returns the terms without their gradients."""
        terms["gradient_norm"] = self.update(self.student, self.optimizer, self.config.clip, self.rate())
        self.step, self.steps_left = self.step + 1, self.steps_left - 1
        return {name: value.detach() for name, value in terms.items()}

    def update(self, network: nn.Module, optimizer: torch.optim.Optimizer, clip: float, rate: float) -> Tensor:
        """Clip, step, forget the gradient; skip and count a non-finite one. Returns the gradient's norm.

        Whether it is finite is not asked here, but on the device: `found_inf` is how a `GradScaler` tells a fused
        optimizer to leave weights and state as they are.
        """
        self.average_gradients(network)
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(network.parameters(), clip))
        finite = torch.isfinite(norm)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        fused: Any = getattr(optimizer, "optimizer", optimizer)  # inside what accelerate wraps it in
        fused.found_inf = (~finite).float()
        optimizer.step()
        if network is self.student:
            self.update_average(finite)
        self.broken_steps += ~finite
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

    def height(self) -> float:
        """The learning rate between warm-up and end, relative to the configured one."""
        return 1.0

    def rate(self) -> float:
        """The learning rate now, relative to the configured one: warm-up, plateau, linear end."""
        c = self.config
        warm = min(1.0, (self.step + 1) / c.warmup_steps)
        return self.height() * warm * min(1.0, max(0.0, self.steps_left) / max(1, c.decay_steps))

    @torch.no_grad()
    def update_average(self, finite: Tensor) -> None:
        """Move the average towards the weights; not at all where the step was not `finite`."""
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        share = finite * (1 - keep)
        new = [parameter.detach() for parameter in self.shipping.parameters()]
        for average, value in zip(self.average.parameters(), new, strict=True):
            average.lerp_(value, share)

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self, minutes: float | None = None) -> None:
        """Train to the last step, or until validations stop improving; the state is always saved.

        With `minutes`, a new run finds its pace and plans fewer steps where there is no time for all. It plans again
        while it runs, for the last time when the learning rate is about to fall. The end of the schedule follows the
        clock: the learning rate is zero when the time is over but for a last validation, however busy the machine was.
        """
        if self.validates_beside and self.accelerator.is_main_process:
            self.beside = ValidationBeside(on_processor(self.scorer()))
        try:
            if self.left_over is not None and self.accelerator.is_main_process:
                self.judge(self.left_over)
            self.left_over = None
            self._run(minutes)
        finally:
            self.batches.close()
            if self.beside is not None:
                self.beside.close()
                self.beside = None

    def _run(self, minutes: float | None) -> None:
        began = time.monotonic()
        plan_again, pace = 0, 0.0  # at this step; seconds of a step
        if minutes is not None and self.step == 0:
            tried = min(PACE_STEPS, self.config.steps - 1)
            terms: dict[str, Tensor] = {}
            for _ in range(tried):
                terms = self.train_step()
            if terms:
                float(terms["gradient_norm"])  # waits until a GPU has really done these steps
            taken = time.monotonic() - began
            pace = taken / max(1, tried)
            self._plan(pace, 60 * minutes - taken)
            plan_again = REPLAN_STEPS
        c = self.config
        spent, latest = self.seconds, time.monotonic()
        losses = RunningLosses()
        main = self.accelerator.is_main_process
        with tqdm(total=c.steps, initial=self.step, desc=self.label, mininterval=10, disable=not main) as bar:
            while self.step < c.steps:
                losses.add(self.train_step())
                bar.update(1)
                if self.step % READ_STEPS == 0:
                    bar.set_postfix({name: f"{value:.3f}" for name, value in losses.read().items()}, refresh=False)
                    if self.beside is not None and self.beside.is_ready():
                        self.take_validated()
                self.seconds = spent + time.monotonic() - began
                taken, latest = time.monotonic() - latest, time.monotonic()
                # A pause (a stopped process, a validation) says nothing about the pace.
                pace = 0.99 * pace + 0.01 * min(taken, 5 * pace) if pace else taken
                if minutes is not None:
                    left = 60 * minutes - (latest - began) - min(self.validation_seconds, 60 * minutes * LAST_SHARE)
                    decays_next = self.steps_left <= c.decay_steps + 1
                    if plan_again and self.steps_left > c.decay_steps and (self.step == plan_again or decays_next):
                        self._plan(pace, left)
                        c, plan_again = self.config, max(plan_again, 2 * self.step)
                        bar.total = c.steps
                    # On the clock of the main process: all must do the same.
                    (self.steps_left,) = broadcast_object_list([min(c.steps - self.step, left / pace)])
                last = self.steps_left <= 0 or self.step == c.steps
                if self.step % c.validate_every == 0 or last:
                    if main:
                        self.validate(losses.read())
                    (self.curve,) = broadcast_object_list([self.curve])
                    last = last or self.out_of_patience()
                if main and (self.step % c.save_every == 0 or last):
                    self.save()
                    if last and self.beside is not None:  # saved before, in case that nothing comes of it
                        self.take_validated()
                        self.save()
                if last:
                    break

    def _plan(self, pace: float, left: float) -> None:
        """Plan as many steps of `pace` seconds as `left` seconds have. All processes do what the main one says."""
        (steps,) = broadcast_object_list([self.step + int(left / max(pace, 1e-6) / self.later_cost())])
        self.config = self.in_steps(max(steps, self.step + 1))
        self.steps_left = self.config.steps - self.step

    def out_of_patience(self) -> bool:
        """Whether the last `patience` validations that count brought nothing better."""
        best: dict[str, float] | None = None
        since = 0
        for entry in self.curve:
            better = self.is_better(entry, best)
            best = entry if better else best
            since = 0 if better or not self.counts_for_patience(entry) else since + 1
        return since >= self.config.patience

    # --- what is kept ---------------------------------------------------------------------------------------------

    def validate(self, losses: dict[str, float]) -> None:
        """Score the averaged weights as they would ship (float16) and keep them where nothing before was as good.

        Beside the training this only begins, once the validation before it is taken, so that no two are under way.
        """
        began = time.monotonic()
        shipped, figures = self.finished(in_half(self.average))
        entry = {"step": self.step, "minutes": self.seconds / 60, "skipped": self.skipped, **losses, **figures}
        self.judge(Waiting(entry, shipped))
        if self.beside is None:
            self.validation_seconds = time.monotonic() - began

    def judge(self, waiting: Waiting) -> None:
        """Score these weights: here and now, or beside the training."""
        if self.beside is None:
            self.keep(waiting.entry | self.score(waiting.shipped), waiting.shipped)
        else:
            self.take_validated()
            self.beside.begin(waiting)

    def take_validated(self) -> None:
        """Wait for the validation beside the training, where there is one under way, and keep what came of it."""
        taken = None if self.beside is None else self.beside.take()
        if taken is not None:
            waiting, figures, self.validation_seconds = taken
            self.keep(waiting.entry | figures, waiting.shipped)

    def score(self, shipped: dict[str, Tensor]) -> dict[str, float]:
        """Validation figures of weights as they would ship."""
        return self.scorer()(shipped)

    def keep(self, entry: dict[str, float], shipped: dict[str, Tensor]) -> None:
        """Put a validation on the curve, and its weights in place of the best where they are better."""
        self.curve.append(entry)
        if self.is_better(entry, self.best()):
            with atomic_path(self.out / "best.safetensors") as partial:
                save_file(shipped, partial)
            self.write_json("best.json", entry)
        self.write_json("record.json", self.record())

    def is_better(self, entry: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether a validation beats the best so far: finite, and better by the criterion."""
        value = entry[self.criterion]
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        return value > best[self.criterion] if self.higher_is_better else value < best[self.criterion]

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
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            **self.other_state(),
        }
        if self.beside is not None and self.beside.waiting is not None:
            state["waiting"] = asdict(self.beside.waiting)  # to be scored again by the run that goes on
        with atomic_path(self.out / "state.pt") as partial:
            torch.save(state, partial)

    def load(self) -> None:
        """Go on from `state.pt`."""
        state = torch.load(self.out / "state.pt", map_location="cpu", weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.broken_steps.fill_(state["skipped"])
        self.curve, self.changes = state["curve"], state["changes"]
        before, now_set = state["settings"], self.settings()
        changed = {name: [before.get(name), value] for name, value in now_set.items() if before.get(name) != value}
        if changed:
            self.changes = [*self.changes, {"from_step": self.step, "settings": changed}]
        self.steps_left = self.config.steps - self.step
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        set_height(self.optimizer, self.config.learning_rate)
        self.load_other_state(state)
        torch.set_rng_state(state["random"])
        best = self.best()
        if best and self.accelerator.is_main_process and not changed.keys().isdisjoint(self.criterion_settings):
            # It was judged by another measure, which nothing that follows could be compared with.
            self.write_json("best.json", best | self.score(load_file(self.out / "best.safetensors")))
        self.left_over = Waiting(**state["waiting"]) if "waiting" in state else None


def check_shares(config: TrainingSettings, processes: int) -> None:
    """Raises `SharesError` where a batch cannot be shared out evenly."""
    for name in ("batch", "adversarial_batch"):
        count = getattr(config, name, 0)
        if count % processes:
            raise SharesError(f"{name}: {count} cannot be shared evenly by {processes} processes: use a multiple")


def in_half(network: nn.Module) -> dict[str, Tensor]:
    """Weights as they are published: float16."""
    return {name: value.half().cpu() for name, value in network.state_dict().items()}


def on_processor(scorer: Scorer) -> Scorer:
    """A copy of a scorer whose teacher lies on the processor."""
    copied: Any = copy.deepcopy(scorer)
    copied.teacher.to("cpu")
    return copied


def adam(network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    groups = [{"params": list(network.parameters()), "initial_lr": learning_rate}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.8, 0.99), weight_decay=0.0, fused=True)


def set_height(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """A run may go on with another schedule."""
    for group in optimizer.param_groups:
        group["initial_lr"] = learning_rate
