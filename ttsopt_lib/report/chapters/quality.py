"""Quality: predicted MOS by each predictor, what the tests say, and figures beside the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report import numbers, quality_words
from ttsopt_lib.report.html import bullets, not_printed, note, paragraphs
from ttsopt_lib.report.numbers import CENTS, CHANGE, COSINE, DECIBELS, LEVEL_CHANGE, PERCENT, RATE_CHANGE, SCORE, Unit
from ttsopt_lib.report.printing.table import (
    BASELINE,
    NONE,
    Column,
    Table,
    figure_cell,
    name_of,
    printed,
    row_of,
)
from ttsopt_lib.report.quality_words import mos_finding, p_words, wer_finding
from ttsopt_lib.report.schema import PredictorSummary, QualitySummary, Summary, estimate
from ttsopt_lib.study import ORIGINAL
from ttsopt_lib.voices.text import missing_words

LONG = 10  # variants in a table of which there is one for each predictor
GROUPS = ("What “the same” means", "Variants", "Anchors: known-bad conditions")


# --- scores -----------------------------------------------------------------------------------------------------


def quality(scored: Sequence[Any], name: str = "quality") -> Table:
    """Predicted MOS of every variant (or anchor) by every predictor, and what was heard besides."""
    change = "predicted_mos.change"
    return Table(
        name,
        "Predicted MOS",
        [
            Column("variant", "Variant", cell=name_of),
            Column("predictor"),
            Column("sentences"),
            Column("predicted_mos", "Predicted MOS", SCORE, interval=True),
            Column("change", "Change, evaluation", CHANGE, change, cell=_evaluation, interval=True),
            Column("change_held_out", "Change, held out", CHANGE, f"{change}_held_out", cell=_held_out, interval=True),
            Column("sentences_held_out", of="predicted_mos.sentences_held_out"),
            Column("change_level", of="predicted_mos.level"),
            Column("wer", "WER / CER", PERCENT, _wer, cell=_error_rates, interval=True),
            Column("cer", of=lambda row: estimate(row.cer, row.cer_figures and row.cer_figures.ci), interval=True),
            Column("level_above_8khz_db", of="level_above_8khz_db.value"),
            Column("level_above_8khz_change_db", "Level above 8 kHz, dB", LEVEL_CHANGE.bare, interval=True),
        ],
        scored,
        missing="No variant has a score by this predictor.",
        kind="dense",
    )


def _evaluation(row: Any) -> str:
    """The change on the evaluation sentences; with their number where the first ones decided."""
    cell = printed(row.predicted_mos.change, CHANGE, row.variant)
    return cell if row.predicted_mos.level == 0.95 else cell + _count(numbers.number(row.sentences))


def _held_out(row: Any) -> str:
    """The change on the sentences that did not choose; with their number where they are not the odd-numbered ones."""
    count = row.predicted_mos.sentences_held_out
    cell = printed(row.predicted_mos.change_held_out, CHANGE, row.variant)
    return cell + _count(count) if row.variant != ORIGINAL and count != row.sentences // 2 else cell


def _count(sentences: Any) -> str:
    return f' <span class="interval">n = {sentences}</span>'


def _wer(row: Any):
    return estimate(row.wer, row.wer_figures and row.wer_figures.ci)


def _error_rates(row: Any) -> str:
    """'7.7 % [4.5, 12.1] / 3.0 %': of words, with the interval, and of characters, whose interval is in the CSV."""
    if row.wer is None:
        return NONE
    interval = PERCENT.interval(row.wer_figures and row.wer_figures.ci)
    characters = f" / {PERCENT.value(row.cer)}" if row.cer is not None else ""
    # a narrow cell breaks before the interval and nowhere else
    rest = f'<span class="figure-text"><span class="interval">{interval}</span>{characters}</span>'
    return f"{figure_cell(PERCENT.value(row.wer))} {rest}"


# --- beside the original ----------------------------------------------------------------------------------------


def _rows(summary: Summary) -> list[Any]:
    """The rows of these tables; a variant that is an anchor as well stands among the variants only."""
    variants = {row.variant for row in summary.quality}
    anchors = [row for row in summary.anchors if row.variant not in variants]
    groups = zip(GROUPS, (summary.other_noise, summary.quality, anchors), strict=True)
    return [row_of(row, group=group) for group, rows in groups for row in rows]


def _paired(field: str, heading: str, unit: Unit) -> Column:
    """A figure of a voice beside the original, which has none itself."""

    def cell(row: Any) -> str:
        value = row.paired and getattr(row.paired, field)
        return BASELINE if value is None and row.variant == ORIGINAL else printed(value, unit)

    return Column(field, heading, unit, f"paired.{field}", cell, interval=True)


SPEAKER = _paired("speaker_similarity", "Speaker similarity", COSINE)
PITCH = _paired("f0_error_cents", "F0 error, cents", CENTS.bare)


def compared(summary: Summary) -> Table:
    """One row per voice: speaker, spectrum, F0 and duration beside the original's."""
    decibels = DECIBELS._replace(name="", digits=1)
    return Table(
        "compared",
        f"Beside the original: {summary.paired_sentences or 'no'} sentences with the same noise and durations",
        [
            Column("group"),
            Column("variant", "Voice", cell=name_of),
            SPEAKER,
            _paired("log_spectral_distance_db", "Spectral distance, dB", decibels),
            _paired("log_spectral_distance_above_8khz_db", "above 8 kHz, dB", decibels),
            PITCH,
            _paired("voicing_disagreement", "Voicing differs, %", PERCENT.bare),
            _paired("duration_change", "Duration, %", PERCENT._replace(name="", signed=True)),
        ],
        list({(row.group, row.variant): row for row in _rows(summary) if row.paired}.values()),
        missing="Speaker, spectrum and F0 were not compared: run 'ttsopt evaluate' again.",
        kind="dense",
        group=lambda row: row.group,
    )


def tests(summary: Summary) -> Table:
    """One row per voice and predictor: is there a change, and is it shown to be small?"""
    margin = abs(summary.targets.predicted_mos_change)

    def p_value(field: str, heading: str = "", of: str = "") -> Column:
        def cell(row: Any) -> str:
            p = column.value(row)
            return NONE if p is None else figure_cell(p_words(p))

        column = Column(field, heading, SCORE, of, cell)
        return column

    def finding(of: str) -> Callable[[Any], str]:
        return lambda row: wer_finding(figures) if (figures := getattr(row, of)) else "not measured"

    return Table(
        "quality_tests",
        "Is there a change, and is it shown to be small?",
        [
            Column("group"),
            Column("variant", "Voice", cell=name_of),
            Column("predictor"),
            Column("change", "Predicted MOS change", CHANGE, "predicted_mos.change", interval=True),
            p_value("change_p", "p, no change", "predicted_mos.change_p"),
            p_value("equivalence_p", "p, beyond the margin", "predicted_mos.equivalence_p"),
            Column("finding", "Finding", of=lambda row: mos_finding(row.predicted_mos, margin)),
            Column("wer", of="wer_figures.value"),
            WER_CHANGE,
            p_value("wer_change_p", "p, no change", "wer_figures.change_p"),
            Column("wer_finding", "Finding", of=finding("wer_figures")),
            Column("cer", of="cer_figures.value"),
            Column("cer_change", of="cer_figures.change", interval=True),
            Column("cer_change_p", of="cer_figures.change_p"),
            Column("cer_finding", of=finding("cer_figures")),
        ],
        [row for row in _rows(summary) if row.variant != ORIGINAL],
        missing="Nothing could be tested.",
        kind="dense",
        group=lambda row: row.group,
    )


WER_CHANGE = Column("wer_change", "WER change, points", RATE_CHANGE, "wer_figures.change", interval=True)


def confirmation(scored: Sequence[QualitySummary], predictors: Sequence[PredictorSummary] = ()) -> Table:
    """One row per voice that spoke the further sentences, with a column of change for each predictor."""
    rows: dict[str, SimpleNamespace] = {}
    for row in scored:
        rows.setdefault(row.variant, row_of(row, changes={})).changes[row.predictor] = row.predicted_mos.change

    def change_by(name: str) -> Callable[[Any], Any]:
        return lambda row: row.changes.get(name)

    return Table(
        "confirmation",
        "Heard on further sentences, on which nothing was chosen",
        [
            Column("variant", "Voice", cell=name_of),
            *(Column("", f"Change, {one.label}", CHANGE, change_by(one.name)) for one in predictors),
            Column("sentences"),
            Column("wer", "WER", PERCENT),
            WER_CHANGE,
            SPEAKER,
            PITCH,
            Column("level_above_8khz_change_db", "Level above 8 kHz, dB", LEVEL_CHANGE.bare, interval=True),
            *(
                Column(f"change_{name}", of=change_by(name), interval=True)
                for name in dict.fromkeys(row.predictor for row in scored)
            ),
        ],
        list(rows.values()),
        kind="dense",
    )


# --- the section ------------------------------------------------------------------------------------------------


def section(summary: Summary) -> list[str]:
    """Everything below the picture, in the order in which it is read."""
    words = (quality_words.decided(summary), quality_words.trusted(summary), quality_words.unavailable(summary))
    return [
        note("Not to be trusted", quality_words.distrusted(summary), "warning"),
        note("Not spoken", missing_words(summary.missing_symbols, summary.texts), "warning"),
        *_all_scores(summary),
        *_confirmed(summary),
        bullets([sentence for part in words for sentence in part]),
        *(_tests(summary, predictor) for predictor in summary.predictors if predictor.primary),
        paragraphs([_how_tested(summary)], "small"),
        compared(summary).html,
        bullets([*quality_words.what_same_means(summary), *quality_words.worse_than_noise(summary)]),
        paragraphs([_recognizer(summary), *_encoder(summary)], "small"),
    ]


def _all_scores(summary: Summary) -> list[str]:
    """A table for each predictor, the primary one first; where they are long, paper has that alone."""
    parts = [_scores(summary, one) for one in sorted(summary.predictors, key=lambda one: not one.primary)]
    if len(summary.quality) <= LONG * len(parts):
        return parts
    others = ", ".join(one.label for one in summary.predictors if not one.primary)
    return [parts[0], *not_printed(parts[1:], f"Predicted MOS by {others}: `report.html` and `tables/quality.csv`.")]


def _scores(summary: Summary, predictor: PredictorSummary) -> str:
    role = "primary" if predictor.primary else "for comparison"
    rows = [
        row_of(row, group=group)
        for group, scored in zip(GROUPS[1:], (summary.quality, summary.anchors), strict=True)
        for row in scored
        if row.predictor == predictor.name
    ]
    table = replace(
        quality(rows),
        caption=f"Predicted MOS by {predictor.label} ({role}), {summary.evaluation_sentences} sentences",
        part=predictor.name,
        group=lambda row: row.group,
    )
    return table.html


def _is_confirmed(summary: Summary) -> bool:
    """Whether a variant spoke the further sentences: an evaluation that was cut off may have the original's alone."""
    return any(row.variant != ORIGINAL for row in summary.confirmation)


def _confirmed(summary: Summary) -> list[str]:
    """The sentences that only the original and some variants spoke; nothing where no variant did."""
    if not _is_confirmed(summary):
        return []
    caption = f"Heard on {summary.confirmation_sentences} further sentences, on which nothing was chosen"
    return [replace(confirmation(summary.confirmation, summary.predictors), caption=caption).html]


def _tests(summary: Summary, predictor: PredictorSummary) -> str:
    """The primary predictor's; the others' are in tables/quality_tests.csv."""
    table = tests(summary)
    table = replace(
        table,
        caption=f"{table.caption} ({predictor.label}; word errors)",
        rows=[row for row in table.rows if row.predictor == predictor.name],
    )
    return table.html


def _how_tested(summary: Summary) -> str:
    margin = numbers.number(abs(summary.targets.predicted_mos_change), 2)
    return (
        "p, no change: the probability of a change as large as this if there were none. p, beyond the margin: two "
        f"one-sided tests (TOST); below 0.05 the change of predicted MOS is shown to be smaller than {margin}, either "
        "way. Both corrected for the number of variants (Holm). “No measurable difference” alone is no proof that "
        "there is none."
    )


def _recognizer(summary: Summary) -> str:
    if summary.asr:
        heard = f"the first {summary.wer_sentences} evaluation sentences"
        if _is_confirmed(summary):
            heard += f" and on all {summary.confirmation_sentences} further sentences"
        return (
            f"WER: word error rate of {summary.asr} on {heard}; CER: of "
            "characters, spaces among them (changes and tests: `tables/quality_tests.csv`)."
        )
    return f"Word error rate was not measured: {summary.asr_reason}."


def _encoder(summary: Summary) -> list[str]:
    if not summary.speaker_encoder:
        return []
    return [
        f"Speaker similarity: cosine of the speaker vectors of {summary.speaker_encoder}. F0 error: median over frames "
        "voiced in both, 100 cents are a semitone. Spectral distance counts every difference, heard or not. Duration: "
        "of the variant's own. Intervals: bootstrap over sentences."
    ]
