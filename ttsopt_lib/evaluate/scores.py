"""All figures of an utterance: this is what runs in the worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.anchors import degrade
from ttsopt_lib.evaluate.intelligibility import Recognizer, transcribe
from ttsopt_lib.evaluate.paired import Compared, Reference, compare, make_reference
from ttsopt_lib.evaluate.peers import PeerUtterance, speak_peer
from ttsopt_lib.evaluate.predictors.mos import load_predictor
from ttsopt_lib.evaluate.signal.spectrum import has_band_above_8khz, level_above_8khz_db
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz
from ttsopt_lib.evaluate.speak import SpeechError, Utterance, speak_with
from ttsopt_lib.voices.session import RuntimeFailure

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """One utterance and what to find out about it."""

    utterance: Utterance
    predictors: tuple[tuple[str, Path], ...]  # names and files of weights
    recognizer: Recognizer | None  # None: not to be transcribed
    anchor: str | None  # the damage to do first, if any
    compared: bool = False  # whether it is heard beside the original
    reference: Reference | None = None  # the original's utterance, where it is compared with it or damaged
    scored: bool = True  # of the original, False: it is spoken for others only
    kept: bool = False  # of the original: others need its audio ...
    kept_to_compare: bool = False  # ... and some are compared with it


@dataclass(frozen=True)
class UtteranceScores:
    """Figures of one utterance."""

    predicted: dict[str, float]  # predictor -> predicted MOS
    audio_seconds: float
    level_above_8khz_db: float | None  # None: the voice's sampling rate leaves no such band
    hypothesis: str | None
    compared: Compared | None  # None: the original itself, or a sentence on which nothing is compared


@dataclass(frozen=True)
class Scored:
    """What was found out about one utterance."""

    scores: UtteranceScores | None  # None: it was spoken for others only
    reference: Reference | None = None  # of the original, where others need it
    unheard: NDArray[np.float32] | None = None  # 16 kHz [samples], where it is still to be transcribed


def score_utterances(tasks: Sequence[Task]) -> list[Scored | RuntimeFailure]:
    """Speak and score utterances; those that are to be transcribed are transcribed together, which is faster."""
    found = [tried(score_utterance, task) for task in tasks]
    unheard = {
        number: one.unheard for number, one in enumerate(found) if isinstance(one, Scored) and one.unheard is not None
    }
    recognizer = next((task.recognizer for task in tasks if task.recognizer), None)
    if not unheard or recognizer is None:
        return found
    words = tried(lambda waveforms: transcribe(recognizer, waveforms), list(unheard.values()))
    for place, number in enumerate(unheard):
        one = found[number]
        assert isinstance(one, Scored) and one.scores
        if isinstance(words, RuntimeFailure):
            found[number] = words
        else:
            found[number] = Scored(replace(one.scores, hypothesis=words[place]), one.reference)
    return found


def score_utterance(task: Task) -> Scored:
    """Speak an utterance, and score the samples that a WAV file of it would hold; all but what a recognizer hears.

    An anchor is the original's utterance, damaged.

    Raises:
        RuntimeFailure: a runtime cannot speak it.
        SpeechError: what it gives is no speech.
    """
    utterance, rate, reference = task.utterance, task.utterance.sample_rate, task.reference
    if task.anchor and reference:
        samples, durations = reference.samples, reference.durations
    elif isinstance(utterance, PeerUtterance):
        samples, durations = speak_peer(utterance), None
    else:
        samples, durations = speak_with(utterance)
    kept = make_reference(samples, durations or (), rate, task.kept_to_compare) if task.kept else None
    if not task.scored:
        return Scored(None, kept)
    waveform = as_float(samples)
    if task.anchor:
        waveform = as_float(as_written(degrade(task.anchor, waveform, rate, utterance.seed)))
    heard = to_16khz(waveform, rate)
    compared = None
    if task.compared and reference:
        paired = waveform
        if durations != reference.durations:
            paired = as_float(speak_with(utterance, reference.durations)[0])
        compared = compare(paired, reference, rate)
    scores = UtteranceScores(
        predicted={name: load_predictor(name, weights).score(heard) for name, weights in task.predictors},
        audio_seconds=len(waveform) / rate,
        level_above_8khz_db=level_above_8khz_db(waveform, rate) if has_band_above_8khz(rate) else None,
        hypothesis=None,
        compared=compared,
    )
    return Scored(scores, kept, heard if task.recognizer else None)


def tried(function: Callable[[Item], Result], item: Item) -> Result | RuntimeFailure:
    """The result, or why there is none (a runtime fails, what it gives is no speech): the others go on."""
    try:
        return function(item)
    except RuntimeFailure as error:
        return error
    except SpeechError as error:
        return RuntimeFailure(str(error))
    except MemoryError:
        return RuntimeFailure("it takes more memory than there is")
