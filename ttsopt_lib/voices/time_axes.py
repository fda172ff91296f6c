"""How time goes through a graph: which axis of a tensor it is, and what nodes do along it.

Every tensor that grows with the utterance has one axis of time and a rate, entries for each frame of the input. Nodes
work on each moment alone, or on moments nearby (convolutions, pads, slices). One that mixes all moments (attention, a
mean over time, the range of a dynamic quantization) is refused. Shapes are taken from two runs of different lengths, so
that nothing has to be known of names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import VitsGraph, attribute, reads

# Each entry of the result depends on the entries at the same place, whatever the axes are called.
LOCAL = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp",
    "Expand", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear",
    "Reciprocal", "Relu", "Reshape", "Resize", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Split", "Sqrt",
    "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where", "Xor",
}  # fmt: skip
# These mix along axes that they name, and are local where time is none of them.
ALONG_AXES = {
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "Softmax", "LogSoftmax", "Concat", "Gather",
}  # fmt: skip
PRODUCTS = {"MatMul", "MatMulInteger", "Gemm"}
CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv"}
SHAPES = {"Shape", "Size", "ConstantOfShape", "Range"}  # depend on lengths, not on what the entries are


class NotLocal(ValueError):
    """A node that mixes all moments of an utterance. The message names it and its operator."""


class TimeAxes:
    """Which axis of each tensor is time, and how many entries it has for each frame of the inputs.

    Attributes:
        graph: the nodes.
        axes: axis of time, of the tensors that have one.
        rates: entries for each further frame, likewise.
        shapes: of every tensor that is no constant, in the first utterance.
        types: NumPy's types of them.
        moving_nodes: the nodes whose results depend on what happens when, in the graph's order.
    """

    def __init__(self, model: onnx.ModelProto, utterances: Sequence[Mapping[str, NDArray]]):
        """
        Args:
            model: a graph.
            utterances: its inputs by their names, for two utterances of different lengths.

        Raises:
            NotLocal: a tensor grows with the utterance on two axes, or a node mixes all moments.
        """
        self.graph = VitsGraph(model)
        values, others = (_values(model, self.graph, feeds) for feeds in utterances)
        one = self.shapes = {name: np.shape(value) for name, value in values.items()}
        self.types = {name: np.asarray(value).dtype for name, value in values.items()}
        times = {name: _time(one[name], np.shape(others[name])) for name in one}
        self.axes = {name: axis for name, axis in times.items() if axis is not None}
        more = {name: np.shape(others[name])[axis] - one[name][axis] for name, axis in self.axes.items()}
        lengths = {(one[name][self.axes[name]], more[name]) for name in self.graph.inputs if name in self.axes}
        if len(lengths) != 1:
            raise NotLocal(f"its inputs have {len(lengths)} lengths in time")
        ((_, frames),) = lengths
        self.rates = {name: Fraction(entries, frames) for name, entries in more.items()}
        self.moving_nodes = self._found_moving()

    def _found_moving(self) -> list[NodeProto]:
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

    def _check_local(self, node: NodeProto) -> None:
        """Raises `NotLocal` for a node that mixes along the axis of time, or that is not known."""
        kind, axes = node.op_type, self.axes
        if kind in LOCAL | CONVOLUTIONS | {"ConvTranspose", "Pad", "Slice"}:
            return
        if kind == "DynamicQuantizeLinear":
            raise NotLocal(f"{kind} {node.name} takes its range from all moments")
        if kind in PRODUCTS:
            left, right = node.input[:2]
            if right not in axes and axes.get(left, self._rank(left) - 1) != self._rank(left) - 1:
                return
        elif kind == "LayerNormalization":
            first = attribute(node, "axis", -1) % self._rank(node.input[0])
            if axes.get(node.input[0], 0) < first:
                return
        elif kind in ALONG_AXES and axes.get(node.input[0]) not in self._mixed(node):
            return
        raise NotLocal(f"{kind} {node.name} mixes all moments")

    def _rank(self, name: str) -> int:
        return len(self.shapes.get(name, ()))

    def _mixed(self, node: NodeProto) -> set[int]:
        """The axes along which a node of `ALONG_AXES` works."""
        rank = self._rank(node.input[0])
        if node.op_type.startswith("Reduce"):
            given = attribute(node, "axes", None)
            if given is None and len(node.input) > 1:
                given = self.graph.value(node.input[1])
            return set(range(rank)) if given is None else {int(axis) % rank for axis in given}
        axis = attribute(node, "axis", -1 if "Softmax" in node.op_type else 0)
        return {axis % rank} if rank else {axis}


def _values(model: onnx.ModelProto, graph: VitsGraph, feeds: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Every tensor that is no constant, in a run with these inputs."""
    names = [name for node in model.graph.node for name in node.output if name and not graph.is_constant(name)]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values: Any = open_session(whole).run(names, dict(feeds))
    return dict(zip(names, values, strict=True)) | dict(feeds)


def _time(one: tuple[int, ...], other: tuple[int, ...]) -> int | None:
    """The axis that grows with the utterance; None where none does."""
    growing = [axis for axis, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(growing) > 1:
        raise NotLocal("a tensor grows with the utterance on two axes, as attention does")
    return growing[0] if growing else None


class Kernel(NamedTuple):
    """A convolution over time: entries that its kernel spans beyond one, and zeros that are set before and after."""

    span: int
    left: int
    right: int
    stride: int
    other_pads: list[int]  # all its pads, those in time left out


def kernel(node: NodeProto, times: TimeAxes) -> Kernel:
    """What a convolution does in time. Raises `NotLocal` where that cannot be told from its attributes."""
    sizes = attribute(node, "kernel_shape", None)
    if sizes is None:
        weight = times.graph.value(node.input[3 if node.op_type == "QLinearConv" else 1])
        if weight is None:
            raise NotLocal(f"{node.op_type} {node.name} has weights that depend on the utterance")
        sizes = weight.shape[2:]
    rank, place = len(sizes), times.axes[node.input[0]] - 2
    given = list(attribute(node, "pads", None) or [0] * 2 * rank)
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET" or place < 0:
        raise NotLocal(f"{node.op_type} {node.name} is no convolution over time with pads of its own")
    left, right = given[place], given[place + rank]
    given[place] = given[place + rank] = 0
    span = (sizes[place] - 1) * attribute(node, "dilations", [1] * rank)[place]
    stride = attribute(node, "strides", [1] * rank)[place]
    if node.op_type != "ConvTranspose" and stride != 1:
        raise NotLocal(f"{node.op_type} {node.name} leaves moments out")
    return Kernel(span, left, right, stride, given)


def pads(node: NodeProto, times: TimeAxes) -> tuple[int, int]:
    """Zeros that are set before and after the entries in time."""
    given = attribute(node, "pads", None) if len(node.input) < 2 else times.graph.value(node.input[1])
    if given is None or len(node.input) > 3 and node.input[3] or attribute(node, "mode", b"constant") != b"constant":
        raise NotLocal(f"{node.op_type} {node.name} is not filled with so many zeros")
    axis = times.axes[node.input[0]]
    return int(given[axis]), int(given[axis + len(given) // 2])


def cut(node: NodeProto, times: TimeAxes) -> tuple[int, int]:
    """Entries in time that a slice leaves out at the beginning and at the end."""
    source = node.input[0]
    starts, ends, axes, steps = (
        None if len(node.input) <= place or not node.input[place] else times.graph.value(node.input[place])
        for place in (1, 2, 3, 4)
    )
    if starts is None or ends is None:
        raise NotLocal(f"{node.op_type} {node.name} begins or ends where the utterance says")
    places = [int(axis) % len(times.shapes[source]) for axis in (range(len(starts)) if axes is None else axes)]
    if times.axes[source] not in places:
        return 0, 0
    at = places.index(times.axes[source])
    start, end, step = int(starts[at]), int(ends[at]), 1 if steps is None else int(steps[at])
    if start < 0 or 0 <= end < 2**31 - 1 or step != 1:
        raise NotLocal(f"{node.op_type} {node.name} does not leave out so many at both ends")
    return start, max(0, -end)
