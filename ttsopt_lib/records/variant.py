"""Records of what `ttsopt optimize` made: variants, what a search found, and peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ttsopt_lib.files import file_sha256
from ttsopt_lib.records.base import Record, read_if_current


class VoiceRecord(Record):
    """voice.json: the voice file that `--voice` named, whose folder this is."""

    path: str  # absolute
    sha256: str  # of the file, and of those with its weights after it


class Coverage(Record):
    """Fractions of the finished model that were reached: of its stored parameters and its multiply-accumulates."""

    parameters: float
    macs: float


# What of a voice a step changes: weights become zero, parts are removed, a student takes the place of stages, the same
# work is done in another order, products are computed in int8, weights are stored in fewer bits, bits are packed.
StepKind = Literal["zeros", "removal", "student", "order", "int8 products", "stored weights", "packing", "other"]


class StepRecord(Record):
    """What one step of a recipe reached, read from the finished model."""

    step: str
    coverage: Coverage
    layers: int  # weighted layers reached
    note: str = ""  # one sentence for the report, for example "30.0 % of 15.6 M weights are zero"
    label: str  # what sentences call the step, for example "magnitude pruning"
    family: str  # what legends call voices that were made by it alone, for example "pruned"
    kind: StepKind  # which of the report's sentences fit
    remedy: str = ""  # what to change where the step costs too much quality
    optimizes: bool  # False: it stores or orders the same numbers in another way
    changes_arithmetic: bool  # False: PyTorch computes the same without it
    stages: list[str] = []  # that a student took the place of


class VariantRecord(Record):
    """variants/<name>/variant.json: how a deployable voice was made and what is in it."""

    schema_version: Literal[2] = 2
    key: str
    name: str
    recipe: list[dict[str, Any]]
    parent: str | None  # the variant it was made from: "original", or null for the original itself
    source_sha256: str  # of the voice that the study names
    files: dict[str, str]  # file name -> sha256, relative to the variant's folder
    size_bytes: int  # of model.onnx
    compressed_bytes: int  # of model.onnx after zlib level 6: what a download of it takes
    parameters_stored: int
    parameters_nonzero: int
    coverage: Coverage  # reached by any step
    steps: list[StepRecord]
    not_streamed: str = ""  # why its first sound cannot be timed, where that was asked for
    seconds: float  # wall time of the recipe
    created: str


UNLIKE_DB = 99.0  # of a group: no sound is left, or it speaks longer or shorter; more than any budget


class GroupSensitivity(Record):
    """What int8 arithmetic in one group of layers alone does, and what the group's share of the voice is."""

    group: str
    label: str
    layers: int
    parameters: float  # fraction of all weights
    time: float  # fraction of an utterance's time in float32, by ONNX Runtime's profiler; the search does not use it
    level_error_db: float
    spectral_distance_db: float
    level_above_8khz_db: float
    speedup: float | None = None  # of the group itself, times; null: the search used no clock
    speedup_ci: tuple[float, float] | None = None
    seconds_saved: float | None = None  # in one utterance


class TimedSet(Record):
    """How many times as fast as in float32 a voice is whose groups compute in int8, on the machine of the record."""

    groups: list[str]
    speedup: float
    speedup_ci: tuple[float, float]


class SensitivityRecord(Record):
    """records/sensitivity/<variant>.json: every group alone, and which of them a search chose."""

    schema_version: Literal[1] = 1
    key: str
    variant: str
    sentences: int
    groups: list[GroupSensitivity]
    chosen: list[str]  # groups that compute in int8
    error_db: float = 0.0  # level error of all the chosen together
    budget_db: float = 0.0
    machine: str = ""  # whose clock it was; empty: the search used none
    timed_sets: list[TimedSet] = []  # groups that were timed together
    created: str


class PeerRecord(Record):
    """peers/<name>/peer.json: something that a user would pick instead, made ready on this machine, or why not."""

    schema_version: Literal[1] = 1
    key: str
    name: str
    status: Literal["ready", "not_available"]
    reason: str | None
    versions: dict[str, str]  # of the packages that it is made and spoken with
    model: str | None  # file in the peer's folder; null: it speaks with the original's file, or with its own
    files: dict[str, str]  # file name -> sha256, relative to the peer's folder
    size_bytes: int | None  # of the voice's model file or files, wherever they lie
    seconds: float  # wall time of making it
    created: str


def read_variant_if_current(folder: Path, key: str) -> VariantRecord | None:
    """A variant's record if its key is right and its files are there with the hashes that the record gives."""
    record = read_if_current(folder / "variant.json", VariantRecord, key)
    if record is None:
        return None
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != digest:
            return None
    return record
