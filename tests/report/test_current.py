"""A report of which nothing has changed is not rendered again; whatever has changed, it is."""

import pytest

from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report import current
from ttsopt_lib.report.current import Rendered, current_report, keep_current, report_key


@pytest.fixture
def kept(case, tmp_path):
    """A study with records and a report of it; the study, its devices and its folder."""
    study, devices, _ = case("good")
    folder = StudyFolder(study, tmp_path)
    made = [folder.html, folder.pdf, folder.summary, folder.notebooks / "report.ipynb", folder.tables / "sizes.csv"]
    read = [folder.quality_record, folder.device_record("cpu"), folder.audio("original") / "0.wav"]
    for path in (*made, *read, folder.figures / "size.svg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    rendered = Rendered([folder.html, folder.pdf, folder.summary], ["a message"])
    keep_current(folder, report_key(study, devices, folder), rendered)
    return study, devices, folder


def again(study, devices, folder):
    """What is told of the last report in place of rendering it."""
    return current_report(folder, report_key(study, devices, folder))


def test_what_was_rendered_is_told_again(kept):
    folder = kept[-1]
    assert again(*kept) == ([folder.html, folder.pdf, folder.summary], ["a message"])


@pytest.mark.parametrize(
    "path",
    [
        *("records/quality.json", "records/devices/cpu.json", "variants/original/audio/0.wav"),
        *("report.html", "report.pdf", "tables/sizes.csv", "figures/size.svg", "notebooks/report.ipynb"),
        "cache/rendered.json",
    ],
)
def test_a_file_that_was_changed_or_is_gone_has_it_rendered_again(kept, path):
    folder = kept[-1]
    (folder.path / path).write_text("changed")
    assert again(*kept) is None
    (folder.path / path).unlink()
    assert again(*kept) is None


def test_a_new_record_has_it_rendered_again(kept):
    record = kept[-1].variant_record("another")
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert again(*kept) is None


@pytest.mark.parametrize("what", ["study", "devices", "commit", "pango", "code"])
def test_another_question_or_another_printer_has_it_rendered_again(kept, monkeypatch, tmp_path, what):
    study, devices, folder = kept
    if what == "study":
        study = study.model_copy(update={"title": "Another title"})
    elif what == "devices":
        devices = devices[:-1]
    elif what == "commit":
        monkeypatch.setattr(current, "git_state", lambda: ("another", False))
    elif what == "pango":
        there = current.find_library("pango-1.0")
        monkeypatch.setattr(current, "find_library", lambda name: None if there else "libpango.so")
    else:
        code = tmp_path / "package/report/current.py"
        code.parent.mkdir(parents=True)
        code.write_text("another")
        monkeypatch.setattr(current, "__file__", str(code))
    assert again(study, devices, folder) is None
