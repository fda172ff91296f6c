"""Render the report: run its notebook, make one HTML page of it, print that page to PDF, and put summary.json last.

Page, PDF, tables, figures and summary take the place of earlier ones together, when all are made: an interrupt or an
error leaves the last whole report as it was. The error says so; a script sees the exit code, and the time in
`summary.json`.
"""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ttsopt_lib.errors import TtsoptError, system_words
from ttsopt_lib.files import replaced_together
from ttsopt_lib.notebooks import Kernel, import_papermill, notebook_seconds, run_notebook, work_bar
from ttsopt_lib.paths import project_root
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.current import Rendered
from ttsopt_lib.report.printing.pdf import PdfUnavailable, import_printer, write_pdf
from ttsopt_lib.report.schema import FILES_MIME, SUMMARY_MIME, Summary
from ttsopt_lib.study import Device, Study

HTML_SECONDS, PDF_SECONDS = 0.5, 6.0  # beside what a notebook's cells take, for the remaining time


class ReportError(TtsoptError, RuntimeError):
    """A report that could not be made. The message says why, and that an earlier one is still there."""


def render_report(
    study: Study, devices: Sequence[Device], folder: StudyFolder, kernel: Kernel | None = None, pdf: bool = True
) -> Rendered:
    """Everything people and scripts read, from the records in `folder`; `kernel` may have been started before.

    Without `pdf` there is none afterwards: an earlier one would tell of an earlier run.

    Raises `NotebookError` where a section cannot be made, for example because a variant
    is missing; `ReportError` where an earlier report is still there besides. Where no PDF can be printed, all
    else is written, and a message says why.
    """
    parameters = {
        "study": study.model_dump(mode="json"),
        "devices": [device.model_dump(mode="json") for device in devices],
        "reports": _reports_folder(folder),
    }
    seconds = notebook_seconds("report") + HTML_SECONDS + (PDF_SECONDS if pdf else 0)
    try:
        with work_bar("report: sections", seconds) as bar, kernel or Kernel() as running, _uncollected():
            running.start("ttsopt_lib.report.sections")
            _import_writers()  # two seconds, while the notebook's process imports for three
            ours = [folder.notebooks / "report.ipynb", folder.tables, folder.figures, folder.html, folder.pdf]
            with replaced_together(folder.path, [*ours, folder.summary]) as new:
                notebook = run_notebook("report", new(ours[0]), parameters, bar, running)
                bar.set_description("report: HTML")
                summary, page = page_of(notebook)
                _write_files(notebook, new)
                new(folder.html).write_text(page, encoding="utf-8")
                write_record(new(folder.summary), summary)
                bar.update(HTML_SECONDS)
                bar.set_description("report: PDF")
                messages = _print(page, new(folder.pdf)) if pdf else []
                bar.update(PDF_SECONDS if pdf else 0)
    except (TtsoptError, OSError) as error:
        if not folder.summary.is_file():
            raise
        why = system_words(error) if isinstance(error, OSError) else str(error)
        raise ReportError(
            f"{why}; {folder.html} and {folder.summary.name} are still those of an earlier run"
        ) from error
    printed = [folder.pdf] if folder.pdf.is_file() else []
    return Rendered([folder.html, *printed, folder.summary], messages)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage cycles inside the block: it finds nothing, and takes a second of the seven of a PDF."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _write_files(notebook: Path, new: Callable[[Path], Path]) -> None:
    """The tables and figures that an executed report notebook carries, in their folders."""
    carried = _carried(json.loads(notebook.read_text(encoding="utf-8")), FILES_MIME) or {}
    for folder, files in carried.items():
        new(Path(folder)).mkdir()
        for name, text in files.items():
            (new(Path(folder)) / name).write_text(text, encoding="utf-8")


def _print(page: str, path: Path) -> list[str]:
    """Write the PDF; what to tell a person where it cannot be written."""
    try:
        write_pdf(page, path)
    except PdfUnavailable as error:
        return [str(error)]
    except Exception as error:  # of WeasyPrint, of the libraries it draws with, of a font: the page is there without it
        said = " ".join([f"{type(error).__name__}:", *str(error).split()])[:200]
        return [f"no report.pdf: WeasyPrint could not print the page ({said}); a browser prints report.html"]
    return []


def _import_writers() -> None:
    """What runs the notebook, and what writes the page and the PDF."""
    import_papermill()
    import nbconvert.exporters  # noqa: F401

    with suppress(PdfUnavailable):
        import_printer()


def page_of(notebook: Path) -> tuple[Summary, str]:
    """The summary that an executed report notebook carries, and the page made from it."""
    import nbformat

    node = nbformat.read(notebook, as_version=4)
    carried = _carried(node, SUMMARY_MIME)
    if carried is None:
        raise ReportError("notebooks/report.ipynb carries no summary: it needs the cell 'report.first_page()'")
    summary = Summary.model_validate(carried)
    return summary, _filled(node, _page_facts(summary), code=False)


def notebook_page(notebook: Path, title: str, subtitle: str) -> str:
    """Any executed notebook, with its code, as a page in the report's look. Cells that need a kernel are left out."""
    import nbformat

    node = nbformat.read(notebook, as_version=4)
    node.cells = [cell for cell in node.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    facts = {"title": title, "voice": "ttsopt", "subtitle": subtitle, "description": subtitle, "footer": ""}
    return _filled(node, facts, code=True)


def _filled(node: Any, facts: dict[str, str], code: bool) -> str:
    """The template filled with what the notebook shows, and with the contents of the page."""
    from nbconvert.exporters import HTMLExporter
    from nbconvert.exporters.templateexporter import TemplateExporter

    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(Path(__file__).parent)],
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    # HTMLExporter would parse the finished page, all its figures and audio, to mark what only Jupyter's templates have.
    page, _ = TemplateExporter.from_notebook_node(exporter, node, resources={"page": facts})
    page = with_anchors(page)
    return page.replace("<!-- contents -->", contents(page))


def with_anchors(page: str) -> str:
    """Every heading with an id made from its text, for links, the contents and the PDF's bookmarks."""

    def anchor(found: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>|[^\w\s-]", "", found[2]).lower().split()
        return f'<h{found[1]} id="{"-".join(words)}">{found[2]}</h{found[1]}>'

    return re.sub(r"<h([23])\b[^>]*>(.*?)</h\1>", anchor, page, flags=re.DOTALL)


def contents(page: str) -> str:
    """The headings of a page as a nested list of links."""
    items: list[str] = []
    for level, anchor, title in re.findall(r'<h([23]) id="([^"]+)">(.*?)</h\1>', page, re.DOTALL):
        link = f'<a href="#{anchor}">{title}</a>'
        if level == "2" or not items:
            items.append(f"<li>{link}")
        else:
            nested = items[-1].removesuffix("</ol>") if items[-1].endswith("</ol>") else items[-1] + "<ol>"
            items[-1] = f"{nested}<li>{link}</li></ol>"
    return "<ol>" + "".join(item + "</li>" for item in items) + "</ol>"


def _carried(node: Any, kind: str) -> dict[str, Any] | None:
    """The data of a kind among the outputs of a notebook; None where it carries none."""
    for cell in node["cells"]:
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                return output["data"][kind]
    return None


def _page_facts(summary: Summary) -> dict[str, str]:
    date = summary.created[:10]
    commit = f", commit {summary.commit[:10]}" if summary.commit else ""
    return {
        "title": summary.title,
        "voice": summary.voice,
        "subtitle": f"{summary.voice}, {date}",
        "description": f"Size, latency and quality of {len(summary.variants)} variants of a voice",
        "footer": f"Made {summary.created} from the records of study {summary.study}{commit}.",
    }


def _reports_folder(folder: StudyFolder) -> str:
    """The folder of all reports, as short as it can be said: it stands in the executed notebook."""
    reports = folder.path.parent.resolve()
    root = project_root().resolve()
    return os.path.relpath(reports, root) if reports.is_relative_to(root) else str(reports)
