"""Run a notebook with papermill, so that every step leaves an executed notebook beside its record.

A notebook holds no logic: it takes parameters, makes one library call and shows the result. Executed notebooks
are windows onto records: where a record is there and current, running its notebook takes seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ttsopt_lib.records import atomic_path
from ttsopt_lib.study import StudyError, TtsoptError, project_root


class NotebookError(TtsoptError, RuntimeError):
    """A notebook that did not run to its end. The message is the error of the cell that stopped it."""


def notebook_path(name: str) -> Path:
    """notebooks/<name>.ipynb of the project. Raises :class:`StudyError` where there is none."""
    path = project_root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        raise StudyError(f"{path}: no such notebook; run ttsopt from the project folder")
    return path


def run_notebook(name: str, output: Path, parameters: dict[str, Any]) -> Path:
    """Execute notebooks/<name>.ipynb with ``parameters`` and write it to ``output``, whole or not at all.

    Raises :class:`NotebookError` with the last line of the failing cell's traceback.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    source = notebook_path(name)
    try:
        with atomic_path(output) as temporary:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(project_root()),
                extra_arguments=["--IPKernelApp.log_level=40"],  # a note on TCP at every start helps nobody
            )
    except PapermillExecutionError as error:
        raise NotebookError(f"notebook {name}: {error.ename}: {error.evalue}") from None
    return output
