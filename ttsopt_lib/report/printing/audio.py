"""Listening examples in the page: every voice speaks the same sentences, side by side, at the level it has.

Nothing is normalised: a variant that is quieter or noisier has to sound so. MP3 keeps the page small; at the highest
quality setting it keeps the band above 8 kHz, where quantization noise shows first. The WAV files are linked beside.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ttsopt_lib.evaluate.examples import examples_of
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL

BUDGET = 5_000_000  # characters of embedded audio in one page; the page has to stay below 8 MB
MIME = {"MP3": "audio/mpeg", "FLAC": "audio/flac", "WAV": "audio/wav"}


def encoded(path: Path) -> tuple[str, bytes]:
    """The smallest encoding of a WAV file that this machine can make and every browser plays: (MIME type, bytes).

    MP3 needs libsndfile 1.1; without it FLAC, which is lossless, and in the end the file itself.
    """
    import soundfile

    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    for kind in ("MP3", "FLAC"):
        buffer = io.BytesIO()
        least = 0.0 if kind == "MP3" else None  # of MP3's compression: the best it can sound
        try:
            soundfile.write(buffer, samples, rate, format=kind, compression_level=least)
        except (soundfile.SoundFileError, ValueError, TypeError):
            continue
        return MIME[kind], buffer.getvalue()
    return MIME["WAV"], path.read_bytes()


def data_uri(mime: str, data: bytes) -> str:
    """Bytes as an address that a page can play without loading anything."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


class Players:
    """Makes players until the page's budget for audio is used up; from then on only links to the WAV files."""

    def __init__(self, folder: StudyFolder, budget: int = BUDGET, outdated: Collection[str] = ()):
        """`outdated`: the voices that were others when they spoke their examples."""
        self.folder, self.outdated = folder, outdated
        self.left = budget
        self._sources: dict[Path, Future[str]] = {}
        self._encoders = ThreadPoolExecutor(1)  # libsndfile works beside Python: on another core

    def prepare(self, summary: Summary, names: Sequence[str]) -> None:
        """Begin to encode what `table` will ask for, while something else is done."""
        for name in names:
            for path in examples_of(self.folder, name, summary.listening):
                if path and name not in self.outdated:
                    self._begun(path)

    def table(self, summary: Summary, names: Sequence[str], caption: str, name: str) -> str:
        """A table of players: a row per voice, a column per sentence; a sentence where there is no audio at all."""
        examples = {one: examples_of(self.folder, one, summary.listening) for one in names}
        if not any(path for paths in examples.values() for path in paths):
            return '<p class="missing">Nothing to hear: the examples were not made yet (ttsopt evaluate).</p>'
        heads = "".join(
            f'<th scope="col">Sentence {number} <br><q dir="auto">{escape(text)}</q></th>'
            for number, text in enumerate(summary.listening, 1)
        )
        rows = "".join(self._row(*row) for row in examples.items())
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-labelledby="table-{name}">'
            f'<table class="audio stack"><caption id="table-{name}"><span>{escape(caption)}</span></caption>'
            f'<thead><tr><th scope="col">Voice</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        )

    def _row(self, name: str, paths: Sequence[Path | None]) -> str:
        cells = "".join(
            f'<td data-label="Sentence {number}">{self._cell(name, number, path)}</td>'
            for number, path in enumerate(paths, 1)
        )
        before = " <br><span class='interval'>before</span>" if name == ORIGINAL else ""
        return f'<tr><th scope="row"><code>{escape(name)}</code>{before}</th>{cells}</tr>'

    def _cell(self, name: str, number: int, path: Path | None) -> str:
        if path is None:
            return '<span class="none">not made</span>'
        if name in self.outdated:
            return '<span class="none">made before this voice was changed (ttsopt evaluate)</span>'
        label = f"{escape(name)}, sentence {number}"
        address = path.relative_to(self.folder.path).as_posix()
        link = f'<a href="{address}" aria-label="WAV file of {label}">WAV</a>'
        source = self._begun(path).result()
        if len(source) > self.left:
            return link
        self.left -= len(source)
        return f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio> {link}'

    def _begun(self, path: Path) -> Future[str]:
        if path not in self._sources:
            self._sources[path] = self._encoders.submit(lambda: data_uri(*encoded(path)))
        return self._sources[path]
