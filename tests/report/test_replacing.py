"""A new report takes the place of the old one whole: an interrupt or an error leaves the old one."""

import json
import os
import shutil
from pathlib import Path

import pytest

from ttsopt_lib.notebooks import NotebookError
from ttsopt_lib.report import render

pytestmark = pytest.mark.slow


def failing(error):
    """A function that does nothing but raise."""

    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def there(rendered, case, tmp_path, monkeypatch):
    """A folder with an earlier report in it; sections that are made at once."""
    study, devices, _ = case("good")
    made = rendered("good").notebooks / "report.ipynb"
    monkeypatch.setattr(render, "run_notebook", lambda _name, output, *_: Path(shutil.copy(made, output)))
    monkeypatch.setattr(render, "write_pdf", lambda page, path: path.write_text("printed"))
    folder = render.StudyFolder(study, tmp_path)
    for path in earlier_files(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("earlier")
    return lambda **options: render.render_report(study, devices, folder, **options), folder


def earlier_files(folder):
    found = [folder.html, folder.pdf, folder.summary, folder.notebooks / "report.ipynb"]
    return [*found, folder.tables / "sizes.csv", folder.tables / "gone.csv", folder.figures / "size.svg"]


def texts(folder):
    return {path.name: path.read_text() for path in (folder.html, folder.pdf, folder.summary) if path.exists()}


def is_earlier(folder):
    """Whether all is there as it was, and nothing else."""
    files = {path for path in folder.path.rglob("*") if path.is_file()}
    return files == set(earlier_files(folder)) and all(path.read_text() == "earlier" for path in files)


def test_page_pdf_and_summary_are_of_the_same_run(there):
    make, folder = there
    assert make().paths == [folder.html, folder.pdf, folder.summary]
    found = texts(folder)
    assert found["report.pdf"] == "printed" and json.loads(found["summary.json"])["stage"] == "complete"
    assert found["report.html"].startswith("<!DOCTYPE html>")
    assert (folder.notebooks / "report.ipynb").read_text().startswith("{") and not list(folder.path.rglob("*.part"))
    names = {path.name for kind in (folder.tables, folder.figures) for path in kind.iterdir()}
    assert {"sizes.csv", "size.svg"} < names and "gone.csv" not in names
    assert (folder.tables / "sizes.csv").read_text().startswith("variant,")
    assert (folder.figures / "size.svg").read_text().startswith("<")


@pytest.mark.parametrize("where", ["run_notebook", "page_of", "write_pdf"])
def test_an_interrupt_leaves_the_last_whole_report(there, monkeypatch, where):
    make, folder = there
    monkeypatch.setattr(render, where, failing(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make()
    assert is_earlier(folder) and not list(folder.path.rglob("*.part*"))


@pytest.mark.parametrize("number", range(2, 12))
def test_a_report_that_cannot_take_its_place_leaves_the_earlier_one(there, monkeypatch, number):
    make, folder = there
    moved, move = [], os.replace

    def full(source, target):
        moved.append(target)
        if len(moved) == number:
            raise OSError(28, "No space left on device", str(target))
        move(source, target)

    monkeypatch.setattr(render, "_print", lambda _page, path: path.write_text("printed") and [])
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(render.ReportError, match=r"No space left on device; .*earlier run"):
        make()
    assert is_earlier(folder)


@pytest.mark.parametrize("where", ["run_notebook", "page_of"])
@pytest.mark.parametrize("error", [NotebookError("a section"), OSError(28, "No space left on device", "report.html")])
def test_a_report_that_cannot_be_made_leaves_the_earlier_one_and_says_so(there, monkeypatch, where, error):
    make, folder = there
    monkeypatch.setattr(render, where, failing(error))
    with pytest.raises(render.ReportError, match=r"(a section|No space left on device); .*report\.html .*earlier run"):
        make()
    assert is_earlier(folder)
    folder.summary.unlink()
    with pytest.raises(type(error)):
        make()


@pytest.mark.parametrize("error", [AssertionError(), ValueError("two\nlines"), MemoryError(), OSError(28, "No space")])
def test_whatever_stops_the_pdf_page_and_summary_are_there(there, monkeypatch, error):
    make, folder = there
    monkeypatch.setattr(render, "write_pdf", failing(error))
    done = make()
    (message,) = done.messages
    assert "no report.pdf: WeasyPrint" in message and type(error).__name__ in message and "\n" not in message
    assert done.paths == [folder.html, folder.summary] and not folder.pdf.exists()
    assert texts(folder)["report.html"].startswith("<!DOCTYPE html>")


def test_a_report_without_pdf_leaves_none_of_an_earlier_run(there):
    make, folder = there
    assert make(pdf=False).paths == [folder.html, folder.summary]
    assert not folder.pdf.exists()
