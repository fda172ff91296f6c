"""A new report takes the place of the old one whole: an interrupt leaves the old one, an error leaves no summary."""

import json

import pytest

from ttsopt_lib.notebooks import NotebookError
from ttsopt_lib.report import render


@pytest.fixture
def there(rendered, case, tmp_path, monkeypatch):
    """A folder with an earlier report in it; sections that are made at once."""
    study, devices, _ = case("good")
    made = rendered("good").notebooks / "report.ipynb"
    monkeypatch.setattr(render, "run_notebook", lambda *_, **__: made)
    monkeypatch.setattr(render, "write_pdf", lambda page, path: path.write_text("printed"))
    folder = render.StudyFolder(study, tmp_path)
    folder.path.mkdir()
    for path in (folder.html, folder.pdf, folder.summary):
        path.write_text("earlier")
    return lambda **options: render.render_report(study, devices, folder, **options), folder


def texts(folder):
    return {path.name: path.read_text() for path in (folder.html, folder.pdf, folder.summary) if path.exists()}


def test_page_pdf_and_summary_are_of_the_same_run(there):
    make, folder = there
    assert make().paths == [folder.html, folder.pdf, folder.summary]
    found = texts(folder)
    assert found["report.pdf"] == "printed" and json.loads(found["summary.json"])["stage"] == "complete"
    assert found["report.html"].startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("where", ["run_notebook", "page_of", "write_pdf"])
def test_an_interrupt_leaves_the_last_whole_report(there, monkeypatch, where):
    make, folder = there

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(render, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert texts(folder) == dict.fromkeys(("report.html", "report.pdf", "summary.json"), "earlier")
    assert not list(folder.path.glob("*.part*")) and not list(folder.path.glob(".*.part*"))


@pytest.mark.parametrize("where", ["run_notebook", "page_of", "write_pdf"])
def test_a_report_that_cannot_be_made_leaves_no_summary_that_looks_new(there, monkeypatch, where):
    make, folder = there

    def failed(*_, **__):
        raise NotebookError("a section")

    monkeypatch.setattr(render, where, failed)
    with pytest.raises(NotebookError):
        make()
    assert texts(folder) == {"report.html": "earlier", "report.pdf": "earlier"}


def test_a_report_without_pdf_leaves_none_of_an_earlier_run(there):
    make, folder = there
    assert make(pdf=False).paths == [folder.html, folder.summary]
    assert not folder.pdf.exists()
