"""The record of what `ttsopt measure` timed on one device, with its raw samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ttsopt_lib.records.base import Record
from ttsopt_lib.study import Stage

# Of the original's audio of the same text: what is shorter or longer is no version of it. Int8 moves durations by a few
# per cent.
PLAUSIBLE_LENGTH = (0.5, 2.0)


BeforeAfter = tuple[float | None, float | None]


Runtime = Literal["onnxruntime", "pytorch", "piper-tts", "sherpa-onnx", "openvino", "hibari-tts", "onnxruntime-web"]


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


class BrowserRecord(Record):
    """A browser in which a study's page timed the voices. None where it does not tell."""

    name: str  # with its version
    user_agent: str
    platform: str | None
    mobile: bool
    logical_cores: int | None
    memory_gb: float | None  # as browsers tell it: rounded, and no more than 8 for most
    cross_origin_isolated: bool  # without it WebAssembly has one thread
    simd: bool
    webgpu: str | None  # the adapter; null: there is none
    onnxruntime_web: str  # its version

    @property
    def words(self) -> str:
        """'Chromium 156, WebAssembly with SIMD, cross-origin isolated'."""
        isolated = "cross-origin isolated" if self.cross_origin_isolated else "not cross-origin isolated"
        return f"{self.name}, WebAssembly with{'' if self.simd else 'out'} SIMD, {isolated}"


class SystemRecord(Record):
    """The machine that measured. None where the machine does not tell, as most of it in a browser."""

    hostname_hash: str | None  # of the host name: tells two machines apart without naming them
    machine: str | None  # x86_64, aarch64
    cpu: str | None
    board: str | None  # /proc/device-tree/model, on a Raspberry Pi
    logical_cores: int | None
    memory_mb: int | None
    os: str | None
    kernel: str | None
    governor: str | None
    instruction_sets: list[str]  # those that matter for int8 and bf16 kernels
    accelerator: str | None
    python: str | None
    packages: dict[str, str]
    temperature_c: BeforeAfter = (None, None)  # of the processor, before and after timing
    throttling: tuple[list[str] | None, list[str] | None] = (None, None)  # what a Raspberry Pi's firmware reports
    gpu: tuple[GpuRecord | None, GpuRecord | None] = (
        None,
        None,
    )  # before timing, and in breaks of the work: at most power
    browser: BrowserRecord | None = None  # null: not timed in a browser


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
    peak_memory_mb: float | None  # resident set of the worker alone at its highest; null: a browser does not tell
    idle_memory_mb: float | None  # resident set of the worker before it loaded the model
    seconds: list[list[float]]  # [block][sentence] wall time, ids in to audio out
    audio_seconds: list[list[float]]  # [block][sentence] length of the audio made
    mode: str = "fp32"  # on a GPU: see study.RowMode
    clock: Literal["wall", "device events"] = "wall"  # what measured the seconds
    device_memory_mb: float | None = None  # of a GPU: most that PyTorch had allocated there
    model_sha256: str | None = None  # of the variant's model.onnx; null: an older record, or a peer's
    # [sentence] its very first run after opening; null: another had its rounded length before; none: an older record
    first_seconds: list[float | None] = []
    # [sentence] the first run of it without its last phoneme; null: its rounded length was new; none: not asked
    new_length_seconds: list[float | None] = []
    unsteady: float | None = None  # change between the last two passes of a warm-up that did not end steady, fraction

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


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BatchRow(Record):
    """Raw samples of a row that speaks several sentences at once, round after round, or why it has none."""

    variant: str
    runtime: Runtime
    threads: int
    batch_size: int
    mode: str = "fp32"
    sentences: int  # different ones, which a round speaks at least once
    padding: float | None = None  # share of the computed samples that belong to no sentence; null: it never spoke
    seconds: list[Positive] = []  # [round] wall time, ids in to audio out
    audio_seconds: list[Positive] = []  # [round] of the sentences alone, without what fills up the shorter ones
    device_memory_mb: float | None = None  # of a GPU: most that PyTorch had allocated there at this size
    reason: str | None = None  # why it has no samples, or no further ones

    @model_validator(mode="after")
    def _is_whole(self) -> BatchRow:
        if len(self.seconds) != len(self.audio_seconds):
            raise ValueError(f"{self.variant}: {len(self.seconds)} seconds, {len(self.audio_seconds)} audio_seconds")
        return self


class StopRecord(Record):
    """Why sampling ended with one number of threads: `budget` spent, `interval` narrow enough, `max_blocks`."""

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
    opening_seconds: float | None = None  # until the rows were open and warm; null: an older record
    opened_at_once: int | None = None  # rows that were opened at the same time
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

    Its `row` has the peer's name in place of a variant's.
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


class ImportRecord(Record):
    """Where a device record came from that was measured elsewhere."""

    when: str
    file: str  # its name


class StreamedText(Record):
    """A text that voices were timed on piece by piece."""

    length_class: str  # of the timing sentences; "paragraph": all of them together
    text: str
    phonemes: int
    sentences: int


class StreamedRow(Record):
    """Raw samples of a voice spoken piece by piece, and of the same voice spoken whole in the same blocks."""

    variant: str
    piece_seconds: float | None  # of audio; None: a short piece first, and longer ones after it
    texts: list[int]  # numbers of the texts that the columns below are of
    first_seconds: list[list[float]]  # [block][text] ids in to the first piece of audio out
    streamed_seconds: list[list[float]]  # [block][text] ids in to the last piece out
    lead_seconds: list[
        list[float | None]
    ]  # [block][text] how far the audio was ahead of a player at the tightest moment
    whole_texts: list[int]  # numbers of the texts, of one sentence each, that the column below is of
    whole_seconds: list[list[float]]  # [block][text] ids in to the audio of the whole voice out


class FirstSoundRecord(Record):
    """How long a listener waits for the first sound, and what speaking piece by piece costs."""

    threads: int
    texts: list[StreamedText]
    ids_seconds: list[list[float]]  # [block][text] text to ids; none: that machine has no phonemizer
    rows: list[StreamedRow]


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
    batches: list[BatchRow] = []  # none: the device's file asks for none, or an older record
    elapsed_seconds: float = 0.0
    warnings: list[Doubt] = []
    profiles: list[ProfileRecord] = []
    stage: Stage = "complete"
    first_audio_sentence: int | None = None  # number of the sentence that a text is taken to begin with
    first_sound: FirstSoundRecord | None = None  # null: not asked for, or an accelerator
    peers: list[PeerTiming] = []
    study: str | None = None  # null: an older record
    commit: str | None = None  # of the code that measured; null: not under version control, or an older record
    imported: ImportRecord | None = None  # null: measured by this machine, or by one that it reached

    @property
    def outcome(self) -> str:
        """Why nothing was measured, or the warnings, in a line."""
        return self.reason or "; ".join(doubt.words for doubt in self.warnings) or "measured, no warnings"
