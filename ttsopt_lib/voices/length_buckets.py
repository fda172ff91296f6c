"""Round a voice's lengths up, so that a GPU meets few of them: the remedy for the slow first run at every new length.

Libraries of a GPU choose kernels and plans for each shape of a tensor, and a text's length is in nearly all shapes of a
voice. Here the phoneme ids are filled up to the next multiple of `PHONEMES`, with the true count beside them, and the
number of frames is rounded up to the next multiple of `FRAMES` inside the graph; the samples beyond the true number are
cut off. A few dozen shapes then occur in place of thousands. Masks keep the padding out of everything but the
decoder's last frames, which see zeros where they saw an edge.

The place is found by what nodes do (the one Ceil that rounds durations up, and the first Range that counts what it
leads to: the frames of the mask), never by a name, so that this works on any VITS voice in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.vits_graph import VitsGraph

FRAMES = 64  # as in `networks/gpu_modes.py`
PHONEMES = 32
TRUE_FRAMES = "true_frames"  # the output that the graph gets


def rounded_up(length: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-length // step) * step


def with_rounded_frames(model: onnx.ModelProto, source: str = "the model") -> onnx.ModelProto:
    """A copy of a voice that computes a multiple of `FRAMES` frames and has one output more, the true number, int64 [].

    Args:
        model: the voice; it is left as it is.
        source: what messages call it.

    Raises:
        VoiceError: it is no VITS voice, or the place where its frames are counted is not found.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = VitsGraph(changed)
    ranges = _frame_ranges(graph, source)
    (limit,), start = {node.input[1] for node in ranges}, graph.value(ranges[0].input[0])
    assert start is not None
    rounded, steps = _rounding(limit, helper.np_dtype_to_tensor_dtype(start.dtype))
    for node in ranges:
        node.input[1] = rounded
    first = min(list(changed.graph.node).index(node) for node in ranges)
    for offset, step in enumerate(steps):  # a node stands before those that read what it makes
        changed.graph.node.insert(first + offset, step)
    changed.graph.initializer.append(numpy_helper.from_array(np.array(FRAMES - 1, np.int64), f"{TRUE_FRAMES}_more"))
    changed.graph.initializer.append(numpy_helper.from_array(np.array(FRAMES, np.int64), f"{TRUE_FRAMES}_step"))
    changed.graph.output.append(helper.make_tensor_value_info(TRUE_FRAMES, TensorProto.INT64, []))
    return changed


def _frame_ranges(graph: VitsGraph, source: str) -> list[onnx.NodeProto]:
    """The nodes that count the frames of a voice; they count to the same tensor. Raises `VoiceError`."""
    nodes = list(graph.graph.node)
    ceils = [node for node in nodes if node.op_type == "Ceil"]
    if len(ceils) != 1 or "input_lengths" not in graph.inputs:
        raise VoiceError(
            f"{source}: its lengths cannot be rounded up: it has {len(ceils)} nodes that round durations up and the "
            f"inputs {', '.join(graph.inputs)}; a VITS voice has one, and takes input_lengths"
        )
    (durations,) = ceils[0].output
    before = {node.output[0]: graph.ancestors(node) for node in nodes if node.op_type == "Range"}
    behind = [node for node in nodes if node.op_type == "Range" and durations in before[node.output[0]]]
    made = {node.output[0] for node in behind}
    first = [node for node in behind if not before[node.output[0]] & made]
    counts = {(_number(graph, node.input[0]), _number(graph, node.input[2])) for node in first}
    if counts != {(0.0, 1.0)} or len({node.input[1] for node in first}) != 1:
        raise VoiceError(
            f"{source}: its lengths cannot be rounded up: behind its durations {len(first)} nodes count something, "
            "where one counts the frames from 0 on"
        )
    return first


def _number(graph: VitsGraph, name: str) -> float | None:
    value = graph.value(name)
    return None if value is None else float(value)


def _rounding(limit: str, kind: int) -> tuple[str, list[onnx.NodeProto]]:
    """The tensor with `limit` rounded up, of the type `kind`, and the nodes that make it."""
    more, step, whole, count, rounded = (
        f"{TRUE_FRAMES}_{name}" for name in ("more", "step", "raised", "buckets", "rounded")
    )
    nodes = [
        helper.make_node("Cast", [limit], [TRUE_FRAMES], to=TensorProto.INT64),
        helper.make_node("Add", [TRUE_FRAMES, more], [whole]),
        helper.make_node("Div", [whole, step], [count]),
        helper.make_node("Mul", [count, step], [rounded]),
    ]
    if kind == TensorProto.INT64:
        return rounded, nodes
    return f"{rounded}_cast", [*nodes, helper.make_node("Cast", [rounded], [f"{rounded}_cast"], to=kind)]


class BucketSpeaker:
    """A voice of `with_rounded_frames` in ONNX Runtime, as a function from phoneme ids [T] to samples [1, 1, samples].

    Attributes:
        met_new_shape: whether the last run was the first in its bucket of phonemes and frames.
    """

    def __init__(self, session: Any, feeds_of: Callable[[NDArray], Mapping[str, NDArray]]):
        """
        Args:
            session: of ONNX Runtime.
            feeds_of: the voice's inputs for phoneme ids [T].
        """
        self.met_new_shape = True
        self._session, self._feeds_of = session, feeds_of
        self._outputs = [session.get_outputs()[0].name, TRUE_FRAMES]
        self._met: set[tuple[int, int]] = set()

    def __call__(self, ids: NDArray) -> NDArray:
        padded = np.zeros(rounded_up(ids.size, PHONEMES), np.int64)
        padded[: ids.size] = ids
        feeds = {**self._feeds_of(padded), "input_lengths": np.array([ids.size], np.int64)}
        audio, frames = self._session.run(self._outputs, feeds)
        made = rounded_up(int(frames), FRAMES)
        self.met_new_shape = (padded.size, made) not in self._met
        self._met.add((padded.size, made))
        return audio[..., : audio.shape[-1] // made * int(frames)]
