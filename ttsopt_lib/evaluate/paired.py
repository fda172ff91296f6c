"""A variant beside the original on the same sentence: speaker, spectrum, F0, all at equal durations and noise.

With durations of its own a variant's frames would not lie where the original's do, and every figure would measure
the shift. So the variant speaks with the original's durations here; what its own do to the length is told by the
change of duration. A model that cannot be given durations is compared frame by frame only where it speaks as long as
the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.predictors.speaker import embed, encoder_weights, similarity
from ttsopt_lib.evaluate.signal.pitch import missing_pitch_tracker, pitch, pitch_error
from ttsopt_lib.evaluate.signal.spectrum import EDGE_HZ, has_band_above_8khz, log_spectral_distance_db
from ttsopt_lib.evaluate.signal.waveform import as_float, to_16khz


@dataclass(frozen=True)
class Reference:
    """One sentence as the original speaks it, and what others are compared with."""

    samples: NDArray[np.int16]  # [samples]
    durations: tuple[int, ...]  # frames of each phoneme
    pitch: NDArray[np.float64] | None  # F0 in Hz [frames], 0 unvoiced; None: not to be measured
    speaker: NDArray[np.float32] | None  # [256]; None: not to be measured, or no speech found


@dataclass(frozen=True)
class Compared:
    """How far one utterance is from the original's."""

    speaker_similarity: float | None  # cosine; None: no encoder, or no speech found
    log_spectral_distance_db: float | None  # None, as all below: it does not last as long as the original
    log_spectral_distance_above_8khz_db: float | None  # None: the voice's sampling rate leaves no such band
    f0_error_cents: float | None  # None: no tracker, or no frame voiced in both
    voicing_disagreement: float | None  # fraction of frames; None: no tracker


def make_reference(
    samples: NDArray[np.int16], durations: tuple[int, ...], sample_rate: int, compared: bool = True
) -> Reference:
    """A sentence as the original spoke it, and what is `compared` of it, as far as it can be measured here."""
    waveform = as_float(samples)
    return Reference(
        samples=samples,
        durations=durations,
        pitch=pitch(waveform, sample_rate) if compared and missing_pitch_tracker() is None else None,
        speaker=embed(to_16khz(waveform, sample_rate)) if compared and isinstance(encoder_weights(), Path) else None,
    )


def compare(waveform: NDArray[np.float32], reference: Reference, sample_rate: int) -> Compared:
    """A waveform [samples] with the reference's durations, beside the reference."""
    original = as_float(reference.samples)
    speaker = None if reference.speaker is None else embed(to_16khz(waveform, sample_rate))
    alike = similarity(speaker, reference.speaker)
    if len(waveform) != len(original):
        return Compared(alike, None, None, None, None)
    above = None
    if has_band_above_8khz(sample_rate):
        above = float(np.mean(log_spectral_distance_db(waveform, original, sample_rate, EDGE_HZ)))
    error = None if reference.pitch is None else pitch_error(pitch(waveform, sample_rate), reference.pitch)
    return Compared(
        speaker_similarity=alike,
        log_spectral_distance_db=float(np.mean(log_spectral_distance_db(waveform, original, sample_rate))),
        log_spectral_distance_above_8khz_db=above,
        f0_error_cents=error.cents if error else None,
        voicing_disagreement=error.voicing if error else None,
    )
