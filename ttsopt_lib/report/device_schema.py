"""What summary.json says of devices: timings, the first sound, the machine, and where an imported record came from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainSerializer

from ttsopt_lib.records.device import Doubt, ProfileRecord, SittingRecord, StopRecord, SystemRecord
from ttsopt_lib.report.estimates import Estimate, Interval, Part


class LatencyMs(Part):
    """Wall time per sentence in ms, ids in to audio out, the mean over the timing sentences; `ci` is the median's."""

    median: float
    p95: float
    ci: Interval | None

    @property
    def estimate(self) -> Estimate:
        """The median with its interval."""
        return Estimate(value=self.median, ci=self.ci)


class ClassSummary(Part):
    """A row's figures over the sentences of one length class alone."""

    length_class: str
    median_ms: float
    p95_ms: float | None = None  # of the blocks 95 % take no longer; null: an older summary
    latency_reduction: Estimate | None
    first_ms: float | None = None  # the very first run of each of its sentences after opening, their mean
    new_length_ms: float | None = None  # the first run of each without its last phoneme; null: not on a GPU


class TimingSummary(Part):
    """One variant in one runtime with one number of threads; reductions against the baseline in the same."""

    variant: str
    runtime: str
    threads: int
    samples: int
    latency_ms: LatencyMs
    rtf: float
    peak_memory_mb: float | None  # null: a browser does not tell
    latency_reduction: Estimate | None
    # of PyTorch against the original in ONNX Runtime, the change of runtime included; null: one of the two is missing
    reduction_across: Estimate | None = None
    blocks: int
    rtf_ci: Interval | None
    load_ms: float | None
    mode: str = "fp32"  # on a GPU: of a PyTorch row, or "buckets" of an ONNX Runtime row with its lengths rounded up
    clock: str = "wall"  # or "device events"
    device_memory_mb: float | None = None
    energy_j_per_audio_second: Estimate | None = None
    energy_reduction: Estimate | None = None
    length_classes: list[ClassSummary]
    first_audio_ms: LatencyMs | None = None  # until the first sentence of a text is made, spoken sentence by sentence


class RuntimeChange(Part):
    """The same variant with the same threads in another runtime: a change of runtime, no optimization."""

    variant: str
    threads: int
    before: str
    after: str
    before_ms: float
    after_ms: float
    latency_reduction: Estimate


class ImportSummary(Part):
    """Where a device's record came from that another machine measured."""

    file: str
    when: str
    commit: str | None  # of the code that measured, where it is known
    different: list[str]  # variants whose voice file there is not today's
    unknown: list[str]  # variants of which the record does not say which file was timed


class IdsTime(Part):
    """How long the phonemizer takes for a text; the same for every variant."""

    length_class: str
    phonemes: int
    ids_ms: Estimate


class FirstSoundRow(Part):
    """A voice spoken piece by piece on one text, and the same voice whole in the same blocks. Times in ms."""

    variant: str
    piece_seconds: float | None  # of audio; null: a short piece first, and longer ones after it
    length_class: str  # "paragraph": the texts of all classes, one after another
    sentences: int
    first_ms: Estimate  # ids in to the first piece of audio out
    from_text_ms: Estimate | None  # the same from the text on; null: that machine has no phonemizer
    streamed_ms: Estimate  # ids in to the last piece out
    whole_ms: Estimate | None  # the whole voice; null for several sentences
    cost: Estimate | None  # how much longer all pieces take than the whole voice, as a fraction
    share_of_original: Estimate | None  # the first piece's time as a fraction of the original's whole time
    lead_ms: float | None  # least time that the audio was ahead of a player; below 0 it ran dry; null: one piece


class FirstSoundSummary(Part):
    """How long a listener waits where voices are spoken piece by piece."""

    threads: int
    blocks: int = 0
    ids: list[IdsTime] = []
    rows: list[FirstSoundRow] = []
    not_streamed: dict[str, str] = {}  # variants that cannot be spoken piece by piece, and why


class BatchSummary(Part):
    """A row that speaks so many sentences at once."""

    variant: str
    runtime: str
    threads: int
    mode: str = "fp32"
    batch_size: int
    sentences: int  # different ones, which each round speaks
    rounds: int
    audio_per_second: Estimate | None  # seconds of audio made in a second, without padding; null: not measured
    times_original: Estimate | None  # the same over the original's at this size, in this runtime (of PyTorch in fp32)
    padding: float | None  # share of the computed samples that fill up the shorter sentences
    device_memory_mb: float | None = None
    reason: str | None = None  # why there are no samples, or no further ones


class DeviceSummary(Part):
    """Everything timed on one device, or why nothing was."""

    device: str
    status: Literal["measured", "not_measured"]
    reason: str | None
    system: SystemRecord | None
    rows: list[TimingSummary]
    label: str
    kind: str
    threads: int  # the number that targets refer to
    created: str | None
    commit: str | None = None  # with which it was measured; null: not known, or an older summary
    blocks: int
    scales: list[float]
    sentences_sha256: str | None = None  # of the texts that were timed; null: none, or an older summary
    stopped_by: str | None
    elapsed_seconds: float
    runtime_changes: list[RuntimeChange]
    warnings: list[Annotated[Doubt, PlainSerializer(lambda doubt: doubt.words, return_type=str)]]
    profiles: list[ProfileRecord] = []
    first_audio_sentence: str | None = None  # what the text of `first_audio_ms` begins with
    stops: list[StopRecord] = []  # why sampling ended, for each number of threads
    sittings: list[SittingRecord] = []
    energy_source: str | None = None
    energy_reason: str | None = None  # why there is no energy
    batches: list[BatchSummary] = []  # several sentences at once; none: not asked for
    imported: ImportSummary | None = None  # null: measured from this machine
    doubts: list[str] = []  # why its timings are shown and not judged, in words; none: they are judged
    first_sound: FirstSoundSummary | None = None  # null: not asked for, not yet measured, or an accelerator

    @property
    def judged(self) -> bool:
        """Whether its timings may choose, and be judged: those of today's voices and sentences."""
        return self.status == "measured" and not self.doubts

    @property
    def runtime(self) -> str:
        """The runtime where the targets look: ONNX Runtime, or what alone reaches the device (PyTorch; a browser's)."""
        there = {row.runtime for row in self.rows}
        return next((one for one in ("onnxruntime", "onnxruntime-web", "pytorch") if one in there), "onnxruntime")
