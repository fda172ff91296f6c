"""All figures of one utterance: this is what runs in the worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.anchors import degrade
from ttsopt_lib.evaluate.intelligibility import Recognizer, transcribe
from ttsopt_lib.evaluate.paired import Compared, Reference, compare, make_reference
from ttsopt_lib.evaluate.peers import PeerUtterance, speak_peer
from ttsopt_lib.evaluate.predictors.mos import load_predictor
from ttsopt_lib.evaluate.signal.spectrum import has_band_above_8khz, level_above_8khz_db
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz
from ttsopt_lib.evaluate.speak import Utterance, speak_with

Spoken = tuple[NDArray[np.int16], tuple[int, ...]]  # samples, and frames of each phoneme


@dataclass(frozen=True)
class Task:
    """One utterance and what to find out about it."""

    utterance: Utterance
    predictors: tuple[tuple[str, Path], ...]  # names and files of weights
    recognizer: Recognizer | None  # None: not to be transcribed
    anchor: str | None  # the damage to do first, if any
    compared: bool = False  # whether it is heard beside the original
    reference: Reference | None = None  # the original's utterance, where it is compared


@dataclass(frozen=True)
class UtteranceScores:
    """Figures of one utterance."""

    predicted: dict[str, float]  # predictor -> predicted MOS
    audio_seconds: float
    level_above_8khz_db: float | None  # None: the voice's sampling rate leaves no such band
    hypothesis: str | None
    compared: Compared | None  # None: the original itself, or a sentence on which nothing is compared


@dataclass(frozen=True)
class OriginalTask:
    """One sentence of the original, and what is wanted of it."""

    task: Task
    scored: bool
    reference: bool  # whether others are to be compared with it


def score_original(asked: OriginalTask) -> tuple[UtteranceScores | None, Reference | None]:
    """Speak a sentence of the original once; score it, and keep what others are compared with, where wanted."""
    task = asked.task
    spoken = speak_with(task.utterance)
    scores = score_utterance(task, spoken) if asked.scored else None
    return scores, make_reference(*spoken, task.utterance.sample_rate) if asked.reference else None


def score_utterance(task: Task, spoken: Spoken | None = None) -> UtteranceScores:
    """Speak an utterance, damage it if it is an anchor, and score the samples that a WAV file of it would hold.

    `spoken` are the samples and durations of an utterance that was spoken already.
    """
    rate, reference, utterance = task.utterance.sample_rate, task.reference, task.utterance
    if spoken:
        samples, durations = spoken
    elif isinstance(utterance, PeerUtterance):
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
