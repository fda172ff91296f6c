"""How every figure looks, and how it becomes an SVG that can stand inside a page.

Okabe-Ito colours together with marker shapes, so that a figure reads in black and white and for the colour-blind.
Text stays text (small files, searchable, sharp). It is laid out in DejaVu Sans, which comes with matplotlib and is
wider than the fonts of a page, so that it fits whatever font a reader has.
"""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ttsopt_lib.report.schema import Estimate, Summary, VariantSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B6B6B"
WIDTH = 5.6  # inches: the text column of the page and of the print
NARROW = 3.3  # inches: the width of a phone, on which the smallest text is then 9 CSS pixels high
TITLE = 72  # characters in a line of a title as wide as the page
LABEL = 44  # characters in a line of an axis's label in a narrow figure
FOREST_ROW = 0.145  # inches of height for a line of a forest plot: its letters and dots are as large on paper as drawn
SHADES = 48  # of a picture inside a figure: a quarter of the bytes, and no step that an eye can see
# no spaces: the printer of the PDF takes them for parts of the names
FONT_STACK = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.labelsize": 7.0,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "svg.fonttype": "none",
}


class Look(NamedTuple):
    """Colour and marker of a family of methods."""

    family: str
    colour: str
    marker: str


BASELINE, PLAIN = Look("baseline", BLACK, "D"), Look("nothing optimized", GREY, "o")
COMBINED = Look("combined", ORANGE, "h")
# Of families whose steps come with the project; the family of any other has OTHER's colour and marker.
LOOKS = {
    look.family: look
    for look in (
        Look("dynamic int8", BLUE, "^"),
        Look("int8 weights", SKY, "v"),
        Look("static int8", VERMILLION, "s"),
        Look("mixed int8", VERMILLION, "*"),
        Look("pruned", PURPLE, "P"),
        Look("fewer channels", PURPLE, "p"),
        Look("half precision", SKY, "<"),
        Look("distilled", GREEN, "X"),
    )
}
OTHER = Look("", BLUE, "d")


class Chart(NamedTuple):
    """A figure with what a reader who cannot see it gets (`alt`), and what stands below it (`caption`).

    `narrow` is the same for a phone, where the wide one would have to be scrolled.
    """

    name: str
    figure: Figure
    alt: str
    caption: str
    narrow: Figure | None = None


def look(variant: VariantSummary) -> Look:
    """The look of a variant, by what its recipe does.

    The same numbers in another order or another file are no family of their own, unless nothing else was done.
    """
    if variant.name in (ORIGINAL, ORIGINAL_COPY):
        return BASELINE
    families = list(dict.fromkeys(step.family for step in variant.steps if step.optimizes))
    if not families:
        return PLAIN
    if len(families) > 1:
        return COMBINED
    return LOOKS.get(families[0], OTHER._replace(family=families[0]))


def new_figure(height: float, width: float = WIDTH, **subplots: Any) -> tuple[Figure, Any]:
    """An empty figure, by default in the page's width, and its axes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.03)  # type: ignore[union-attr]
        return figure, figure.subplots(**subplots)


def freeze_layout(figure: Figure) -> None:
    """Lay the figure out as it will be drawn, and keep its axes where they are then.

    The style is the one that it is saved in: ticks that only come with the layout would otherwise have another size,
    and margins would be made for other labels than those that are drawn.
    """
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
    figure.set_layout_engine(None)


def with_narrow(draw: Callable[[Summary, float], Chart | None], summary: Summary) -> Chart | None:
    """The chart that `draw` makes in the page's width, with its narrow form."""
    chart, narrow = draw(summary, WIDTH), draw(summary, NARROW)
    return chart._replace(narrow=narrow.figure) if chart and narrow else chart


def axis_label(figure: Figure, text: str) -> str:
    """The label of a horizontal axis, in several lines where the figure is narrow."""
    return text if figure.get_figwidth() == WIDTH else textwrap.fill(text, LABEL)


def set_title(figure: Figure, text: str) -> None:
    """The finding, in bold, from the left edge of the figure."""
    lines = textwrap.fill(text, round(TITLE * figure.get_figwidth() / WIDTH))
    figure.suptitle(lines, x=0.008, ha="left", fontsize=8.5, fontweight="bold")


def target_line(axes: Axes, value: float, text: str, vertical: bool = True) -> None:
    """A dashed line where the target is, labelled at its end, outside the data."""
    line: dict[str, Any] = {"color": "#444444", "linewidth": 0.9, "linestyle": (0, (4, 3)), "zorder": 1.5}
    words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, "color": "#444444"}
    if vertical:
        axes.axvline(value, **line)
        axes.annotate(text, (value, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2), ha="center", **words)
    else:
        axes.axhline(value, **line)
        lines = text.replace(" ", "\n", 1)
        axes.annotate(lines, (1.0, value), xycoords=("axes fraction", "data"), xytext=(3, 0), va="center", **words)


def forest(
    axes: Axes, names: Sequence[str], rows: Sequence[Estimate | None], looks: Sequence[Look], scale: float = 1.0
) -> None:
    """A dot with its interval for each name, the first at the top."""
    for index, (estimate, style) in enumerate(zip(rows, looks, strict=True)):
        if estimate is None:
            continue
        low, high = estimate.ends
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


def svg_text(chart: Chart) -> str:
    """The chart as a stand-alone SVG: the same bytes for the same numbers."""
    return _svg(chart.figure, chart.name)


def narrow_svg_text(chart: Chart) -> str:
    """The chart for a phone as a stand-alone SVG; empty where it has no such form."""
    return _svg(chart.narrow, f"{chart.name}-narrow") if chart.narrow else ""


@lru_cache(maxsize=64)
def _svg(figure: Figure, name: str) -> str:
    """Drawn once for the page and the file: the layout of a figure takes tenths of a second."""
    buffer, layout, dpi = io.StringIO(), figure.get_layout_engine(), figure.dpi
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        if layout:  # savefig would draw all that is in the figure once more, to nowhere, to lay it out
            FigureCanvasSVG(figure)
            layout.execute(figure)
            figure.set_layout_engine(None)
            figure.dpi = dpi  # measuring text for an SVG sets it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": name})
    return _with_small_pictures(_page_fonts(_own_ids(buffer.getvalue(), name)))


def inline_svg(svg: str, alt: str) -> str:
    """An SVG to stand in an HTML page: no prolog, no fixed size, and its description for a screen reader."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    head, rest = body.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'{head} role="img" aria-label="{label}">{rest}'


def _own_ids(svg: str, name: str) -> str:
    """Keep only ids that something refers to, with the figure's name before them: pages hold several figures."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    used = {first or second for first, second in used}
    svg = re.sub(r'\sid="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)


def _page_fonts(svg: str) -> str:
    """The page's fonts in place of the one that the text was laid out in (`font` shorthands spelled out)."""

    def spelled_out(found: re.Match[str]) -> str:
        weight = "font-weight: 700; " if re.search(r"\b(bold|[6-9]00)\b", found[1]) else ""
        return f"{weight}font-size: {found[2]}; font-family: 'DejaVu Sans'"

    svg = re.sub(r"font: ((?:[a-z0-9]+ )*?)([\d.]+px) [^;\"]+", spelled_out, svg)
    return re.sub(r"font-family: 'DejaVu Sans'[^;\"]*", f"font-family: {FONT_STACK}", svg)


def _with_small_pictures(svg: str) -> str:
    """An SVG with its embedded PNGs in few shades: the same to the eye, a fraction of the bytes."""
    from PIL import Image

    def smaller(found: re.Match[str]) -> str:
        picture = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
        buffer = io.BytesIO()
        picture.quantize(SHADES, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
        return f'"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"'

    return re.sub(r'"data:image/png;base64,([^"]+)"', smaller, svg)
