"""From raw scores to what they say beside the original: paired figures, tests of change and of equivalence.

Tests are corrected for the number of variants (Holm), predictor by predictor; the anchors, which ask another question,
among themselves. A variant that is an anchor as well is judged in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ttsopt_lib.evaluate import intelligibility
from ttsopt_lib.records.quality import QualityRecord, QualityRow
from ttsopt_lib.report.facts.confirmation import held_out, original_beside, references
from ttsopt_lib.report.schema import Estimate, Finding, PairedSummary, QualitySummary, WerSummary
from ttsopt_lib.statistics.significance import (
    ALPHA,
    ErrorRateChange,
    bootstrap_mean,
    change_p,
    equivalence_p,
    error_rate,
    error_rate_change,
    holm,
)
from ttsopt_lib.study import ORIGINAL


def paired_summary(row: QualityRow, original: QualityRow) -> PairedSummary | None:
    """A row's figures beside the original; None for the original, and for a record without them."""
    scores = row.paired
    if scores is None:
        return None
    lengths = zip(row.audio_seconds, original.audio_seconds, strict=True)
    figures = scores.model_dump()
    return PairedSummary(
        sentences={name: sum(value is not None for value in values) for name, values in figures.items()},
        speaker_similarity=_mean(scores.speaker_similarity),
        log_spectral_distance_db=_mean(scores.log_spectral_distance_db),
        log_spectral_distance_above_8khz_db=_mean(scores.log_spectral_distance_above_8khz_db),
        f0_error_cents=_mean(scores.f0_error_cents),
        voicing_disagreement=_mean(scores.voicing_disagreement),
        duration_change=_mean([seconds / before - 1 for seconds, before in lengths]),
    )


def _mean(values: Sequence[float | None]) -> Estimate | None:
    found = bootstrap_mean([value for value in values if value is not None])
    return Estimate(**found._asdict()) if found else None


class Errors(NamedTuple):
    """Errors in each transcribed sentence, and the words or characters that were spoken there."""

    counts: Sequence[int]
    spoken: Sequence[int]


Counting = Callable[[QualityRow, QualityRecord], Errors | None]


def word_errors(row: QualityRow, record: QualityRecord) -> Errors | None:
    """None where they were not kept sentence by sentence."""
    if not row.word_errors or len(row.word_errors) > len(record.words):
        return None
    return Errors(row.word_errors, record.words[: len(row.word_errors)])


def character_errors(row: QualityRow, record: QualityRecord) -> Errors | None:
    """None where nothing was transcribed."""
    if not row.hypotheses:
        return None
    language, expected = record.asr_language, references(row, record)
    heard = zip(expected, row.hypotheses, strict=False)
    counts = [intelligibility.character_errors(*pair, language) for pair in heard]
    return Errors(counts, [intelligibility.spoken_characters(text, language) for text in expected])


def rate_summary(count: Counting, row: QualityRow, original: QualityRow, record: QualityRecord) -> WerSummary | None:
    """A row's error rate and its change; None where fewer than two sentences were counted one by one."""
    errors = count(row, record)
    rate = error_rate(*errors) if errors else None
    if errors is None or rate is None:
        return None
    change = None
    if row.variant == ORIGINAL and record.asr_against == "text":
        change = Estimate(value=0.0, ci=(0.0, 0.0))
    elif found := _rate_change(count, row, original, record):
        change = Estimate(value=found.value, ci=found.ci)
    asked = max((len(one.word_errors or one.hypotheses or ()) for one in record.rows), default=0)
    heard = len(errors.counts)
    return WerSummary(value=rate.value, ci=rate.ci, change=change, sentences=heard, fewer=heard < asked)


def _rate_change(
    count: Counting, row: QualityRow, original: QualityRow, record: QualityRecord
) -> ErrorRateChange | None:
    """None where there is nothing to compare with."""
    compared = original
    if record.asr_against == "original":  # that one has no errors by definition
        if record.other_noise is None or row.variant in (ORIGINAL, record.other_noise.variant):
            return None
        compared = record.other_noise
    errors, baseline = count(row, record), count(compared, record)
    if not errors or not baseline or len(errors.counts) > len(baseline.counts):
        return None
    return error_rate_change(errors.counts, baseline.counts[: len(errors.counts)], errors.spoken)


def with_tests(rows: list[QualitySummary], record: QualityRecord, margin: float) -> list[QualitySummary]:
    """The same rows with every p-value and finding: one family of tests for each predictor and each error rate.

    Args:
        rows: of `scored`, without tests.
        record: what they are made of.
        margin: change of predicted MOS, points, within which a voice is equivalent.
    """
    names = {row.variant for row in rows}
    besides = [record.other_noise] if record.other_noise else []
    raw = [row for row in (*record.rows, *record.anchors, *besides) if row.variant in names]
    for predictor in record.predictors:
        _judge_scores([row for row in rows if row.predictor == predictor.name], raw, record, margin)
    words = [(row.variant, row.wer_figures or row.relative_wer) for row in rows]
    _judge_errors(word_errors, words, raw, record)
    characters = [(row.variant, row.cer_figures or row.relative_cer) for row in rows]
    _judge_errors(character_errors, characters, raw, record)
    return rows


def _judge_scores(rows: list[QualitySummary], raw: list[QualityRow], record: QualityRecord, margin: float) -> None:
    """One predictor's tests on a family of rows."""
    by_name = {row.variant: row for row in raw}
    tested, changes, equivalences = [], [], []
    for row in rows:
        if row.variant == ORIGINAL:
            continue
        scored = by_name[row.variant]
        baseline = original_beside(scored, record).scores[row.predictor]
        pairs = zip(scored.scores[row.predictor], baseline, strict=True)
        differences = [score - before for score, before in pairs]
        change, equivalence = change_p(differences), equivalence_p(differences, margin)
        kept = zip(*held_out(record, scored, row.predictor), strict=True)
        row.predicted_mos.equivalence_p_held_out = equivalence_p([score - before for score, before in kept], margin)
        if change is not None and equivalence is not None:
            tested.append(row)
            changes.append(change)
            equivalences.append(equivalence)
    for row, change, equivalence in zip(tested, holm(changes), holm(equivalences), strict=True):
        mos = row.predicted_mos
        mos.change_p, mos.equivalence_p = change, equivalence
        mos.finding = _finding(change, mos.change.value if mos.change else 0.0)


def _judge_errors(
    count: Counting, rows: list[tuple[str, WerSummary | None]], raw: list[QualityRow], record: QualityRecord
) -> None:
    """The tests of the error rates of a family of rows; the same for every predictor's row."""
    found = {
        row.variant: change
        for row in raw
        if row.variant != ORIGINAL and (change := _rate_change(count, row, original_beside(row, record), record))
    }
    corrected = dict(zip(found, holm([change.p for change in found.values()]), strict=True))
    for variant, figures in rows:
        if figures and variant in corrected:
            figures.change_p = corrected[variant]
            figures.finding = _finding(corrected[variant], -found[variant].value)


def _finding(p: float, gain: float) -> Finding:
    if p >= ALPHA:
        return "no_difference"
    return "better" if gain > 0 else "worse"
