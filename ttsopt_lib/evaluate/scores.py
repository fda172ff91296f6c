"""All figures of one utterance: this is what runs in the worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttsopt_lib.evaluate.anchors import degrade
from ttsopt_lib.evaluate.compare import Compared, Reference, compare
from ttsopt_lib.evaluate.intelligibility import Recognizer, transcribe
from ttsopt_lib.evaluate.mos import load_predictor
from ttsopt_lib.evaluate.peers import PeerUtterance, speak_peer
from ttsopt_lib.evaluate.speak import Utterance, speak_with
from ttsopt_lib.evaluate.spectrum import has_band_above_8khz, level_above_8khz_db
from ttsopt_lib.evaluate.waveform import as_float, as_written, to_16khz


@dataclass(frozen=True)
class Task:
    """One utterance and what to find out about it."""

    utterance: Utterance
    predictors: tuple[tuple[str, Path], ...]  # names and files of weights
    recognizer: Recognizer | None  # None: not to be transcribed
    anchor: str | None  # the damage to do first, if any
    reference: Reference | None = None  # the original's utterance to compare with; None: this is the original


@dataclass(frozen=True)
class UtteranceScores:
    """Figures of one utterance."""

    predicted: dict[str, float]  # predictor -> predicted MOS
    audio_seconds: float
    level_above_8khz_db: float | None  # None: the voice's sampling rate leaves no such band
    hypothesis: str | None
    compared: Compared | None  # None: this is the original


def score_utterance(task: Task) -> UtteranceScores:
    """Speak an utterance, damage it if it is an anchor, and score the samples that a WAV file of it would hold."""
    rate, reference, utterance = task.utterance.sample_rate, task.reference, task.utterance
    if isinstance(utterance, PeerUtterance):
        samples, durations = speak_peer(utterance), None
    else:
        samples, durations = speak_with(utterance)
    waveform = as_float(samples)
    if task.anchor:
        waveform = as_float(as_written(degrade(task.anchor, waveform, rate, task.utterance.seed)))
    heard = to_16khz(waveform, rate)
    compared = None
    if reference:
        paired = waveform
        if durations != reference.durations:
            paired = as_float(speak_with(task.utterance, reference.durations)[0])
        compared = compare(paired, reference, rate)
    return UtteranceScores(
        predicted={name: load_predictor(name, weights).score(heard) for name, weights in task.predictors},
        audio_seconds=len(waveform) / rate,
        level_above_8khz_db=level_above_8khz_db(waveform, rate) if has_band_above_8khz(rate) else None,
        hypothesis=transcribe(task.recognizer, heard) if task.recognizer else None,
        compared=compared,
    )
