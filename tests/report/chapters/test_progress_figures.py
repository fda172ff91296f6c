"""Where the time goes, how a student was trained, and what the spectra show."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from golden_pages import title
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ttsopt_lib.distill.decoder_speed import FRAMES
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.signal.spectrum import log_spectral_distance_db
from ttsopt_lib.evaluate.signal.waveform import as_float
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.chapters import spectrograms, students
from ttsopt_lib.report.chapters.spectrograms import Spoken, shown_variants, study_spectrograms
from ttsopt_lib.report.chapters.speed import profiles
from ttsopt_lib.report.chapters.students import distillation_notes
from ttsopt_lib.report.explore import speak_both, stage_times
from ttsopt_lib.report.facts.students import student_summary
from ttsopt_lib.report.numbers import NARROW
from ttsopt_lib.report.printing.plot_style import NARROW as PHONE
from ttsopt_lib.report.printing.plot_style import WIDTH, svg_text
from ttsopt_lib.report.schema import CurvePoint, Estimate, StudentSummary, Summary
from ttsopt_lib.step_settings import Distill
from ttsopt_lib.study import Variant
from ttsopt_lib.voices.session import RuntimeFailure


def student(variants: list[str]) -> StudentSummary:
    curve = [
        CurvePoint(
            step=step,
            minutes=step / 100,
            predicted_mos_change=Estimate(value=-500 / step, ci=(-600 / step, -400 / step)),
            log_spectral_distance_db=None,
        )
        for step in (1000, 2000, 4000)
    ]
    return StudentSummary(
        variants=variants, student="models/x", steps=4000, minutes=41.0, cpu="Example CPU", teacher_hours=2.5,
        held_out_utterances=20, parameters=2_000_000, published_step=4000, teacher_ms=119.0, student_ms=12.7,
        curve=curve,
    )  # fmt: skip


@pytest.mark.slow
def test_the_stages_are_shown_before_and_after_on_every_profiled_device(summary):
    chart = profiles.stage_chart(summary("many"))
    assert chart and len(chart.figure.axes) == 4
    names = ("original", "distilled-int8-weights")
    shown = [f"{name} on {device.label}" for device in summary("many").devices for name in names]
    assert all(chart.alt.count(one) == 1 for one in shown)
    assert "decoder" in chart.figure.get_suptitle()
    assert len(svg_text(chart)) < 120_000


def test_no_picture_of_stages_without_profiles(summary):
    one: Summary = summary("good")
    one.devices[0].profiles = []
    assert profiles.stage_chart(one) is None


def test_the_curve_names_the_step_that_was_kept(summary, golden):
    one = summary("good")
    assert students.training_chart(one) is None
    one.students = [student(["distilled-int8"])]
    chart = students.training_chart(one)
    assert chart and "40 minutes" in chart.figure.get_suptitle()
    assert chart.alt.count("[") == 3 and " 20 held-out" in chart.caption
    (note,) = distillation_notes(one)
    assert "41 minutes" in note and f" 11{NARROW}% of" in note and "2.5 hours" in note
    assert f"{FRAMES} frames" in note and "no measurement" in note and " ms" not in note
    golden(title(chart), chart.caption, chart.alt, note)


def test_a_student_that_was_trained_further_on_a_gpu_says_so_and_what_is_not_known(summary, golden):
    one = summary("good")
    further = student(["distilled-int8"])
    further.accelerator, further.cpu, further.teacher_hours = "Example GPU", None, None
    further.earlier_minutes = 300.0
    for point in further.curve:
        point.predicted_mos_change.ci = None
    one.students = [further]
    chart = students.training_chart(one)
    (note,) = distillation_notes(one)
    assert chart and "40 further minutes" in title(chart) and "interval" not in chart.caption
    assert "Example GPU" in note and "300 minutes" in note and "None" not in note
    golden(title(chart), chart.caption, note)


def test_of_several_students_the_chosen_variants_is_in_the_title(summary, golden):
    one = summary("good")
    chosen = one.choices[0].variant
    one.students = [student(["another"]), student([chosen])]
    one.students[1].curve[-1].minutes = 77.0
    one.students[1].published_step = one.students[1].curve[-1].step
    chart = students.training_chart(one)
    assert chart and "77 minutes" in title(chart) and f"of {chosen}" in title(chart)
    first = title(chart)
    one.choices[0].variant = None
    chart = students.training_chart(one)
    assert chart and "40 minutes" in title(chart) and "of another" in title(chart)
    golden(first, title(chart))


@pytest.mark.parametrize("width", [WIDTH, PHONE])
def test_the_target_s_label_stands_where_no_curve_is(width, summary):
    one = summary("good")
    one.students = [student(["distilled-int8"])]
    one.students[0].curve[0].minutes = 0.5  # a curve that begins at the left edge, on the target
    one.students[0].curve[0].predicted_mos_change = Estimate(value=-0.1, ci=(-0.2, 0.0))
    chart = students.training_chart(one, width)
    assert chart
    canvas = FigureCanvasAgg(chart.figure)
    chart.figure.draw_without_rendering()
    axes = chart.figure.axes[0]
    label = next(text for text in axes.texts if text.get_text().startswith("target"))
    box = label.get_window_extent(canvas.get_renderer())
    assert box.x0 >= axes.get_window_extent().x1 and box.x1 <= chart.figure.bbox.x1


@pytest.mark.parametrize("variant", ["distilled-decoder", "distilled"])
def test_the_shipped_student_has_a_curve(variant):
    step = read_study(resolve(Path("params/joe.yaml"))).variant(variant).recipe[0]
    assert isinstance(step, Distill)
    found = student_summary(step.student, [variant])
    assert found and len(found.curve) > 3
    assert found.published_step in {point.step for point in found.curve}
    kept = next(point for point in found.curve if point.step == found.published_step)
    record = json.loads((resolve(step.student) / "record.json").read_text(encoding="utf-8"))
    if "published" in record:  # weights other than the best by the criterion: the record says which and why
        best = max(found.curve, key=lambda point: point.predicted_mos_change.value)
        assert f"step {best.step}" in record["published"]
    else:
        assert kept.predicted_mos_change.value == max(point.predicted_mos_change.value for point in found.curve)


def test_the_curve_of_students_trained_together_goes_on_where_flow_and_decoder_stopped(summary, tmp_path, golden):
    def training(steps: int, minutes: float, *changes: float) -> dict:
        points = [
            {"step": round(steps * part), "minutes": minutes * part, "predicted_mos_change": change}
            for part, change in zip((0.5, 1.0), changes, strict=True)
        ]
        return {
            "steps": steps, "wall_minutes": minutes, "curve": points, "best": points[-1], "machine": {"cpu": "a"},
            "teacher_hours": 2.0, "held_out_utterances": 20, "parameters": 10,
        }  # fmt: skip

    record = training(40, 10.0, -0.04, -0.02)
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    alone = student_summary(tmp_path, ["distilled"])
    assert alone and alone.joined is None and alone.published_step == 40
    record |= {"training": "voice", "trainings": {"speech": training(200, 30.0, -0.2, -0.1)}}
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    found = student_summary(tmp_path, ["distilled"])
    assert found and [(p.step, p.minutes) for p in found.curve] == [(100, 15.0), (200, 30.0), (220, 35.0), (240, 40.0)]
    assert (found.steps, found.published_step, found.joined) == (240, 240, 2)
    one = summary("good")
    one.students = [found]
    chart = students.training_chart(one)
    assert chart and "minute 35" in chart.caption and "40 minutes" in title(chart)
    curves = [line for line in chart.figure.axes[0].lines if line.get_linewidth() == 1.0]
    assert [list(np.asarray(line.get_xdata())) for line in curves] == [[15.0, 30.0], [35.0, 40.0]]
    golden(title(chart), chart.caption)


@pytest.mark.parametrize(("count", "half"), [(1, None), (2, 12.706), (20, 2.093)])
def test_the_interval_of_a_curve_s_point_is_student_s(count, half, tmp_path):
    point = {"step": 1, "minutes": 1.0, "predicted_mos_change": 0.0, "predicted_mos_change_standard_error": 1.0}
    record = {
        "steps": 1, "wall_minutes": 1.0, "curve": [point], "best": point, "machine": {"cpu": "a"},
        "teacher_hours": 2.0, "held_out_utterances": count, "parameters": 10,
    }  # fmt: skip
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    found = student_summary(tmp_path, ["distilled"])
    assert found
    ci = found.curve[0].predicted_mos_change.ci
    assert ci is None if half is None else ci == pytest.approx((-half, half), abs=1e-3)


def test_a_student_without_a_record_has_no_curve_and_a_broken_record_is_named(tmp_path):
    assert student_summary(tmp_path, ["x"]) is None
    (tmp_path / "record.json").write_text(json.dumps({"steps": 1}))
    with pytest.raises(RecordError, match="record.json"):
        student_summary(tmp_path, ["x"])


# --- spectra ----------------------------------------------------------------------------------------------------


def tone(variant: str, hertz: float, seconds: float = 0.5, amplitude: float = 0.5) -> Spoken:
    time = np.arange(round(22050 * seconds)) / 22050
    return Spoken(variant, (32767 * amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.int16), 22050)


def test_the_distance_in_the_title_is_that_of_the_tables():
    one, other = tone("original", 2153.32), tone("a", 2153.32, amplitude=0.25)
    distance = log_spectral_distance_db(as_float(other.samples), as_float(one.samples), 22050).mean()
    assert distance > 1 and title(spectrograms.spectrograms([one, other])).endswith(f"a {distance:.1f} dB")


@pytest.mark.slow
def test_the_figure_has_small_pictures_and_reads_in_grey(golden):
    chart = spectrograms.spectrograms([tone("original", 500), tone("a", 500, 0.6), tone("b", 5000)], "A sentence.")
    svg = svg_text(chart)
    assert svg.count("data:image/png;base64") >= 5 and len(svg) < 200_000
    assert not re.findall(r'href="(?!#|data:)', svg)
    assert re.search(r"\ba \d+\.\d dB\b.*\bb \d+\.\d dB", title(chart))
    assert "A sentence." in chart.caption and " dB" in chart.alt
    shades = spectrograms.CHANGE_COLOURS(np.linspace(0, 1, 50))[:, :3] @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(shades) > 0)
    golden(title(chart), chart.caption, chart.alt)


@pytest.mark.slow
def test_on_a_phone_the_spectra_stand_in_one_column_and_weigh_little():
    spoken = [tone("original", 500), tone("a", 500, 0.6), tone("b", 5000)]
    narrow = spectrograms.spectrograms(spoken, "A sentence.", PHONE)
    pictures = [axes for axes in narrow.figure.axes if axes.images]
    canvas = FigureCanvasAgg(narrow.figure)
    narrow.figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in pictures]
    assert len(boxes) == 5 and len({round(box.x0) for box in boxes}) == 1
    assert all(above.y0 > below.y1 for above, below in itertools.pairwise(boxes))
    shown = narrow.figure.get_tightbbox(canvas.get_renderer())  # inches
    assert shown.x0 >= -0.01 and shown.x1 <= PHONE + 0.01 and len(svg_text(narrow)) < 200_000


def test_the_study_s_spectra_have_a_form_for_phones(case, summary, monkeypatch):
    study, _, folder = case("good")
    monkeypatch.setattr(StudyFolder, "model", lambda *_: Path(__file__))
    monkeypatch.setattr(spectrograms, "speak_together", lambda *_: [tone("original", 500), tone("a", 800)])
    chart, why = study_spectrograms(summary("good"), study, folder)
    assert chart and chart.narrow and chart.narrow.get_figwidth() == PHONE and not why


@pytest.mark.parametrize("call", ["open", "run"])
def test_a_voice_that_a_runtime_cannot_speak_leaves_out_the_spectra_alone(case, summary, monkeypatch, call):
    study, _, folder = case("good")

    class Broken:
        def __init__(self, *_):
            if call == "open":
                raise RuntimeFailure("fp32/model.onnx: ONNX Runtime cannot load it: no such kernel")

        def speak(self, *_, **__):
            raise RuntimeFailure("ONNX Runtime cannot run it: no such kernel")

    monkeypatch.setattr(StudyFolder, "model", lambda *_: Path(__file__))
    monkeypatch.setattr(spectrograms, "open_model", lambda _: MagicMock(open=Broken))
    chart, why = study_spectrograms(summary("good"), study, folder)
    assert chart is None and why.endswith("no such kernel") and "\n" not in why
    assert call == "open" or why.startswith(f"original cannot speak {study.sentences.listening[-1][:60]!r}: ")


def test_the_optimized_and_the_worst_variant_are_shown(summary):
    assert shown_variants(summary("good")) == ["original", "distilled-int8", "int8-static"]
    assert shown_variants(summary("bad"))[0] == "original" and "int8-static" in shown_variants(summary("bad"))
    assert shown_variants(summary("unmeasured")) == ["original"]


def test_without_model_files_the_reason_is_said(case, summary, golden):
    study, _, folder = case("good")
    chart, why = study_spectrograms(summary("good"), study, folder)
    assert chart is None and all(name in why for name in shown_variants(summary("good")))
    golden(why)


@pytest.mark.slow
def test_variants_speak_with_the_same_durations(medium_voice, tmp_path):
    study = read_study(resolve(Path("params/joe.yaml"))).model_copy(update={"variants": (Variant(name="fp32"),)})
    folder = StudyFolder(study, tmp_path)
    for name in ("original", "fp32"):
        folder.variant(name).mkdir(parents=True)
        shutil.copy(medium_voice, folder.model(name))
        shutil.copy(f"{medium_voice}.json", f"{folder.model(name)}.json")
    first, second = speak_both(study, folder, "Yes.", ["original", "fp32"])
    assert np.array_equal(first.samples, second.samples) and len(first.samples)
    assert "not measured" in str(stage_times(folder, "cpu", ["original", "fp32"]))
    with pytest.raises(StudyError, match="two to compare"):
        speak_both(study, folder, "Yes.", ["original"])


def test_stage_times_of_two_variants_stand_side_by_side(case):
    _, _, folder = case("good")
    frame = stage_times(folder, "cpu", ["original", "distilled-int8"])
    assert not isinstance(frame, str)
    assert list(frame.columns) == ["original", "distilled-int8", "times faster"]
    ratio = frame["original"] / frame["distilled-int8"]
    assert np.abs(frame["times faster"] - ratio).max() < 0.06 * ratio.max()
    assert "times faster" not in stage_times(folder, "cpu", ["original", "original"])
    assert frame.loc["decoder", "distilled-int8"] < frame.loc["decoder", "original"] < frame.loc["all", "original"]
    assert "no CUDA" in str(stage_times(folder, "gpu", ["original"]))
