"""The same page on paper: links to the WAV files in place of players, page numbers, bookmarks."""

from __future__ import annotations

import base64
import io
import logging
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ttsopt_lib.files import atomic_path


class PdfUnavailable(RuntimeError):
    """No PDF can be made here. The message says what to install."""


def for_paper(page: str) -> str:
    """The page without what costs seconds to lay out and is never seen on paper.

    Players are left out (the link to the WAV file beside each one stays), and so are figures drawn for phones. Other
    figures become images, still vectors and with their description: the printer would match the page's style sheet
    with every line inside them.
    """
    page = re.sub(r'<audio\b.*?</audio>|<div class="narrow">.*?</div>', "", page, flags=re.DOTALL)
    return re.sub(r'<svg\b[^>]* role="img" aria-label="([^"]*)">.*?</svg>', _as_image, page, flags=re.DOTALL)


def _as_image(svg: re.Match[str]) -> str:
    data = base64.b64encode(svg[0].encode()).decode()
    return f'<img alt="{svg[1]}" src="data:image/svg+xml;base64,{data}">'


def write_pdf(page: str, path: Path) -> None:
    """Print a page. Raises `PdfUnavailable` where WeasyPrint or pango is missing."""
    weasyprint = import_printer()
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns of CSS that is for screens only
    with atomic_path(path) as temporary:
        # no base URL: links to the WAV files stay relative to the PDF, and no path of this machine gets into it
        document = weasyprint.HTML(string=for_paper(page), url_fetcher=_embedded)
        document.write_pdf(str(temporary), pdf_tags=True)


def import_printer():
    """WeasyPrint. Raises `PdfUnavailable` where it or pango is missing."""
    try:
        with redirect_stdout(io.StringIO()):  # without pango it prints eight lines, of which one would do
            import weasyprint
    except ImportError:
        raise PdfUnavailable("no report.pdf: WeasyPrint is not installed (pip install weasyprint)") from None
    except OSError:  # the Python package is there, the libraries that it draws with are not
        command = (
            "brew install pango"
            if sys.platform == "darwin"
            else "sudo apt-get install libpango-1.0-0 libpangoft2-1.0-0"
        )
        raise PdfUnavailable(f"no report.pdf: pango is not installed ({command})") from None
    return weasyprint


def _embedded(url: str, *_: object, **__: object):
    """Pictures that stand inside the page itself; whatever asks for more is a mistake."""
    if not url.startswith("data:"):
        raise ValueError(f"the report must not load {url[:80]}")
    from weasyprint.urls import URLFetcher

    return URLFetcher(allowed_protocols=("data",)).fetch(url)
