"""Forest plots: a mark and its interval for each row, and the figures beside them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ttsopt_lib.report.printing.plot_style import (
    Look,
)
from ttsopt_lib.report.schema import Estimate

FOREST_ROW = 0.145  # inches of height for a line: its name and its dot are as large on paper as they are drawn


def forest(
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


def right_column(axes: Axes, texts: Sequence[str]) -> None:
    """One text per line of a forest plot, right of the axes: never on the data."""
    for index, text in enumerate(texts):
        axes.annotate(
            text, (1.0, index), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=6.5, annotation_clip=False,
        )  # fmt: skip
