"""What another machine measured is shown with its origin, and judged only where its voice files are today's."""

from collections.abc import Callable
from pathlib import Path

import invented_records as records
import pytest

from ttsopt_lib.measure.importing import import_record
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.report.chapters import provenance
from ttsopt_lib.report.chapters.conclusion import limitations
from ttsopt_lib.report.chapters.speed import timings
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.schema import DeviceSummary, Summary
from ttsopt_lib.report.sections import Report, all_tables
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

Change = Callable[[DeviceRecord], object]


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., tuple[Summary, records.Case]]:
    """An invented study and its summary after a record of a GPU elsewhere was imported, changed as told before."""

    def make(change: Change = lambda record: None, named: bool = True) -> tuple[Summary, records.Case]:
        study, devices, folder = records.good(tmp_path / "here")
        there = StudyFolder(study, tmp_path / "there")
        records.write_device(there, devices[1], records.GOOD, seed=3, speed=0.1)
        record = read_record(there.device_record("gpu"), DeviceRecord, "measure")
        for row in record.rows:
            name = ORIGINAL if row.variant == ORIGINAL_COPY else row.variant
            files = read_record(folder.variant_record(name), VariantRecord, "optimize").files
            row.model_sha256 = files["model.onnx"]
        record.study, record.commit = study.name, "c0ffee1234567890"
        change(record)
        file = tmp_path / "h200.json"
        write_record(file, record)
        import_record(study, folder, file)
        found = study, devices if named else devices[:1], folder
        return summarize(*found), found

    return make


def gpu_of(summary: Summary) -> DeviceSummary:
    return next(device for device in summary.devices if device.device == "gpu")


def latency(summary: Summary) -> dict[str | None, tuple[str, str]]:
    return {row.device: (row.status, row.reason) for row in summary.verdict if row.claim == "latency_reduction"}


def test_an_import_of_the_same_files_is_judged_like_what_was_measured_here(imported):
    summary, _ = imported()
    gpu = gpu_of(summary)
    assert gpu.judged and gpu.imported is not None and gpu.doubts == []
    assert gpu in summary.measured_devices and {choice.device for choice in summary.choices} == {"cpu", "gpu"}
    assert latency(summary)["gpu"][0] == "pass" and summary.optimized["gpu"] == "distilled-int8"
    (note,) = timings.import_notes(summary)
    assert all(part in note for part in ("h200.json", gpu.created or "", "c0ffee1234", "is judged", "Example CPU"))
    assert "imported" in timings.improvement(summary).html
    machines = provenance.machines(summary)
    assert ">8.2<" in machines.html  # 8192 MB
    assert list(machines.frame["imported"].fillna("")) == ["", "h200.json"] and "commit c0ffee1234" in machines.html


def test_a_machine_is_shown_with_the_commit_that_measured_it_and_not_with_the_reports(imported):
    summary, _ = imported()
    cpu = summary.devices[0]
    for commit in ("badc0de123456789", summary.commit):
        cpu.commit = commit
        machines = provenance.machines(summary)
        assert list(machines.frame["commit"])[0] == commit
        assert ("commit badc0de123" in machines.html) == (commit != summary.commit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda record: setattr(record.rows[2], "model_sha256", "0" * 64),
            "the voice file of fp32 differs from today's",
        ),
        (lambda record: [setattr(row, "model_sha256", None) for row in record.rows], "timed is not known"),
        (lambda record: setattr(record.sentences[0], "text", "No."), "other sentences were timed"),
    ],
    ids=["another file", "an older record", "other sentences"],
)
def test_an_import_of_other_files_is_shown_and_never_judged(imported, change, said):
    summary, _ = imported(change)
    gpu = gpu_of(summary)
    assert not gpu.judged and gpu.rows and gpu in summary.timed_devices and gpu not in summary.measured_devices
    assert gpu.imported is not None and said in gpu.doubts[0]
    assert "gpu" not in {choice.device for choice in summary.choices} and summary.optimized["gpu"] is None
    status, reason = latency(summary)["gpu"]
    assert status == "not_measured" and said in reason and "shown and not judged" in reason
    (note,) = timings.import_notes(summary)
    assert said in note and "shown and not judged" in note
    by_name = {table.name: table.frame for table in all_tables(summary)}
    assert "GPU" in set(by_name["devices"]["device"]) and "GPU" in set(by_name["machines"]["device"])
    assert {row.device for row in summary.verdict if row.measured is not None} == {"cpu"}


@pytest.mark.slow
def test_an_import_that_no_device_file_names_is_shown_too_and_twice_the_same(imported):
    summary, case = imported(lambda record: setattr(record, "device", "h200"), named=False)
    assert [device.device for device in summary.devices] == ["cpu", "h200"] and summary.devices[1].judged
    first, second = (Report(summarize(*case), case[2]).devices().text for _ in range(2))
    assert first == second and "imported from h200.json" in first


def test_rows_of_variants_that_the_study_does_not_have_are_left_out(imported):
    def rename(record: DeviceRecord) -> None:
        for row in record.rows:
            row.variant = "gone" if row.variant == "fp32" else row.variant

    summary, _ = imported(rename)
    gpu = gpu_of(summary)
    assert gpu.judged and "gone" not in {row.variant for row in gpu.rows} and len(gpu.rows) > 3


def measured_here(reports: Path, changed: str) -> Summary:
    """An invented study after one voice was made anew: timings and scores still are those of its earlier file."""
    study, devices, folder = records.good(reports)
    files = {
        name: read_record(folder.variant_record(name), VariantRecord, "optimize").files["model.onnx"]
        for name in study.variant_names
    }
    timed = read_record(folder.device_record("cpu"), DeviceRecord, "measure")
    for row in timed.rows:
        row.model_sha256 = files[ORIGINAL if row.variant == ORIGINAL_COPY else row.variant]
    write_record(folder.device_record("cpu"), timed)
    scored = read_record(folder.quality_record, QualityRecord, "evaluate")
    for quality in [*scored.rows, *scored.confirmation]:
        quality.model_sha256 = files[quality.variant]
    write_record(folder.quality_record, scored)
    unchanged = summarize(study, devices, folder)
    assert unchanged.devices[0].judged and unchanged.optimized["cpu"] == "distilled-int8" and not unchanged.not_scored
    made = read_record(folder.variant_record(changed), VariantRecord, "optimize")
    made.files["model.onnx"] = "0" * 64
    write_record(folder.variant_record(changed), made)
    return summarize(study, devices, folder)


def test_timings_and_scores_of_a_voice_that_was_made_anew_are_not_judged(tmp_path):
    summary = measured_here(tmp_path, "distilled-int8")
    cpu, said = summary.devices[0], "the voice file of distilled-int8 differs from today's"
    assert not cpu.judged and cpu.rows and cpu.doubts == [said] and summary.optimized["cpu"] is None
    assert latency(summary)["cpu"] == ("not_measured", f"shown and not judged: {said}")
    assert said in timings.import_notes(summary)[0] and all(row.measured is None for row in summary.verdict)
    assert summary.quality_of("distilled-int8") is None and summary.quality_of("int8-weights") is not None
    assert {row.variant for row in summary.confirmation} == {ORIGINAL}
    assert [(one.variant, "another" in one.reason) for one in summary.not_scored] == [("distilled-int8", True)]
    assert any("`distilled-int8` is not scored" in text for text in limitations(summary))
    assert len(all_tables(summary)) > 3


def test_without_todays_original_nothing_is_compared(tmp_path):
    summary = measured_here(tmp_path, ORIGINAL)
    assert not summary.devices[0].judged and not summary.quality
    assert "the original's voice file is another" in (summary.quality_reason or "")
