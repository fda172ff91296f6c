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
from matplotlib.transforms import Bbox

ANGLES = (0, 180, 60, 120, -60, -120, 30, 150, -30, -150, 90, -90)
RADII = (0, 8, 18, 30, 44, 60, 80, 104, 130)  # points beyond the marker's edge


class Point(NamedTuple):
    """A named point: data coordinates, and the radius of its marker in typographic points."""

    name: str
    x: float
    y: float
    radius: float


def place_labels(axes: Axes, points: Sequence[Point], fontsize: float, keep_free: Sequence[Bbox], first: str) -> None:
    """Write each point's name near it.

    `keep_free`: boxes in pixels that no name may cover either; `first`: the name that gets the best place. Call
    it after the limits of the axes are set: places depend on them.
    """
    figure = axes.figure
    FigureCanvasAgg(figure)  # type: ignore[arg-type]
    figure.draw_without_rendering()  # type: ignore[union-attr]
    scale = figure.dpi / 72  # pixels of a typographic point
    pixels = axes.transData.transform([(point.x, point.y) for point in points]).tolist()
    inside, taken = axes.get_window_extent(), [*keep_free]
    for point, (x, y) in zip(points, pixels, strict=True):
        radius = point.radius * scale
        taken.append(Bbox.from_extents(x - radius, y - radius, x + radius, y + radius))

    def order(placed: tuple[Point, list[float]]) -> tuple[bool, int, str]:
        point, (x, y) = placed
        neighbours = sum(math.hypot(x - px, y - py) < 60 * scale for px, py in pixels)
        return point.name != first, -neighbours, point.name

    for point, (x, y) in sorted(zip(points, pixels, strict=True), key=order):
        note = axes.annotate(
            point.name, (point.x, point.y), xytext=(0, 0), textcoords="offset points", fontsize=fontsize, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4},
        )  # fmt: skip
        size = note.get_window_extent().size
        box, moved = _free_spot((x, y), point.radius, size, taken, inside, scale)
        note.set_position(((box.x0 - x) / scale, (box.y0 - y) / scale))
        note.set_verticalalignment("bottom")
        if moved:
            near = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
            x_near, y_near = axes.transData.inverted().transform(near)
            axes.annotate(
                "", (x_near, y_near), (point.x, point.y), zorder=2.6,
                arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": point.radius},
            )  # fmt: skip
        taken.append(box)


def _free_spot(
    position: tuple[float, float],
    radius: float,
    size: Sequence[float],
    taken: Sequence[Bbox],
    inside: Bbox,
    scale: float,
) -> tuple[Bbox, bool]:
    """The nearest box of that size that covers nothing, else the one that covers least; whether it was moved away."""
    best, least = None, math.inf
    for step, extra in enumerate(RADII):
        reach = (radius + 2 + extra) * scale
        for angle in ANGLES:
            right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x0 = position[0] + reach * right - size[0] * (1 - right) / 2
            y0 = position[1] + reach * up - size[1] * (1 - up) / 2
            box = Bbox.from_bounds(x0, y0, *size)
            outside = box.width * box.height - _overlap(box, inside)
            cost = sum(_overlap(box, other) for other in taken) + 4 * outside
            if cost < least:
                best, least = (box, step > 0), cost
            if best and least == 0:
                return best
    assert best
    return best


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0
