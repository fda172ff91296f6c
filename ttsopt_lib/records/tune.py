"""Records of `ttsopt tune`: what was asked, what every candidate is, and which one was written."""

from __future__ import annotations

from typing import Any, Literal

from ttsopt_lib.records.base import Record
from ttsopt_lib.records.device import SystemRecord

Interval = tuple[float, float]


class Asks(Record):
    """What a tuned voice has to hold, each at the worse end of its 95 % interval."""

    max_loss: float = 0.05  # of predicted MOS
    max_mb: float | None = None  # 10^6 bytes of the file; null: as small as it gets
    min_speedup: float = 1.0  # times as fast as the voice that was given
    threads: int = 1  # that it is timed with


class TimedVoice(Record):
    """How fast one file is beside the original, on one machine."""

    key: str  # hash of both files, the sentences, the threads, the processor or device, and the code
    machine: str = ""  # the processor's name
    speedup: float  # times
    speedup_ci: Interval
    blocks: int


class TimedVoices(Record):
    """<out>/tune/records/clock.json: every file that was timed, so that none is timed twice."""

    schema_version: Literal[1] = 1
    voices: list[TimedVoice] = []


class Candidate(Record):
    """A row of the table. What could not be made, timed or scored is null, and `refused` says why."""

    name: str
    recipe: list[dict[str, Any]]
    size_bytes: int | None = None
    speedup: float | None = None  # times as fast as the voice that was given
    speedup_ci: Interval | None = None
    change: float | None = None  # of predicted MOS
    change_ci: Interval | None = None
    sentences: int | None = None  # that the change rests on
    confirmed: bool = False  # whether these are further ones, which did not help to choose it
    note: str = ""  # what its last search found
    refused: str = ""
    missed: list[str] = []  # of what was asked, in words
    on_front: bool = False  # on the first sentences no other candidate is smaller, faster and better at once


class TuneRecord(Record):
    """<out>/tune.json: everything about a tuning."""

    schema_version: Literal[1] = 1
    created: str
    voice: str  # absolute path
    voice_sha256: str
    size_bytes: int  # of the voice that was given
    asks: Asks
    predictor: str
    sentences: str  # the file
    machine: SystemRecord  # that made and scored the candidates
    device: str | None = None  # the label of the one that timed them; null: the same machine
    timed_on: str = ""  # the name of the processor that timed them
    libraries: dict[str, str | None]
    commit: str | None
    uncommitted_changes: bool | None
    candidates: list[Candidate]
    chosen: str | None  # whose file is <out>/model.onnx; null: none holds what was asked
    nearest: str | None  # where none was chosen
    files: dict[str, str]  # what was written beside this record: name -> sha256
    seconds: float  # wall time of this run; what was there already took none
