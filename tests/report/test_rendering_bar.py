"""Whoever waits for a report or a notebook sees what is being made and what remains, on standard error alone."""

import json

import psutil
import pytest
from tqdm.auto import tqdm

from ttsopt_lib import notebooks
from ttsopt_lib.notebooks import CellDefect, Kernel, notebook_seconds, run_notebook
from ttsopt_lib.report import render


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Writes notebooks/small.ipynb of a project: a first cell with parameters, then these cells of code."""

    def write(parameters, *sources):
        code = {"cell_type": "code", "outputs": [], "execution_count": None}
        text = {"cell_type": "markdown", "source": "text", "metadata": {}}
        first = {**code, "source": parameters, "metadata": {"tags": ["parameters"]}}
        cells = [text, first, text, *({**code, "source": source, "metadata": {}} for source in sources)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
        for folder in ("params", "notebooks"):
            (tmp_path / folder).mkdir()
        (tmp_path / "notebooks/small.ipynb").write_text(json.dumps(notebook))
        monkeypatch.chdir(tmp_path)

    return write


def test_a_notebook_moves_its_bar_cell_by_cell_to_the_end(small, tmp_path, monkeypatch, capsys):
    small("word = 'no'", "print(word)", "print(word)")
    assert notebook_seconds("small") == notebooks.START + notebooks.FIRST_CELL + notebooks.CELL
    moved = []
    monkeypatch.setattr(notebooks, "tqdm", type("Bar", (tqdm,), {"update": lambda bar, n=1: noted(bar, n)}))

    def noted(bar: tqdm, n: float) -> object:
        moved.append(n)
        return tqdm.update(bar, n)

    out = run_notebook("small", tmp_path / "out.ipynb", {"word": "yes"})
    assert "yes" in out.read_text()
    assert moved == [notebooks.START, notebooks.FIRST_CELL, notebooks.CELL]
    drawn = capsys.readouterr()
    assert drawn.out == "" and "small: 100%" in drawn.err


@pytest.mark.slow
def test_a_kernel_that_was_started_early_runs_the_notebook_and_ends_with_it(small, tmp_path):
    small("fail = None", "import os, sys; print(os.getpid(), 'colorsys' in sys.modules); 1 / (not fail)")
    out = tmp_path / "out.ipynb"
    with Kernel() as kernel:
        kernel.start("colorsys")
        run_notebook("small", out, {}, kernel=kernel)
        pid, imported = json.loads(out.read_text())["cells"][-1]["outputs"][0]["text"][0].split()
        assert imported == "True"
        assert not psutil.pid_exists(int(pid)), "it has ended"
        kernel.start()
        kernel.stop()
        run_notebook("small", out, {}, kernel=kernel)
        another, imported = json.loads(out.read_text())["cells"][-1]["outputs"][0]["text"][0].split()
        assert imported == "False" and another != pid, "one that was stopped is started anew"
        with pytest.raises(CellDefect, match="^notebook small: ZeroDivisionError: division by zero") as defect:
            run_notebook("small", out, {"fail": True}, kernel=kernel)
        assert "in <module>" in defect.value.__notes__[0] or "Cell" in defect.value.__notes__[0]
    assert not [child for child in psutil.Process().children() if "ipykernel_launcher" in child.cmdline()]


@pytest.mark.slow
@pytest.mark.parametrize("pdf", [True, False])
def test_a_report_comes_to_the_end_of_its_bar_with_a_pdf_or_without(rendered, case, tmp_path, monkeypatch, capsys, pdf):
    made = rendered("good").notebooks / "report.ipynb"
    study, devices, _ = case("good")

    def run(name, output, parameters, bar, *_, **__):
        bar.update(notebook_seconds(name))
        return made

    def write_pdf(page, path):
        if not pdf:
            raise render.PdfUnavailable("no report.pdf")
        path.write_text("printed")

    monkeypatch.setattr(render, "run_notebook", run)
    monkeypatch.setattr(render, "write_pdf", write_pdf)
    folder = render.StudyFolder(study, tmp_path)
    folder.path.mkdir()
    capsys.readouterr()
    result = render.render_report(study, devices, folder)
    assert bool(result.messages) is not pdf
    drawn = capsys.readouterr()
    assert drawn.out == ""
    for words in ("report: sections:", "report: HTML:", "report: PDF: 100%"):
        assert words in drawn.err
