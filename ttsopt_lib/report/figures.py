"""The figures: size, latency, quality and their trade-off, each from the summary alone.

A title states the finding, intervals are drawn, targets are dashed lines, and names stand beside their points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ttsopt_lib.report import findings, numbers
from ttsopt_lib.report.plot_style import (
    GREY,
    LOOKS,
    WIDTH,
    Chart,
    Look,
    axis_label,
    look,
    new_figure,
    set_title,
    target_line,
)
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Summary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

ROW = 0.19  # inches of height for a line of a figure
FOREST_ROW = 0.145  # of a figure whose lines are a name and a dot: on paper it is as large as it is drawn


# --- size -------------------------------------------------------------------------------------------------------


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
    target_line(axes, base * (1 - target), f"target: {numbers.percent(target)} smaller")
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


# --- sensitivity --------------------------------------------------------------------------------------------------


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
        colour = LOOKS["quantize_mixed"].colour if row.int8 else GREY
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
        f"What int8 arithmetic in one group of layers does to the spectrum, same noise and durations; the words beside "
        f"the dots say what the search chose for {variants[0]}."
    )
    return Chart("sensitivity", figure, alt + ".", caption)


# --- forest plots -----------------------------------------------------------------------------------------------


def _forest(
    axes: Axes, names: Sequence[str], rows: Sequence[Estimate | None], looks: Sequence[Look], scale: float = 1.0
) -> None:
    """A dot with its interval for each name, the first at the top."""
    for index, (estimate, style) in enumerate(zip(rows, looks, strict=True)):
        if estimate is None:
            continue
        low, high = estimate.ci or (estimate.value, estimate.value)
        axes.plot([scale * low, scale * high], [index] * 2, color=style.colour, linewidth=1.6, zorder=2.5)
        axes.plot(
            scale * estimate.value, index, style.marker, color=style.colour, markersize=5,
            markeredgewidth=0.0, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color="#666666", linewidth=0.8, zorder=1)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def _right_column(axes: Axes, texts: Sequence[str]) -> None:
    """One text per line of a forest plot, right of the axes: never on the data."""
    for index, text in enumerate(texts):
        axes.annotate(
            text, (1.0, index), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=6.5, annotation_clip=False,
        )  # fmt: skip


def latency_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """The latency reduction of every variant on every measured device, with its interval."""
    devices = summary.measured_devices
    if not devices:
        return None
    names = [variant.name for variant in summary.variants if variant.name != ORIGINAL]
    if any(summary.timing_of(device, ORIGINAL_COPY) for device in devices):
        names.append(ORIGINAL_COPY)
    columns = min(2 if width == WIDTH else 1, len(devices))
    lines = -(-len(devices) // columns)
    height = 0.6 + lines * (0.62 + FOREST_ROW * len(names))
    figure, grid = new_figure(height, width, nrows=lines, ncols=columns, squeeze=False)
    for index, (axes, device) in enumerate(zip(grid.flat, devices, strict=False)):
        _latency_panel(axes, summary, device, names, alone=len(devices) == 1)
        if index % columns:
            axes.set_yticklabels([])
    for axes in grid.flat[len(devices) :]:
        axes.set_visible(False)
    set_title(figure, findings.latency_title(summary))
    label = axis_label(figure, "less time per second of audio than the original (%)")
    figure.supxlabel(label, fontsize=7, color="#333333")
    alt = "Dots with intervals of the latency reduction. " + " ".join(
        f"On {device.label}: "
        + "; ".join(
            f"{name} {numbers.REDUCTION.figure(row.latency_reduction)}"
            for name in names
            if (row := summary.timing_of(device, name))
        )
        + "."
        for device in devices
    )
    caption = (
        "Reduction of the time per second of audio against the original in the same runtime (ONNX Runtime) with the "
        "same threads; bars are 95 % intervals. original-copy is the original timed against itself: what it shows is "
        "the error of the method. Dashed: the target."
    )
    return Chart("latency", figure, alt, caption)


def _latency_panel(axes: Axes, summary: Summary, device: DeviceSummary, names: list[str], alone: bool) -> None:
    rows = [summary.timing_of(device, name) for name in names]
    estimates = [row.latency_reduction if row else None for row in rows]
    known = {variant.name: look(variant) for variant in summary.variants}
    _forest(axes, names, estimates, [known.get(name, LOOKS["baseline"]) for name in names], scale=100)
    _right_column(axes, [numbers.percent(one.value) if one else "not measured" for one in estimates])
    target = summary.targets.latency_reduction
    ends = [100 * end for one in estimates if one for end in (one.ci or (one.value,))]
    axes.set_xlim(min([-5.0, *ends]) - 3, max([100 * target, *ends]) + 5)
    target_line(axes, 100 * target, f"target {numbers.percent(target)}")
    if not alone:
        threads = numbers.counted(device.threads, "thread")
        axes.set_title(f"{device.label}, {threads}", fontsize=7.5, pad=13)


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
    _forest(axes, names, estimates, [known.get(name, anchor) for name in names])
    for predictor in summary.predictors:
        if predictor.primary:
            continue
        for index, name in enumerate(names):
            if other := changes.get((name, predictor.name)):
                axes.plot(
                    other.value, index + 0.27, "o", markersize=3, markerfacecolor="white",
                    markeredgecolor="#444444", markeredgewidth=0.8, zorder=2.8,
                )  # fmt: skip
                low, high = other.ci or (other.value, other.value)
                axes.plot([low, high], [index + 0.27] * 2, color="#777777", linewidth=0.8, zorder=2)
    _right_column(axes, [numbers.signed(one.value) if one else "not scored" for one in estimates])
    axes.set_yticks(range(len(names)), [f"{name} (anchor)" if name in anchors else name for name in names])
    target = summary.targets.predicted_mos_change
    ends = [end for one in changes.values() if one for end in (one.ci or (one.value,))]
    axes.set_xlim(min([target, *ends]) - 0.08, max([0.0, *ends]) + 0.12)
    target_line(axes, target, f"target {numbers.signed(target)}")
    label = f"change of the predicted MOS against the original ({primary.label}, points on a scale of 1 to 5)"
    axes.set_xlabel(axis_label(figure, label))
    set_title(figure, findings.quality_title(summary))
    others = ", ".join(predictor.label for predictor in summary.predictors if not predictor.primary)
    alt = f"Dots with intervals of the change of the predicted MOS ({primary.label}). " + "; ".join(
        f"{name} {numbers.CHANGE.figure(one)}" for name, one in zip(names, estimates, strict=True)
    )
    caption = (
        f"Change of the predicted MOS against the original, paired by sentence, with 95 % intervals: {primary.label}"
        + (f"; small open dots: {others}" if others else "")
        + ". Anchors are known-bad conditions that show what the scale is worth. Dashed: the target, which the "
        "interval's lower end has to meet."
    )
    return Chart("quality", figure, alt + ".", caption)


def sizes_as_areas(sizes: Sequence[float]) -> np.ndarray:
    """Marker areas in square points, proportional to file sizes."""
    return 130.0 * np.asarray(sizes) / max(sizes)
