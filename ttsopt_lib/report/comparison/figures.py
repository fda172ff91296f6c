"""The figures of a report that can be held against another report's: what they are called, their unit, what they need.

A figure of two reports is compared only where everything that it depends on is the same in both: its `conditions`,
and the machine where it was timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from scipy import stats

from ttsopt_lib.report.estimates import Estimate, estimate
from ttsopt_lib.report.numbers import (
    CENTS,
    CHANGE,
    COSINE,
    DECIBELS,
    FILE_SIZE,
    JOULES,
    MEMORY,
    MILLISECONDS,
    MS_PER_SECOND,
    PERCENT,
    SCORE,
    Unit,
    counted,
)
from ttsopt_lib.report.schema import DeviceSummary, PeerSummary, QualitySummary, Summary, TimingSummary, WerSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

Condition = tuple[str, object]  # the words for "it is not the same", and what must be the same
Group = Literal["Size and speed", "Memory, start and energy", "Quality", "Beside the original", "Peers"]


class Key(NamedTuple):
    """What makes two figures of two reports the same one."""

    group: Group
    what: str
    name: str  # of a variant or peer
    place: tuple[str, str, str, int] | None = None  # device, runtime, mode and threads, where it was timed


class Figure(NamedTuple):
    """One figure of one report. `conditions`: what must be the same in both."""

    subject: str
    unit: Unit
    estimate: Estimate
    more_is_better: bool
    conditions: tuple[Condition, ...] = ()
    device: DeviceSummary | None = None
    exact: bool = False  # counted, not measured


Figures = Iterator[tuple[Key, Figure]]


def figures(summary: Summary) -> dict[Key, Figure]:
    """Every figure of a report that another report may have too. What was not measured is not in it."""
    found = dict(_variants(summary))
    for peer in summary.peers:
        found |= {key._replace(group="Peers", name=peer.name): figure for key, figure in _peer(summary, peer)}
    return found


def _variants(summary: Summary) -> Figures:
    for variant in summary.variants:
        yield _size(variant.name, variant.size_bytes)
    for device in summary.measured_devices:
        for row in device.rows:
            yield from _timing(device, row)
    yield from _quality(summary, summary.quality)


def _peer(summary: Summary, peer: PeerSummary) -> Figures:
    if peer.size_bytes is not None:
        yield _size(peer.name, peer.size_bytes)
    for device in summary.measured_devices:
        if row := peer.timing_on(device.device):
            yield from _timing(device, row)
    yield from _quality(summary, peer.quality)


def _size(name: str, size_bytes: int) -> tuple[Key, Figure]:
    figure = Figure(name, FILE_SIZE, Estimate(value=size_bytes, ci=None), more_is_better=False, exact=True)
    return Key("Size and speed", "size", name), figure


# --- timings ------------------------------------------------------------------------------------------------------


def _timing(device: DeviceSummary, row: TimingSummary) -> Figures:
    place = (device.device, row.runtime, row.mode, row.threads)
    subject = f"{row.variant}, {device.label}, {_runtime_words(row, device)}, {counted(row.threads, 'thread')}"

    def one(
        group: Group, what: str, unit: Unit, value: Estimate | None, more: bool = False, *needed: Condition
    ) -> Figures:
        if value is not None:
            yield Key(group, what, row.variant, place), Figure(subject, unit, value, more, needed, device)

    speed: Group = "Size and speed"
    rest: Group = "Memory, start and energy"
    scales = ("another noise or speaking rate", device.scales)
    spoken = ("other timing sentences", device.sentences_sha256), scales
    rtf = Estimate(value=row.rtf, ci=row.rtf_ci)
    yield from one(speed, "time per second of audio", MS_PER_SECOND, rtf, False, *spoken)
    if row.variant == ORIGINAL_COPY:  # timed again to see what chance does to a time: nothing else of it is of use
        return
    baseline = row.variant == ORIGINAL
    energy = ("another energy counter", device.energy_source), *spoken
    yield from one(speed, "latency reduction", PERCENT, None if baseline else row.latency_reduction, True, *spoken)
    yield from one(
        speed, "time to first audio", MILLISECONDS, row.first_audio_ms and row.first_audio_ms.estimate, False,
        ("another first sentence", device.first_audio_sentence), scales,
    )  # fmt: skip
    yield from one(rest, "peak memory", MEMORY, estimate(row.peak_memory_mb), False, *spoken)
    yield from one(rest, "peak GPU memory", MEMORY, estimate(row.device_memory_mb), False, *spoken)
    yield from one(rest, "load time", MILLISECONDS, estimate(row.load_ms))
    yield from one(rest, "energy per second of audio", JOULES, row.energy_j_per_audio_second, False, *energy)
    yield from one(rest, "energy reduction", PERCENT, None if baseline else row.energy_reduction, True, *energy)


def _runtime_words(row: TimingSummary, device: DeviceSummary) -> str:
    """'onnxruntime', 'pytorch fp16': the mode is said where a runtime has several."""
    several = len({one.mode for one in device.rows if one.runtime == row.runtime}) > 1
    return f"{row.runtime} {row.mode}" if several or row.mode != "fp32" else row.runtime


# --- quality ------------------------------------------------------------------------------------------------------


def _quality(summary: Summary, rows: list[QualitySummary]) -> Figures:
    """Scores by every predictor; what does not depend on a predictor from the rows of the primary one."""
    primary = summary.primary_predictor or next(iter(summary.predictors), None)
    for predictor in summary.predictors:
        weights = ("another version of the predictor", predictor.weights_sha256)
        for row in rows:
            if row.predictor != predictor.name:
                continue
            mos, conditions = row.predicted_mos, (weights, _sentences(row))
            value, change = Estimate(value=mos.value, ci=mos.ci), None if row.variant == ORIGINAL else _at_95(row)
            yield from _scored(row, "Quality", f"predicted MOS ({predictor.label})", SCORE, value, True, *conditions)
            what = f"predicted MOS change ({predictor.label})"
            yield from _scored(row, "Quality", what, CHANGE, change, True, *conditions)
    for row in rows:
        if primary and row.predictor == primary.name:
            yield from _heard(summary, row)
            yield from _beside(summary, row)


def _heard(summary: Summary, row: QualitySummary) -> Figures:
    """By listeners and by a recognizer. Error rates are the voice's own, not their changes against the original."""
    if human := row.human_mos:
        value = Estimate(value=human.value, ci=human.ci)
        yield from _scored(row, "Quality", "MOS (listeners)", SCORE, value, True)
    conditions = (("another recognizer", summary.asr), _sentences(row, summary.wer_sentences))
    words, characters = _error_rate(row.wer, row.wer_figures), _error_rate(row.cer, row.cer_figures)
    yield from _scored(row, "Quality", "word error rate", PERCENT, words, False, *conditions)
    yield from _scored(row, "Quality", "character error rate", PERCENT, characters, False, *conditions)
    if row.variant != ORIGINAL:  # that one has none, by definition
        for what, found in (("word", row.relative_wer), ("character", row.relative_cer)):
            value = _error_rate(None, found)
            yield from _scored(row, "Quality", f"relative {what} error rate", PERCENT, value, False, *conditions)


def _beside(summary: Summary, row: QualitySummary) -> Figures:
    """Distances from the original, at its noise and durations."""
    paired = row.paired
    if paired is None:
        return
    encoder = ("another speaker encoder", summary.speaker_encoder)
    near, far = paired.log_spectral_distance_db, paired.log_spectral_distance_above_8khz_db
    for what, unit, value, more, conditions in (
        ("speaker similarity", COSINE, paired.speaker_similarity, True, [encoder]),
        ("log-spectral distance", DECIBELS, near, False, []),
        ("log-spectral distance above 8 kHz", DECIBELS, far, False, []),
        ("F0 error", CENTS, paired.f0_error_cents, False, []),
        ("voicing disagreement", PERCENT, paired.voicing_disagreement, False, []),
    ):
        conditions = [*conditions, _sentences(row, summary.paired_sentences)]
        yield from _scored(row, "Beside the original", what, unit, _wide(value), more, *conditions)


def _scored(
    row: QualitySummary, group: Group, what: str, unit: Unit, value: Estimate | None, more: bool, *needed: Condition
) -> Figures:
    if value is not None:
        yield Key(group, what, row.variant), Figure(row.variant, unit, value, more, needed)


def _sentences(row: QualitySummary, most: int | None = None) -> Condition:
    """On how many sentences the row's figure stands: all that it was scored on, or the first of them."""
    return "another number of sentences", row.sentences if most is None else min(row.sentences, most)


def _at_95(row: QualitySummary) -> Estimate | None:
    """The change of the predicted MOS with a 95 % interval, also where the first sentences decided by a wider one."""
    change, level = row.predicted_mos.change, row.predicted_mos.level
    if change is None or change.ci is None or level == 0.95:
        return change
    usual, wide = stats.t.ppf([0.975, (1 + level) / 2], row.sentences - 1)
    low, high = (change.value + (end - change.value) * float(usual / wide) for end in change.ci)
    return Estimate(value=change.value, ci=(low, high))


def _error_rate(value: float | None, found: WerSummary | None) -> Estimate | None:
    """The rate, without an interval where it was not counted sentence by sentence."""
    return _wide(Estimate(value=found.value, ci=found.ci)) if found else estimate(value)


def _wide(figure: Estimate | None) -> Estimate | None:
    """A bootstrap's figure. An older report has an interval without width where all sentences say the same.

    That is no certainty, so it counts as no interval.
    """
    if figure is None or figure.ci is None or figure.ci[0] < figure.ci[1]:
        return figure
    return Estimate(value=figure.value, ci=None)
