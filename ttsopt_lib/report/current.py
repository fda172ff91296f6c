"""Whether a report is still what the records say: one that is need not be rendered again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import NamedTuple

from ttsopt_lib.code_hash import git_state, versions
from ttsopt_lib.files import atomic_path, content_key, file_sha256
from ttsopt_lib.notebooks import notebook_path
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.facts.students import students
from ttsopt_lib.study import Device, Study

PACKAGES = ("matplotlib", "nbconvert", "pandas", "scipy", "weasyprint")  # another version may draw another page


class Rendered(NamedTuple):
    """What was written, and what a person should be told (for example why there is no PDF)."""

    paths: list[Path]
    messages: list[str]


def report_key(study: Study, devices: Sequence[Device], folder: StudyFolder) -> str:
    """A hash of everything that a report is made from: records, audio, students, code, and what is printed of git."""
    evaluation, confirmation = study.sentences.evaluation, study.sentences.confirmation
    # of a study's folder what a report reads: not what it wrote, and none of the training's
    read = [Path(__file__).parents[1], *(folder.path / part for part in ("records", "variants", "peers"))]
    below = sorted(path for place in read for path in place.rglob("*") if path.is_file())
    files = [
        *(path for path in below if "__pycache__" not in path.parts),
        folder.web / "web.json",  # of the page that a report links to: it names the files there by their hashes
        *(resolve(one.file) for one in (evaluation, confirmation) if one),
        notebook_path("report"),
    ]
    return content_key(
        [study, list(devices), students(study)],
        [(str(path), file_sha256(path) if path.is_file() else None) for path in files],
        versions(PACKAGES),
        [git_state(), find_library("pango-1.0")],  # without which there is no PDF
    )


def current_report(folder: StudyFolder, key: str) -> Rendered | None:
    """What was rendered last, if it was made from what `key` stands for and no file of it was changed; else None."""
    try:
        kept = json.loads(folder.rendered.read_text(encoding="utf-8"))
        if kept["key"] != key or kept["files"] != _made(folder):
            return None
        return Rendered([folder.path / path for path in kept["paths"]], kept["messages"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_current(folder: StudyFolder, key: str, rendered: Rendered) -> None:
    """Note what the report that was just rendered was made from."""
    paths = [str(path.relative_to(folder.path)) for path in rendered.paths]
    kept = {"key": key, "paths": paths, "messages": rendered.messages, "files": _made(folder)}
    with atomic_path(folder.rendered) as temporary:
        temporary.write_text(json.dumps(kept), encoding="utf-8")


def _made(folder: StudyFolder) -> dict[str, str]:
    """The files of the report that is there, with their hashes."""
    files = [folder.html, folder.pdf, folder.summary, folder.notebooks / "report.ipynb"]
    files += [path for place in (folder.tables, folder.figures) for path in sorted(place.iterdir())]
    return {str(path.relative_to(folder.path)): file_sha256(path) for path in files if path.is_file()}
