"""Trains all students of a voice together, from where they were left when each had learned from its teacher alone.

In its own training the text encoder's student is told how far its prior is from the teacher's, every channel alike. The
flow does not treat them alike: an error that is small in the prior can be large behind it, where the melody is decided.
So here segments begin at the text. The student's prior is sampled with the very noise that the teacher's was sampled
with, in the teacher's durations, the student of the flow makes latents of it, and their error is asked of the text
encoder. Not of the flow: what it was given is wrong in ways that it cannot know, and it would learn to say an average.
Flow and decoder go on as in `speech`, given the teacher's prior. Text encoder and duration predictor go on reading
sentences as in `text_encoder`, so that nothing is given up of what was learned from sentences that nobody spoke.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.func import functional_call

from ttsopt_lib.networks.speech import SpeechStudent
from ttsopt_lib.networks.students import DurationStudent, FlowStudent, TextEncoderStudent
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.distill_config import VoiceConfig
from ttsopt_lib.optimize.student_training import Trainer
from ttsopt_lib.optimize.student_validation import Validation
from ttsopt_lib.optimize.text_data import TextData, side_by_side
from ttsopt_lib.optimize.text_training import read_and_compare, score_text, text_error
from ttsopt_lib.optimize.utterances import Utterance, Utterances, latent_error, read_columns

TEXT_FIGURES = ("text_error", "frames_off_per_phoneme", "length_change")  # of `score_text`, those that are told


class VoiceStudent(SpeechStudent):
    """The students of all stages, under the names of the stages."""

    def __init__(
        self, text_encoder: TextEncoderStudent, durations: DurationStudent, flow: FlowStudent, decoder: nn.Module
    ):
        super().__init__(decoder, flow)
        self.text_encoder = text_encoder
        self.duration_predictor = durations


class SpokenTexts:
    """The phonemes of spoken utterances, how many frames each lasts, and what the teacher's text encoder made of them.

    The same shards give an :class:`Utterances` with the same numbers.

    Attributes:
        ids, durations: int16 [phonemes of all utterances]; `mean`, `log_std` of the prior there float16 [phonemes, C].
        lengths, starts: phonemes of each utterance and where they begin [utterances].
    """

    def __init__(self, shards: list[Path]):
        self.ids, self.durations, self.mean, self.log_std, self.lengths = read_columns(
            shards, ("ids", "durations", "prior_mean", "prior_logs", "phonemes")
        )
        self.starts = np.cumsum(self.lengths) - self.lengths

    def own_prior(self, encoder: TextEncoderStudent, z_p: Tensor, numbers: Tensor, offsets: Tensor) -> Tensor:
        """Samples of a student's prior [B, C, T], float32, with the noise and the durations of the teacher's.

        Args:
            encoder: the student.
            z_p: the teacher's samples [B, C, T].
            numbers: the utterance of each [B].
            offsets: its first frame there [B].
        """
        chosen = numbers.numpy(force=True)
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        texts = (side_by_side(rows, starts, lengths).to(z_p.device) for rows in (self.ids, self.mean, self.log_std))
        ids, mean, log_std = texts
        frame = self.phonemes_of_frames(starts, lengths, offsets.tolist(), z_p.shape[2])
        index = frame.to(z_p.device)[:, None].expand(-1, z_p.shape[1], -1)
        mean, log_std = (rows.transpose(1, 2).gather(2, index) for rows in (mean, log_std))
        noise = (z_p - mean) * torch.exp(-log_std)
        made = encoder(ids.long(), torch.from_numpy(lengths.astype(np.int64)).to(z_p.device))
        own_mean, own_log_std = (rows.float().gather(2, index) for rows in made[1:3])
        return own_mean + noise * own_log_std.exp()

    def phonemes_of_frames(self, starts: np.ndarray, lengths: np.ndarray, offsets: list[int], frames: int) -> Tensor:
        """Which phoneme of its utterance each frame of a segment belongs to, int64 [B, frames]."""
        index = np.empty((len(starts), frames), np.int64)
        for row, (start, length, offset) in enumerate(zip(starts, lengths, offsets, strict=True)):
            lasting = self.durations[start : start + length]
            index[row] = np.repeat(np.arange(length), lasting)[offset : offset + frames]
        return torch.from_numpy(index)


class VoiceTrainer(Trainer):
    """Trains a `VoiceStudent`; what decides is how the whole chain, given text, durations and noise, sounds."""

    label: ClassVar[str] = "voice trains"

    def __init__(
        self,
        teacher: StagedVits,
        data: Utterances,
        validation: Validation,
        out: Path,
        config: VoiceConfig,
        origin: dict[str, Any] | None,
        spoken: tuple[SpokenTexts, SpokenTexts],
        read: tuple[TextData, TextData],
    ):
        """`spoken`: the texts of `data` and of the utterances that `validation` holds out. `read`: sentences that the
        teacher only read, to train on and held out."""
        super().__init__(teacher, data, validation, out, config, origin)
        self.texts, self.held_out_texts = spoken
        self.sentences, self.held_out_sentences = read

    def new_student(self, decoder: nn.Module) -> VoiceStudent:
        c = self.config
        return VoiceStudent(
            TextEncoderStudent(c.text_encoder),
            DurationStudent(c.durations),
            FlowStudent(c.flow),
            copy.deepcopy(decoder),
        )

    def run(self, minutes: float | None = None) -> None:
        """A new run is validated before its first step, so that what it began with is kept where nothing beats it."""
        if not self.curve:
            if self.accelerator.is_main_process:
                began = time.monotonic()
                self.validate({})
                self.seconds = time.monotonic() - began
                self.save()
            # The others wait here, and all take the time from what is left.
            self.curve, self.seconds = broadcast_object_list([self.curve, self.seconds])
            minutes = None if minutes is None else max(0.0, minutes - self.seconds / 60)
        super().run(minutes)

    def other_terms(self, rng: np.random.Generator) -> dict[str, tuple[Tensor, float]]:
        """What the text encoder and the duration predictor learn from: read sentences, and latents of spoken ones."""
        c = self.config
        sentences = self.sentences.batch(rng, c.text_batch)
        terms = read_and_compare(self.speech, self.teacher, sentences, rng, self.accelerator)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        batch = self.data.batch(rng, c.prior_batch, c.prior_frames, c.margin_frames).share(rank, processes)
        batch = batch.to(self.accelerator.device)
        g = self.teacher.speaker(batch.speakers)
        with self.accelerator.autocast():
            z_p = self.texts.own_prior(encoder_of(self.speech), batch.z_p, batch.utterances, batch.offsets)
            flow = {name: weight.detach() for name, weight in self.speech.flow.named_parameters()}
            latents = functional_call(self.speech.flow, flow, (z_p, torch.ones_like(z_p[:, :1]), g))
        return {
            "read_text_error": (text_error(terms, c), c.text_weight),
            "own_latent_error": (latent_error(latents, batch, self.latent_variance), c.own_latent_weight),
        }

    def told(self, student: SpeechStudent, pair: Utterance) -> Tensor:
        number, first = torch.tensor([pair.number]), torch.tensor([0])
        return self.held_out_texts.own_prior(encoder_of(student), pair.z_p, number, first)

    def score(self, shipped: dict[str, Tensor]) -> dict[str, float]:
        """Besides what every student that makes samples is judged by: the latents of its own prior, and its reading."""
        student = copy.deepcopy(self.shape).eval()
        student.load_state_dict(shipped)
        student.to(self.accelerator.device)
        error = self.validation.latent_error(
            lambda pair, g: student.decoded_latents(self.told(student, pair), g), self.teacher, self.latent_variance
        )
        text = score_text(student, self.teacher, self.held_out_sentences, self.config, self.config.seed)
        read = {name: value for name, value in text.items() if name in TEXT_FIGURES}
        return super().score(shipped) | {"held_out_own_latent_error": error} | read


def encoder_of(student: nn.Module) -> TextEncoderStudent:
    """The text encoder of a `VoiceStudent`."""
    encoder = student.get_submodule("text_encoder")
    assert isinstance(encoder, TextEncoderStudent)
    return encoder
