"""What each gain costs: in words, and in one picture of latency, predicted MOS, size and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import quality_words
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import bits_of, code, listed
from ttsopt_lib.report.facts.verdict import candidates, change_beside, why_undecided, worse_end
from ttsopt_lib.report.printing.label_places import Point, place_labels
from ttsopt_lib.report.printing.plot_style import (
    GREY,
    WIDTH,
    Chart,
    Look,
    axis_label,
    freeze_layout,
    look,
    new_figure,
    set_title,
    target_line,
)
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Summary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

MUCH_SMALLER = 0.3  # of the file: from here on one would expect it to be faster
BASELINE = "original (baseline)"
PEER = Look("peer", GREY, "h")


class Position(NamedTuple):
    """A voice in the plane of the trade-off: latency reduction in per cent, change of the predicted MOS."""

    name: str
    size_bytes: int
    latency: Estimate
    change: Estimate
    look: Look

    @property
    def x(self) -> float:
        return 100 * self.latency.value

    @property
    def y(self) -> float:
        return self.change.value


def positions(summary: Summary, device: DeviceSummary) -> list[Position]:
    """Every variant that was both timed on the device and scored."""
    found = []
    for variant in summary.variants:
        latency, change = findings.latency_of(summary, device, variant.name), findings.change_of(summary, variant.name)
        if latency and change:
            found.append(Position(variant.name, variant.size_bytes, latency, change, look(variant)))
    return found


def peer_positions(summary: Summary, device: DeviceSummary) -> list[Position]:
    """Every peer that was timed on the device and scored: no candidates, and no part of the Pareto front.

    Another voice has no change, and so no place here.
    """
    primary, found = summary.primary_predictor, []
    for peer in summary.peers:
        timing = peer.timing_on(device.device)
        quality = next((row for row in peer.quality if primary and row.predictor == primary.name), None)
        if timing and timing.latency_reduction and quality and quality.predicted_mos.change and peer.size_bytes:
            change = quality.predicted_mos.change
            found.append(Position(peer.name, peer.size_bytes, timing.latency_reduction, change, PEER))
    return found


def tradeoff_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """The trade-off on the first measured device; None where nothing was both timed and scored."""
    device = next((device for device in summary.measured_devices if len(positions(summary, device)) > 1), None)
    if device is None or summary.primary_predictor is None:
        return None
    points, peers = positions(summary, device), peer_positions(summary, device)
    alt = f"Scatter plot of latency reduction on {device.label} against change of the predicted MOS. " + "; ".join(
        f"{'peer ' if p.look == PEER else ''}{p.name}: {numbers.REDUCTION.figure(p.latency)} faster, "
        f"{numbers.CHANGE.figure(p.change)}, {numbers.megabytes(p.size_bytes)} MB"
        for p in [*points, *peers]
    )
    caption = (
        "Up and to the right is better; the area of a mark is the size of the file. The shaded corner meets both "
        "targets; the grey line joins the variants that no other one beats in both (the Pareto front). "
        f"Crosses are {quality_words.intervals(summary)}. Changes of the predicted MOS are "
        f"{findings.over_all(summary)} here; the verdict reports those that had no part in the choice."
    )
    if peers:
        caption += " Grey hexagons are peers: the same voice by other tools, no candidates and not in the front."
    return Chart("tradeoff", _picture(summary, device, points, peers, width), alt + ".", caption)


def _picture(
    summary: Summary, device: DeviceSummary, points: list[Position], peers: list[Position], width: float
) -> Figure:
    """The plane with its points, names, targets and front."""
    height = 3.5 if peers else 2.95
    figure, axes = new_figure(height if width == WIDTH else 4.2, width)
    shown = [*points, *peers]
    largest = max(point.size_bytes for point in shown)
    areas = [130.0 * point.size_bytes / largest for point in shown]  # square points
    marks = list(zip(shown, areas, strict=True))
    # peers first, then from large to small: what is drawn later lies on top
    for point, area in sorted(marks, key=lambda mark: -math.inf if mark[0].look == PEER else -mark[1]):
        _mark(axes, point, area)
    _frame(axes, summary, shown)
    front = findings.pareto_front([(point.x, point.y) for point in points])
    axes.plot([points[i].x for i in front], [points[i].y for i in front], color="#777777", linewidth=0.9, zorder=1.6)
    label = f"time per second of audio saved on {device.label} ({device.threads}\N{NO-BREAK SPACE}thread"
    label += ("s)" if device.threads > 1 else ")") + ",\N{NO-BREAK SPACE}%    better →"
    axes.set_xlabel(axis_label(figure, label))
    axes.set_ylabel("predicted MOS change    better →")
    set_title(figure, findings.tradeoff_title(summary, device))
    axes.grid()
    named = [
        Point(BASELINE if point.name == ORIGINAL else point.name, point.x, point.y, math.sqrt(area) / 2 + 0.5)
        for point, area in marks
    ]
    freeze_layout(figure)  # places of names are final
    place_labels(axes, named, 6.5, [text.get_window_extent() for text in axes.texts], first=BASELINE)
    return figure


def _mark(axes: Axes, point: Position, area: float) -> None:
    """A point with its intervals; a peer's is open."""
    style = point.look
    axes.plot([100 * end for end in point.latency.ends], [point.y] * 2, color=style.colour, linewidth=0.9, zorder=2)
    axes.plot([point.x] * 2, point.change.ends, color=style.colour, linewidth=0.9, zorder=2)
    drawn: dict[str, Any]
    if style == PEER:
        drawn = {"facecolor": "white", "alpha": 0.8, "edgecolor": style.colour, "linewidth": 0.9, "zorder": 2.5}
    else:
        drawn = {"facecolor": style.colour, "alpha": 0.6, "edgecolor": "#222222", "linewidth": 0.6, "zorder": 3}
    axes.scatter(point.x, point.y, s=area, marker=style.marker, **drawn)


def _frame(axes: Axes, summary: Summary, points: Sequence[Position]) -> None:
    """Limits, targets and the corner that meets both."""
    targets = summary.targets
    goal_x, goal_y = 100 * targets.latency_reduction, targets.predicted_mos_change
    xs = [100 * end for p in points for end in p.latency.ends]
    ys = [end for p in points for end in p.change.ends]
    x_low, x_high = min([0.0, *xs]), max([goal_x, *xs])
    y_low, y_high = min([goal_y, *ys]), max([0.0, *ys])
    x_pad, y_pad = 0.09 * (x_high - x_low), 0.16 * (y_high - y_low)
    axes.set_xlim(x_low - x_pad, x_high + 1.6 * x_pad)
    axes.set_ylim(y_low - y_pad, y_high + y_pad)
    axes.fill_between([goal_x, x_high + 1.6 * x_pad], goal_y, y_high + y_pad, color="#E8F3EE", zorder=0.5)
    target_line(axes, goal_y, f"target {numbers.CHANGE.exact(goal_y)}", vertical=False)
    target_line(axes, goal_x, f"target {numbers.REDUCTION.exact(targets.latency_reduction)}")


def tradeoff(summary: Summary) -> list[str]:
    """What each gain costs: size against quality, speed, size against speed, and who beats whom."""
    sentences = [
        _size_against_quality(summary),
        *(_speed(summary, device) for device in summary.measured_devices),
        *_small_but_not_fast(summary),
        *_front(summary),
    ]
    if not summary.measured_devices:
        sentences.append("What a smaller file buys in speed cannot be said: no device was measured.")
    return sentences


def _size_against_quality(summary: Summary) -> str:
    small, total = findings.meets_size(summary), len(candidates(summary))
    target = numbers.REDUCTION.exact(summary.targets.size_reduction)
    verb = "is" if len(small) == 1 else "are"
    size = (
        f"{len(small)} of {total} variants {verb} at least {target} smaller ({code(small)})"
        if small
        else f"None of the {total} variants is at least {target} smaller; {_smallest(summary)}"
    )
    if not summary.predictors:
        return f"{size}. What that costs in quality was not measured."
    kept = findings.keeps_quality(summary)
    both = [name for name in small if name in kept]
    limit = f"{numbers.CHANGE.exact(summary.targets.predicted_mos_change)} {findings.over_all(summary)}"
    if both:
        return (
            f"{size}; {code(both)} also {'keeps its' if len(both) == 1 else 'keep their'} predicted MOS within {limit}."
        )
    if not small:
        verb = "keeps its" if len(kept) == 1 else "keep their"
        quality = f"{code(kept)} {verb} predicted MOS" if kept else "None keeps its predicted MOS"
        return f"{size}. {quality} within {limit}."
    losses = [
        f"`{name}` changes by {change_beside(change, summary.targets.predicted_mos_change)}"
        for name in small
        if (change := findings.change_of(summary, name))
    ]
    return f"{size}, but none of them keeps its predicted MOS within {limit}: {listed(losses)}."


def _smallest(summary: Summary) -> str:
    found = findings.smallest(summary)
    if found is None:
        return "none is smaller than the original at all"
    size = Estimate(value=found.size_reduction, ci=None)
    smaller, _ = numbers.REDUCTION.beside(size, summary.targets.size_reduction)
    return f"the smallest, `{found.name}`, is {smaller} smaller"


def _speed(summary: Summary, device: DeviceSummary) -> str:
    best = findings.fastest(summary, device)
    slow = findings.not_shown_faster(summary, device)
    copy = findings.latency_of(summary, device, ORIGINAL_COPY)
    same = f" (the original timed against itself differs by {numbers.REDUCTION.figure(copy)})" if copy else ""
    if best is None and not slow:
        return f"On {device.label} nothing is known of speed: {why_undecided(summary, device)}."
    if best is None:
        return f"On {device.label} no variant is measurably faster than the original{same}."
    target = numbers.REDUCTION.exact(summary.targets.latency_reduction)
    figure = " ".join(numbers.REDUCTION.beside(best[1], summary.targets.latency_reduction)).rstrip()
    enough = "which meets" if worse_end(best[1]) >= summary.targets.latency_reduction else "which misses"
    text = (
        f"On {device.label} the fastest is `{best[0]}` with {figure} less time per "
        f"second of audio, {enough} the target of {target}"
    )
    if slow:
        text += f"; {code(slow)} {'is' if len(slow) == 1 else 'are'} not measurably faster than the original{same}"
    return text + "."


def _small_but_not_fast(summary: Summary) -> list[str]:
    """Size is not speed: variants that are much smaller and yet not measurably faster, or shown to be no faster."""
    sentences = []
    for variant in findings.of_variants(summary):
        where = [d for d in summary.measured_devices if variant.name in findings.not_shown_faster(summary, d)]
        if not where or variant.size_reduction < MUCH_SMALLER:
            continue
        why = ""
        if not summary.model and {step.kind for step in variant.steps} - {"packing"} == {"stored weights"}:
            bits = f"its weights are stored in {bits_of(variant)} bits"
            why = f": {bits} but every product is still computed in 32-bit floating point"
        smaller, labels = numbers.percent(variant.size_reduction), [device.label for device in where]
        shown = all(findings.no_faster(findings.latency_of(summary, device, variant.name)) for device in where)
        faster = "no faster" if shown else "not measurably faster"
        sentences.append(
            f"Size is not speed: `{variant.name}` is {smaller} smaller and {faster} on {listed(labels)}{why}."
        )
    return sentences


def _front(summary: Summary) -> list[str]:
    """The variants that no other one beats in both latency and predicted MOS, devices with the same ones together."""
    where: dict[str, list[str]] = {}
    for device in summary.measured_devices:
        points = positions(summary, device)
        if len(points) > 2:
            front = [points[i].name for i in findings.pareto_front([(point.x, point.y) for point in points])]
            verb = "is" if len(front) == 1 else "are"
            text = f"{code(front)} {verb} not beaten in both latency and predicted MOS by any other"
            where.setdefault(text, []).append(device.label)
    return [f"On {listed(labels)} {text}." for text, labels in where.items()]
