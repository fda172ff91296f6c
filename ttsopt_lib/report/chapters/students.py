"""Students in place of stages: what they are, and how they were trained."""

from __future__ import annotations

from matplotlib.axes import Axes

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts.findings import listed, with_students
from ttsopt_lib.report.printing.plot_style import GREEN, GREY, WIDTH, Chart, new_figure, set_title, target_line
from ttsopt_lib.report.schema import StudentSummary, Summary, VariantSummary
from ttsopt_lib.study import ORIGINAL

STUDENT_FRAMES = 300  # what ttsopt_lib.distill.decoder_speed times, which needs PyTorch to be imported


def distillation_notes(summary: Summary) -> list[str]:
    """What the students are, or that there is none."""
    students = with_students(summary)
    if not students:
        return ["No variant of this study has a distilled student."]
    original = summary.variant(ORIGINAL)
    return [
        f"In `{variant.name}` trained students stand in place of the "
        f"{listed([stage.replace('_', ' ') for step in variant.steps for stage in step.stages])}: "
        f"{numbers.millions(variant.parameters)} million parameters against the original's "
        f"{numbers.millions(original.parameters)} million. " + _trained(summary, variant)
        for variant in students
    ]


def _trained(summary: Summary, variant: VariantSummary) -> str:
    """How long and on what the student of a variant was trained, and how fast its decoder was found to be then.

    Of that timing only the ratio is said: the two were timed in turn, on a machine that may have been busy.
    """
    student = next((one for one in summary.students if variant.name in one.variants), None)
    if student is None:
        folder = next((step.settings.get("student") for step in variant.steps if step.kind == "student"), None)
        return f"How it was trained stands beside it in `{folder or 'models'}`."
    machine = student.accelerator or student.cpu
    where = f" on {machine}" if machine else ""
    heard = "the teacher's speech (the record does not say how much of it)"
    if student.teacher_hours is not None:
        heard = f"{numbers.number(student.teacher_hours, 1)} hours that the teacher spoke"
    text = f"It was trained for {numbers.number(student.minutes)} minutes{where}, on {heard}."
    if student.earlier_minutes:
        minutes = numbers.number(student.earlier_minutes)
        text += f" It had begun with published students that had been trained for {minutes} minutes."
    if student.student_ms and student.teacher_ms:
        text += (
            " When the student was published, its decoder took "
            f"{numbers.percent(student.student_ms / student.teacher_ms)} of the time of the teacher's; it was timed "
            f"alone, on {STUDENT_FRAMES} frames, and that is no measurement of this report."
        )
    return f"{text} The record stands in `{student.student}`."


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
    target_line(axes, target, f"target {numbers.CHANGE.exact(target)}", vertical=False)
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
    known = any(point.predicted_mos_change.ci for student in students for point in student.curve)
    caption = (
        f"Predicted MOS of the students against their teacher's, given {given}, on {counts} held-out utterances"
        f"{'; bars are 95 % intervals' if known else ''}. The filled marker is the step whose weights were kept; "
        "where it is the best one on these same utterances, its figure is flattered."
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
    further = "further " if student.earlier_minutes else ""
    return (
        f"After {numbers.number(last.minutes)} {further}minutes {whose} has a predicted MOS "
        f"{numbers.signed(last.predicted_mos_change.value)} from its teacher's"
    )
