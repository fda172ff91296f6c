"""HTML pieces of the report: figures with alt text, verdict marks, paragraphs, boxes and lists.

They are plain semantic HTML; how they look is said once, in template/report.css.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from ttsopt_lib.report.printing.plot_style import Chart, inline_svg, narrow_svg_text, svg_text

SHAPES = {  # drawn, not typed: fonts differ in what they have for a check mark
    "pass": '<circle cx="8" cy="8" r="7"/><path d="M4.5 8.3l2.4 2.4 4.6-5"/>',
    "fail": '<rect x="1.5" y="1.5" width="13" height="13" rx="1.5"/><path d="M5 5l6 6M11 5l-6 6"/>',
    "not_measured": '<circle cx="8" cy="8" r="6.5" stroke-dasharray="2.4 2"/><path d="M5 8h6"/>',
}
INKS = {"pass": "#0a5c40", "fail": "#8c2f00", "not_measured": "#4a4d52"}
WORDS = {"pass": "PASS", "fail": "FAIL", "not_measured": "NOT MEASURED"}
FEW = 2  # devices of which everything is printed


def escape(text: object) -> str:
    """Text as HTML, with `names in backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(text), quote=True))


def mark(status: str) -> str:
    """PASS, FAIL or NOT MEASURED as a word beside a shape; the colour only repeats it."""
    shape = (  # colours as attributes: the printer of the PDF does not style inline SVG
        f'<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" fill="none" stroke="{INKS[status]}" '
        f'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">{SHAPES[status]}</svg>'
    )
    return f'<span class="mark {status}">{shape}{WORDS[status]}</span>'


def paragraphs(sentences: Iterable[str], kind: str = "") -> str:
    """Each sentence as a paragraph."""
    opening = f'<p class="{kind}">' if kind else "<p>"
    return "\n".join(f"{opening}{escape(sentence)}</p>" for sentence in sentences)


def bullets(sentences: Sequence[str], printed: int | None = None) -> str:
    """Sentences as a list; nothing where there are none. Printed, it has the first `printed` and names the page."""
    shown = len(sentences) if printed is None else printed
    items = [f"<li>{escape(sentence)}</li>" for sentence in sentences[:shown]]
    items += [f'<li class="screen-only">{escape(sentence)}</li>' for sentence in sentences[shown:]]
    if more := len(sentences[shown:]):
        items.append(f'<li class="paper-only">{more} more: see <code>report.html</code>.</li>')
    return f"<ul>{''.join(items)}</ul>" if items else ""


def reasoned(items: Sequence[tuple[str, str]]) -> str:
    """Statements as a numbered list, the reason below each; nothing where there are none."""
    rows = "".join(
        f'<li><strong>{escape(text)}</strong><br><span class="reason">{escape(reason)}</span></li>'
        for text, reason in items
    )
    return f'<ol class="reasoned">{rows}</ol>' if items else ""


def note(title: str, sentences: Sequence[str], kind: str = "note", anchor: str = "") -> str:
    """A box beside the text, for warnings and rules; nothing where there is nothing to say.

    With an `anchor` its sentences are numbered, and `#anchor-1` is a link to the first.
    """
    if not sentences:
        return ""
    body = bullets(sentences) if len(sentences) > 1 else paragraphs(sentences)
    if anchor:
        items = [f'<li id="{anchor}-{number}">{escape(text)}</li>' for number, text in enumerate(sentences, 1)]
        body = f"<ol>{''.join(items)}</ol>"
    return f'<aside class="{kind}" aria-label="{escape(title)}"><p class="title">{escape(title)}</p>{body}</aside>'


def figure(chart: Chart | None, missing: str) -> str:
    """A chart with its caption; where there is none, a sentence that says why. A phone shows its narrow form."""
    if chart is None:
        return f'<p class="missing">{escape(missing)}</p>'
    picture = inline_svg(svg_text(chart), chart.alt)
    if chart.narrow:
        narrow = inline_svg(narrow_svg_text(chart), chart.alt)
        picture = f'<div class="wide">{picture}</div><div class="narrow">{narrow}</div>'
    return (
        f'<figure id="figure-{chart.name}"><div class="scroll" role="region" tabindex="0" '
        f'aria-label="Figure: {escape(chart.name)}">{picture}</div>'
        f"<figcaption>{escape(chart.caption)}</figcaption></figure>"
    )


def on_paper(devices: Sequence[object]) -> int:
    """How many devices a table has on paper that goes on for every device."""
    return FEW if len(devices) <= FEW else 1


def not_printed(parts: Sequence[str], where: str) -> list[str]:
    """Tables for the screen; on paper a sentence says where they are."""
    if not parts:
        return []
    return ['<div class="screen-only">', *parts, f'</div><p class="small paper-only">{escape(where)}</p>']
