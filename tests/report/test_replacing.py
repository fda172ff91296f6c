"""A new report takes the place of the old one whole: an interrupt or an error leaves the old one."""

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


@pytest.mark.parametrize("where", ["run_notebook", "page_of"])
@pytest.mark.parametrize("error", [NotebookError("a section"), OSError(28, "No space left on device", "report.html")])
def test_a_report_that_cannot_be_made_leaves_the_earlier_one_and_says_so(there, monkeypatch, where, error):
    make, folder = there

    def failed(*_, **__):
        raise error

    monkeypatch.setattr(render, where, failed)
    with pytest.raises(render.ReportError, match=r"(a section|No space left on device); .*report\.html .*earlier run"):
        make()
    assert texts(folder) == dict.fromkeys(("report.html", "report.pdf", "summary.json"), "earlier")
    folder.summary.unlink()
    with pytest.raises(type(error)):
        make()


@pytest.mark.parametrize("error", [AssertionError(), ValueError("two\nlines"), MemoryError(), OSError(28, "No space")])
def test_whatever_stops_the_pdf_page_and_summary_are_there(there, monkeypatch, error):
    make, folder = there

    def failed(*_, **__):
        raise error

    monkeypatch.setattr(render, "write_pdf", failed)
    done = make()
    (message,) = done.messages
    assert "no report.pdf: WeasyPrint" in message and type(error).__name__ in message and "\n" not in message
    assert done.paths == [folder.html, folder.summary] and not folder.pdf.exists()
    assert texts(folder)["report.html"].startswith("<!DOCTYPE html>")


def test_a_report_without_pdf_leaves_none_of_an_earlier_run(there):
    make, folder = there
    assert make(pdf=False).paths == [folder.html, folder.summary]
    assert not folder.pdf.exists()
