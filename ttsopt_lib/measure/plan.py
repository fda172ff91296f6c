"""What is timed: rows (a variant in one runtime with some threads), the sentences as phoneme ids, the settings.

A plan is plain data, so that it can be made on a workstation that has the phonemizer and carried out on a board
that has only onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.records import PeerRecord, Runtime, StudyFolder, VariantRecord
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, PEERS, Device, MeasureSettings, Strict, Study

Accelerator = Literal["cuda"]


class PlannedSentence(Strict):
    """A timing sentence: its text for the record, its phoneme ids for the models."""

    length_class: str
    text: str
    ids: tuple[int, ...]


class PlannedRow(Strict):
    """One row to time: a variant, or a peer by its name.

    ``recipe`` is used by PyTorch rows only: ONNX files are already what the recipe made.
    """

    variant: str
    runtime: Runtime
    threads: int
    model: Path  # the ONNX file; for a PyTorch row the original voice, which the recipe is applied to
    recipe: tuple[dict[str, Any], ...] = ()
    accelerator: Accelerator | None = None

    @property
    def is_peer(self) -> bool:
        """Whether this is no variant but something that a user would pick instead."""
        return self.variant in PEERS

    @property
    def label(self) -> str:
        """The row as messages name it: ``fp32 (onnxruntime, 2 threads)``."""
        return f"{self.variant} ({self.runtime}, {self.threads} thread{'s' if self.threads > 1 else ''})"


class TimingPlan(Strict):
    """Everything that :func:`ttsopt_lib.measure.blocks.time_rows` needs."""

    rows: tuple[PlannedRow, ...]
    sentences: tuple[PlannedSentence, ...]
    scales: tuple[float, float, float]  # noise_scale, length_scale, noise_w
    speaker: int | None  # of a multi-speaker voice, else None
    sample_rate: int  # Hz
    settings: MeasureSettings

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Thread counts in the order in which they are timed."""
        return tuple(dict.fromkeys(row.threads for row in self.rows))

    def rows_with(self, threads: int) -> tuple[PlannedRow, ...]:
        """The rows that are timed together."""
        return tuple(row for row in self.rows if row.threads == threads)


def plan_rows(
    study: Study,
    device: Device,
    folder: StudyFolder,
    variants: dict[str, VariantRecord],
    torch_original: Path,
    accelerator: Accelerator | None = None,
) -> tuple[PlannedRow, ...]:
    """The rows of one device: every variant and the baseline once more, for each number of threads.

    PyTorch rows (``study.measure.pytorch``, and always their baseline) come with the first number of threads,
    which is the one that targets refer to; an accelerator, or a device over ssh, is timed through ONNX Runtime only.
    """
    rows = []
    for position, threads in enumerate(device.threads):
        for name in (*study.variant_names, ORIGINAL_COPY):
            model = folder.model(ORIGINAL if name == ORIGINAL_COPY else name)
            rows.append(
                PlannedRow(variant=name, runtime="onnxruntime", threads=threads, model=model, accelerator=accelerator)
            )
        if position or accelerator or device.runner == "ssh" or not study.measure.pytorch:
            continue
        for name in dict.fromkeys((ORIGINAL, *study.measure.pytorch)):
            rows.append(
                PlannedRow(
                    variant=name,
                    runtime="pytorch",
                    threads=threads,
                    model=torch_original,
                    recipe=tuple(variants[name].recipe),
                )
            )
    return tuple(rows)


def plan_peers(
    device: Device, folder: StudyFolder, peers: Sequence[PeerRecord], accelerator: Accelerator | None = None
) -> tuple[list[PlannedRow], dict[str, str]]:
    """The peers' rows, with the first number of threads, and peer -> reason for those that the device cannot time.

    What takes a package of its own is timed on this machine's processor only; a board over ssh, or an accelerator, has
    ONNX Runtime alone.
    """
    rows, reasons = [], {}
    for peer in peers:
        about = next(one for name, one in CATALOGUE.items() if name == peer.name)
        if peer.status != "ready":
            reasons[peer.name] = peer.reason or "it could not be made"
        elif about.runtime != "onnxruntime" and (accelerator or device.runner == "ssh"):
            where = "an accelerator" if accelerator else "a device over ssh"
            reasons[peer.name] = f"on {where} only peers in ONNX Runtime are timed"
        else:
            rows.append(
                PlannedRow(
                    variant=peer.name,
                    runtime=about.runtime,
                    threads=device.threads[0],
                    model=folder.peer(peer.name) / peer.model if peer.model else folder.model(ORIGINAL),
                    accelerator=accelerator,
                )
            )
    return rows, reasons
