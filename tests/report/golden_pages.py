"""Golden pages: what the report says in words is stored once, so that improving a sentence edits no test.

A page is a text file in `golden/`: headings, and under each the texts that stand there. `good.txt`, `bad.txt`,
`unmeasured.txt` and `many.txt` hold what the report says about each invented study. Any other page belongs to the
test module of its name and holds, test by test, the wording of branches that no invented study takes; the tests
themselves say which figures, names and branches have to be there.
"""

from __future__ import annotations

import difflib
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ttsopt_lib.report.printing.plot_style import Chart

FOLDER = Path(__file__).parent / "golden"
OPTION = "--rewrite-golden"
COMMAND = f"python -m pytest tests/report {OPTION}"
HEADING = re.compile(r"^== (.*) ==$", re.MULTILINE)
SHOWN = {"p", "li", "caption", "figcaption", "dt", "dd", "h2", "h3"}  # elements whose text is prose


def read(page: str) -> dict[str, str]:
    """The blocks of a stored page by their headings; none where there is no such page."""
    path = FOLDER / f"{page}.txt"
    parts = HEADING.split(path.read_text(encoding="utf-8")) if path.exists() else [""]
    return {heading: block.strip("\n") for heading, block in zip(parts[1::2], parts[2::2], strict=True)}


def write(page: str, blocks: Mapping[str, str]) -> None:
    """Store a page."""
    FOLDER.mkdir(exist_ok=True)
    text = "\n\n".join(f"== {heading} ==\n\n{block}" for heading, block in blocks.items())
    (FOLDER / f"{page}.txt").write_text(text + "\n", encoding="utf-8")


def block_of(texts: Sequence[str]) -> str:
    """Texts as they are stored: an item each, in lines that a diff can show."""
    items = [
        textwrap.fill(
            " ".join(text.split("\n")),
            116,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for text in texts
    ]
    return "\n".join(items)


def check(page: str, sections: Mapping[str, Sequence[str]], rewrite: bool, whole: bool) -> None:
    """Fail where sections are worded otherwise than the page says, or store them.

    Args:
        page: Name of the stored page.
        sections: Texts by their headings.
        rewrite: Whether to store the sections in place of comparing them.
        whole: Whether these are all sections of the page, in its order. If not, the page is kept in order of headings.
    """
    stored, said = read(page), {heading: block_of(texts) for heading, texts in sections.items()}
    if rewrite:
        if os.environ.get("PYTEST_XDIST_WORKER"):
            pytest.fail("several processes would write over each other's pages: add -n 0", pytrace=False)
        blocks = said if whole else dict(sorted({**stored, **said}.items()))
        if blocks != stored or list(blocks) != list(stored):
            write(page, blocks)
        return
    expected = stored if whole else {heading: stored[heading] for heading in said if heading in stored}
    if difference := _difference(page, expected, said):
        pytest.fail(f"{difference}\n\nIf that is how it should read: {COMMAND}", pytrace=False)


def _difference(page: str, expected: Mapping[str, str], said: Mapping[str, str]) -> str:
    """What is said otherwise, heading by heading; empty where nothing is."""
    parts = []
    for heading in dict.fromkeys([*expected, *said]):
        before, after = expected.get(heading, "").splitlines(), said.get(heading, "").splitlines()
        if before != after:
            lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
            parts.append("\n".join([f"{page}.txt, {heading}:", *lines]))
    if not parts and list(expected) != list(said):
        parts.append(f"{page}.txt: the sections come in another order: {', '.join(said)}")
    return "\n\n".join(parts)


class _Prose(HTMLParser):
    """The texts of a piece of HTML, and the headings of its tables; neither their cells nor drawn text."""

    def __init__(self, html: str):
        super().__init__()
        self.texts: list[str] = []
        self.columns: list[str] = []
        self.open: list[str] = []
        self.drawing = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "svg":
            self.drawing += 1
            if values.get("aria-label"):
                self._add(f"(picture) {values['aria-label']}")
        elif tag in SHOWN:
            self.open.append(tag)
            self.texts.append("")
        elif tag == "th" and values.get("scope") == "col":
            self.open.append(tag)
            self.columns.append("")
        elif tag in ("br", "span") and self.open and self.texts:
            self.texts[-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self.drawing -= 1
        elif self.open and tag == self.open[-1]:
            self.open.pop()
        elif tag == "thead":
            self._add("(columns) " + " | ".join(self.columns))
            self.columns = []

    def handle_data(self, data: str) -> None:
        if self.open and not self.drawing:
            (self.columns if self.open[-1] == "th" else self.texts)[-1] += data

    def _add(self, text: str) -> None:
        if text not in self.texts:  # a picture and its form for phones are described in the same words
            self.texts.append(text)


def prose_of(html: str) -> list[str]:
    """What a piece of the page says in words."""
    texts = (re.sub(" +", " ", text).strip(" ") for text in _Prose(html).texts)
    return [text for text in texts if text]


def title(chart: Chart) -> str:
    """A figure's title in one line."""
    return re.sub(r"(?<=\w-)\n", "", chart.figure.get_suptitle()).replace("\n", " ")
