"""Tables of what a variant does beside the original: paired figures, tests, and what further sentences confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ttsopt_lib.records import QualityRecord
from ttsopt_lib.report import numbers
from ttsopt_lib.report.columns import BASELINE, NONE, change_cell, given, name_of
from ttsopt_lib.report.frames import estimate, quality
from ttsopt_lib.report.html import Column, escape
from ttsopt_lib.report.quality_words import mos_finding, p_words, wer_finding
from ttsopt_lib.report.schema import PredictorSummary, QualitySummary, Summary
from ttsopt_lib.report.summary import confirmed, known_damage
from ttsopt_lib.study import ORIGINAL, Study

PAIRED = (
    "speaker_similarity",
    "log_spectral_distance_db",
    "log_spectral_distance_above_8khz_db",
    "f0_error_cents",
    "voicing_disagreement",
    "duration_change",
)
GROUPS = ("What “the same” means", "Variants", "Anchors: known-bad conditions")


def quality_tables(summary: Summary) -> dict[str, pd.DataFrame]:
    """The tables by the name of their CSV file."""
    return {
        "compared": compared(summary),
        "quality_tests": tests(summary),
        "confirmation": confirmation(summary.confirmation),
    }


def anchors(study: Study, record: QualityRecord) -> pd.DataFrame:
    """The scores of the anchors from one step's records alone, naive static int8 among them; columns of ``quality``."""
    return quality(known_damage(study, record))


def confirmation(scored: list[QualitySummary]) -> pd.DataFrame:
    """One row per voice that spoke the further sentences, with a column of change for each predictor."""
    rows: dict[str, dict[str, Any]] = {}
    for row in scored:
        wer, paired = row.wer_figures, row.paired
        common = {
            "variant": row.variant,
            "sentences": row.sentences,
            "wer": row.wer,
            **estimate("wer_change", wer.change if wer else None),
            **estimate("speaker_similarity", paired.speaker_similarity if paired else None),
            **estimate("f0_error_cents", paired.f0_error_cents if paired else None),
            **estimate("level_above_8khz_change_db", row.level_above_8khz_change_db),
        }
        found = rows.setdefault(row.variant, common)
        found |= estimate(f"change_{row.predictor}", row.predicted_mos.change)
    named = ["wer_change", "speaker_similarity", "f0_error_cents", "level_above_8khz_change_db"]
    named += [f"change_{name}" for name in dict.fromkeys(row.predictor for row in scored)]
    ends = [f"{name}{end}" for name in named for end in ("", "_low", "_high")]
    return pd.DataFrame(list(rows.values()), columns=pd.Index(["variant", "sentences", "wer", *ends]))


def confirmation_columns(predictors: Sequence[PredictorSummary]) -> list[Column]:
    def change_by(name: str) -> Callable[[Any], str]:
        return lambda row: change_cell(row, f"change_{name}")

    def wer(row: Any) -> str:
        return f'<span class="figure">{numbers.percent(row.wer, 1)}</span>' if given(row.wer) else NONE

    return [
        Column("Voice", name_of),
        *(Column(f"Change, {one.label}", change_by(one.name), True) for one in predictors),
        Column("WER", wer, True),
        Column("WER change, points", wer_change_cell, True),
        _figure("Speaker similarity", "speaker_similarity", lambda value: numbers.number(value, 3)),
        _figure("F0 error, cents", "f0_error_cents", lambda value: numbers.number(value, 1)),
        Column("Level above 8 kHz, dB", lambda row: change_cell(row, "level_above_8khz_change_db", 1), True),
    ]


def confirmed_voices(record: QualityRecord) -> pd.DataFrame | str:
    """The further sentences from one step's records alone; why there are none, where no variant spoke any."""
    if not record.confirmation:
        return "no variant is confirmed on further sentences (evaluate.confirmed)"
    return confirmation(confirmed(record))


def _groups(summary: Summary) -> list[tuple[str, list[QualitySummary]]]:
    """The rows of these tables; a variant that is an anchor as well stands among the variants only."""
    variants = {row.variant for row in summary.quality}
    anchors = [row for row in summary.anchors if row.variant not in variants]
    return list(zip(GROUPS, (summary.other_noise, summary.quality, anchors), strict=True))


def compared(summary: Summary) -> pd.DataFrame:
    """One row per voice: speaker, spectrum, F0 and duration beside the original's."""
    rows = []
    for group, found in _groups(summary):
        known = {row.variant: row.paired for row in found if row.paired}
        for name, paired in known.items():
            figures = {key: value for field in PAIRED for key, value in estimate(field, getattr(paired, field)).items()}
            rows.append({"group": group, "variant": name, **figures})
    ends = [f"{name}{end}" for name in PAIRED for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=pd.Index(["group", "variant", *ends]))


def compared_columns() -> list[Column]:
    return [
        Column("Voice", name_of),
        _figure("Speaker similarity", "speaker_similarity", lambda value: numbers.number(value, 3)),
        _figure("Spectral distance, dB", "log_spectral_distance_db", lambda value: numbers.number(value, 1)),
        _figure("above 8 kHz, dB", "log_spectral_distance_above_8khz_db", lambda value: numbers.number(value, 1)),
        _figure("F0 error, cents", "f0_error_cents", lambda value: numbers.number(value, 1)),
        _figure("Voicing differs, %", "voicing_disagreement", lambda value: numbers.number(100 * value, 1)),
        _figure("Duration, %", "duration_change", lambda value: numbers.signed(100 * value, 1)),
    ]


def _figure(heading: str, field: str, words: Callable[[float], str]) -> Column:
    def cell(row: Any) -> str:
        value, low, high = (getattr(row, f"{field}{end}") for end in ("", "_low", "_high"))
        if not given(value):
            return BASELINE if row.variant == ORIGINAL else NONE
        interval = f' <span class="interval">[{words(low)}, {words(high)}]</span>' if given(low) else ""
        return f'<span class="figure">{words(value)}</span>{interval}'

    return Column(heading, cell, True)


def tests(summary: Summary) -> pd.DataFrame:
    """One row per voice and predictor: is there a change, and is it shown to be small?"""
    margin = abs(summary.targets.predicted_mos_change)
    rows = []
    for group, found in _groups(summary):
        for row in found:
            if row.variant == ORIGINAL:
                continue
            mos, wer, cer = row.predicted_mos, row.wer_figures, row.cer_figures
            rows.append(
                {
                    "group": group,
                    "variant": row.variant,
                    "predictor": row.predictor,
                    **estimate("change", mos.change),
                    "change_p": mos.change_p,
                    "equivalence_p": mos.equivalence_p,
                    "finding": mos_finding(mos, margin),
                    "wer": wer.value if wer else None,
                    **estimate("wer_change", wer.change if wer else None),
                    "wer_change_p": wer.change_p if wer else None,
                    "wer_finding": wer_finding(wer) if wer else "not measured",
                    "cer": cer.value if cer else None,
                    **estimate("cer_change", cer.change if cer else None),
                    "cer_change_p": cer.change_p if cer else None,
                    "cer_finding": wer_finding(cer) if cer else "not measured",
                }
            )
    columns = (
        "group variant predictor change change_low change_high change_p equivalence_p finding wer wer_change "
        "wer_change_low wer_change_high wer_change_p wer_finding cer cer_change cer_change_low cer_change_high "
        "cer_change_p cer_finding"
    )
    return pd.DataFrame(rows, columns=pd.Index(columns.split()))


def wer_change_cell(row: Any) -> str:
    """'+0.9 [−0.8, +2.6]', in points of a per cent."""
    value, low, high = row.wer_change, row.wer_change_low, row.wer_change_high
    if not given(value):
        return NONE
    if row.variant == ORIGINAL:
        return BASELINE
    ends = f"[{numbers.signed(100 * low, 1)}, {numbers.signed(100 * high, 1)}]" if given(low) else ""
    return f'<span class="figure">{numbers.signed(100 * value, 1)}</span> <span class="interval">{ends}</span>'


def columns_of_tests() -> list[Column]:
    def p_cell(value: Any) -> str:
        return f'<span class="figure">{p_words(value)}</span>' if given(value) else NONE

    return [
        Column("Voice", name_of),
        Column("Predicted MOS change", lambda row: change_cell(row, "change"), True),
        Column("p, no change", lambda row: p_cell(row.change_p), True),
        Column("p, beyond the margin", lambda row: p_cell(row.equivalence_p), True),
        Column("Finding", lambda row: escape(row.finding)),
        Column("WER change, points", wer_change_cell, True),
        Column("p, no change", lambda row: p_cell(row.wer_change_p), True),
        Column("Finding", lambda row: escape(row.wer_finding)),
    ]
