"""The figures: names that do not cover each other, text for those who cannot see, the same bytes every time."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ttsopt_lib.report.chapters import quality, sizes
from ttsopt_lib.report.chapters.speed import timings
from ttsopt_lib.report.chapters.speed.profiles import stage_chart
from ttsopt_lib.report.chapters.tradeoff import tradeoff_chart
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import pareto_front
from ttsopt_lib.report.printing.plot_style import WIDTH, Chart, inline_svg, narrow_svg_text, svg_text, with_narrow
from ttsopt_lib.report.schema import Summary


def charts(summary: Summary) -> list[Chart]:
    drawn = (sizes.size_chart, timings.latency_chart, quality.quality_chart, tradeoff_chart)
    return [chart for draw in drawn if (chart := with_narrow(draw, summary))]


@pytest.fixture(scope="module")
def drawn(summary) -> list[Chart]:
    """The figures of the study "many"."""
    return charts(summary("many"))


def test_there_are_four_where_all_was_measured_and_only_sizes_where_nothing_was(summary):
    assert [chart.name for chart in charts(summary("good"))] == ["size", "latency", "quality", "tradeoff"]
    assert [chart.name for chart in charts(summary("unmeasured"))] == ["size"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["figure", "narrow"])
@pytest.mark.parametrize("name", ["good", "bad", "many"])
def test_names_in_the_trade_off_cover_no_other_name(name, form, summary):
    chart = with_narrow(tradeoff_chart, summary(name))
    assert chart
    figure = getattr(chart, form)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    names = {variant.name for variant in summary(name).variants}
    written = {text.get_text() for text in texts}
    assert names - {"original"} <= written and "original (baseline)" in written
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width <= 1 or height <= 1, (one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "bad", "unmeasured", "many"])
def test_titles_fit_the_figure(name, summary):
    for chart in charts(summary(name)):
        canvas = FigureCanvasAgg(chart.figure)
        chart.figure.draw_without_rendering()
        title = chart.figure._suptitle  # type: ignore[attr-defined]
        assert title and title.get_window_extent(canvas.get_renderer()).x1 <= chart.figure.bbox.x1, chart.name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "bad", "unmeasured", "many"])
def test_nothing_leaves_a_narrow_figure(name, summary):
    stages = with_narrow(stage_chart, summary(name))
    for chart in [*charts(summary(name)), *([stages] if stages else [])]:
        narrow = chart.narrow
        assert narrow
        renderer = FigureCanvasAgg(narrow).get_renderer()
        narrow.draw_without_rendering()
        box = narrow.get_tightbbox(renderer)  # inches
        assert box.x0 >= -0.01 and box.x1 <= narrow.get_figwidth() + 0.01, chart.name


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["good", "bad", "many"])
def test_the_axis_label_of_the_trade_off_is_whole_whatever_the_title_leaves_of_the_height(
    name, lines, summary, monkeypatch
):
    title = " ".join(["a finding in words that fill one whole line of the figure, as they may"] * lines)
    monkeypatch.setattr(findings, "tradeoff_title", lambda *_: title)
    chart = tradeoff_chart(summary(name), WIDTH)
    assert chart
    found = re.search(r'font-size: (\d+)px[^>]* x="([\d.]+)"[^>]*>predicted MOS change', svg_text(chart))
    assert found
    size, baseline = float(found[1]), float(found[2])  # the letters stand on their heads to the left of it
    assert baseline >= 0.8 * size


def test_alt_text_says_every_number_that_is_drawn(summary):
    for chart in charts(summary("good")):
        for variant in summary("good").variants[1:]:
            assert variant.name in chart.alt, chart.name
        assert chart.alt.endswith(".") and chart.caption.endswith(".")


@pytest.mark.slow
def test_the_same_numbers_give_the_same_bytes(summary):
    first = [svg_text(chart) for chart in charts(summary("good"))]
    again = [svg_text(chart) for chart in charts(summary("good"))]
    assert first == again


@pytest.mark.slow
def test_svgs_are_well_formed_small_and_load_nothing(drawn):
    for chart in drawn:
        svg = svg_text(chart)
        ET.fromstring(svg)
        assert len(svg) < 120_000
        for link in re.findall(r'href="([^"]+)"|url\(([^)]+)\)', svg):
            assert (link[0] or link[1]).startswith("#")


@pytest.mark.slow
def test_text_of_figures_uses_the_fonts_of_the_page(drawn):
    for chart in drawn:
        svg = svg_text(chart)
        assert "<text" in svg and "DejaVu" not in svg and "system-ui" in svg


@pytest.mark.slow
def test_ids_of_several_figures_in_one_page_differ(drawn):
    texts = [text for chart in drawn for text in (svg_text(chart), narrow_svg_text(chart))]
    ids = [found for text in texts for found in re.findall(r'\bid="([^"]+)"', text)]
    assert ids and len(ids) == len(set(ids))


@pytest.mark.slow
def test_an_inline_figure_has_its_description_and_no_fixed_size(drawn):
    svg = inline_svg(svg_text(drawn[0]), 'a "b" <c>')
    head = svg.split(">", 1)[0]
    assert 'role="img"' in head and "width=" not in head and "viewBox=" in head
    label = ET.fromstring(svg).get("aria-label")
    assert label is not None and label.split() == ["a", '"b"', "<c>"]


def test_the_pareto_front_is_what_nothing_beats():
    points = [(0.0, 0.0), (0.5, -0.1), (0.4, -0.2), (0.5, -0.3), (-0.1, -0.1)]
    assert pareto_front(points) == [0, 1]
    assert pareto_front([(0.0, 0.0), (0.0, 0.0)]) == [0, 1]
