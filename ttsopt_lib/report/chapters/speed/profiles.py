"""Where the time goes, before and after, and how much any one stage could give at most (Amdahl's law)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from matplotlib.axes import Axes

from ttsopt_lib.records.device import ProfileRecord
from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.numbers import MS, PERCENT, REDUCTION, SHARE, number, percent
from ttsopt_lib.report.printing.html import FEW, figure, not_printed, on_paper
from ttsopt_lib.report.printing.plot_style import ORANGE, SKY, WIDTH, Chart, axis_label, new_figure, set_title
from ttsopt_lib.report.printing.table import NONE, Column, Table, figure_cell, name_of
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Summary, TimingSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

BAR = 0.24  # inches of height for a bar
STAGES = {
    "text encoder": ("#0072B2", ""),
    "durations": ("#F0E442", "|||"),
    "flow": (SKY, ""),
    "decoder": (ORANGE, "////"),
    "convolutions": (ORANGE, "////"),  # of a model that is no VITS
    "matrix products": ("#0072B2", ""),
    "recurrent layers": (SKY, ""),
    "other": ("#DDDDDD", ""),
}
WHITE_TEXT = {"text encoder", "matrix products"}
WIDE_ENOUGH = 0.07  # of the axis: a narrower part of a bar has no room for its figure
KEPT_OPERATORS = 0.01  # of the original's or the variant's time: less is left out of the table
TOP_OPERATORS = 6  # in the page; tables/operators.csv has the others
GAINED = 0.05  # of the original's time: a stage that saved less of it does not count as faster


def _pairs(device: DeviceSummary) -> list[tuple[ProfileRecord, ProfileRecord]]:
    """The original's profile beside each variant's."""
    before = next((profile for profile in device.profiles if profile.variant == ORIGINAL), None)
    return [(before, after) for after in device.profiles if after is not before] if before else []


# --- stages -----------------------------------------------------------------------------------------------------


def stages(measured: Sequence[DeviceSummary]) -> Table:
    """Stage by stage: time before and after, share of the original's time, and what the stage gave of the whole.

    `bound` is Amdahl's: the reduction of the whole if that stage cost nothing, which is its share.
    """
    rows = []
    for device in measured:
        for before, after in _pairs(device):
            total, total_after = _whole(before), _whole(after)
            for stage, seconds in before.stages.items():
                now = after.stages.get(stage, 0.0)
                rows.append(
                    SimpleNamespace(
                        device=device.label,
                        variant=after.variant,
                        stage=stage,
                        before_ms=1000 * seconds,
                        after_ms=1000 * now,
                        share=seconds / total,
                        share_after=now / total_after,
                        gain=(seconds - now) / total,
                        bound=seconds / total,
                    )
                )
    names = "device variant stage before_ms after_ms share share_after gain bound"
    return Table(
        "stages",
        "Where the time goes: each stage's share of the time in ONNX Runtime, from its own profile",
        [Column(name) for name in names.split()],
        rows,
        group=lambda row: row.device,
    )


def shares_of_stages(measured: Sequence[DeviceSummary]) -> str:
    """The same for the page: a row per voice, a column per stage with its share of the time."""
    long = stages(measured)
    rows: dict[tuple[str, str], SimpleNamespace] = {}
    for part in long.rows:
        for variant, share in ((ORIGINAL, part.share), (part.variant, part.share_after)):
            row = SimpleNamespace(device=part.device, variant=variant, shares={})
            rows.setdefault((part.device, variant), row).shares[part.stage] = share

    def column(stage: str) -> Column:
        return Column("", stage.capitalize(), SHARE, lambda row: row.shares[stage])

    names = dict.fromkeys(part.stage for part in long.rows)
    page = [Column("", "Variant", cell=name_of), *(column(name) for name in names)]
    return replace(long, columns=page, rows=list(rows.values())).html


# --- operators --------------------------------------------------------------------------------------------------


def _times(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    return {name: (before.get(name, 0.0), after.get(name, 0.0)) for name in dict.fromkeys([*before, *after])}


def _operators(rows: Sequence[Any]) -> Table:
    return Table(
        "operators",
        "Which operators the time goes to, before and after: one pass over the timing sentences in ONNX Runtime's "
        "profile (every variant: `tables/operators.csv`)",
        [
            Column("device"),
            Column("variant"),
            Column("operator", "Operator"),
            Column("before_ms", "Before, ms", MS.bare),
            Column("after_ms"),
            Column("share", "Share before", SHARE),
            Column("", "After, ms", MS.bare, "after_ms"),
            Column("share_after", "Share after", SHARE),
        ],
        rows,
        missing="What was optimized has no profile beside the original's, so operators cannot be compared.",
        group=lambda row: f"{row.device}: the original before, `{row.variant}` after",
    )


def _operator(
    device: DeviceSummary, before: ProfileRecord, after: ProfileRecord, name: str, times: tuple[float, float]
):
    return SimpleNamespace(
        device=device.label,
        variant=after.variant,
        operator=name,
        before_ms=1000 * times[0],
        after_ms=1000 * times[1],
        share=times[0] / sum(before.operators.values()),
        share_after=times[1] / sum(after.operators.values()),
    )


def operators(measured: Sequence[DeviceSummary]) -> Table:
    """Time by operator type, before and after; those below one per cent of both are left out."""
    rows = [
        _operator(device, before, after, name, times)
        for device in measured
        for before, after in _pairs(device)
        for name, times in _times(before.operators, after.operators).items()
    ]
    return _operators([row for row in rows if max(row.share, row.share_after) >= KEPT_OPERATORS])


def top_operators(summary: Summary) -> Table:
    """The operator types that take most of the original's or the optimized variant's time (or the closest one's).

    One row per type and device, then the others as one row; ms of one pass over the timing sentences.
    """
    rows = []
    for device in summary.measured_devices:
        shown = findings.shown_on(summary, device)
        for before, after in _pairs(device):
            if after.variant != shown:
                continue
            times = _times(before.operators, after.operators)
            found = [_operator(device, before, after, f"`{name}`", pair) for name, pair in times.items()]
            found.sort(key=lambda row: -max(row.share, row.share_after))
            rows += found[:TOP_OPERATORS]
            if others := [times[row.operator.strip("`")] for row in found[TOP_OPERATORS:]]:
                together = sum(pair[0] for pair in others), sum(pair[1] for pair in others)
                rows.append(_operator(device, before, after, f"{len(others)} others", together))
    return _operators(rows)


# --- the bound --------------------------------------------------------------------------------------------------


def amdahl(measured: Sequence[DeviceSummary]) -> Table:
    """One row per variant that made a stage faster: the measured reduction beside Amdahl's bound.

    A stage became faster where it saved `GAINED` of the original's time, and more than the original differs from
    itself on that device. `bound` is the reduction of the whole if those stages cost nothing and the others what
    they cost now. A variant without such a stage has no row.
    """
    rows = []
    for device in measured:
        least = max(GAINED, _noise(device.rows))
        for before, after in _pairs(device):
            total = _whole(before)
            faster = [s for s, seconds in before.stages.items() if seconds - after.stages.get(s, 0.0) >= least * total]
            if not faster:
                continue
            bound = 1 - sum(seconds for stage, seconds in after.stages.items() if stage not in faster) / total
            rows.append(
                SimpleNamespace(
                    device=device.label,
                    variant=after.variant,
                    threads=after.threads,
                    faster_stages=", ".join(faster),
                    bound=bound,
                    bound_speedup=1 / (1 - bound) if bound < 1 else None,
                    profiled_reduction=1 - _whole(after) / total,
                    measured=_measured(device.rows, after),
                )
            )
    return Table(
        "amdahl",
        "What speeding up some stages can give at most (Amdahl's law), beside what was measured; variants in which "
        f"no stage saved {percent(GAINED)} of the original's time have no row",
        [
            Column("device"),
            Column("variant", "Variant", cell=name_of),
            Column("threads"),
            Column("faster_stages", "Stages that became faster"),
            Column("bound", "Bound: if they cost nothing", PERCENT, cell=_bound),
            Column("bound_speedup"),
            Column("profiled_reduction"),
            Column("measured", "Measured reduction", PERCENT, cell=_reduction, interval=True),
        ],
        rows,
        missing=f"No variant has a stage that saved {percent(GAINED)} of the original's time, so there is no bound to "
        "tell.",
        group=lambda row: row.device,
    )


def _measured(rows: Sequence[TimingSummary], profile: ProfileRecord) -> Estimate | None:
    """The reduction that was timed under the conditions of a profile."""
    wanted = (profile.variant, "onnxruntime", profile.threads)
    found = next((row for row in rows if (row.variant, row.runtime, row.threads) == wanted), None)
    return found.latency_reduction if found else None


def _noise(rows: Sequence[TimingSummary]) -> float:
    """How far the original may differ from itself: the farther end of the A/A row's interval, as a fraction."""
    found = (row.latency_reduction for row in rows if row.variant == ORIGINAL_COPY and row.runtime == "onnxruntime")
    ends = [end for one in found if one for end in one.ends]
    return max((abs(end) for end in ends), default=0.0)


def _bound(row: Any) -> str:
    if row.bound_speedup is None:
        return "none: every stage became faster"
    return f"{PERCENT.value(row.bound)} ({number(row.bound_speedup, 1)} times)"


def _reduction(row: Any) -> str:
    """The value with a digit more than its interval, to be held against the bound."""
    return figure_cell(PERCENT.value(row.measured.value), REDUCTION.interval(row.measured.ci)) if row.measured else NONE


# --- in the page ------------------------------------------------------------------------------------------------


def section(summary: Summary, chart: Chart | None) -> list[str]:
    """The picture, and the tables of stages, of operators (on the screen alone) and of bounds.

    There is nothing where no device has a profile.
    """
    measured = summary.measured_devices
    if not stages(measured).rows:
        return []
    shares = [shares_of_stages(measured)]
    where = "Each stage's share of the time, of every variant: `report.html` and `tables/stages.csv`."
    return [
        figure(chart, "No picture of the stages: no variant was both timed and profiled."),
        *(shares if len(measured) <= FEW else not_printed(shares, where)),
        '<div class="screen-only">',
        top_operators(summary).html,
        "</div>",
        replace(amdahl(measured), groups_on_paper=on_paper(measured)).html,
    ]


def stage_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """Bars of the original and of what was optimized, split by stage; None where no device has a profile."""
    panels = [(device, rows) for device in summary.measured_devices if len(rows := _shown(summary, device)) > 1]
    if not panels:
        return None
    bars = sum(len(rows) for _, rows in panels)
    figure, grid = new_figure(
        0.95 + BAR * bars + 0.16 * len(panels), width, nrows=len(panels), sharex=True, squeeze=False,
        height_ratios=[len(rows) for _, rows in panels],
    )  # fmt: skip
    for axes, (device, rows) in zip(grid[:, 0], panels, strict=True):
        _stage_bars(axes, rows)
        if len(summary.measured_devices) > 1:
            axes.set_title(device.label, fontsize=7.5, loc="left", pad=3)
    label = "time of all timing sentences, from ONNX Runtime's profile (% of the original's)"
    grid[-1, 0].set_xlabel(axis_label(figure, label))
    present = [stage for stage in STAGES if any(stage in profile.stages for _, rows in panels for profile in rows)]
    handles = [grid[0, 0].barh(0, 0, color=STAGES[s][0], hatch=STAGES[s][1], edgecolor="#444444") for s in present]
    figure.legend(
        handles, present, loc="outside lower center", ncols=len(present) if width == WIDTH else 3, frameon=False,
        fontsize=6.5, handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    device, rows = panels[0]
    set_title(figure, _stage_title(device, rows))
    alt = "Stacked bars of the time of each stage. " + " ".join(
        f"{profile.variant} on {device.label}: "
        + ", ".join(
            f"{stage} {numbers.percent(seconds / _whole(rows[0]))}" for stage, seconds in profile.stages.items()
        )
        + "."
        for device, rows in panels
        for profile in rows
    )
    caption = (
        "Where the time goes before and after, stage by stage, as parts of the original's time on the same device: the "
        "original, the optimized variant (or the one that came closest) and the fastest one."
    )
    return Chart("stages", figure, alt, caption)


def _shown(summary: Summary, device: DeviceSummary) -> list[ProfileRecord]:
    """The profiles of the original, of the chosen or closest variant and of the fastest one, in this order."""
    fastest = findings.fastest(summary, device)
    names = [ORIGINAL, findings.shown_on(summary, device), fastest and fastest[0]]
    profiles = {profile.variant: profile for profile in device.profiles if _whole(profile) > 0}
    return [profiles[name] for name in dict.fromkeys(names) if name in profiles] if ORIGINAL in profiles else []


def _whole(profile: ProfileRecord) -> float:
    return sum(profile.stages.values())


def _stage_bars(axes: Axes, rows: list[ProfileRecord]) -> None:
    scale = 100 / _whole(rows[0])
    longest = max(_whole(profile) for profile in rows) * scale
    for index, profile in enumerate(rows):
        left = 0.0
        for stage, (colour, hatch) in STAGES.items():
            width = profile.stages.get(stage, 0.0) * scale
            axes.barh(
                index, width, left=left, height=0.66, color=colour, hatch=hatch, edgecolor="#444444", linewidth=0.4
            )
            if width > 100 * WIDE_ENOUGH:
                axes.annotate(
                    numbers.number(width), (left + width / 2, index), ha="center", va="center", fontsize=6.5,
                    color="white" if stage in WHITE_TEXT else "black",
                    bbox=None if not hatch else {"facecolor": colour, "edgecolor": "none", "pad": 0.8},
                )  # fmt: skip
            left += width
        axes.annotate(
            f"{numbers.number(left)} %", (left, index), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=6.5,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [profile.variant for profile in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(100.0, longest) * 1.1)
    axes.tick_params(axis="y", length=0)


def _stage_title(device: DeviceSummary, rows: list[ProfileRecord]) -> str:
    """Which stage takes most, before and after, on the first device."""
    shares = [
        (stage, numbers.percent(seconds / _whole(profile)), profile.variant)
        for profile in rows[:2]
        for stage, seconds in [max(profile.stages.items(), key=lambda item: item[1])]
    ]
    (stage, before, _), (after_stage, after, name) = shares
    if stage == after_stage:
        return f"{_named(stage)} {before} of the time on {device.label} before, {after} after ({name})"
    first = f"On {device.label} {_named(stage, 'the')} {before} of the time before"
    return f"{first}, the {after_stage} {after} after ({name})"


def _named(stage: str, article: str = "The") -> str:
    """A stage as the subject of a sentence, with its verb."""
    return f"{article} {stage} {'take' if stage.endswith('s') else 'takes'}"
