"""The section on quality: predicted MOS by each predictor, what the tests say, and figures beside the original."""

from __future__ import annotations

import pandas as pd

from ttsopt_lib.report import columns, frames, numbers, quality_tables, quality_words
from ttsopt_lib.report.html import bullets, not_printed, note, paragraphs, table
from ttsopt_lib.report.schema import PredictorSummary, Summary
from ttsopt_lib.study import ORIGINAL
from ttsopt_lib.voices.text import missing_words

LONG = 10  # variants in a table of which there is one for each predictor


def quality_parts(summary: Summary, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Everything below the picture, in the order in which it is read."""
    found = [note("Not to be trusted", quality_words.distrusted(summary), "warning")]
    found.append(note("Another language", summary.language_doubts, "warning"))
    found.append(note("Not spoken", missing_words(summary.missing_symbols, summary.texts), "warning"))
    found += _all_scores(summary)
    found += _confirmed(summary, tables["confirmation"])
    words = (quality_words.decided(summary), quality_words.trusted(summary), quality_words.unavailable(summary))
    found.append(bullets([sentence for part in words for sentence in part]))
    found += [_tests(summary, tables["quality_tests"], predictor) for predictor in summary.predictors]
    found.append(paragraphs([_how_tested(summary)], "small"))
    found.append(
        table(
            tables["compared"],
            quality_tables.compared_columns(),
            f"Beside the original: {summary.paired_sentences or 'no'} sentences with the same noise and durations",
            "compared",
            group="group",
            kind="dense",
            missing="Speaker, spectrum and F0 were not compared: run 'ttsopt evaluate' again.",
        )
    )
    found.append(bullets([*quality_words.what_same_means(summary), *quality_words.worse_than_noise(summary)]))
    found.append(paragraphs([_recognizer(summary), *_encoder(summary)], "small"))
    return found


def _all_scores(summary: Summary) -> list[str]:
    """A table for each predictor, the primary one first; where they are long, paper has that alone."""
    parts = [_scores(summary, one) for one in sorted(summary.predictors, key=lambda one: not one.primary)]
    if len(summary.quality) <= LONG * len(parts):
        return parts
    others = ", ".join(one.label for one in summary.predictors if not one.primary)
    return [parts[0], *not_printed(parts[1:], f"Predicted MOS by {others}: `report.html` and `tables/quality.csv`.")]


def _scores(summary: Summary, predictor: PredictorSummary) -> str:
    role = "primary" if predictor.primary else "for comparison"
    parts = [
        frames.quality([row for row in scored if row.predictor == predictor.name]).assign(group=title)
        for scored, title in ((summary.quality, "Variants"), (summary.anchors, "Anchors: known-bad conditions"))
    ]
    return table(
        pd.concat([part for part in parts if not part.empty] or parts[:1]),
        columns.quality(),
        f"Predicted MOS by {predictor.label} ({role}), {summary.evaluation_sentences} sentences",
        f"quality-{predictor.name}",
        group="group",
        kind="dense",
        missing="No variant has a score by this predictor.",
    )


def _is_confirmed(summary: Summary) -> bool:
    """Whether a variant spoke the further sentences: an evaluation that was cut off may have the original's alone."""
    return any(row.variant != ORIGINAL for row in summary.confirmation)


def _confirmed(summary: Summary, frame: pd.DataFrame) -> list[str]:
    """The sentences that only the original and some variants spoke; nothing where no variant did."""
    if not _is_confirmed(summary):
        return []
    return [
        table(
            frame,
            quality_tables.confirmation_columns(summary.predictors),
            f"Heard on {summary.confirmation_sentences} further sentences, on which nothing was chosen",
            "confirmation",
            kind="dense",
        )
    ]


def _tests(summary: Summary, frame: pd.DataFrame, predictor: PredictorSummary) -> str:
    if not predictor.primary:  # the others' are in tables/quality_tests.csv
        return ""
    return table(
        frame.loc[frame["predictor"] == predictor.name, :],
        quality_tables.columns_of_tests(),
        f"Is there a change, and is it shown to be small? ({predictor.label}; word errors)",
        "quality-tests",
        group="group",
        kind="dense",
        missing="Nothing could be tested.",
    )


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
