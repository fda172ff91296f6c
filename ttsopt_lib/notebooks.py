"""Run a notebook with papermill, so that every step leaves an executed notebook beside its record.

A notebook holds no logic: it takes parameters, makes one library call and shows the result. Executed notebooks
are windows onto records: where a record is there and current, running its notebook takes seconds.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqdm.auto import tqdm

from ttsopt_lib.errors import StudyError, TtsoptError
from ttsopt_lib.files import atomic_path
from ttsopt_lib.paths import project_root, python_command, resolve

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

# Seconds that the parts of a notebook took once: what remains of it is told by their shares.
START, FIRST_CELL, CELL = 2.5, 6.0, 0.3  # the kernel; the first cell, which imports and opens everything; each other


class NotebookError(TtsoptError, RuntimeError):
    """A notebook that did not run to its end. The message is the error of the cell that stopped it."""


class CellDefect(RuntimeError):
    """A cell that raised what nobody can do anything about but us; its traceback is a note of this error."""


class Kernel:
    """The Python process that executes one notebook. Leaving the block ends it.

    It is this interpreter, whatever kernels its user has, and nothing of their IPython runs in it
    (`plain_kernel.py`). Started early, it begins and imports on another core while its user does something
    else.
    """

    def __init__(self) -> None:
        self._manager: AsyncKernelManager | None = None
        self._clients: list[Any] = []  # that talk to the process
        self._files: TemporaryDirectory[str] | None = None  # the connection's, and IPython's profile
        self._killed = False

    def start(self, module: str = "") -> AsyncKernelManager:
        """Start the process if it does not run yet; it imports `module` before the first cell."""
        if self._killed:
            raise NotebookError("interrupted before it began")
        if self._manager is None:
            from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
            from jupyter_client.manager import AsyncKernelManager
            from jupyter_core.utils import run_sync

            class ThisPython(KernelSpecManager):
                def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
                    command = [*python_command("ttsopt_lib.plain_kernel"), "-f", "{connection_file}"]
                    return KernelSpec(argv=command, display_name=kernel_name, language="python")

            self._files = TemporaryDirectory(prefix="ttsopt-", ignore_cleanup_errors=True)
            arguments = [
                "--IPKernelApp.log_level=40",  # a note on TCP at every start helps nobody
                "--IPKernelApp.ignore_cwd=True",  # nor does this put it among the modules
                f"--ProfileDir.location={self._files.name}",
                "--HistoryManager.enabled=False",
            ]
            if module:  # and its objects are no garbage: a search for cycles need not look at them
                arguments.append(f"--IPKernelApp.exec_lines=import gc, {module}; gc.freeze()")
            clients = self._clients

            class Manager(AsyncKernelManager):
                def client(self, **more: Any) -> Any:
                    clients.append(super().client(**more))
                    return clients[-1]

            manager = Manager(
                kernel_name="python3",
                kernel_spec_manager=ThisPython(),
                connection_file=f"{self._files.name}/kernel.json",
            )
            run_sync(manager.start_kernel)(extra_arguments=arguments, cwd=str(project_root()))
            self._manager = manager
        return self._manager

    def stop(self, now: bool = True) -> None:
        """End the process if it runs: `now`, or as an interrupt does, so that a cell at work can tidy up."""
        if self._manager is not None:
            from jupyter_core.utils import run_sync

            manager, self._manager = self._manager, None
            for client in self._clients:  # its heartbeat would beat on in a thread: nbclient leaves that to the owner
                client.stop_channels()
            self._clients.clear()
            run_sync(manager.shutdown_kernel)(now=now)
        if self._files is not None:
            self._files.cleanup()

    def kill(self) -> None:
        """End the process at once, from another thread than the one that uses it; it is never started again."""
        self._killed = True
        if self._manager is not None and self._manager.has_kernel:
            self._manager.provisioner.process.kill()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.stop(now=kind is not KeyboardInterrupt)


def notebook_path(name: str) -> Path:
    """notebooks/<name>.ipynb of the user, else of the package. Raises `StudyError` where there is none."""
    path = resolve(Path("notebooks") / f"{name}.ipynb")
    if not path.is_file():
        raise StudyError(f"{path}: no such notebook, and the package has none either; install ttsopt again")
    return path


def work_bar(label: str, seconds: float) -> tqdm:
    """A progress bar over parts that took `seconds` once, with the remaining time at the speed of this machine."""
    form = "{l_bar}{bar}| [{elapsed}<{remaining}]"
    return tqdm(total=seconds, desc=label, smoothing=0, miniters=0, bar_format=form)


def notebook_seconds(name: str) -> float:
    """What running notebooks/<name>.ipynb adds to a progress bar. Raises `StudyError` where there is none."""
    return sum(_parts(notebook_path(name)))


def import_papermill():
    """Papermill, whose import takes over a second: best done while a kernel starts."""
    # The grammar of international addresses, which no notebook holds, takes jsonschema another second: it does without.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill

    return papermill


def run_notebooks(asked: Sequence[tuple[str, Path, dict[str, Any]]]) -> None:
    """Execute notebooks, two at a time: most of what one takes is to start a process and to import.

    Args:
        asked: of each notebook its name, where it is written, and its parameters.

    Raises as `run_notebook` does, for the first that did not run to its end.
    """
    if not asked:
        return
    import_papermill()
    kernels = [Kernel() for _ in asked]
    with work_bar("notebooks", sum(notebook_seconds(name) for name, _, _ in asked)) as bar, ThreadPool(2) as pool:
        work = [(*one, bar, kernel) for one, kernel in zip(asked, kernels, strict=True)]
        try:
            for _ in pool.imap_unordered(lambda one: run_notebook(*one), work):  # the first error comes at once
                pass
        except BaseException:  # the others see that their process is gone, tidy up and end
            for kernel in kernels:
                kernel.kill()
            pool.close()
            pool.join()
            raise


def run_notebook(
    name: str,
    output: Path,
    parameters: dict[str, Any],
    bar: tqdm | None = None,
    kernel: Kernel | None = None,
) -> Path:
    """Execute notebooks/<name>.ipynb with `parameters` and write it to `output`, whole or not at all.

    `bar` is moved by `notebook_seconds`; without one the notebook has its own. `kernel` may have been
    started before; it has ended afterwards. Raises `NotebookError` with the last line of the failing cell's
    traceback, or where the process was killed; `CellDefect` where what the cell raised is no error for a person.
    """
    if bar is None:
        with work_bar(f"notebook {name}", notebook_seconds(name)) as own:
            return run_notebook(name, output, parameters, own, kernel)
    papermill = import_papermill()
    from papermill.exceptions import PapermillExecutionError, strip_color

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says of errors, we say in one line
    source = notebook_path(name)
    parts = iter(_parts(source))

    def started(cell: Any, cell_index: int) -> None:
        if _is_work(cell):
            bar.update(next(parts))  # of what came before it

    try:
        with atomic_path(output) as temporary, kernel or Kernel() as running:
            manager = running.start()
            papermill.execute_notebook(
                str(source),
                str(temporary),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,  # megabytes, twice a cell, of a file that has no name yet
                km=manager,
                on_cell_start=started,
            )
    except PapermillExecutionError as error:
        raised = error.ename.rpartition(".")[-1]
        said = f"notebook {name}: {raised}: {' '.join(str(error.evalue).split())}"
        if _is_for_a_person(error.ename):
            raise NotebookError(said) from None
        defect = CellDefect(said)
        defect.add_note(strip_color("\n".join(error.traceback)))
        raise defect from None
    except RuntimeError as error:
        if not str(error).startswith("Kernel "):  # as jupyter_client and nbclient begin what they say of a process
            raise
        raise NotebookError(
            f"notebook {name}: its process was killed ({error}), for example because memory was short; "
            "the same command runs it again"
        ) from None
    bar.update(sum(parts))
    return output


def _is_for_a_person(name: str) -> bool:
    """Whether an exception of this module and name is one that the command line shows in a line of its own."""
    try:
        kind = locate(name)
    except ErrorDuringImport:
        return False
    return isinstance(kind, type) and issubclass(kind, (TtsoptError, OSError, ModuleNotFoundError))


def _parts(notebook: Path) -> list[float]:
    """Seconds of the kernel's start and of each cell that does something."""
    cells = filter(_is_work, json.loads(notebook.read_text(encoding="utf-8"))["cells"])
    return [START, *(CELL if number else FIRST_CELL for number, _ in enumerate(cells))]


def _is_work(cell: Any) -> bool:
    return cell["cell_type"] == "code" and not any("parameters" in tag for tag in cell["metadata"].get("tags", []))
