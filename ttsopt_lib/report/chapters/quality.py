"""Quality: predicted MOS by each predictor, what the tests say, and figures beside the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import quality_words
from ttsopt_lib.report.chapters.quality_words import mos_finding, p_words, rate_finding
from ttsopt_lib.report.error_rates import CHARACTERS, WORDS, Rates, figures_field, figures_of, rate_of, rates_of
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.numbers import CENTS, CHANGE, COSINE, DECIBELS, LEVEL_CHANGE, PERCENT, RATE_CHANGE, SCORE, Unit
from ttsopt_lib.report.printing.html import bullets, not_printed, note, paragraphs
from ttsopt_lib.report.printing.plot_style import (
    FOREST_ROW,
    GREY,
    WIDTH,
    Chart,
    Look,
    axis_label,
    forest,
    look,
    new_figure,
    right_column,
    set_title,
    target_line,
)
from ttsopt_lib.report.printing.table import BASELINE, NONE, Column, Table, figure_cell, name_of, printed, row_of
from ttsopt_lib.report.schema import Estimate, PredictorSummary, QualitySummary, Summary
from ttsopt_lib.statistics.significance import FEWEST
from ttsopt_lib.study import ORIGINAL
from ttsopt_lib.voices.text import missing_words

LONG = 10  # variants in a table of which there is one for each predictor
LEVEL = "Level above 8 kHz, dB"
GROUPS = ("What “the same” means", "Variants", "Anchors: known-bad conditions")


# --- scores -----------------------------------------------------------------------------------------------------


def quality(scored: Sequence[Any], name: str = "quality", rates: Rates = WORDS) -> Table:
    """Predicted MOS of every variant (or anchor) by every predictor, and what was heard besides.

    `name` is that of the table's file.
    """
    change = "predicted_mos.change"
    return Table(
        name,
        "Predicted MOS",
        [
            Column("variant", "Variant", cell=name_of),
            Column("predictor"),
            Column("sentences"),
            Column("predicted_mos", "Predicted MOS", SCORE, cell=_scored, interval=True),
            Column("change", "Change, evaluation", CHANGE, change, cell=_evaluation, interval=True),
            Column("change_held_out", "Change, held out", CHANGE, f"{change}_held_out", cell=_held_out, interval=True),
            Column("sentences_held_out", of="predicted_mos.sentences_held_out"),
            Column("change_level", of="predicted_mos.level"),
            *_rates(rates),
            Column("level_above_8khz_db", of="level_above_8khz_db.value"),
            Column("level_above_8khz_change_db", LEVEL, LEVEL_CHANGE.bare, cell=_level, interval=True),
        ],
        scored,
        missing="No variant has a score by this predictor.",
        kind="dense",
    )


def _with_count(cell: str, row: Any) -> str:
    """A cell with the number of its sentences where they are fewer than the caption says."""
    return cell + _count(row.sentences) if row.fewer and NONE not in cell else cell


def _scored(row: Any) -> str:
    return _with_count(printed(row.predicted_mos, SCORE), row)


def _evaluation(row: Any) -> str:
    return _with_count(printed(row.predicted_mos.change, CHANGE, row.variant), row)


def _level(row: Any) -> str:
    return _with_count(printed(row.level_above_8khz_change_db, LEVEL_CHANGE.bare, row.variant), row)


def _held_out(row: Any) -> str:
    """The change on the sentences that did not choose; with their number where they are not half of the caption's."""
    count = row.predicted_mos.sentences_held_out
    cell = printed(row.predicted_mos.change_held_out, CHANGE, row.variant)
    other = row.variant != ORIGINAL and (row.fewer or count != row.sentences // 2)
    return cell + _count(count) if other and NONE not in cell else cell


def _count(sentences: int, more: str = "") -> str:
    return f'<br><span class="interval">n = {numbers.number(sentences)}{more}</span>'


def _rates(rates: Rates) -> list[Column]:
    """The rate of a report, and beside one of words that of characters."""

    def cell(row: Any) -> str:
        if rates.relative and row.variant == ORIGINAL:
            return BASELINE
        rate = _error_rates(row) if rates is WORDS else printed(rate_of(row, rates.main), PERCENT)
        figures = figures_of(row, rates.main)
        if figures is None or figures.sentences is None or not figures.fewer:
            return rate
        who = "other noise" if rates.relative else ORIGINAL
        beside = f", {who} {PERCENT.value(figures.beside)}" if figures.beside is not None else ""
        return rate + _count(figures.sentences, beside)

    figures = figures_field(rates.main)
    columns = [
        Column(rates.main, rates.heading, PERCENT, partial(rate_of, name=rates.main), cell, interval=True),
        Column(f"{rates.main}_sentences", of=f"{figures}.sentences"),
        Column(f"{rates.main}_beside", of=f"{figures}.beside"),
    ]
    if rates.fine:
        columns.append(Column(rates.fine, of=partial(rate_of, name=rates.fine), interval=True))
    return columns


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
    most = summary.paired_sentences or 0
    return [row_of(row, group=group, compared=min(most, row.sentences)) for group, rows in groups for row in rows]


def _beside(field: str, heading: str, unit: Unit) -> Column:
    """A figure of a voice beside the original, which has none itself; with its sentences where some gave none."""

    def cell(row: Any) -> str:
        value = row.paired and getattr(row.paired, field)
        if value is None:
            return BASELINE if row.variant == ORIGINAL else NONE
        count = row.paired.sentences.get(field, row.compared)
        return printed(value, unit) + (_count(count) if count < row.compared else "")

    return Column(field, heading, unit, f"paired.{field}", cell, interval=True)


SPEAKER = _beside("speaker_similarity", "Speaker similarity", COSINE)
PITCH = _beside("f0_error_cents", "F0 error, cents", CENTS.bare)


def paired(summary: Summary) -> Table:
    """One row per voice: speaker, spectrum, F0 and duration beside the original's."""
    decibels = DECIBELS._replace(name="", digits=1)
    most = summary.paired_sentences or 0

    def voice(row: Any) -> str:
        return name_of(row) + (_count(row.sentences) if row.sentences < most else "")

    return Table(
        "compared",
        f"Beside the original: {summary.paired_sentences or 'no'} sentences with the same {summary.same}",
        [
            Column("group"),
            Column("variant", "Voice", cell=voice),
            SPEAKER,
            _beside("log_spectral_distance_db", "Spectral distance, dB", decibels),
            _beside("log_spectral_distance_above_8khz_db", "above 8 kHz, dB", decibels),
            PITCH,
            _beside("voicing_disagreement", "Voicing differs, %", PERCENT.bare),
            _beside("duration_change", "Duration, %", PERCENT._replace(name="", signed=True)),
        ],
        list({(row.group, row.variant): row for row in _rows(summary) if row.paired}.values()),
        missing="Speaker, spectrum and F0 were not compared: run 'ttsopt evaluate' again.",
        kind="dense",
        group=lambda row: row.group,
    )


def tests(summary: Summary) -> Table:
    """One row per voice and predictor: is there a change, and is it shown to be small?"""
    margin = abs(summary.targets.predicted_mos_change)

    def p_value(field: str, heading: str, of: str) -> Column:
        def cell(row: Any) -> str:
            p = column.value(row)
            return NONE if p is None else figure_cell(p_words(p))

        column = Column(field, heading, SCORE, of, cell)
        return column

    def of_rate(name: str, change: str = "", p: str = "", finding: str = "") -> list[Column]:
        """An error rate, and what is said of its change under these headings."""
        figures = figures_field(name)
        return [
            Column(name, of=f"{figures}.value"),
            Column(f"{name}_change", change, RATE_CHANGE, f"{figures}.change", interval=True),
            p_value(f"{name}_change_p", p, f"{figures}.change_p"),
            Column(f"{name}_finding", finding, of=lambda row: rate_finding(figures_of(row, name), rates)),
        ]

    rates = rates_of(summary)
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
            *of_rate(rates.main, rates.change, "p, no change", "Finding"),
            *(of_rate(rates.fine) if rates.fine else []),
        ],
        [row for row in _rows(summary) if row.variant != ORIGINAL],
        missing="Nothing could be tested.",
        kind="dense",
        group=lambda row: row.group,
    )


def _confirmed_rates(rates: Rates) -> list[Column]:
    """The rate and its change. A relative one has none: the original with other noise speaks no further sentence."""
    if rates.relative:
        return _rates(rates)
    name, change = rates.main, f"{figures_field(rates.main)}.change"
    return [
        Column(name, name.upper(), PERCENT),
        Column(f"{name}_change", rates.change, RATE_CHANGE, change, interval=True),
    ]


def confirmation(
    scored: Sequence[QualitySummary], predictors: Sequence[PredictorSummary] = (), rates: Rates = WORDS
) -> Table:
    """One row per voice that spoke the further sentences, with a column of change for each predictor."""
    rows: dict[str, SimpleNamespace] = {}
    for row in scored:
        shown = rows.setdefault(row.variant, row_of(row, changes={}, compared=row.sentences))
        shown.changes[row.predictor] = row.predicted_mos.change

    def change_by(name: str) -> Callable[[Any], Any]:
        return lambda row: row.changes.get(name)

    return Table(
        "confirmation",
        "Heard on further sentences, on which nothing was chosen",
        [
            Column("variant", "Voice", cell=name_of),
            *(Column("", f"Change, {one.label}", CHANGE, change_by(one.name)) for one in predictors),
            Column("sentences"),
            *_confirmed_rates(rates),
            SPEAKER,
            PITCH,
            Column("level_above_8khz_change_db", LEVEL, LEVEL_CHANGE.bare, interval=True),
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
        note("Another language", summary.language_doubts, "warning"),
        note("Not spoken", missing_words(summary.missing_symbols, summary.texts), "warning"),
        *_all_scores(summary),
        *_confirmed(summary),
        bullets([sentence for part in words for sentence in part]),
        *(_tests(summary, predictor) for predictor in summary.predictors if predictor.primary),
        paragraphs([_how_tested(summary)], "small"),
        paired(summary).html,
        bullets([*quality_words.what_same_means(summary), *quality_words.worse_than_noise(summary)]),
        paragraphs([_recognizer(summary), *_encoder(summary), *_no_interval(summary)], "small"),
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
        quality(rows, rates=rates_of(summary)),
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
    table = confirmation(summary.confirmation, summary.predictors, rates_of(summary))
    return [replace(table, caption=caption).html]


def _tests(summary: Summary, predictor: PredictorSummary) -> str:
    """The primary predictor's; the others' are in tables/quality_tests.csv."""
    table = tests(summary)
    table = replace(
        table,
        caption=f"{table.caption} ({predictor.label}; {rates_of(summary).errors})",
        rows=[row for row in table.rows if row.predictor == predictor.name],
    )
    return table.html


def _how_tested(summary: Summary) -> str:
    margin = numbers.SCORE.exact(abs(summary.targets.predicted_mos_change))
    return (
        "p, no change: the probability of a change as large as this if there were none. p, beyond the margin: two "
        f"one-sided tests (TOST); below 0.05 the change of predicted MOS is shown to be smaller than {margin}, either "
        "way. Both corrected for the number of variants (Holm). “No measurable difference” alone is no proof that "
        "there is none."
    )


def _recognizer(summary: Summary) -> str:
    if summary.asr:
        changes, rates = "changes and tests: `tables/quality_tests.csv`", rates_of(summary)
        found = [figures_of(row, rates.main) for row in (*summary.quality, *summary.anchors)]
        fewer = any(figures and figures.fewer for figures in found)
        heard = f"the first {summary.wer_sentences} evaluation sentences{' (or the n of its cell)' if fewer else ''}"
        if _is_confirmed(summary):
            heard += f" and on all {summary.confirmation_sentences} further sentences"
        if rates.relative:
            beside = (
                "An equal voice has some as well, as the original with other noise shows, beside which the tests hold "
                f"a voice ({changes})."
                if summary.other_noise
                else "This voice draws no noise, so an equal one has none."
            )
            return (
                f"Relative WER: words that {summary.asr} hears otherwise than in the original's speech, of {heard}. It "
                "does not know the voice's language, so this is no word error rate: it counts what sounds different to "
                f"it. {beside}"
            )
        if rates is CHARACTERS:
            return f"CER: character error rate of {summary.asr} on {heard} ({changes})."
        return f"WER: word error rate of {summary.asr} on {heard}; CER: of characters, spaces among them ({changes})."
    return f"Word error rate was not measured: {summary.asr_reason}."


def _encoder(summary: Summary) -> list[str]:
    if not summary.speaker_encoder:
        return []
    return [
        f"Speaker similarity: cosine of the speaker vectors of {summary.speaker_encoder}. F0 error: median over frames "
        "voiced in both, 100 cents are a semitone. Spectral distance counts every difference, heard or not. Duration: "
        "of the variant's own, over every sentence it spoke. Intervals: bootstrap over sentences."
    ]


def _no_interval(summary: Summary) -> list[str]:
    """Why a figure of the bootstrap has none, where one has none."""
    rows = [*summary.quality, *summary.anchors, *summary.other_noise, *summary.confirmation]
    beside = [value for row in rows if row.paired for value in dict(row.paired).values()]
    figures = [value for value in beside if isinstance(value, Estimate)]
    name = rates_of(summary).main
    for row in rows:
        rate = figures_of(row, name)
        if rate and not (rates_of(summary).relative and row.variant == ORIGINAL):  # that one has no errors
            figures += [Estimate(value=rate.value, ci=rate.ci), *([rate.change] if rate.change else [])]
    if all(figure.ci for figure in figures):
        return []
    return [f"No interval: all sentences say the same, or they are fewer than {FEWEST}."]


def quality_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """The change of the predicted MOS of every variant and anchor, by every predictor, with its interval."""
    primary = summary.primary_predictor
    if primary is None:
        return None
    scored = [*summary.quality, *summary.anchors]
    names = list(dict.fromkeys(row.variant for row in scored if row.variant != ORIGINAL))
    anchors = {row.variant for row in summary.anchors}
    known = {variant.name: look(variant) for variant in summary.variants}
    anchor = Look("anchor", GREY, "d")
    changes = {(row.variant, row.predictor): row.predicted_mos.change for row in scored}
    figure, axes = new_figure(0.95 + FOREST_ROW * 1.1 * len(names), width)
    estimates = [changes.get((name, primary.name)) for name in names]
    forest(axes, names, estimates, [known.get(name, anchor) for name in names])
    for predictor in summary.predictors:
        if predictor.primary:
            continue
        for index, name in enumerate(names):
            if other := changes.get((name, predictor.name)):
                axes.plot(
                    other.value, index + 0.27, "o", markersize=3, markerfacecolor="white",
                    markeredgecolor="#444444", markeredgewidth=0.8, zorder=2.8,
                )  # fmt: skip
                axes.plot(other.ends, [index + 0.27] * 2, color="#777777", linewidth=0.8, zorder=2)
    right_column(axes, [numbers.signed(one.value) if one else "not scored" for one in estimates])
    axes.set_yticks(range(len(names)), [f"{name} (anchor)" if name in anchors else name for name in names])
    target = summary.targets.predicted_mos_change
    ends = [end for one in changes.values() if one for end in one.ends]
    axes.set_xlim(min([target, *ends]) - 0.08, max([0.0, *ends]) + 0.12)
    target_line(axes, target, f"target {numbers.CHANGE.exact(target)}")
    label = f"change of the predicted MOS against the original ({primary.label}, points on a scale of 1 to 5)"
    axes.set_xlabel(axis_label(figure, label))
    set_title(figure, findings.quality_title(summary))
    others = ", ".join(predictor.label for predictor in summary.predictors if not predictor.primary)
    alt = f"Dots with intervals of the change of the predicted MOS ({primary.label}). " + "; ".join(
        f"{name} {numbers.CHANGE.figure(one)}" for name, one in zip(names, estimates, strict=True)
    )
    caption = (
        "Change of the predicted MOS against the original, paired by sentence, with "
        f"{quality_words.intervals(summary)}: {primary.label}"
        + (f"; small open dots: {others}" if others else "")
        + ". Anchors are known-bad conditions that show what the scale is worth. Dashed: the target, which the "
        "interval's lower end has to meet."
    )
    return Chart("quality", figure, alt + ".", caption)
