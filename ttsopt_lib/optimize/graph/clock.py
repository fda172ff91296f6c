"""The clock of a search: is a changed graph faster than the one that it was made from, on this machine or a device?

The graphs become files, with the same seeds for their noise, and `measure/side_by_side.py` times them: here, or on a
device that ssh reaches.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure.devices import probe
from ttsopt_lib.measure.machine.system import cpu_name
from ttsopt_lib.measure.progress import Bars
from ttsopt_lib.measure.remote.measurement import compare_over_ssh
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.side_by_side import (
    Compared,
    Comparison,
    ComparisonPlan,
    Feed,
    Patience,
    Timer,
    compare,
    wall_seconds,
    write_feeds,
)
from ttsopt_lib.optimize.graph.int8 import seed_noise
from ttsopt_lib.study import Device
from ttsopt_lib.voices.onnx_file import read_model

Graph = ModelProto | Path


class Graphs(NamedTuple):
    """What is compared."""

    candidates: Mapping[str, Graph]  # name -> graph, or the `.onnx` file that holds it
    reference: Graph
    feeds: Sequence[Feed]  # utterances, each as inputs by name
    outputs: Sequence[str] = ()  # to compute, the audio first; none: all of them. A vocoder's time is not in it


class Clock:
    """Times graphs beside each other.

    Args:
        device: where; None or one with `runner: local`: on this machine.
        timer: runs a graph on this machine and returns the seconds; None: those that pass.

    Raises:
        StudyError: the device is a GPU or a browser, or should be this machine and is not.
    """

    def __init__(self, device: Device | None = None, timer: Timer | None = None):
        if device and device.kind in ("gpu", "browser"):
            what = "GPU" if device.kind == "gpu" else device.kind
            raise StudyError(
                f"device {device.name}: a search times on processors, and this is a {what}: name another one"
            )
        if device and device.runner == "local" and probe(device).reason:
            raise StudyError(f"device {device.name}: not this machine; write runner: ssh and host: into its file")
        self._device = device if device and device.runner == "ssh" else None
        self._timer = timer or wall_seconds

    @property
    def where(self) -> str:
        """What a timing is true of: the processor here, or which device."""
        return f"{self._device.name} at {self._device.where}" if self._device else cpu_name()

    @property
    def is_here(self) -> bool:
        """Whether it times on this machine."""
        return self._device is None

    @property
    def place(self) -> str:
        """The same as messages name it."""
        return self._device.label if self._device else "this machine"

    def compare(self, graphs: Iterable[Graphs], threads: int = 1, patience: Patience | None = None) -> Compared:
        """How fast each candidate is beside its reference.

        A candidate whose interval is narrow enough is timed no further. Nodes that draw noise get the same seeds in
        every graph; the models handed in are left alone.

        Args:
            graphs: comparisons; here each is asked for when the one before it is done.
            threads: within an operator.
            patience: when to stop; default: `Patience()`.

        Raises:
            ValueError: there is no utterance.
            RuntimeFailure: ONNX Runtime cannot load or run one of the graphs here.
            MeasureError: the device cannot be reached, or cannot do it.
        """
        patience = patience or Patience()
        with tempfile.TemporaryDirectory(prefix="ttsopt-") as name:
            folder = Path(name)
            if self._device:
                comparisons = tuple(_written(one, folder / str(number)) for number, one in enumerate(graphs))
                plan = ComparisonPlan(comparisons=comparisons, threads=threads, patience=patience)
                with Bars(self._device.label, 0.0) as bars:
                    return compare_over_ssh(plan, self._device, Connection(self._device), bars)
            found = Compared(machine=cpu_name())
            for one in graphs:
                found.speeds.append(compare(_written(one, folder / "now"), threads, patience, self._timer))
                shutil.rmtree(folder / "now")
            return found


def _written(graphs: Graphs, folder: Path) -> Comparison:
    """The comparison as files of this folder."""
    folder.mkdir()

    def written(name: str, graph: Graph) -> Path:
        path = folder / f"{name}.onnx"
        seeded = read_model(graph) if isinstance(graph, Path) else deepcopy(graph)
        seed_noise(seeded)
        path.write_bytes(seeded.SerializeToString(deterministic=True))
        return path

    write_feeds(folder / "feeds.npz", graphs.feeds)
    return Comparison(
        reference=written("reference", graphs.reference),
        candidates={name: written(str(n), graph) for n, (name, graph) in enumerate(graphs.candidates.items())},
        feeds=folder / "feeds.npz",
        outputs=tuple(graphs.outputs),
    )
