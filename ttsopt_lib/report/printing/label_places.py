"""Where to write the names of points so that no name covers another name or a point.

Greedy: the points with the most neighbours first, each at the free place nearest to it; a name that had to move away
from its point gets a thin line back to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

ANGLES = (0, 180, 60, 120, -60, -120, 30, 150, -30, -150, 90, -90)
RADII = (0, 8, 18, 30, 44, 60, 80, 104, 130)  # points beyond the marker's edge


class Point(NamedTuple):
    """A named point: data coordinates, and the radius of its marker in typographic points."""

    name: str
    x: float
    y: float
    radius: float


def place_labels(
    axes: Axes, points: Sequence[Point], fontsize: float, keep_free: Sequence[Bbox] = (), first: str = ""
) -> list[Annotation]:
    """Write each point's name near it.

    `keep_free`: boxes in pixels that no name may cover either; `first`: the name that gets the best place. Call
    it after the limits of the axes are set: places depend on them.
    """
    figure = axes.figure
    FigureCanvasAgg(figure)  # type: ignore[arg-type]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    scale = figure.dpi / 72
    positions: dict[str, tuple[float, float]] = {}
    for point in points:
        x, y = axes.transData.transform((point.x, point.y))
        positions[point.name] = (float(x), float(y))
    markers = [
        Bbox.from_extents(x - r, y - r, x + r, y + r)
        for (x, y), r in ((positions[point.name], point.radius * scale) for point in points)
    ]
    taken = [*markers, *keep_free]
    inside = axes.get_window_extent()

    def crowd(point: Point) -> int:
        x, y = positions[point.name]
        return -sum(math.hypot(x - px, y - py) < 60 * scale for px, py in positions.values())

    written = []
    for point in sorted(points, key=lambda point: (point.name != first, crowd(point), point.name)):
        note = axes.annotate(
            point.name,
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=fontsize,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4},
        )
        size = note.get_window_extent()
        spot = _free_spot(positions[point.name], point.radius, (size.width, size.height), taken, inside, scale)
        box, offset, moved = spot
        note.set_position(offset)
        note.set_verticalalignment("bottom")
        if moved:
            x, y = positions[point.name]
            near = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
            x_data, y_data = axes.transData.inverted().transform(near)
            axes.annotate(
                "",
                (float(x_data), float(y_data)),
                (point.x, point.y),
                arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": point.radius},
                zorder=2.6,
            )
        taken.append(box)
        written.append(note)
    return written


def _free_spot(
    position: tuple[float, float],
    radius: float,
    size: tuple[float, float],
    taken: Sequence[Bbox],
    inside: Bbox,
    scale: float,
) -> tuple[Bbox, tuple[float, float], bool]:
    """The nearest box of that size that covers nothing: (box, its corner as an offset in points, was it moved)."""
    best: tuple[float, Bbox, bool] | None = None
    for step, extra in enumerate(RADII):
        for angle in ANGLES:
            reach = (radius + 2 + extra) * scale
            x = position[0] + reach * math.cos(math.radians(angle))
            y = position[1] + reach * math.sin(math.radians(angle))
            x0 = x - size[0] * (1 - math.cos(math.radians(angle))) / 2
            y0 = y - size[1] * (1 - math.sin(math.radians(angle))) / 2
            box = Bbox.from_bounds(x0, y0, *size)
            cost = sum(_overlap(box, other) for other in taken) + 4 * _outside(box, inside)
            if cost == 0:
                return box, ((x0 - position[0]) / scale, (y0 - position[1]) / scale), step > 0
            if best is None or cost < best[0]:
                best = (cost, box, step > 0)
    assert best is not None
    _, box, moved = best
    return box, ((box.x0 - position[0]) / scale, (box.y0 - position[1]) / scale), moved


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    cut = Bbox.intersection(box, frame)
    return box.width * box.height - (cut.width * cut.height if cut else 0.0)
