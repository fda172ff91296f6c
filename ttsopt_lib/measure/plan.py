"""What is timed: rows (a variant in one runtime with some threads), the sentences as phoneme ids, the settings.

A plan is plain data, so that it can be made on a workstation that has the phonemizer and carried out on a board
that has only onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.records.device import Runtime
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord, VariantRecord
from ttsopt_lib.step_settings import NetworkStep, Strict
from ttsopt_lib.study import BUCKETS, ORIGINAL, ORIGINAL_COPY, PEERS, Device, MeasureSettings, RowMode, Study
from ttsopt_lib.voices.pieces import DECODER, ENCODER, LAYOUT, Layout

Accelerator = Literal["cuda"]


class PlannedInput(Strict):
    """One input of a graph, as plain data."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...] | tuple[int, ...]


class PlannedSentence(Strict):
    """A timing sentence: its text for the record, its phoneme ids for the models."""

    length_class: str
    text: str
    ids: tuple[int, ...]
    inputs: dict[str, PlannedInput] = {}  # of a graph that is fed something else than a Piper voice


class PlannedRow(Strict):
    """One row to time: a variant, or a peer by its name.

    `recipe` is used by PyTorch rows only: ONNX files are already what the recipe made.
    """

    variant: str
    runtime: Runtime
    threads: int
    model: Path  # the ONNX file; for a PyTorch row the original voice, which the recipe is applied to
    outputs: tuple[str, ...] = ()  # of the graph: the one with the samples, or the vocoder's; none: the first
    vocoder: str | None = None  # module:function that makes samples of the outputs
    code: Path | None = None  # folder where that module is looked for first
    recipe: tuple[dict[str, Any], ...] = ()
    accelerator: Accelerator | None = None
    mode: RowMode = "fp32"  # on an accelerator; "fp32" is ONNX Runtime's plain one as well
    optional: bool = False  # one that cannot be loaded or does not speak is left out, and the record says why
    speaks: bool = True  # False: work without a voice, whose audio nobody hears (a self-check)

    @property
    def is_peer(self) -> bool:
        """Whether this is no variant but something that a user would pick instead."""
        return self.variant in PEERS

    @property
    def label(self) -> str:
        """The row as messages name it: `fp32 (onnxruntime, 2 threads)`."""
        mode = "" if self.mode == "fp32" else f", {self.mode}"
        return f"{self.variant} ({self.runtime}{mode}, {self.threads} thread{'s' if self.threads > 1 else ''})"


class LeftOut(Strict):
    """An optional row without samples, and why."""

    row: PlannedRow
    reason: str


class PlannedText(Strict):
    """A text that is spoken piece by piece: its phoneme ids, sentence by sentence."""

    length_class: str
    text: str
    sentences: tuple[tuple[int, ...], ...]
    whole: bool = True  # also spoken by the whole voice, sentence after sentence


class PlannedStream(Strict):
    """A voice whose first sound is timed: whole, and in its two halves."""

    variant: str
    threads: int
    model: Path
    encoder: Path
    decoder: Path
    layout: Layout


class PlannedBatches(Strict):
    """Sentences that some rows speak several at a time."""

    sizes: tuple[int, ...]
    variants: tuple[str, ...]
    sentences: tuple[tuple[int, ...], ...] = ()  # phoneme ids, the shortest first
    reason: str | None = None  # why no voice of the study can speak them so


class TimingPlan(Strict):
    """Everything that `time_rows` needs."""

    rows: tuple[PlannedRow, ...]
    sentences: tuple[PlannedSentence, ...]
    scales: tuple[float, ...]  # of a Piper voice: noise_scale, length_scale, noise_w
    speaker: int | None  # of a multi-speaker voice, else None
    sample_rate: int  # Hz
    settings: MeasureSettings
    only_timing: bool = False  # neither energy, first sound nor where the time goes: a first look
    streams: tuple[PlannedStream, ...] = ()
    texts: tuple[PlannedText, ...] = ()  # of the streams: a sentence of each length class, and all of these together
    batches: PlannedBatches | None = None
    phonemizer: Path | None = None  # the voice whose config turns texts into ids; None: they come as ids

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Thread counts in the order in which they are timed."""
        return tuple(dict.fromkeys(row.threads for row in self.rows))

    def rows_with(self, threads: int) -> tuple[PlannedRow, ...]:
        """The rows that are timed together."""
        return tuple(row for row in self.rows if row.threads == threads)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every model file that timing opens, once."""
        halves = [path for stream in self.streams for path in (stream.model, stream.encoder, stream.decoder)]
        return tuple(dict.fromkeys([*(row.model for row in self.rows), *halves]))

    def with_files(self, places: Mapping[Path, Path]) -> TimingPlan:
        """The same plan with its model files in other places."""
        rows = tuple(row.model_copy(update={"model": places[row.model]}) for row in self.rows)
        streams = tuple(
            stream.model_copy(update={key: places[getattr(stream, key)] for key in ("model", "encoder", "decoder")})
            for stream in self.streams
        )
        return self.model_copy(update={"rows": rows, "streams": streams})

    def without(self, left_out: Sequence[LeftOut]) -> TimingPlan:
        """The same plan with fewer rows."""
        gone = [one.row for one in left_out]
        return self.model_copy(update={"rows": tuple(row for row in self.rows if row not in gone)})


def plan_rows(
    study: Study,
    device: Device,
    folder: StudyFolder,
    variants: dict[str, VariantRecord],
    accelerator: Accelerator | None = None,
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "pytorch"),
) -> tuple[PlannedRow, ...]:
    """The rows of one device: every variant and the baseline once more, for each number of threads.

    Later numbers of threads, which no target refers to, have those of `study.measure.more_threads` alone.

    PyTorch rows (`study.measure.pytorch`, and always their baseline) come with the first number of threads,
    which is the one that targets refer to; a device over ssh is timed through ONNX Runtime only. On an accelerator
    `runtimes` are those that reach it, and both may have further modes (`device.onnxruntime`, `device.pytorch`).
    """
    rows, original = [], folder.model(ORIGINAL)
    for position, threads in enumerate(device.threads):
        for name in (*timed_variants(study, first=not position), ORIGINAL_COPY) if "onnxruntime" in runtimes else ():
            rows.append(
                PlannedRow(
                    variant=name,
                    runtime="onnxruntime",
                    threads=threads,
                    model=original if name == ORIGINAL_COPY else folder.model(name),
                    accelerator=accelerator,
                    optional=accelerator is not None and name != ORIGINAL,
                )
            )
        if accelerator and not position and "onnxruntime" in runtimes:
            rows += _bucket_rows(study, device, folder, accelerator, threads)
        if position or device.runner == "ssh" or "pytorch" not in runtimes:
            continue
        if accelerator:
            rows += _accelerated_rows(study, device, original, accelerator, threads)
        elif study.measure.pytorch:
            rows += [
                PlannedRow(
                    variant=name,
                    runtime="pytorch",
                    threads=threads,
                    model=original,
                    recipe=tuple(variants[name].recipe),
                )
                for name in dict.fromkeys((ORIGINAL, *study.measure.pytorch))
            ]
    return tuple(rows)


def plan_peers(
    device: Device,
    folder: StudyFolder,
    peers: Sequence[PeerRecord],
    accelerator: Accelerator | None = None,
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "pytorch"),
) -> tuple[list[PlannedRow], dict[str, str]]:
    """The peers' rows, with the first number of threads, and peer -> reason for those that the device cannot time.

    What takes a package of its own is timed on this machine's processor only; a board over ssh, or an accelerator, has
    ONNX Runtime alone, or where that is not among its `runtimes` no peers at all.
    """
    rows, reasons = [], {}
    for peer in peers:
        about = CATALOGUE[peer.name]
        if peer.status != "ready":
            reasons[peer.name] = peer.reason or "it could not be made"
        elif about.runtime != "onnxruntime" and (accelerator or device.runner == "ssh"):
            where = "an accelerator" if accelerator else "a device over ssh"
            reasons[peer.name] = f"on {where} only peers in ONNX Runtime are timed"
        elif "onnxruntime" not in runtimes:
            reasons[peer.name] = "ONNX Runtime does not reach this device"
        else:
            rows.append(
                PlannedRow(
                    variant=peer.name,
                    runtime=about.runtime,
                    threads=device.threads[0],
                    model=folder.peer(peer.name) / peer.model if peer.model else folder.model(ORIGINAL),
                    accelerator=accelerator,
                    optional=True,
                )
            )
    return rows, reasons


def plan_streams(
    study: Study,
    device: Device,
    folder: StudyFolder,
    variants: dict[str, VariantRecord],
    accelerator: Accelerator | None = None,
) -> tuple[PlannedStream, ...]:
    """The voices of `measure.first_sound` that can be streamed, on a device's processor with its first threads."""
    if accelerator or device.kind == "gpu":
        return ()
    streams = []
    for name in study.measure.first_sound:
        halves = folder.variant(name) / "streaming"
        if f"streaming/{LAYOUT}" in variants[name].files:
            streams.append(
                PlannedStream(
                    variant=name,
                    threads=device.threads[0],
                    model=folder.model(name),
                    encoder=halves / ENCODER,
                    decoder=halves / DECODER,
                    layout=Layout.model_validate_json((halves / LAYOUT).read_text(encoding="utf-8")),
                )
            )
    return tuple(streams)


def timed_variants(study: Study, first: bool) -> tuple[str, ...]:
    """The baseline and the variants that are timed with the `first` number of threads and in the first mode of a
    runtime, or beyond that."""
    wanted = study.measure.more_threads
    if first or wanted is None:
        return study.variant_names
    return tuple(name for name in study.variant_names if name == ORIGINAL or name in wanted)


def typical_sentence(phonemes: Sequence[int]) -> int:
    """Number of the sentence of median length: the one that a text is taken to begin with.

    Spoken sentence by sentence, as piper-tts does, a text has its first audio when its first sentence is made, however
    long the rest is: the time to first audio is the latency of that sentence.

    Args:
        phonemes: of each sentence, how many.
    """
    by_length = sorted(range(len(phonemes)), key=lambda number: phonemes[number])
    return by_length[len(by_length) // 2]


def torch_recipe(study: Study, name: str) -> tuple[dict[str, Any], ...]:
    """What PyTorch computes of a variant on an accelerator: the steps that change its network, in floating point.

    What is done to the exported graph is left out: integer products are for processors, and the order of the work and
    the bits in the file are ONNX Runtime's.
    """
    recipe = () if name == ORIGINAL else study.variant(name).recipe
    return tuple(step.model_dump(mode="json") for step in recipe if isinstance(step, NetworkStep))


def _bucket_rows(
    study: Study, device: Device, folder: StudyFolder, accelerator: Accelerator, threads: int
) -> list[PlannedRow]:
    """ONNX Runtime's rows whose lengths are rounded up, where the device's file asks for them."""
    return [
        PlannedRow(
            variant=name,
            runtime="onnxruntime",
            threads=threads,
            model=folder.model(name),
            accelerator=accelerator,
            mode=BUCKETS,
            optional=True,
        )
        for name in (timed_variants(study, first=False) if BUCKETS in device.onnxruntime else ())
    ]


def _accelerated_rows(
    study: Study, device: Device, original: Path, accelerator: Accelerator, threads: int
) -> list[PlannedRow]:
    """PyTorch's rows on an accelerator: mode by mode, the original first; its copy (A/A) in the first mode.

    The first mode has every network of the study once, under the first variant that has it.
    """
    rows = []
    for mode in device.pytorch:
        first = mode == device.pytorch[0]
        computed: dict[str, tuple[dict[str, Any], ...]] = {}
        for name in timed_variants(study, first):
            recipe = torch_recipe(study, name)
            if recipe not in computed.values():
                computed[name] = recipe
        rows += [
            PlannedRow(
                variant=name,
                runtime="pytorch",
                threads=threads,
                model=original,
                recipe=computed.get(name, ()),
                accelerator=accelerator,
                mode=mode,
                optional=(name, mode) != (ORIGINAL, "fp32"),
            )
            for name in ((*computed, ORIGINAL_COPY) if first else computed)
        ]
    return rows
