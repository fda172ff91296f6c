"""A rendered report to look at: what `make example` puts into reports/example/ and git.

`python -m ttsopt_lib.report.example params/joe.yaml` copies the report of a study without its models and records,
and renders the explore notebook beside it. It refuses a report that would be too large for git, or that names a
folder of the machine it was made on.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_folder
from ttsopt_lib.notebooks import run_notebook
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import project_root, resolve
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.render import notebook_page
from ttsopt_lib.study import Study

LIMIT = 8_000_000  # bytes of the whole folder
TEXTS = {".html", ".json", ".csv", ".svg"}


class ExampleError(TtsoptError, RuntimeError):
    """A report that cannot be given away as it is. The message says what is in the way."""


def write_example(study: Study, folder: StudyFolder, target: Path, explore: bool = True) -> list[Path]:
    """Copy the finished report in `folder` to `target`; returns the files.

    Raises:
        RecordError: there is no finished report.
        ExampleError: it is too large, or a text in it holds a path of this machine.
    """
    for path in (folder.html, folder.summary):
        if not path.is_file():
            raise RecordError(f"{path}: not there yet; run 'ttsopt report' first")
    report = folder.html.read_text(encoding="utf-8")
    page = explore_page(study, folder) if explore else ""
    with atomic_folder(target) as copy:
        for path in (folder.html, folder.pdf, folder.summary):
            if path.is_file():
                shutil.copyfile(path, copy / path.name)
        for path in (folder.tables, folder.figures):
            shutil.copytree(path, copy / path.name)
        for name in study.variant_names:
            audio = folder.audio(name).relative_to(folder.path)
            if f'"{audio.as_posix()}/' in report and folder.audio(name).is_dir():  # what its page has links to
                shutil.copytree(folder.audio(name), copy / audio)
        if page:
            (copy / "explore.html").write_text(page, encoding="utf-8")
        _refuse_paths(copy)
        _refuse_large(copy)
    return sorted(path for path in target.rglob("*") if path.is_file())


def explore_page(study: Study, folder: StudyFolder) -> str:
    """The explore notebook on this study, executed and rendered with its code."""
    with TemporaryDirectory(prefix="ttsopt-") as scratch:
        parameters = {"study": study.model_dump(mode="json"), "reports": str(folder.path.parent.resolve())}
        notebook = run_notebook("explore", Path(scratch) / "explore.ipynb", parameters)
        return notebook_page(
            notebook,
            title="Explore",
            subtitle="notebooks/explore.ipynb, executed: open it in JupyterLab to type sentences of your own",
        )


def _refuse_paths(folder: Path) -> None:
    own = {str(project_root().resolve()), str(Path.home())} - {"/"}
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXTS:
            text = path.read_text(encoding="utf-8")
            for one in own:
                if one + "/" in text:
                    raise ExampleError(f"{path.name}: holds the path {one} of this machine; it cannot be published so")


def _refuse_large(folder: Path) -> None:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    total = sum(sizes.values())
    if total > LIMIT:
        largest = max(sizes, key=lambda path: sizes[path])
        raise ExampleError(
            f"the example is {total / 1e6:.1f} MB, more than {LIMIT / 1e6:g} MB (largest file: {largest.name}, "
            f"{sizes[largest] / 1e6:.1f} MB); take a study with fewer variants or listening sentences"
        )


def main(arguments: list[str]) -> None:
    """Write reports/example/ from the study that the first argument names."""
    study = read_study(resolve(Path(arguments[0] if arguments else "params/joe.yaml")))
    target = project_root() / "reports" / "example"
    files = write_example(study, StudyFolder(study), target)
    size = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"{target}: {len(files)} files, {size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TtsoptError as error:
        sys.exit(f"example: {error}")
