"""Finished pairs of blocks as JSON lines, so that an interrupted run goes on after the last one.

One line holds one mirrored pair: every row with the samples of that pair alone. Lines are only ever appended, and
a line that was cut short (power, connection, a full disk) is dropped when the journal is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ttsopt_lib.records import Record, TimingRow

StoppedBy = Literal["interval", "budget", "max_blocks"]


class Pair(Record):
    """One mirrored pair of blocks, of all rows with one number of threads."""

    threads: int
    rows: list[TimingRow]
    elapsed_seconds: float  # since the run began, without the time between its sittings
    stopped_by: StoppedBy | None  # why this was the last pair with these threads; None: more were to follow


class Journal:
    """The pairs of one run. With a path they outlive the process; without one they are kept in memory alone."""

    def __init__(self, path: Path | None = None):
        self.pairs: list[Pair] = []
        self.warnings: list[str] = []  # of earlier sittings
        self._path = path
        if path is not None and path.exists():
            self._restore(path)

    def _restore(self, path: Path) -> None:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            entry = json.loads(line)
            if "warnings" in entry:
                self.warnings += [text for text in entry["warnings"] if text not in self.warnings]
            else:
                self.pairs.append(Pair.model_validate(entry))
        if whole != text:
            path.write_bytes(whole)

    @property
    def elapsed_seconds(self) -> float:
        """Time that the run has taken so far."""
        return self.pairs[-1].elapsed_seconds if self.pairs else 0.0

    def with_threads(self, threads: int) -> list[Pair]:
        """The finished pairs of one number of threads, in order."""
        return [pair for pair in self.pairs if pair.threads == threads]

    def add(self, pair: Pair) -> None:
        """Keep a finished pair."""
        self.pairs.append(pair)
        self._append(pair.model_dump_json())

    def note_warnings(self, warnings: list[str]) -> None:
        """Keep what a sitting that was interrupted has to say about the machine."""
        if warnings:
            self._append(json.dumps({"warnings": warnings}))

    def _append(self, line: str) -> None:
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(line + "\n")


def joined(pairs: Iterable[Pair]) -> list[TimingRow]:
    """The rows of several pairs as one: samples one after another, the highest of the peaks."""
    rows: list[TimingRow] = []
    for pair in pairs:
        if not rows:
            rows = [row.model_copy(deep=True) for row in pair.rows]
            continue
        found = {(row.variant, row.runtime): row for row in pair.rows}
        # A peer that could not be loaded again after an interruption has no further samples to pair.
        rows = [row for row in rows if (row.variant, row.runtime) in found]
        for row in rows:
            more = found[row.variant, row.runtime]
            row.seconds += more.seconds
            row.audio_seconds += more.audio_seconds
            row.load_seconds += more.load_seconds
            row.peak_memory_mb = max(row.peak_memory_mb, more.peak_memory_mb)
    return rows
