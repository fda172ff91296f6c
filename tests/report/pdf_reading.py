"""What a test sees of a PDF: pages, text, links, bookmarks, fonts and pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pypdf import PdfReader


@cache
def read(path: Path) -> PdfReader:
    """The PDF, which is parsed once however many tests look at it."""
    return PdfReader(path)


@cache
def text_of(path: Path) -> str:
    """All text of a PDF in reading order, with single spaces."""
    return " ".join(" ".join(page.extract_text() for page in read(path).pages).split())


def links_of(path: Path) -> list[str]:
    """Where the links lead that leave the PDF."""
    annotations = [note.get_object() for page in read(path).pages for note in page.get("/Annots", [])]
    return [str(note["/A"]["/URI"]) for note in annotations if "/URI" in note.get("/A", {})]


def bookmarks_of(path: Path) -> list[str]:
    """The titles of all bookmarks, from first to last."""

    def titles(outline: list) -> list[str]:
        return [title for one in outline for title in (titles(one) if isinstance(one, list) else [str(one.title)])]

    return titles(read(path).outline)


def fonts_of(path: Path) -> set[str]:
    """The names of the fonts that a PDF carries, without the six letters that each begins with."""
    fonts = [page.get("/Resources", {}).get("/Font", {}) for page in read(path).pages]
    return {str(font.get_object()["/BaseFont"]).split("+")[-1] for page in fonts for font in page.values()}


def pictures_of(path: Path) -> list[tuple[int, int]]:
    """Width and height in pixels of every picture, page by page."""
    return [picture.image.size for page in read(path).pages for picture in page.images if picture.image]
