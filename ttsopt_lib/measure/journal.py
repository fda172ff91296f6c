"""Finished pairs of blocks as JSON lines, so that an interrupted run, or a first look, goes on after the last one.

One line holds one mirrored pair (every row with the samples of that pair alone), or what the machine was like in one
sitting so far, of which the last line counts. Lines are appended, and a line that was cut short (power, connection, a
full disk) is dropped when the journal is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ttsopt_lib.files import atomic_path, naming
from ttsopt_lib.measure.plan import LeftOut
from ttsopt_lib.records.base import Record, now
from ttsopt_lib.records.device import SittingRecord, TimingRow

StoppedBy = Literal["interval", "budget", "max_blocks"]


class Pair(Record):
    """One mirrored pair of blocks, of all rows with one number of threads."""

    threads: int
    rows: list[TimingRow]
    elapsed_seconds: float  # since the run began, without the time between its sittings
    opening_seconds: float = 0.0  # those of them in which an accelerator's rows were opened: no part of the budget
    stopped_by: StoppedBy | None  # why this was the last pair with these threads; None: more were to follow
    sitting: int = 0  # which of the run's sittings it was timed in
    ended: str = ""  # UTC, ISO 8601
    left_out: list[LeftOut] = []  # optional rows of these threads that have no samples in it


class Journal:
    """The pairs of one run. With a path they outlive the process; without one they are kept in memory alone."""

    def __init__(self, path: Path | None = None):
        self.pairs: list[Pair] = []
        self.sittings: list[SittingRecord] = []
        self._path = path
        if path is not None and path.exists():
            self._restore(path)

    def _restore(self, path: Path) -> None:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            entry = json.loads(line)
            if "was" in entry:
                self._keep(entry["sitting"], SittingRecord.model_validate(entry["was"]))
            else:
                self.pairs.append(Pair.model_validate(entry))
        if whole != text:
            path.write_bytes(whole)

    @property
    def elapsed_seconds(self) -> float:
        """Time that the run has taken so far."""
        return self.pairs[-1].elapsed_seconds if self.pairs else 0.0

    @property
    def opening_seconds(self) -> float:
        """Those of them that count towards no budget."""
        return self.pairs[-1].opening_seconds if self.pairs else 0.0

    def with_threads(self, threads: int) -> list[Pair]:
        """The finished pairs of one number of threads, in order."""
        return [pair for pair in self.pairs if pair.threads == threads]

    def add(self, pair: Pair) -> None:
        """Keep a finished pair."""
        pair = pair.model_copy(update={"sitting": max(0, len(self.sittings) - 1), "ended": now()})
        self.pairs.append(pair)
        self._append(pair.model_dump_json())

    def reopen(self) -> None:
        """End a first look: the next one who opens the journal times further blocks, whatever ended these."""
        self.pairs = [pair.model_copy(update={"stopped_by": None}) for pair in self.pairs]
        self.sittings = [sitting.model_copy(update={"first_look": True}) for sitting in self.sittings]
        if self._path is not None:
            sittings = [_sitting_line(number, was) for number, was in enumerate(self.sittings)]
            lines = [*sittings, *(pair.model_dump_json() for pair in self.pairs)]
            with atomic_path(self._path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def note_sitting(self, number: int, was: SittingRecord) -> None:
        """Keep what the machine was like in the sitting of that number (from 0) so far."""
        self._keep(number, was)
        self._append(_sitting_line(number, was))

    def _keep(self, number: int, was: SittingRecord) -> None:
        self.sittings[number:] = [was]

    def counted_sittings(self) -> list[SittingRecord]:
        """The sittings that have timed blocks, with how many and when the last of them ended."""
        found = []
        for number, sitting in enumerate(self.sittings):
            ends = [pair.ended for pair in self.pairs if pair.sitting == number]
            if ends:
                found.append(sitting.model_copy(update={"blocks": 2 * len(ends), "ended": max(ends)}))
        return found

    def _append(self, line: str) -> None:
        if self._path is not None:
            with naming(self._path), open(self._path, "a", encoding="utf-8") as file:
                file.write(line + "\n")


def _sitting_line(number: int, was: SittingRecord) -> str:
    return json.dumps({"sitting": number, "was": was.model_dump(mode="json")})


def joined(pairs: Iterable[Pair]) -> list[TimingRow]:
    """The rows of several pairs as one: samples one after another, the highest of the peaks."""
    rows: list[TimingRow] = []
    for pair in pairs:
        if not rows:
            rows = [row.model_copy(deep=True) for row in pair.rows]
            continue
        found = {(row.variant, row.runtime, row.mode): row for row in pair.rows}
        # An optional row that died, or could not be loaded again after an interruption, has no further samples to pair.
        rows = [row for row in rows if (row.variant, row.runtime, row.mode) in found]
        for row in rows:
            more = found[row.variant, row.runtime, row.mode]
            row.seconds += more.seconds
            row.audio_seconds += more.audio_seconds
            row.load_seconds += more.load_seconds
            row.unsteady = max((one for one in (row.unsteady, more.unsteady) if one is not None), default=None)
            row.peak_memory_mb = max(row.peak_memory_mb or 0.0, more.peak_memory_mb or 0.0)
            if row.device_memory_mb is not None and more.device_memory_mb is not None:
                row.device_memory_mb = max(row.device_memory_mb, more.device_memory_mb)
    return rows
