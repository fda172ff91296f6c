"""The report that goes into git: whole, small, and without a trace of the machine."""

from __future__ import annotations

import pytest

from ttsopt_lib.paths import project_root
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report import example


@pytest.mark.slow
def test_the_example_is_the_report_without_models_and_records(case, rendered, can_print, tmp_path):
    study, _, _ = case("good")
    folder = rendered("good")
    files = example.write_example(study, folder, tmp_path / "example", explore=False)
    names = {path.relative_to(tmp_path / "example").as_posix() for path in files}
    assert {"report.html", "summary.json", "tables/sizes.csv", "figures/size.svg"} <= names
    assert ("report.pdf" in names) is can_print
    assert "variants/original/audio/0.wav" in names
    assert not [name for name in names if name.endswith((".onnx", ".ipynb")) or name.startswith("records")]


@pytest.mark.slow
def test_an_example_that_names_a_folder_of_this_machine_is_refused(case, rendered, tmp_path):
    study, _, _ = case("good")
    copy = StudyFolder(study, tmp_path)
    example.write_example(study, rendered("good"), copy.path, explore=False)
    (copy.tables / "sizes.csv").write_text(f"{project_root()}/somewhere")
    with pytest.raises(example.ExampleError, match=r"sizes\.csv"):
        example.write_example(study, copy, tmp_path / "example", explore=False)
    assert not (tmp_path / "example").exists()


@pytest.mark.slow
def test_an_example_too_large_for_git_is_refused(case, rendered, tmp_path, monkeypatch):
    study, _, _ = case("good")
    monkeypatch.setattr(example, "LIMIT", 1000)
    with pytest.raises(example.ExampleError, match="largest file"):
        example.write_example(study, rendered("good"), tmp_path / "example", explore=False)


def test_audio_that_the_page_does_not_play_is_no_part_of_an_example(case, tmp_path):
    study, _, _ = case("good")
    folder = StudyFolder(study, tmp_path / "whole")
    for path in (folder.tables, folder.figures, folder.audio("original"), folder.audio("fp32")):
        path.mkdir(parents=True)
    for name in ("original", "fp32"):
        (folder.audio(name) / "0.wav").write_bytes(b"RIFF")
    folder.html.write_text('<a href="variants/original/audio/0.wav">WAV</a>', encoding="utf-8")
    folder.summary.write_text("{}", encoding="utf-8")
    files = example.write_example(study, folder, tmp_path / "example", explore=False)
    assert [path.parts[-3] for path in files if path.suffix == ".wav"] == ["original"]


def test_without_a_report_the_step_is_named(case, tmp_path):
    study, _, _ = case("good")
    with pytest.raises(RecordError, match="ttsopt report"):
        example.write_example(study, StudyFolder(study, tmp_path / "none"), tmp_path / "example")
