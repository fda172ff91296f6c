"""From raw scores to what they say beside the original: paired figures, tests of change and of equivalence.

Tests are corrected for the number of variants (Holm), predictor by predictor; the anchors, which ask another question,
among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from ttsopt_lib.evaluate.crossed import holm
from ttsopt_lib.evaluate.significance import (
    ALPHA,
    ErrorRateChange,
    bootstrap_mean,
    change_p,
    equivalence_p,
    error_rate,
    error_rate_change,
)
from ttsopt_lib.records import QualityRecord, QualityRow
from ttsopt_lib.report.schema import Estimate, Finding, PairedSummary, QualitySummary, Summary, WerSummary
from ttsopt_lib.study import ORIGINAL


def paired_summary(row: QualityRow, original: QualityRow) -> PairedSummary | None:
    """A row's figures beside the original; None for the original, and for a record without them."""
    scores = row.paired
    if scores is None:
        return None
    lengths = zip(row.audio_seconds, original.audio_seconds, strict=True)
    return PairedSummary(
        speaker_similarity=_mean(scores.speaker_similarity),
        log_spectral_distance_db=_mean(scores.log_spectral_distance_db),
        log_spectral_distance_above_8khz_db=_mean(scores.log_spectral_distance_above_8khz_db),
        f0_error_cents=_mean(scores.f0_error_cents),
        voicing_disagreement=_mean(scores.voicing_disagreement),
        duration_change=_mean([seconds / before - 1 for seconds, before in lengths]),
    )


def _mean(values: Sequence[float | None]) -> Estimate | None:
    found = bootstrap_mean([value for value in values if value is not None])
    return Estimate(value=found.value, ci=found.ci) if found else None


def wer_summary(row: QualityRow, original: QualityRow, words: Sequence[int]) -> WerSummary | None:
    """A row's word error rate and its change; None where it was not measured sentence by sentence."""
    rate = error_rate(row.word_errors, words) if row.word_errors and len(row.word_errors) == len(words) else None
    if rate is None:
        return None
    change = None
    if row.variant == ORIGINAL:
        change = Estimate(value=0.0, ci=(0.0, 0.0))
    elif found := _wer_change(row, original, words):
        change = Estimate(value=found.value, ci=found.ci)
    return WerSummary(value=rate.value, ci=rate.ci, change=change)


def _wer_change(row: QualityRow, original: QualityRow, words: Sequence[int]) -> ErrorRateChange | None:
    if not row.word_errors or not original.word_errors:
        return None
    return error_rate_change(row.word_errors, original.word_errors, words)


def judge_changes(summary: Summary, record: QualityRecord) -> None:
    """Fill in every p-value and finding, and whether each predictor orders the anchors below the original."""
    margin = abs(summary.targets.predicted_mos_change)
    other = [record.other_noise] if record.other_noise else []
    for rows, raw in ((summary.quality, record.rows), (summary.anchors, record.anchors), (summary.other_noise, other)):
        for predictor in summary.predictors:
            _judge_scores([row for row in rows if row.predictor == predictor.name], raw, record, margin)
        _judge_words(rows, raw, record)
    for predictor in summary.predictors:
        anchors = [row for row in summary.anchors if row.predictor == predictor.name]
        predictor.missed_anchors = [row.variant for row in anchors if row.predicted_mos.finding != "worse"]
        predictor.orders_anchors = not predictor.missed_anchors if anchors else None


def _judge_scores(rows: list[QualitySummary], raw: list[QualityRow], record: QualityRecord, margin: float) -> None:
    """One predictor's tests on a family of rows."""
    by_name = {row.variant: row for row in raw}
    original = next(row for row in record.rows if row.variant == ORIGINAL)
    tested, changes, equivalences = [], [], []
    for row in rows:
        if row.variant == ORIGINAL:
            continue
        pairs = zip(by_name[row.variant].scores[row.predictor], original.scores[row.predictor], strict=True)
        differences = [score - before for score, before in pairs]
        change, equivalence = change_p(differences), equivalence_p(differences, margin)
        row.predicted_mos.equivalence_p_held_out = equivalence_p(differences[1::2], margin)
        if change is not None and equivalence is not None:
            tested.append(row)
            changes.append(change)
            equivalences.append(equivalence)
    for row, change, equivalence in zip(tested, holm(changes), holm(equivalences), strict=True):
        mos = row.predicted_mos
        mos.change_p, mos.equivalence_p = change, equivalence
        mos.finding = _finding(change, mos.change.value if mos.change else 0.0)


def _judge_words(rows: list[QualitySummary], raw: list[QualityRow], record: QualityRecord) -> None:
    """The tests of the word error rates of a family of rows; the same for every predictor's row."""
    original = next(row for row in record.rows if row.variant == ORIGINAL)
    found = {
        row.variant: change
        for row in raw
        if row.variant != ORIGINAL and (change := _wer_change(row, original, record.words))
    }
    corrected = dict(zip(found, holm([change.p for change in found.values()]), strict=True))
    for row in rows:
        if row.wer_figures and row.variant in corrected:
            row.wer_figures.change_p = corrected[row.variant]
            row.wer_figures.finding = _finding(corrected[row.variant], -found[row.variant].value)


def _finding(p: float, gain: float) -> Finding:
    if p >= ALPHA:
        return "no_difference"
    return "better" if gain > 0 else "worse"
