"""Sizes of the files, what every step of a recipe really reached, and what the search for mixed precision found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttsopt_lib.report.explanations import recipe_words
from ttsopt_lib.report.html import escape
from ttsopt_lib.report.numbers import CHANGE, COUNT, FILE_SIZE, MILLIONS, PERCENT, REDUCTION, SCORE
from ttsopt_lib.report.printing.table import Column, Table, name_of, reason, row_of
from ttsopt_lib.report.schema import Summary, VariantSummary


def sizes(variants: Sequence[VariantSummary]) -> Table:
    """Files and parameters of the original and every variant."""
    return Table(
        "sizes",
        "Size of each variant's model.onnx",
        [
            Column("variant", "Variant", cell=name_of),
            Column("made_by", "Made by", of=recipe_words, cell=_made_by),
            Column("note"),
            Column("size_bytes", "File, MB", FILE_SIZE.bare),
            Column("size_reduction", "Smaller by", REDUCTION),
            Column("compressed_bytes", "Compressed, MB", FILE_SIZE.bare),
            Column("parameters", "Parameters, M", MILLIONS),
            Column("parameters_nonzero", "of these not zero, M", MILLIONS),
            Column("coverage_parameters", of=lambda row: row.coverage.parameters if row.recipe else None),
            Column("coverage_macs", of=lambda row: row.coverage.macs if row.recipe else None),
        ],
        [row_of(variant, variant=variant.name) for variant in variants],
    )


def _made_by(row: Any) -> str:
    note = f'<br><span class="reason note-text">{escape(row.note)}</span>' if row.note else ""
    return escape(recipe_words(row)) + note


def coverage(variants: Sequence[VariantSummary]) -> Table:
    """What each step of each recipe really reached."""
    return Table(
        "coverage",
        "Coverage: what each step really reached, read from the finished model",
        [
            Column("variant", "Variant", cell=name_of),
            Column("step", "Step", cell=_step),
            Column("settings", of=_settings),
            Column("layers", "Layers reached", COUNT),
            Column("parameters", "of the parameters", PERCENT, "coverage.parameters"),
            Column("macs", "of the multiply-accumulates", PERCENT, "coverage.macs"),
            Column("note"),
        ],
        [row_of(step, variant=variant.name) for variant in variants for step in variant.steps],
        missing="No variant of this study has a step.",
        kind="stack",
    )


def _step(row: Any) -> str:
    small = "; ".join(filter(None, (_settings(row), row.note)))
    return escape(row.step) + (f"<br>{reason(small)}" if small else "")


def _settings(row: Any) -> str:
    values = {
        key: "+".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in row.settings.items()
    }
    return ", ".join(f"{key}={value}" for key, value in values.items())


def sensitivity(summary: Summary) -> Table:
    """What int8 arithmetic in each group of layers alone does, the most sensitive first."""
    return Table(
        "sensitivity",
        "Sensitivity: what int8 arithmetic in one group of layers does to the sound",
        [
            Column("variant"),
            Column("label", "Layers"),
            Column("layers"),
            Column("parameters", "of the weights", PERCENT),
            Column("time", "of the time", PERCENT),
            Column("level_error_db", "Level error, dB", SCORE),
            Column("spectral_distance_db", "Spectral distance, dB", SCORE._replace(digits=1)),
            Column("level_above_8khz_db", "Level above 8 kHz, dB", CHANGE._replace(digits=1)),
            Column("int8", "Arithmetic chosen", cell=lambda row: "int8" if row.int8 else "float32"),
        ],
        sorted(summary.sensitivity, key=lambda row: (row.variant, -row.level_error_db)),
        group=lambda row: row.variant,
    )
