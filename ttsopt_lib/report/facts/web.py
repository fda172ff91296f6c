"""The page with the study's voices that stands beside the report: what a visitor of it downloads."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.report.schema import WebSummary, WebVoice

ABOUT, PAGE = "web.json", "index.html"


def web_summary(folder: StudyFolder, variants: Mapping[str, VariantRecord]) -> WebSummary | None:
    """Sizes of the page's files; None where `ttsopt web` has written no page."""
    about = _about(folder.web / ABOUT)
    if about is None or not (folder.web / PAGE).is_file():
        return None
    voices, beside = [], set()
    for one in about:
        beside.update(folder.web / name for name in _named(one))
        record, file = variants.get(str(one.get("name"))), folder.web / str(one.get("file"))
        if record is None or not _inside(file, folder.web):
            continue
        current = one.get("sha256") == record.files.get("model.onnx")
        voices.append(
            WebVoice(
                variant=record.name,
                size_bytes=file.stat().st_size,
                compressed_bytes=record.compressed_bytes if current else _compressed(file),
                current=current,
            )
        )
    rest = [file for file in sorted(folder.web.rglob("*")) if file.is_file() and file not in beside]
    return WebSummary(
        page=f"{folder.web.name}/{PAGE}",
        size_bytes=sum(file.stat().st_size for file in rest),
        compressed_bytes=sum(_compressed(file) for file in rest),
        voices=voices,
    )


def _about(path: Path) -> list[dict[str, Any]] | None:
    """The voices that a page has, as it says itself; None where it does not say so in a way that can be read."""
    try:
        voices = json.loads(path.read_text(encoding="utf-8"))["variants"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = isinstance(voices, list) and all(isinstance(one, dict) for one in voices)
    return voices if known else None


def _named(about: Any) -> Iterator[str]:
    """The files that belong to a voice: itself, and where it has them its weights and its halves for streaming."""
    if isinstance(about, list):
        for one in about:
            yield from _named(one)
    elif isinstance(about, dict):
        for key, value in about.items():
            if key == "file" and isinstance(value, str):
                yield value
            elif isinstance(value, list | dict):
                yield from _named(value)


def _inside(file: Path, folder: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _compressed(file: Path) -> int:
    return len(zlib.compress(file.read_bytes(), 6))  # the level at which servers compress while they send
