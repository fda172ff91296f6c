"""How time goes through a graph, and which frames of its inputs decide about a sample of its audio.

Every tensor that grows with the utterance has one axis of time and a rate, entries for each frame of the input. A node
that works on each moment alone changes nothing; a convolution, a pad, a slice or a shift moves or widens what an entry
depends on; a node that mixes all moments (attention, a mean over time, the range of a dynamic quantization) ends it.
Shapes are taken from two runs of different lengths, so that nothing has to be known of names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
import onnx
from numpy.typing import NDArray

from ttsopt_lib.voices.graph import VitsGraph, attribute, reads
from ttsopt_lib.voices.session import open_session

Shapes = dict[str, tuple[int, ...]]

# Each entry of the result depends on the entries at the same place, whatever the axes are called.
LOCAL = {
    *(
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Floor",
        "Gelu",
    ),
    *("Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min"),
    *("Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "DequantizeLinear", "Reciprocal", "Relu"),
    *("Reshape", "Resize", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh"),
    *("Transpose", "Unsqueeze", "Where", "Xor", "Tile"),
}
# These mix along axes that they name, and are local where time is none of them.
ALONG_AXES = {
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL2",
    "Softmax",
    "LogSoftmax",
    "Concat",
    "Gather",
}
PRODUCTS = {"MatMul", "MatMulInteger", "Gemm"}
CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv"}
SHAPES = {"Shape", "Size", "ConstantOfShape", "Range"}  # depend on lengths, not on what the entries are


class NotLocal(ValueError):
    """A node that mixes all moments of an utterance. The message names it and its operator."""


@dataclass(frozen=True)
class Reach:
    """What an entry depends on, in frames of the input: from so many before its own moment to so many after it."""

    before: Fraction | float
    after: Fraction | float

    def widened(self, before: Fraction | float, after: Fraction | float) -> Reach:
        """What an entry of a result depends on, which takes entries from so many frames before to after."""
        return Reach(self.before + before, self.after + after)


class TimeAxes:
    """Which axis of each tensor is time, and how many entries it has for each frame of the inputs.

    Attributes:
        graph: the nodes.
        axes: axis of time, of the tensors that have one.
        rates: entries for each frame, likewise.
        ranks: number of axes of every tensor that is no constant.
    """

    def __init__(self, model: onnx.ModelProto, run: Callable[[int], Mapping[str, NDArray]]):
        """
        Args:
            model: a graph.
            run: its inputs for one of two utterances of different lengths (0 or 1), by their names.

        Raises:
            NotLocal: a tensor grows with the utterance on two axes, or a node mixes all moments.
        """
        self.graph = VitsGraph(model)
        one, other = (_shapes(model, self.graph, run(number)) for number in range(2))
        times = {name: _time(one[name], other[name]) for name in one}
        self.axes = {name: axis for name, axis in times.items() if axis is not None}
        self.ranks = {name: len(shape) for name, shape in one.items()}
        lengths = {one[name][self.axes[name]] for name in self.graph.inputs if name in self.axes}
        if len(lengths) != 1:
            raise NotLocal(f"its inputs have {len(lengths)} lengths in time")
        (frames,) = lengths
        self.rates = {name: Fraction(one[name][axis], frames) for name, axis in self.axes.items()}
        self._moving = self._found_moving()

    def moving_nodes(self) -> list[onnx.NodeProto]:
        """The nodes whose results depend on what happens when, in the graph's order."""
        return self._moving

    def _found_moving(self) -> list[onnx.NodeProto]:
        moving, found = {name for name in self.graph.inputs if name in self.axes}, []
        for node in self.graph.graph.node:
            if node.op_type in SHAPES or not moving & set(reads(node)):
                continue
            self._check_local(node)
            if any(name not in self.axes for name in node.output if name):
                raise NotLocal(f"{node.op_type} {node.name} makes one figure of all moments")
            moving |= set(node.output)
            found.append(node)
        return found

    def _check_local(self, node: onnx.NodeProto) -> None:
        """Raises `NotLocal` for a node that mixes along the axis of time, or that is not known."""
        kind, axes, ranks = node.op_type, self.axes, self.ranks
        if kind in LOCAL | CONVOLUTIONS | {"ConvTranspose", "Pad", "Slice"}:
            return
        if kind == "DynamicQuantizeLinear":
            raise NotLocal(f"{kind} {node.name} takes its range from all moments")
        if kind in PRODUCTS:
            left, right = node.input[:2]
            if right not in axes and axes.get(left, ranks[left] - 1) != ranks[left] - 1:
                return
        elif kind == "LayerNormalization":
            first = attribute(node, "axis", -1) % ranks[node.input[0]]
            if axes.get(node.input[0], 0) < first:
                return
        elif kind in ALONG_AXES and axes.get(node.input[0]) not in self._mixed(node):
            return
        raise NotLocal(f"{kind} {node.name} mixes all moments")

    def _mixed(self, node: onnx.NodeProto) -> set[int]:
        """The axes along which a node of `ALONG_AXES` works."""
        rank = self.ranks.get(node.input[0], 0)
        if node.op_type.startswith("Reduce"):
            given = attribute(node, "axes", None)
            if given is None and len(node.input) > 1:
                given = self.graph.value(node.input[1])
            return set(range(rank)) if given is None else {int(axis) % rank for axis in given}
        axis = attribute(node, "axis", -1 if "Softmax" in node.op_type else 0)
        return {axis % rank} if rank else {axis}


def receptive_field(model: onnx.ModelProto, run: Callable[[int], Mapping[str, NDArray]]) -> tuple[int, int]:
    """How many frames before and after its own a sample of the output depends on.

    Args:
        model: a graph with one output.
        run: its inputs for one of two utterances of different lengths, by their names; what grows with the utterance
            has the frames on one axis.

    Raises:
        NotLocal: a node mixes all moments.
    """
    times = TimeAxes(model, run)
    reaches = {name: Reach(0, 0) for name in times.graph.inputs if name in times.rates}
    for node in times.moving_nodes():
        for name in node.output:
            reaches[name] = _through(node, times, reaches)
    found = reaches[model.graph.output[0].name]
    return max(0, ceil(found.before - 1e-6)), max(0, ceil(found.after - 1e-6))


def _shapes(model: onnx.ModelProto, graph: VitsGraph, feeds: Mapping[str, NDArray]) -> Shapes:
    """The shape of every tensor that is no constant, in a run with these inputs."""
    names = [name for node in model.graph.node for name in node.output if name and not graph.is_constant(name)]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = open_session(whole).run(names, dict(feeds))
    return {name: np.shape(value) for name, value in (*zip(names, values, strict=True), *feeds.items())}


def _time(one: tuple[int, ...], other: tuple[int, ...]) -> int | None:
    """The axis that grows with the utterance; None where none does."""
    growing = [axis for axis, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(growing) > 1:
        raise NotLocal("a tensor grows with the utterance on two axes, as attention does")
    return growing[0] if growing else None


def _through(node: onnx.NodeProto, times: TimeAxes, reaches: Mapping[str, Reach]) -> Reach:
    """What an entry of a node's result depends on."""
    moving = [name for name in reads(node) if name in reaches]
    reach = Reach(max(reaches[name].before for name in moving), max(reaches[name].after for name in moving))
    rate, new = times.rates[moving[0]], times.rates[node.output[0]]
    if node.op_type in CONVOLUTIONS:
        _, left, right = kernel(node, times.graph)
        return reach.widened(left / rate, right / rate)
    if node.op_type == "ConvTranspose":
        span, left, _ = kernel(node, times.graph)
        return reach.widened((span - left) / new, left / new)
    if node.op_type == "Pad":
        begin, _ = pads(node, times)
        return reach.widened(begin / rate, -begin / rate)
    if node.op_type == "Slice":
        start, _ = cut(node, times)
        return reach.widened(-start / rate, start / rate)
    if new != rate:  # entries of one moment become one, or one becomes several
        return reach.widened(1 / min(rate, new), 1 / min(rate, new))
    return reach


def kernel(node: onnx.NodeProto, graph: VitsGraph) -> tuple[int, int, int]:
    """Entries that a kernel spans beyond one, and how many zeros are set before and after what it works on."""
    sizes = attribute(node, "kernel_shape", None)
    if sizes is None:
        weight = graph.value(node.input[3 if node.op_type == "QLinearConv" else 1])
        if weight is None:
            raise NotLocal(f"{node.op_type} {node.name} has weights that depend on the utterance")
        sizes = weight.shape[2:]
    span = (sizes[-1] - 1) * attribute(node, "dilations", [1])[-1]
    given = attribute(node, "pads", None) or [0, 0]
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or len(sizes) != 1:
        raise NotLocal(f"{node.op_type} {node.name} is no convolution over time with pads of its own")
    if node.op_type != "ConvTranspose" and attribute(node, "strides", [1]) != [1]:
        raise NotLocal(f"{node.op_type} {node.name} leaves moments out")
    return span, given[0], given[1]


def pads(node: onnx.NodeProto, times: TimeAxes) -> tuple[int, int]:
    """Zeros that are set before and after the entries in time."""
    given = attribute(node, "pads", None) if len(node.input) < 2 else times.graph.value(node.input[1])
    if given is None or len(node.input) > 3 and node.input[3] or attribute(node, "mode", b"constant") != b"constant":
        raise NotLocal(f"{node.op_type} {node.name} is not filled with so many zeros")
    axis = times.axes[node.input[0]]
    return int(given[axis]), int(given[axis + len(given) // 2])


def cut(node: onnx.NodeProto, times: TimeAxes) -> tuple[int, int]:
    """Entries in time that a slice leaves out at the beginning and at the end."""
    source = node.input[0]
    starts, ends, axes, steps = (
        None if len(node.input) <= place or not node.input[place] else times.graph.value(node.input[place])
        for place in (1, 2, 3, 4)
    )
    if starts is None or ends is None:
        raise NotLocal(f"{node.op_type} {node.name} begins or ends where the utterance says")
    places = [int(axis) % times.ranks[source] for axis in (range(len(starts)) if axes is None else axes)]
    if times.axes[source] not in places:
        return 0, 0
    at = places.index(times.axes[source])
    start, end, step = int(starts[at]), int(ends[at]), 1 if steps is None else int(steps[at])
    if start < 0 or 0 <= end < 2**31 - 1 or step != 1:
        raise NotLocal(f"{node.op_type} {node.name} does not leave out so many at both ends")
    return start, max(0, -end)
