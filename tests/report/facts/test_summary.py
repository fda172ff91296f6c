"""summary.json: the keys that scripts rely on, and the figures in them."""

from __future__ import annotations

import json
from pathlib import Path

import invented_records as records
import pytest

from ttsopt_lib.records.base import RecordError, read_record, write_record
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.report.comparison.compare import open_summary
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.sections import all_tables
from ttsopt_lib.study import SentenceRange

TOP = (
    "schema study voice created commit dirty system baseline optimized targets variants devices quality anchors verdict"
)
VARIANT = "name runtime recipe parameters size_bytes size_reduction coverage"
DEVICE = "device status reason system rows"
TIMING = "variant runtime threads samples latency_ms rtf peak_memory_mb latency_reduction"
QUALITY = "variant predictor sentences predicted_mos wer cer cer_figures speaker_similarity human_mos"


@pytest.mark.parametrize("name", ["good", "bad", "unmeasured", "many"])
def test_has_the_keys_that_scripts_rely_on(name, summary, tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(summary(name).model_dump_json(by_alias=True))
    read = json.loads(path.read_text())
    assert read["schema"] == 1
    assert set(TOP.split()) <= set(read)
    asked = {"size_reduction", "latency_reduction", "mos_change", "predicted_mos_change"}
    assert set(read["targets"]) == asked | {"first_sound_ms"} and read["targets"]["first_sound_ms"] is None
    for variant in read["variants"]:
        assert set(VARIANT.split()) <= set(variant) and set(variant["coverage"]) == {"parameters", "macs"}
    for device in read["devices"]:
        assert set(DEVICE.split()) <= set(device)
        assert device["status"] in ("measured", "not_measured")
        for row in device["rows"]:
            assert set(TIMING.split()) <= set(row)
            assert {"median", "p95", "ci"} <= set(row["latency_ms"])
            low, high = row["latency_reduction"]["ci"]
            assert low <= row["latency_reduction"]["value"] <= high
    for row in read["quality"] + read["anchors"]:
        assert set(QUALITY.split()) <= set(row)
        assert {"value", "ci", "change"} <= set(row["predicted_mos"])
        if row["human_mos"]:
            assert {"value", "ci", "raters", "ratings"} <= set(row["human_mos"])
    for row in read["verdict"]:
        assert {"claim", "device", "target", "measured", "status"} <= set(row)
        assert row["status"] in ("pass", "fail", "not_measured")
    assert set(read["optimized"]) == {device["device"] for device in read["devices"]}


def test_survives_being_written_and_read(summary, tmp_path):
    text = summary("good").model_dump_json(by_alias=True)
    (tmp_path / "summary.json").write_text(text)
    assert open_summary(tmp_path).model_dump_json(by_alias=True) == text


def test_of_a_voice_without_a_band_above_8_khz_too(tmp_path):
    study, devices, folder = records.good(tmp_path)
    record = read_record(folder.quality_record, QualityRecord, "evaluate")
    for row in [*record.rows, *record.anchors, *record.confirmation, record.other_noise]:
        row.level_above_8khz_db = []
    write_record(folder.quality_record, record)
    write_record(folder.summary, summarize(study, devices, folder))
    read = open_summary(folder.summary)
    assert {(row.level_above_8khz_db, row.level_above_8khz_change_db) for row in read.quality} == {(None, None)}
    frame = next(table.frame for table in all_tables(read) if table.name == "quality")
    assert set(frame["level_above_8khz_db"].isna()) == {True}


def test_the_same_records_give_the_same_numbers(case, summary):
    again = summarize(*case("good"))
    again.created = summary("good").created
    assert again == summary("good")


def test_a_reduction_is_against_the_same_runtime_and_threads(summary):
    for row in summary("good").devices[0].rows:
        if row.variant == "original":
            assert row.latency_reduction and row.latency_reduction.value == 0.0
    pytorch = [row for row in summary("good").devices[0].rows if row.runtime == "pytorch"]
    changed = next(row for row in pytorch if row.variant == "int8-dynamic")
    # 1.36 times as slow in PyTorch, yet no slower than the original in PyTorch
    assert changed.latency_reduction and abs(changed.latency_reduction.value) < 0.1


def test_the_change_of_runtime_has_its_own_row(summary):
    change = next(row for row in summary("good").devices[0].runtime_changes if row.variant == "original")
    assert (change.before, change.after) == ("pytorch", "onnxruntime")
    assert change.latency_reduction.value == pytest.approx(1 - 1 / 1.36, abs=0.03)


def test_the_copy_of_the_original_is_timed_as_itself(summary):
    row = summary("good").timing_of(summary("good").devices[0], "original-copy")
    assert row and row.latency_reduction and row.latency_reduction.ci
    assert row.latency_reduction.ci[0] < 0 < row.latency_reduction.ci[1]


@pytest.mark.parametrize(
    "evaluation, calibration, available",
    [
        ("harvard.txt", "harvard.txt", 200),  # from line 100 on, before those of calibration
        ("harvard.txt", "corpus_en.txt", 300),  # before those that confirm
        ("none.txt", "harvard.txt", None),
    ],
)
def test_how_many_sentences_the_file_has_for_evaluation(case, evaluation, calibration, available):
    study, devices, folder = case("good")
    ranges = {
        "evaluation": SentenceRange(file=Path("params/sentences") / evaluation, start=100, count=40),
        "calibration": SentenceRange(file=Path("params/sentences") / calibration, start=300, count=32),
        "confirmation": SentenceRange(file=Path("params/sentences/harvard.txt"), start=400, count=150),
    }
    study = study.model_copy(update={"sentences": study.sentences.model_copy(update=ranges)})
    found = summarize(study, devices, folder)
    assert (found.evaluation_sentences_available, found.confirmation_sentences_available) == (available, 720 - 400)


def test_a_missing_variant_is_an_error_that_names_the_step(case, tmp_path):
    from ttsopt_lib.records.folder import StudyFolder

    study, devices, _ = case("good")
    with pytest.raises(RecordError, match="ttsopt optimize"):
        summarize(study, devices, StudyFolder(study, tmp_path))


def test_a_device_without_a_record_says_how_to_measure_it(summary):
    device = summary("unmeasured").devices[0]
    assert device.status == "not_measured" and "--device cpu" in (device.reason or "")
