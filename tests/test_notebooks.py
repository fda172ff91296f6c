"""Notebooks run two at a time; where one fails the others end, too, and leave nothing half-written."""

import json
import threading

import pytest

from ttsopt_lib import notebooks
from ttsopt_lib.notebooks import Kernel, NotebookError, run_notebooks


def notebook_of(*cells: str) -> str:
    code = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None} for cell in cells
    ]
    return json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


@pytest.mark.slow
def test_an_error_in_one_ends_the_process_of_the_other_and_leaves_no_part(tmp_path, monkeypatch):
    texts = {
        "fails": notebook_of("raise OSError('the disk is full')"),
        "waits": notebook_of("import time; time.sleep(60)"),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.ipynb").write_text(text, encoding="utf-8")
    monkeypatch.setattr(notebooks, "notebook_path", lambda name: tmp_path / f"{name}.ipynb")
    out = tmp_path / "executed"
    before = set(threading.enumerate())
    with pytest.raises(NotebookError, match="fails: OSError: the disk is full"):
        run_notebooks([(name, out / f"{name}.ipynb", {}) for name in texts])
    assert list(out.iterdir()) == []
    left = {one.name for one in set(threading.enumerate()) - before}
    assert left <= {"tqdm_monitor"}, "a heartbeat beats on"


def test_a_kernel_that_was_ended_is_not_started_again():
    kernel = Kernel()
    kernel.kill()
    with pytest.raises(NotebookError, match="interrupted"):
        kernel.start()


def test_nothing_to_run_starts_nothing(monkeypatch):
    monkeypatch.setattr(notebooks, "import_papermill", lambda: pytest.fail("papermill was imported"))
    run_notebooks([])
