"""How near a student sounds to its teacher on utterances it never trained on.

Both are given the same latents, so every figure is paired: the change of
predicted MOS (DistillMOS, which hears nothing above 8 kHz) and of a second predictor (DNSMOS P.808), and, for what they
cannot hear, the log-spectral distance in the full band and above 8 kHz, the level above 8 kHz and the error of F0. The
losses that it trains on are there for held-out utterances too: a student that does worse on them than in training has
learned its data by heart, and wants more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ttsopt_lib.distill.losses import spectral_loss
from ttsopt_lib.distill.utterances import Utterance, Utterances
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.evaluate.predictors.mos import load_predictor
from ttsopt_lib.evaluate.signal.pitch import missing_pitch_tracker, pitch, pitch_error
from ttsopt_lib.evaluate.signal.spectrum import has_band_above_8khz, level_above_8khz_db, log_spectral_distance_db
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz
from ttsopt_lib.networks.vits import StagedVits

FIGURES = {"distillmos": "predicted_mos_change", "dnsmos_p808": "p808_change"}  # predictor -> what its figure is called
SHORTEST, LONGEST = 1.5, 9.0  # seconds: a predictor needs something to hear, and its time grows with the length

Speak = Callable[[Utterance, Tensor | None], Tensor]


class ValidationError(TtsoptError, ValueError):
    """Teacher data that a student cannot be validated on. The message says what would help."""


def usable(data: Utterances, sample_rate: int) -> np.ndarray:
    """Numbers of the utterances that are long enough to be judged, and not so long that it takes long."""
    seconds = data.frames * data.hop / sample_rate
    return np.flatnonzero((seconds >= SHORTEST) & (seconds <= LONGEST))


class Validation:
    """Held-out utterances and, once computed, the teacher's scores on them."""

    def __init__(self, held_out: Utterances, sample_rate: int, count: int):
        self.sample_rate = sample_rate
        chosen = usable(held_out, sample_rate)[:count]
        if not len(chosen):
            raise ValidationError(
                f"no held-out utterance lasts {SHORTEST} to {LONGEST} s: give a corpus of ordinary sentences"
            )
        self.pairs = [held_out.utterance(int(index)) for index in chosen]
        self.teacher_mos: dict[str, np.ndarray] = {}
        self.teacher_f0: list[np.ndarray] = []

    def score(self, speak: Speak, teacher: StagedVits) -> dict[str, float]:
        """Mean figures over the utterances. A student that makes non-finite samples scores NaN everywhere.

        Args:
            speak: makes a waveform [1, 1, samples] of an utterance's latents and a speaker embedding, on the teacher's
                device.
            teacher: whose speaker embeddings are used.
        """
        made = [waveform[0, 0].float().cpu().numpy() for waveform in self.outputs(speak, teacher)]
        if not all(np.isfinite(m).all() for m in made):
            return {"predicted_mos_change": math.nan, "log_spectral_distance_db": math.nan}
        if not self.teacher_mos:
            self.teacher_mos = {
                name: np.array([load_predictor(name).score(self.heard(pair.samples.numpy())) for pair in self.pairs])
                for name in FIGURES
            }
        figures = self.f0_error(made) | {
            "teacher_predicted_mos": float(self.teacher_mos["distillmos"].mean()),
            "log_spectral_distance_db": self.distance(made, 0.0),
        }
        for name, figure in FIGURES.items():
            change = np.array([load_predictor(name).score(self.heard(m)) for m in made]) - self.teacher_mos[name]
            figures[figure] = float(change.mean())
            if len(change) > 1:
                figures[f"{figure}_standard_error"] = float(change.std(ddof=1)) / math.sqrt(len(change))
        losses = [
            spectral_loss(torch.from_numpy(m)[None], pair.samples[None])
            for m, pair in zip(made, self.pairs, strict=True)
        ]
        figures |= {f"held_out_{name}": float(np.mean([float(one[name]) for one in losses])) for name in losses[0]}
        if has_band_above_8khz(self.sample_rate):
            figures["log_spectral_distance_above_8khz_db"] = self.distance(made, 8000.0)
            levels = [
                level_above_8khz_db(m, self.sample_rate) - level_above_8khz_db(pair.samples.numpy(), self.sample_rate)
                for m, pair in zip(made, self.pairs, strict=True)
            ]
            figures["level_above_8khz_change_db"] = float(np.mean(levels))
        return figures

    def latent_error(self, make: Speak, teacher: StagedVits, variance: float) -> float:
        """Squared error of the latents [1, C, T] that `make` makes of an utterance, over their variance."""
        made = self.outputs(make, teacher)
        errors = [(one.cpu() - pair.z).square().mean() for one, pair in zip(made, self.pairs, strict=True)]
        return float(torch.stack(errors).mean() / variance)

    @torch.inference_mode()
    def outputs(self, speak: Speak, teacher: StagedVits) -> list[Tensor]:
        """What a student makes of each utterance, both on the teacher's device."""
        device = next(teacher.parameters()).device
        there = (pair.to(device) for pair in self.pairs)
        return [speak(pair, teacher.speaker(pair.speaker)) for pair in there]

    def f0_error(self, made: list[np.ndarray]) -> dict[str, float]:
        """The median error of F0 in cents, mean over the utterances; nothing where F0 cannot be tracked."""
        if missing_pitch_tracker() is not None:
            return {}
        if not self.teacher_f0:
            self.teacher_f0 = [pitch(pair.samples.numpy(), self.sample_rate) for pair in self.pairs]
        tracks = zip(made, self.teacher_f0, strict=True)
        errors = [pitch_error(pitch(m, self.sample_rate), teacher).cents for m, teacher in tracks]
        cents = [error for error in errors if error is not None]
        return {"f0_error_cents": float(np.mean(cents))} if cents else {}

    def heard(self, samples: np.ndarray) -> np.ndarray:
        return to_16khz(as_float(as_written(samples)), self.sample_rate)

    def distance(self, made: list[np.ndarray], above_hz: float) -> float:
        """Mean log-spectral distance over all frames of all utterances, in dB."""
        frames = [
            log_spectral_distance_db(student, pair.samples.numpy(), self.sample_rate, above_hz)
            for student, pair in zip(made, self.pairs, strict=True)
        ]
        return float(np.concatenate(frames).mean())
