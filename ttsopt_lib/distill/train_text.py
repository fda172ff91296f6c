"""Trains the students of the text encoder and the duration predictor, on sentences that the teacher read.

Both are regressions. The prior's mean is compared in units of the prior's own standard deviation, because that is
the noise it is sampled with, and each phoneme counts for as many frames as it lasts. The duration predictor is
given fresh noise in every step and learns what its teacher makes of that noise.

An error that many phonemes share is worse than the same error here and there: the noise that a voice is sampled with
averages out over a phrase, and a mean that is off throughout it does not. It moves the melody. So the error's average
over a window is compared with what the noise leaves of itself over so many frames (`contour`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttsopt_lib.distill.settings import TextSettings
from ttsopt_lib.distill.teacher.reading import Sentences, TextData
from ttsopt_lib.distill.training_run import TrainingRun
from ttsopt_lib.networks.durations import DurationPredictor
from ttsopt_lib.networks.students import DurationStudent, TextEncoderStudent
from ttsopt_lib.networks.vits import StagedVits

LOUDEST_DURATION_NOISE = 1.2  # noise_w is drawn from zero to here: above what voices are spoken with (0.8)
SHORTEST_LOG_FRAMES = -1.5  # durations are rounded up: below one frame nothing is heard of the difference
SCORED_TOGETHER = 8
VOICE_NOISE_W = 0.8
CONTOUR_PHONEMES = 15  # with the blanks between them: half a second
LENGTH_WEIGHT = 10.0  # a sentence that is 5 % too short weighs as much as log durations that are 0.2 off


@dataclass(frozen=True)
class SpokenSentences(Sentences):
    """A batch with noise for the durations [B, 2, T], already scaled, and speakers [B]."""

    noise: Tensor
    speakers: Tensor


class TextTrainer(TrainingRun):
    """Trains a `TextEncoderStudent` and a `DurationStudent` side by side."""

    label: ClassVar[str] = "text encoder trains"
    criterion: ClassVar[str] = "text_error"
    higher_is_better: ClassVar[bool] = False
    criterion_settings: ClassVar[tuple[str, ...]] = ("contour_weight", "duration_weight")

    def __init__(
        self,
        teacher: StagedVits,
        data: TextData,
        held_out: TextData,
        out: Path,
        config: TextSettings,
        origin: dict[str, Any] | None = None,
    ):
        super().__init__(out, config, origin)
        self.data, self.held_out = data, held_out
        self.teacher = teacher.eval().requires_grad_(False).to(self.accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            students = text_students(config)
            encoder = students["text_encoder"]
            assert isinstance(encoder, TextEncoderStudent)
            start_from_teacher(encoder, teacher, data)
        self.train_these(students.to(self.accelerator.device))

    def draw(self, step: int) -> SpokenSentences:
        """Random sentences, with noise and speakers drawn anew."""
        c = self.config
        rng = np.random.default_rng([c.seed, step])
        batch = self.data.batch(rng, c.batch)
        noise_w = float(rng.uniform(0, LOUDEST_DURATION_NOISE))
        noise = torch.from_numpy(rng.standard_normal((len(batch.ids), 2, batch.ids.shape[1]), dtype=np.float32))
        return self.own(
            SpokenSentences(
                **vars(batch), noise=noise * noise_w, speakers=draw_speakers(self.teacher, rng, len(batch.ids))
            )
        )

    def train_step(self) -> dict[str, Tensor]:
        """Train on one batch of sentences."""
        batch = self.batches.take(self.step).to(self.accelerator.device)
        g = self.teacher.speaker(batch.speakers)
        wanted = teacher_log_frames(self.teacher, batch, batch.noise, g)
        with self.autocast():
            made = speak_text(self.shipping, batch, batch.noise, g)
        terms = text_losses(batch, wanted, *made)
        self.accelerator.backward(text_error(terms, self.config))
        return self.finish_step(terms)

    def scorer(self) -> TextScorer:
        return TextScorer(self.teacher, self.held_out, self.config)


@dataclass(frozen=True)
class TextScorer:
    """Mean errors on held-out sentences, at the noise that voices are spoken with."""

    teacher: StagedVits
    held_out: TextData
    config: TextSettings

    @torch.inference_mode()
    def __call__(self, shipped: dict[str, Tensor]) -> dict[str, float]:
        config, teacher, held_out = self.config, self.teacher, self.held_out
        device = next(teacher.parameters()).device
        students = text_students(config).eval()
        students.load_state_dict(shipped)
        students.to(device)
        rng = np.random.default_rng(config.seed)
        order = np.argsort(held_out.lengths, kind="stable")[:: max(1, len(held_out) // 200)]
        totals: dict[str, list[float]] = {}
        for first in range(0, len(order), SCORED_TOGETHER):
            batch = held_out.sentences(order[first : first + SCORED_TOGETHER]).to(device)
            noise = torch.from_numpy(rng.standard_normal((len(batch.ids), 2, batch.ids.shape[1]), dtype=np.float32))
            noise = noise.to(device) * VOICE_NOISE_W
            g = teacher.speaker(draw_speakers(teacher, rng, len(batch.ids)).to(device))
            wanted = teacher_log_frames(teacher, batch, noise, g)
            mean, log_std, log_frames, mask = speak_text(students, batch, noise, g)
            terms = text_losses(batch, wanted, mean, log_std, log_frames, mask)
            frames, frames_wanted = (spoken_frames(value, mask) for value in (log_frames, wanted))
            entry = {f"held_out_{name}": float(value) for name, value in terms.items()} | {
                "text_error": float(text_error(terms, config)),
                "frames_off_per_phoneme": float((frames - frames_wanted).abs().sum() / mask.sum()),
                "length_change": float(frames.sum() / frames_wanted.sum() - 1),
            }
            for name, value in entry.items():
                totals.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in totals.items()}


def draw_speakers(teacher: StagedVits, rng: np.random.Generator, count: int) -> Tensor:
    """Random speakers of the teacher, int64 [count]."""
    embedding = teacher.speaker_embedding
    return torch.from_numpy(rng.integers(1 if embedding is None else embedding.num_embeddings, size=count))


def text_students(config: TextSettings) -> nn.ModuleDict:
    """Both, under the names of the stages they stand for."""
    students = {
        "text_encoder": TextEncoderStudent(config.text_encoder),
        "duration_predictor": DurationStudent(config.durations),
    }
    return nn.ModuleDict(students)


def speak_text(students: nn.Module, batch: Sentences, noise: Tensor, g: Tensor | None) -> tuple[Tensor, ...]:
    """Mean, log standard deviation, log frames (float32) and mask, as the students make them."""
    encoder, durations = students.get_submodule("text_encoder"), students.get_submodule("duration_predictor")
    hidden, mean, log_std, mask = encoder(batch.ids, batch.lengths)
    log_frames = durations(hidden, mask, noise, g)
    return mean.float(), log_std.float(), log_frames.float(), mask


@torch.no_grad()
def teacher_log_frames(teacher: StagedVits, batch: Sentences, noise: Tensor, g: Tensor | None) -> Tensor:
    """What the teacher's duration predictor makes of the noise: log frames [B, 1, T]."""
    positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    mask = (positions < batch.lengths[:, None]).float()[:, None]
    if isinstance(teacher.duration_predictor, DurationPredictor):
        return teacher.duration_predictor(batch.hidden, mask, g)
    return teacher.duration_predictor(batch.hidden, mask, noise, g)


def text_losses(
    batch: Sentences, wanted: Tensor, mean: Tensor, log_std: Tensor, log_frames: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """Squared errors of the prior (means in standard deviations of the teacher's) per frame and over half a second,
    and of durations: of each phoneme's logarithm, and of the sentence's length in whole frames, which the logarithms
    alone would make too short."""
    frames = torch.ceil(wanted.exp()).clamp(max=50) * mask
    weight = frames / frames.sum()
    off = (mean - batch.mean) * torch.exp(-batch.log_std)
    window = CONTOUR_PHONEMES
    together = F.avg_pool1d(torch.cat([off * frames, frames], 1), window, 1, window // 2) * window
    shared = together[:, :-1].square().mean(1, keepdim=True) / together[:, -1:].clamp(min=1)
    lasting, lasting_wanted = (spoken_frames(value, mask) for value in (log_frames, wanted))
    frames_off = F.smooth_l1_loss(log_frames, wanted.clamp(min=SHORTEST_LOG_FRAMES), reduction="none", beta=0.5)
    return {
        "mean": (off.square().mean(1, keepdim=True) * weight).sum(),
        "contour": (shared * weight).sum(),
        "spread": ((log_std - batch.log_std).square().mean(1, keepdim=True) * weight).sum(),
        "durations": (frames_off * mask).sum() / mask.sum(),
        "length": lasting.sum(2).div(lasting_wanted.sum(2)).sub(1).square().mean(),
    }


def spoken_frames(log_frames: Tensor, mask: Tensor) -> Tensor:
    """Whole frames [B, 1, T], as a voice speaks them, with the gradient of those before rounding up."""
    frames = log_frames.exp() * mask
    return frames + (torch.ceil(frames) - frames).detach()


def text_error(terms: dict[str, Tensor], config: TextSettings) -> Tensor:
    """What is made small: all of it in one figure."""
    durations = terms["durations"] + LENGTH_WEIGHT * terms["length"]
    prior = terms["mean"] + terms["spread"] + config.contour_weight * terms["contour"]
    return prior + config.duration_weight * durations


@torch.no_grad()
def start_from_teacher(encoder: TextEncoderStudent, teacher: StagedVits, data: TextData) -> None:
    """Give a fresh encoder what the teacher has: its phoneme embedding, and the mean of the statistics it makes."""
    embedding, scale = teacher.text_encoder.emb.weight, teacher.text_encoder.embedding_scale
    if encoder.emb.weight.shape == embedding.shape:
        encoder.emb.weight.copy_(embedding * scale)
    means = [data.columns[name].astype(np.float32).mean(0) for name in ("mean", "log_std")]
    assert encoder.proj.bias is not None
    encoder.proj.bias.copy_(torch.from_numpy(np.concatenate(means)))
