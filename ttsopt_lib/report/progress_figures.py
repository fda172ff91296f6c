"""Two figures of how a voice became fast: where its time goes before and after, and how its student was trained."""

from __future__ import annotations

from matplotlib.axes import Axes

from ttsopt_lib.records import ProfileRecord
from ttsopt_lib.report import findings, numbers
from ttsopt_lib.report.findings import listed
from ttsopt_lib.report.plot_style import (
    GREEN,
    GREY,
    ORANGE,
    SKY,
    WIDTH,
    Chart,
    axis_label,
    new_figure,
    set_title,
    target_line,
)
from ttsopt_lib.report.schema import DeviceSummary, StudentSummary, Summary
from ttsopt_lib.study import ORIGINAL

BAR = 0.24  # inches of height for a bar
# colour and hatching of each stage: neighbours differ in lightness, and in black and white by their lines
STAGES = {
    "text encoder": ("#0072B2", ""),
    "durations": ("#F0E442", "|||"),
    "flow": (SKY, ""),
    "decoder": (ORANGE, "////"),
    "other": ("#DDDDDD", ""),
}
WHITE_TEXT = {"text encoder"}
WIDE_ENOUGH = 0.07  # of the axis: a narrower part of a bar has no room for its figure


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
    choice = next((choice for choice in summary.choices if choice.device == device.device), None)
    fastest = findings.fastest(summary, device)
    names = [ORIGINAL, choice and (choice.variant or choice.closest), fastest and fastest[0]]
    profiles = {profile.variant: profile for profile in device.profiles if sum(profile.stages.values()) > 0}
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
        return f"The {stage} takes {before} of the time on {device.label} before, {after} after ({name})"
    return f"On {device.label} the {stage} takes {before} of the time before, the {after_stage} {after} after ({name})"


# --- the student's training -----------------------------------------------------------------------------------------


def training_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """The predicted MOS of each student over its training; None where no student has a curve of two points."""
    students = [student for student in summary.students if len(student.curve) > 1]
    if not students:
        return None
    figure, axes = new_figure(2.2, width)
    looks = ((GREEN, "o"), ("#0072B2", "s"), ("#D55E00", "^"), (GREY, "D"))
    for (colour, marker), student in zip(looks, students, strict=False):
        _curve(axes, student, colour, marker, named=len(students) > 1)
    target = summary.targets.predicted_mos_change
    target_line(axes, target, f"target {numbers.signed(target)}", vertical=False)
    axes.axhline(0, color="#666666", linewidth=0.8)
    axes.grid(axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("wall time of the training (minutes)")
    axes.set_ylabel("change of the predicted MOS")
    set_title(figure, _training_title(_chosen_student(summary, students), named=len(students) > 1))
    alt = "Curve of the predicted MOS change over the training. " + " ".join(
        f"{student.student}: "
        + "; ".join(
            f"{numbers.number(point.minutes)} minutes {numbers.CHANGE.figure(point.predicted_mos_change)}"
            for point in student.curve
        )
        + "."
        for student in students
    )
    counts = listed([f"{student.held_out_utterances}" for student in students])
    given = "the same latents"
    for student in students:
        if student.joined is not None:
            minute = numbers.number(student.curve[student.joined].minutes)
            given += (
                f" (the student of {listed(student.variants)} from minute {minute} on: "
                "the same text, durations and noise, since its text encoder trained too)"
            )
    caption = (
        f"Predicted MOS of the students against their teacher's, given {given}, on "
        f"{counts} held-out utterances; bars are 95 % intervals. The filled marker is the step whose weights were kept."
    )
    return Chart("training", figure, alt, caption)


def _curve(axes: Axes, student: StudentSummary, colour: str, marker: str, named: bool) -> None:
    minutes = [point.minutes for point in student.curve]
    values = [point.predicted_mos_change.value for point in student.curve]
    # Before and after the text encoder joined, other things were given: no line leads from one to the other.
    for part in (slice(student.joined), slice(student.joined, None)):
        axes.plot(minutes[part], values[part], color=colour, linewidth=1.0, zorder=2)
    for point in student.curve:
        estimate, kept = point.predicted_mos_change, point.step == student.published_step
        if estimate.ci:
            axes.plot([point.minutes] * 2, estimate.ci, color=colour, linewidth=0.9, zorder=2.5)
        axes.plot(
            point.minutes, estimate.value, marker, color=colour, markersize=6.5 if kept else 4.0,
            markerfacecolor=colour if kept else "white", zorder=3,
        )  # fmt: skip
    if named:
        axes.annotate(
            listed(student.variants), (minutes[-1], values[-1]), xytext=(4, -19), textcoords="offset points",
            ha="right", fontsize=6.5,
        )  # fmt: skip


def _chosen_student(summary: Summary, students: list[StudentSummary]) -> StudentSummary:
    """The student of the first chosen variant that has one, else the first."""
    chosen = [choice.variant for choice in summary.choices]
    found = [student for name in chosen for student in students if name in student.variants]
    return (found or students)[0]


def _training_title(student: StudentSummary, named: bool) -> str:
    kept = [point for point in student.curve if point.step == student.published_step]
    last = (kept or student.curve)[-1]
    whose = f"the student of {listed(student.variants)}" if named else "the student"
    return (
        f"After {numbers.number(last.minutes)} minutes {whose} has a predicted MOS "
        f"{numbers.signed(last.predicted_mos_change.value)} from its teacher's"
    )
