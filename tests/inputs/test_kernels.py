"""Notebooks run in our own kernel, whatever a user has set up for theirs; one that is killed is one line."""

import json
import os
import signal
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from ttsopt_lib import cli
from ttsopt_lib.notebooks import Kernel, NotebookError, run_notebook
from ttsopt_lib.params import notebook_parameters

TAGGED = {"tags": ["parameters"]}
CHECKED = """
import sys
from ttsopt_lib.params import notebook_parameters
notebook_parameters(globals(), wanted=int)
print(sys.executable, wanted)
"""
KILLED = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Writes a notebook of one cell into a user's folder, which is the working directory, and executes it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()

    def execute(source: str, **options) -> Path:
        cells = [nbformat.v4.new_code_cell("wanted = 1", metadata=TAGGED), nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks/own.ipynb")
        return run_notebook("own", tmp_path / "reports/own.ipynb", {"wanted": 7}, **options)

    return execute


def set_up_by_a_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that has changed what a notebook sees, at once."""
    startup = folder / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("DATA = 1")
    (startup.parent / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['LINES = 1']")
    (startup.parent / "ipython_kernel_config.py").write_text("c.InteractiveShellApp.exec_lines = ['KERNEL = 1']")
    (folder / "startup.py").write_text("STARTUP = 1")
    spec = folder / "jupyter/kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/nowhere/python", "{connection_file}"], "display_name": "gone"}))
    for name in ("random", "ipykernel", "pandas"):  # files of the user's that are called as libraries are
        (folder / f"{name}.py").write_text("raise ImportError('the wrong file')")
    monkeypatch.setenv("IPYTHONDIR", str(startup.parents[1]))
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "startup.py"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/proc/nowhere")


@pytest.mark.slow
def test_nothing_that_a_user_set_up_reaches_a_notebook(notebook, tmp_path, monkeypatch):
    set_up_by_a_user(tmp_path, monkeypatch)
    made = nbformat.read(notebook(CHECKED), as_version=4)
    assert made.cells[-1].outputs[0].text == f"{sys.executable} 7\n"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at work", "before"])
def test_a_kernel_that_is_killed_is_one_line_and_leaves_nothing(notebook, tmp_path, when):
    with Kernel() as kernel:
        if when == "before":
            process = kernel.start().provisioner
            assert isinstance(process, LocalProvisioner)
            assert process.pid
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(NotebookError, match=r"^notebook own: its process was killed \(Kernel died") as caught:
            notebook(KILLED, kernel=kernel)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "reports").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ("from ttsopt_lib.records.base import RecordError; raise RecordError('quality.json:\\n not there')", 2),
        ("open('nowhere.txt')", 2),
        ("import no_such_library", 2),
        ("[][1]", 3),
        ("from json import loads; loads('{')", 3),
    ],
)
def test_a_cells_own_defect_is_told_from_an_error_for_a_person(notebook, monkeypatch, capsys, raised, code):
    monkeypatch.setattr(cli, "app", lambda: notebook(raised))
    with pytest.raises(SystemExit, match=str(code)):
        cli.main()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ttsopt:")]
    assert "notebook own: " in line and "Error: " in line
    if code == cli.DEFECT:
        saved = Path(line.split()[-1])
        assert raised in saved.read_text(encoding="utf-8") and "Traceback" in saved.read_text(encoding="utf-8")
        saved.unlink()


def test_names_of_a_users_start_up_are_no_parameters():
    class Shell:
        user_ns_hidden = {"DATA": 1}

    notebook_parameters({"get_ipython": Shell, "DATA": 1, "wanted": 7}, wanted=int)
