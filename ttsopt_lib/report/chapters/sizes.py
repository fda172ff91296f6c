"""Sizes of the files, what every step of a recipe really reached, and what the search for mixed precision found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttsopt_lib.records.variant import UNLIKE_DB, Coverage
from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import bits_of, listed
from ttsopt_lib.report.numbers import CHANGE, COUNT, FILE_SIZE, MILLIONS, PERCENT, REDUCTION, SCORE
from ttsopt_lib.report.printing.html import escape, figure
from ttsopt_lib.report.printing.plot_style import (
    FOREST_ROW,
    GREY,
    VERMILLION,
    WIDTH,
    Chart,
    axis_label,
    look,
    new_figure,
    set_title,
    target_line,
)
from ttsopt_lib.report.printing.table import Column, Table, name_of, reason, row_of
from ttsopt_lib.report.schema import StepSummary, Summary, VariantSummary
from ttsopt_lib.study import ORIGINAL

ROW = 0.19  # inches of height for a line of a figure
LITTLE = 0.2  # of the parameters: a step that reaches less cannot change the size much


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


def sensitivity_section(summary: Summary, chart: Chart | None) -> list[str]:
    """What the search for mixed precision found, where a recipe has one; on paper the figure alone, which has all."""
    if not summary.sensitivity:
        return []
    return [figure(chart, ""), '<div class="screen-only">', sensitivity(summary).html, "</div>"]


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


def quantization_notes(summary: Summary) -> list[str]:
    """What each quantized variant's coverage explains."""
    notes = []
    for variant in summary.variants:
        size = f"the file is {numbers.less(variant.size_reduction, 'smaller', 'larger')}"
        kinds = {step.kind: step for step in variant.steps}
        if {"int8 products", "stored weights"} <= set(kinds):
            products, stored = kinds["int8 products"], kinds["stored weights"]
            packed = f"; {_packed(variant, kinds['packing'].coverage)}" if "packing" in kinds else ""
            both = _products_and_weights(products, stored.coverage)
            notes.append(f"`{variant.name}`: {both}{packed}; {size}.")
        else:
            texts = [_quantization_note(summary, variant, step) for step in variant.steps]
            notes += [f"{text}; {size}." for text in texts if text]
    return notes


def _quantization_note(summary: Summary, variant: VariantSummary, step: StepSummary) -> str:
    """What one step explains; nothing where it does not quantize."""
    reached = f"{numbers.percent(step.coverage.parameters, 1)} of the parameters"
    work = f"{numbers.percent(step.coverage.macs, 1)} of the multiply-accumulates"
    if step.kind == "int8 products":
        if step.coverage.parameters < LITTLE:
            why = f" ({step.note})" if step.note else ""
            return f"Why {step.label} does little here: in `{variant.name}` it reaches {reached} and {work}{why}"
        return f"`{variant.name}`: {step.label} reaches {reached} and {work}"
    if step.kind == "stored weights":
        # a declared model may have come with integer arithmetic
        then = "leaves the arithmetic as it was" if summary.model else "computes in 32-bit floating point"
        return (
            f"`{variant.name}` stores {reached} as integers of {bits_of(variant)} bits, one scale per output channel, "
            f"and {then}: that is meant to shrink the file, not to save time"
        )
    return f"`{variant.name}`: {_packed(variant, step.coverage)}" if step.kind == "packing" else ""


def _packed(variant: VariantSummary, reached: Coverage) -> str:
    """What packing made of the weights, and what it costs."""
    bits = bits_of(variant)
    most = f", most of them {bits} bits" if bits < 8 else ""
    return (
        f"packed, {numbers.percent(reached.parameters, 1)} of the parameters take fewer than 8 bits each in the file"
        f"{most}, and become 8-bit integers again while ONNX Runtime loads the voice, so that an utterance "
        "costs what it did"
    )


def _products_and_weights(products: StepSummary, stored: Coverage) -> str:
    """Which weights take part in int8 arithmetic, and which are only stored as integers."""
    return (
        f"{products.label} computes {numbers.percent(products.coverage.macs, 1)} of the multiply-accumulates in 8-bit "
        f"integers, with {numbers.percent(products.coverage.parameters, 1)} of the parameters; another "
        f"{numbers.percent(stored.parameters, 1)} of the parameters are only stored as integers and computed "
        "with in 32-bit floating point"
    )


def pruning_notes(summary: Summary) -> list[str]:
    """What pruning did to the number of weights and to the file."""
    notes = []
    for variant in summary.variants:
        kinds = [step.kind for step in variant.steps]
        notes += [f"`{variant.name}`: {step.note}." for step in variant.steps if step.kind == "removal"]
        if "zeros" not in kinds:
            continue
        zeros = f"In `{variant.name}` {numbers.percent(variant.zero_fraction)} of the stored parameters are zero"
        raw = numbers.less(variant.size_reduction, "smaller", "larger")
        packed = numbers.less(variant.compressed_reduction, "smaller", "larger")
        if len(kinds) == 1:
            notes.append(
                f"{zeros}, and yet the file is {raw} (compressed: {packed}): a zero takes as many bits as any other "
                "number, and a dense kernel multiplies by it all the same. Zeros save something only where whole "
                "channels go, or where the runtime has sparse kernels."
            )
        else:
            others = listed(list(dict.fromkeys(step.label for step in variant.steps if step.kind != "zeros")))
            notes.append(
                f"{zeros}; that its file is {raw} (compressed: {packed}) is the doing of {others}, not of the zeros."
            )
    return notes


def recipe_words(variant: VariantSummary) -> str:
    """A recipe in words, for tables: 'distilled decoder, int8 weights'."""
    if variant.name == ORIGINAL:
        return "as it came"
    words = []
    for step in variant.steps:
        bits = step.settings.get("bits", 8)
        words.append(step.label.removeprefix("the ") + (f" to {bits} bits" if bits < 8 else ""))
    return ", ".join(words) or "exported unchanged"


def size_chart(summary: Summary, width: float = WIDTH) -> Chart:
    """Bars of the file sizes, with the size after compression as a tick and the target as a line."""
    variants = summary.variants
    figure, axes = new_figure(0.85 + ROW * 1.15 * len(variants), width)
    base = variants[0].size_bytes / 1e6
    longest = max(variant.size_bytes for variant in variants) / 1e6
    for row, variant in enumerate(variants):
        size = variant.size_bytes / 1e6
        colour = look(variant).colour if variant.name != ORIGINAL else "#555555"
        axes.barh(row, size, height=0.62, color=colour, edgecolor="#333333", linewidth=0.4)
        axes.plot([variant.compressed_bytes / 1e6] * 2, [row - 0.38, row + 0.38], color="white", linewidth=2.6)
        axes.plot([variant.compressed_bytes / 1e6] * 2, [row - 0.38, row + 0.38], color="#000000", linewidth=1.1)
        text = numbers.megabytes(variant.size_bytes) + " MB"
        if variant.name != ORIGINAL:
            text += f"  ({numbers.percent_change(variant.size_reduction)})"
        axes.annotate(
            text, (size, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    axes.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * (1.32 if width == WIDTH else 1.8))
    axes.set_xlabel(axis_label(figure, "size of model.onnx (MB = 10⁶ bytes); the black tick: after compression"))
    target = summary.targets.size_reduction
    target_line(axes, base * (1 - target), f"target: {numbers.REDUCTION.exact(target)} smaller")
    axes.tick_params(axis="y", length=0)
    set_title(figure, findings.size_title(summary))
    alt = "Bar chart of file sizes. " + "; ".join(
        f"{variant.name} {numbers.megabytes(variant.size_bytes)} MB" for variant in variants
    )
    caption = (
        "Size of each variant's model.onnx. A tick marks what a download of it takes after zlib compression; "
        "the dashed line is the target."
    )
    return Chart("size", figure, alt + ".", caption)


def sensitivity_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """A dot for each group of layers that a search judged: the error of int8 there alone. None where none searched."""
    variants = list(dict.fromkeys(row.variant for row in summary.sensitivity))
    if not variants:
        return None
    rows = sorted(
        (row for row in summary.sensitivity if row.variant == variants[0]), key=lambda row: -row.level_error_db
    )
    figure, axes = new_figure(0.85 + FOREST_ROW * len(rows), width)
    least = 0.01  # dB; a logarithmic axis has no 0
    for index, row in enumerate(rows):
        error = max(row.level_error_db, least)
        colour = VERMILLION if row.int8 else GREY
        axes.plot([least, error], [index] * 2, color=colour, linewidth=1.0)
        axes.plot(error, index, "o" if row.int8 else "s", color=colour, markersize=4.5)
        axes.annotate(
            "int8" if row.int8 else "float32", (error, index), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=6.5, color="#333333",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")  # small exponents would be hard to read on paper
    axes.xaxis.set_minor_formatter("")
    axes.set_xlim(least, max(row.level_error_db for row in rows) * 2 + least)
    label = "level error of int8 arithmetic in these layers alone (dB, mean over mel bands; logarithmic)"
    axes.set_xlabel(axis_label(figure, label))
    set_title(figure, f"Int8 arithmetic suits {rows[-1].label} best and {rows[0].label} least")
    alt = "Dot plot of level errors. " + "; ".join(f"{row.label} {row.level_error_db:.2f} dB" for row in rows)
    caption = (
        f"What int8 arithmetic in one group of layers does to the spectrum, same {summary.same}; the words beside "
        f"the dots say what the search chose for {variants[0]}."
    )
    if any(row.level_error_db >= UNLIKE_DB for row in rows):
        caption += f" {UNLIKE_DB:g} dB stands for what leaves no sound, or moves how long the voice speaks."
    return Chart("sensitivity", figure, alt + ".", caption)
