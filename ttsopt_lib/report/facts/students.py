"""How the students of a study were trained, read from the records beside their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.report.schema import CurvePoint, Estimate, StudentSummary
from ttsopt_lib.statistics.intervals import from_standard_error
from ttsopt_lib.step_settings import Distill
from ttsopt_lib.study import Study


def students(study: Study) -> list[StudentSummary]:
    """Every student that a recipe of the study names, with its training curve.

    A folder without a record (a student that somebody else trained) has none. Raises `RecordError` where a
    record is there and not one of a training.
    """
    variants: dict[Path, list[str]] = {}
    for variant in study.variants:
        for step in variant.recipe:
            if isinstance(step, Distill):
                variants.setdefault(step.student, []).append(variant.name)
    found = [student_summary(folder, names) for folder, names in variants.items()]
    return [student for student in found if student]


def student_summary(folder: Path, variants: list[str]) -> StudentSummary | None:
    """The training of the student in `folder` (below the project), None where it left no record."""
    path = resolve(folder) / "record.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        best, speed = record["best"], record.get("speed", {})
        # Where all students were trained together in the end, flow and decoder had been before.
        together = record.get("training") == "voice"
        before = record.get("trainings", {}).get("speech") if together else None
        steps, minutes = (before["steps"], before["wall_minutes"]) if before else (0, 0.0)
        count = record["held_out_utterances"]
        curve = [_point(point, count) for point in before["curve"]] if before else []
        joined = len(curve) if together else None
        curve += [_point(point, count, steps, minutes) for point in record["curve"] if "predicted_mos_change" in point]
        return StudentSummary(
            variants=variants,
            student=folder.as_posix(),
            steps=steps + record["steps"],
            minutes=record.get("total_minutes", record["wall_minutes"]),
            cpu=record["machine"]["cpu"],
            accelerator=record["machine"].get("accelerator"),
            teacher_hours=record["teacher_hours"],
            earlier_minutes=record.get("started_from_minutes", 0.0),
            held_out_utterances=count,
            parameters=record["parameters"],
            published_step=steps + best["step"],
            teacher_ms=speed.get("teacher_ms"),
            student_ms=speed.get("student_ms"),
            curve=curve,
            joined=joined,
        )
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: not a student's training record ({error!r}); publish the student again (docs/distillation.md)"
        ) from None


def _point(point: dict[str, Any], count: int, steps: int = 0, minutes: float = 0.0) -> CurvePoint:
    """A validation on so many utterances, of a training that began after so many steps and minutes of another."""
    value, error = point["predicted_mos_change"], point.get("predicted_mos_change_standard_error")
    ci = from_standard_error(value, error, count) if error is not None else None
    return CurvePoint(
        step=steps + point["step"],
        minutes=minutes + point["minutes"],
        predicted_mos_change=Estimate(value=value, ci=ci),
        log_spectral_distance_db=point.get("log_spectral_distance_db"),
    )
