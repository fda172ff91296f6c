"""What was found: one schema per JSON file, written atomically, bound to its inputs by content hash.

A record carries ``key``, the hash of everything it was made from (recipe, files, settings, the code of the step).
A step whose record is there with the right key, and whose files still have their hashes, is done and not repeated.
Nothing half-written ever stands under a final name: files are written beside it and moved into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.paths import project_root
from ttsopt_lib.study import Stage, Study

# Of the original's audio of the same text: what is shorter or longer is no version of it. Int8 moves durations by a few
# per cent.
PLAUSIBLE_LENGTH = (0.5, 2.0)
SETTLED_NS = (
    3 * 10**9
)  # least age before a hash is cached: file-system clocks are too coarse to show a second write sooner


class RecordError(TtsoptError, RuntimeError):
    """A record that is missing, unreadable or of another schema. The message says which step makes it anew."""


class Record(BaseModel):
    """Base of all records. Unknown keys are refused, so that a record of an older schema is noticed."""

    model_config = ConfigDict(extra="forbid")


# --- where things lie -----------------------------------------------------------------------------------------


class StudyFolder:
    """The files of one study: ``reports/<name>/`` in the project folder."""

    def __init__(self, study: Study, reports: Path | None = None):
        self.path = (reports or project_root() / "reports") / study.name

    def variant(self, name: str) -> Path:
        """Folder of a variant: model.onnx, model.onnx.json, variant.json, audio/."""
        return self.path / "variants" / name

    def model(self, name: str) -> Path:
        """The deployable voice of a variant."""
        return self.variant(name) / "model.onnx"

    def variant_record(self, name: str) -> Path:
        return self.variant(name) / "variant.json"

    def peer(self, name: str) -> Path:
        """Folder of a peer, something that a user would pick instead: peer.json, and a model where one is made."""
        return self.path / "peers" / name

    def peer_record(self, name: str) -> Path:
        return self.peer(name) / "peer.json"

    def sensitivity_record(self, variant: str) -> Path:
        """What the search of a variant's recipe found; there only where the recipe has one."""
        return self.path / "records" / "sensitivity" / f"{variant}.json"

    @property
    def training(self) -> Path:
        """Run folder of the study's trainings: what students are made from."""
        return self.path / "training"

    @property
    def voice_record(self) -> Path:
        """Which voice file the folder belongs to, where `--voice` named it."""
        return self.path / "voice.json"

    def device_record(self, name: str) -> Path:
        return self.path / "records" / "devices" / f"{name}.json"

    def unfinished(self, device: str) -> Path:
        """Folder of the blocks of an interrupted measurement on this machine, from which it goes on."""
        return self.path / "records" / "devices" / "unfinished" / device

    @property
    def quality_record(self) -> Path:
        return self.path / "records" / "quality.json"

    @property
    def score_store(self) -> Path:
        """What every utterance scored, from which the quality record is made."""
        return self.path / "records" / "scores.jsonl"

    @property
    def ratings(self) -> Path:
        """Listeners' ratings that ``ttsopt ratings`` collected, with the variants' names in them."""
        return self.path / "records" / "ratings.csv"

    @property
    def listening(self) -> Path:
        """The listening test's page and audio: what is served, and nothing that tells variants apart."""
        return self.path / "listening"

    @property
    def listening_key(self) -> Path:
        """Which variant each of the listening test's clips is. Never in the folder that is served."""
        return self.path / "records" / "listening_key.json"

    def audio(self, name: str) -> Path:
        """Folder of the report's listening examples of a variant: 0.wav, 1.wav ... as ``sentences.listening``."""
        return self.variant(name) / "audio"

    @property
    def notebooks(self) -> Path:
        return self.path / "notebooks"

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def spoken(self) -> Path:
        """What the variants of the spectrograms said when the report was last made, so that they need not again."""
        return self.path / "cache" / "spoken.npz"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def html(self) -> Path:
        return self.path / "report.html"

    @property
    def pdf(self) -> Path:
        return self.path / "report.pdf"


# --- optimize -------------------------------------------------------------------------------------------------


class VoiceRecord(Record):
    """voice.json: the voice file that `--voice` named, whose folder this is."""

    path: str  # absolute
    sha256: str  # of the file, and of those with its weights after it


class Coverage(Record):
    """Fractions of the finished model that were reached: of its stored parameters and its multiply-accumulates."""

    parameters: float
    macs: float


class StepRecord(Record):
    """What one step of a recipe reached, read from the finished model."""

    step: str
    coverage: Coverage
    layers: int  # weighted layers reached
    note: str = ""  # one sentence for the report, for example "30.0 % of 15.6 M weights are zero"
    label: str  # what sentences call the step, for example "magnitude pruning"
    family: str  # what legends call voices that were made by it alone, for example "pruned"
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
    seconds: float  # wall time of the recipe
    created: str


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
    created: str


# --- measure --------------------------------------------------------------------------------------------------


BeforeAfter = tuple[float | None, float | None]
Runtime = Literal["onnxruntime", "pytorch", "piper-tts", "sherpa-onnx", "openvino", "hibari-tts"]


class GpuRecord(Record):
    """An NVIDIA GPU at one moment. None where it does not tell."""

    name: str
    driver: str | None = None
    performance_state: str | None = None  # P0 is the fastest
    clock_mhz: float | None = None  # of the multiprocessors
    max_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    memory_mib: float | None = None
    held_back: list[str] | None = None  # what keeps the clock below its maximum

    @property
    def words(self) -> str:
        """For a table: name, driver, clock, power, temperature, as far as they are told."""
        told = [self.name]
        told += [f"driver {self.driver}"] if self.driver else []
        told += [f"{self.clock_mhz:.0f} MHz"] if self.clock_mhz is not None else []
        if self.power_w is not None:
            told.append(f"{self.power_w:.0f} W" + (f" of {self.power_limit_w:.0f}" if self.power_limit_w else ""))
        told += [f"{self.temperature_c:.0f} °C"] if self.temperature_c is not None else []
        return ", ".join(told)


class SystemRecord(Record):
    """The machine that measured. None where the machine does not tell."""

    hostname_hash: str  # of the host name: tells two machines apart without naming them
    machine: str  # x86_64, aarch64
    cpu: str
    board: str | None  # /proc/device-tree/model, on a Raspberry Pi
    logical_cores: int
    memory_mb: int
    os: str
    kernel: str
    governor: str | None
    instruction_sets: list[str]  # those that matter for int8 and bf16 kernels
    accelerator: str | None
    python: str
    packages: dict[str, str]
    temperature_c: BeforeAfter = (None, None)  # of the processor, before and after timing
    throttling: tuple[list[str] | None, list[str] | None] = (None, None)  # what a Raspberry Pi's firmware reports
    gpu: tuple[GpuRecord | None, GpuRecord | None] = (None, None)  # before timing, and at work


class TimedSentence(Record):
    """A sentence of the timing set as every variant was given it."""

    length_class: str
    text: str
    phonemes: int


class TimingRow(Record):
    """Raw samples of one variant in one runtime with one number of threads."""

    variant: str
    runtime: Runtime
    threads: int
    load_seconds: list[float]  # of the model, once per worker start
    peak_memory_mb: float  # resident set of the worker alone at its highest
    idle_memory_mb: float  # resident set of the worker before it loaded the model
    seconds: list[list[float]]  # [block][sentence] wall time, ids in to audio out
    audio_seconds: list[list[float]]  # [block][sentence] length of the audio made
    mode: str = "fp32"  # of a PyTorch row: see study.TorchMode
    clock: Literal["wall", "device events"] = "wall"  # what measured the seconds
    device_memory_mb: float | None = None  # of a GPU: most that PyTorch had allocated there

    @property
    def name(self) -> str:
        """The variant, with its mode where that is not the plain one."""
        return self.variant if self.mode == "fp32" else f"{self.variant} {self.mode}"


class EnergyRow(Record):
    """Raw energy samples of a row: it spoke for a while, round after round."""

    variant: str
    runtime: str
    threads: int
    mode: str = "fp32"
    joules: list[float] = []  # [round]
    audio_seconds: list[float] = []  # [round] audio made meanwhile
    seconds: list[float] = []  # [round] wall time


class EnergyRecord(Record):
    """Energy by a counter of the machine, or why there is none."""

    source: str | None  # who counts what; null: not measured
    reason: str | None
    rows: list[EnergyRow] = []


class StopRecord(Record):
    """Why sampling ended with one number of threads: ``budget`` spent, ``interval`` narrow enough, ``max_blocks``."""

    threads: int
    blocks: int
    stopped_by: Literal["interval", "budget", "max_blocks"]
    widest_interval: float | None  # of the reductions, fraction of the baseline; null: no more than one row


class SittingRecord(Record):
    """One uninterrupted stretch of a measurement and what the machine was like: an interrupted run has several."""

    started: str
    ended: str | None = None  # of its last finished pair of blocks; null: there is none yet
    blocks: int = 0
    first_look: bool = False  # it ended with a first look, as it was meant to
    temperature_c: BeforeAfter = (None, None)
    throttling: tuple[list[str] | None, list[str] | None] = (None, None)
    warnings: list[str] = []


class ProfileRecord(Record):
    """Where one variant's time goes in ONNX Runtime, in seconds per pass over the timing sentences.

    From a profile, which slows runs down a little: for shares and ratios, never for a latency.
    """

    variant: str
    threads: int
    stages: dict[str, float]
    operators: dict[str, float]  # operator type -> seconds, the longest first


class PeerTiming(Record):
    """What became of one peer on a device: its raw samples, timed in the blocks of the variants, or why there are none.

    Its ``row`` has the peer's name in place of a variant's.
    """

    name: str
    key: str  # of the peer's own record: made anew or of another version, it has to be timed anew
    row: TimingRow | None
    reason: str | None


class Doubt(Record):
    """Something against believing timings: of the whole machine, or of rows that were timed together.

    Plain text, as older records and summaries have it, is of the whole machine.
    """

    text: str
    runtime: str | None = None  # null: it is about the whole machine
    threads: int | None = None
    rows: dict[str, str] = {}  # the rows by name -> their figures, as they are printed; none: it is about all of them

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @property
    def words(self) -> str:
        """'onnxruntime, 2 threads: unstable latencies: int8-static 12 %'."""
        where = f"{self.runtime}, {self.threads} thread{'' if self.threads == 1 else 's'}: " if self.runtime else ""
        rows = ", ".join(f"{name} {figure}" for name, figure in self.rows.items())
        return f"{where}{self.text}" + (f": {rows}" if rows else "")


class DeviceRecord(Record):
    """records/devices/<device>.json: everything timed on one device, or why nothing was."""

    schema_version: Literal[1] = 1
    key: str
    device: str
    label: str
    kind: str
    status: Literal["measured", "not_measured"]
    reason: str | None
    created: str
    system: SystemRecord | None
    sentences: list[TimedSentence] = []
    scales: list[float] = []  # noise_scale, length_scale, noise_w that every run was given
    rows: list[TimingRow] = []
    stopped_by: Literal["interval", "budget", "max_blocks"] | None = None
    stops: list[StopRecord] = []
    sittings: list[SittingRecord] = []
    energy: EnergyRecord | None = None
    elapsed_seconds: float = 0.0
    warnings: list[Doubt] = []
    profiles: list[ProfileRecord] = []
    stage: Stage = "complete"
    first_audio_sentence: int | None = None  # number of the sentence that a text is taken to begin with
    peers: list[PeerTiming] = []

    @property
    def outcome(self) -> str:
        """Why nothing was measured, or the warnings, in a line."""
        return self.reason or "; ".join(doubt.words for doubt in self.warnings) or "measured, no warnings"


# --- peers ----------------------------------------------------------------------------------------------------


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


# --- evaluate -------------------------------------------------------------------------------------------------


class PredictorRecord(Record):
    """A model that predicts listeners' scores."""

    name: str
    label: str  # as the report names it
    version: str
    weights_sha256: str


class UnavailablePredictor(Record):
    """A predictor that the study asks for and that could not be loaded here."""

    name: str
    label: str
    reason: str


class PairedScores(Record):
    """Against the original with the same noise and the original's durations, per evaluation sentence.

    An empty list was not measured; a null was not to be had from that sentence.
    """

    speaker_similarity: list[float | None]  # cosine of speaker vectors
    log_spectral_distance_db: list[float]
    log_spectral_distance_above_8khz_db: list[float]
    f0_error_cents: list[float | None]  # median absolute error over frames voiced in both
    voicing_disagreement: list[float]  # fraction of frames voiced in one of the two only


class QualityRow(Record):
    """Raw scores of one variant, or of one anchor, sentence by sentence."""

    variant: str
    key: str  # hash of everything that the scores of its utterances depend on
    scores: dict[str, list[float]]  # predictor -> one score per sentence: all of them, or the first if they decided
    audio_seconds: list[float]  # per sentence, as above
    level_above_8khz_db: list[float]  # per sentence, mean power above 8 kHz, dB re full scale
    hypotheses: list[str] | None  # recognizer's words, of the first wer_sentences; null: not measured
    wer: float | None  # word error rate over those sentences
    word_errors: list[int] | None = None  # per transcribed sentence: words substituted, deleted and inserted
    paired: PairedScores | None = None  # of the first paired_sentences; null: this is the original
    stopped: bool = False  # whether its first sentences decided, and it was scored on no others


class RatingsRow(Record):
    """Mean of listeners' ratings of one variant."""

    variant: str
    mean: float
    ci: tuple[float, float]
    raters: int
    ratings: int
    change: float | None  # against the original, paired by sentence; null for the original
    change_ci: tuple[float, float] | None
    change_error: float | None = None  # standard error of the change, and its degrees of freedom
    change_dof: float | None = None


class ComparisonRow(Record):
    """Mean of one variant in a test that is no ACR: CCR against the original (-3 to 3), or MUSHRA (0 to 100)."""

    test: Literal["ccr", "mushra"]
    variant: str
    mean: float
    ci: tuple[float, float] | None  # null: too few raters or sentences
    error: float | None
    dof: float | None
    raters: int
    sentences: int
    ratings: int


class ScreenedRater(Record):
    """A listener whose ratings do not count."""

    rater: str
    reason: str
    ratings: int

    @property
    def words(self) -> str:
        """'7-abcd (24 ratings): a wrong answer to a trap question'."""
        return f"{self.rater} ({self.ratings} ratings): {self.reason}"


class MissingSymbol(Record):
    """What the phonemizer makes of the study's texts and is not spoken."""

    symbol: str
    left_out_by: Literal["voice", "piper"]  # piper: we speak it, and piper's own command does not
    times: int
    sentences: int  # texts that have it


class NotScored(Record):
    """A row that could not be scored, because a runtime could not speak one of its sentences."""

    variant: str
    key: str  # as of a row
    reason: str  # the sentence, and the runtime's words


class QualityRecord(Record):
    """records/quality.json: every quality figure of the study, per sentence."""

    schema_version: Literal[2] = 2
    key: str
    created: str
    sentences: list[str]
    predictors: list[PredictorRecord]
    asr: str | None  # recognizer and version; null with the reason in asr_reason
    asr_reason: str | None
    rows: list[QualityRow]
    anchors: list[QualityRow]
    peers: list[QualityRow] = []
    ratings: list[RatingsRow] | None  # null: no ratings file, a MOS was not measured
    ratings_reason: str | None
    comparisons: list[ComparisonRow] = []
    screened: list[ScreenedRater] = []
    not_scored: list[NotScored] = []
    other_noise: QualityRow | None = None  # the original with other noise: what "the same" means
    confirmation: list[QualityRow] = []  # the original, then `evaluate.confirmed`, on `confirmation_sentences`
    confirmation_sentences: list[str] = []
    confirmation_words: list[int] = []  # spoken in each of them that is transcribed
    words: list[int] = []  # spoken in each transcribed sentence
    unavailable: list[UnavailablePredictor] = []
    speaker_encoder: PredictorRecord | None = None
    speaker_reason: str | None = None  # why there is none
    pitch_reason: str | None = None  # why F0 was not measured
    missing_symbols: list[MissingSymbol] = []  # what the phonemizer makes of `texts` texts and is not spoken
    texts: int = 0
    language_doubts: list[str] = []  # where the texts are in another language than the voice speaks
    stage: Stage = "complete"


# --- reading and writing --------------------------------------------------------------------------------------

AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read once per process where nothing has written to the file since."""
    status = path.stat()
    written = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - written < SETTLED_NS:
        return _read_sha256(path)
    return _settled_sha256(path.absolute(), status.st_ino, status.st_size, written)


@lru_cache(maxsize=1024)
def _settled_sha256(path: Path, inode: int, size: int, written: int) -> str:
    return _read_sha256(path)


def _read_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(*parts: Any) -> str:
    """SHA-256 over anything that JSON or pydantic can say; the same parts give the same key."""

    def plain(part: Any) -> Any:
        if isinstance(part, BaseModel):
            return part.model_dump(mode="json")
        if isinstance(part, list | tuple):
            return [plain(item) for item in part]
        return part

    text = json.dumps([plain(part) for part in parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; moved into place when the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # keeps the ending, which some writers choose their format by
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` to fill; replaces it when the block ends well, else removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_together(folder: Path, targets: Sequence[Path]) -> Iterator[Callable[[Path], Path]]:
    """Files and folders below ``folder`` that are of one run: they take their places together, or none does.

    Gives where to make what will be a target (their names differ). When the block ends well, those made take the places
    of earlier ones, and an earlier one that was not made again is removed; else all stays as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new.", suffix=".part", dir=folder))
    earlier = temporary / "earlier"
    earlier.mkdir()
    try:
        yield lambda target: temporary / target.name
        try:
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    os.replace(target, earlier / target.name)
                if (temporary / target.name).exists():
                    os.replace(temporary / target.name, target)
        except BaseException:
            for target in targets:
                if (earlier / target.name).exists():
                    if target.exists():
                        os.replace(target, temporary / target.name)
                    os.replace(earlier / target.name, target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, model: type[AnyRecord], step: str) -> AnyRecord:
    """A record from its file. Raises :class:`RecordError`, which names the ``step`` that makes it."""
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: not there yet; run 'ttsopt {step}' first") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise RecordError(f"{path}: not a {model.__name__} ({first}); run 'ttsopt {step}' again") from None


def read_if_current(path: Path, model: type[AnyRecord], key: str) -> AnyRecord | None:
    """The record at ``path`` if it was made from exactly the inputs that ``key`` stands for, else None."""
    try:
        record = read_record(path, model, "")
    except RecordError:
        return None
    return record if getattr(record, "key", None) == key else None


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
