"""All figures of one utterance: this is what runs in the worker processes."""

from __future__ import annotations

from dataclasses import dataclass

from ttsopt_lib.evaluate.anchors import degrade
from ttsopt_lib.evaluate.intelligibility import Recognizer, transcribe
from ttsopt_lib.evaluate.mos import load_predictor
from ttsopt_lib.evaluate.peers import PeerUtterance, speak_peer
from ttsopt_lib.evaluate.speak import Utterance, speak
from ttsopt_lib.evaluate.spectrum import has_band_above_8khz, level_above_8khz_db
from ttsopt_lib.evaluate.waveform import as_float, as_written, to_16khz


@dataclass(frozen=True)
class Task:
    """One utterance and what to find out about it."""

    utterance: Utterance
    predictors: tuple[str, ...]
    recognizer: Recognizer | None  # None: not to be transcribed
    anchor: str | None  # the damage to do first, if any


@dataclass(frozen=True)
class UtteranceScores:
    """Figures of one utterance."""

    predicted: dict[str, float]  # predictor -> predicted MOS
    audio_seconds: float
    level_above_8khz_db: float | None  # None: the voice's sampling rate leaves no such band
    hypothesis: str | None


def score_utterance(task: Task) -> UtteranceScores:
    """Speak an utterance, damage it if it is an anchor, and score the samples that a WAV file of it would hold."""
    rate = task.utterance.sample_rate
    utterance = task.utterance
    waveform = as_float(speak_peer(utterance) if isinstance(utterance, PeerUtterance) else speak(utterance))
    if task.anchor:
        waveform = as_float(as_written(degrade(task.anchor, waveform, rate, task.utterance.seed)))
    heard = to_16khz(waveform, rate)
    return UtteranceScores(
        predicted={name: load_predictor(name).score(heard) for name in task.predictors},
        audio_seconds=len(waveform) / rate,
        level_above_8khz_db=level_above_8khz_db(waveform, rate) if has_band_above_8khz(rate) else None,
        hypothesis=transcribe(task.recognizer, heard) if task.recognizer else None,
    )
