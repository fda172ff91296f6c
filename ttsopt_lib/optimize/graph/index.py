"""Where the weights of an ONNX graph lie: which stored tensor feeds which layer, however it is stored.

Initializer names are not to be trusted (exporters rename them), so a weight is found through the node that consumes it.
Between the two may stand an Identity, a Transpose, or what unpacks an int8 weight: DequantizeLinear, or Cast and Mul.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
BYTES = (TensorProto.INT8, TensorProto.UINT8)

DECODER = re.compile(r"^/?(dec|decoder)[/.]")  # node names that exporters give the decoder's layers
# Operator -> position of the weight among its inputs.
WEIGHT_INPUT = {
    "Conv": 1,
    "ConvTranspose": 1,
    "MatMul": 1,
    "Gemm": 1,
    "Gather": 0,
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
UNPACKING = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "DequantizeLinear")


@dataclass(frozen=True)
class StoredWeight:
    """A tensor in the file that is some layer's weight."""

    tensor: TensorProto
    zero_point: int | np.ndarray = 0  # stored value that means 0; an array broadcasts against the tensor

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.tensor.dims)

    @property
    def is_int8(self) -> bool:
        return self.tensor.data_type in BYTES

    def count_levels(self) -> int:
        """Number of different values."""
        return np.unique(numpy_helper.to_array(self.tensor)).size

    def count_nonzero(self) -> int:
        return int(np.count_nonzero(numpy_helper.to_array(self.tensor) != self.zero_point))


class GraphIndex:
    """Who makes and who reads each tensor of a graph, and which constants it stores.

    Constant nodes are not counted among the latter: exporters put numbers of the code there (a Fourier basis, an axis),
    and everything learned among the initializers.
    """

    def __init__(self, graph: GraphProto):
        self.graph = graph
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.output:
                self.producers[name] = node
            for name in node.input:
                self.readers[name].append(node)

    def weight_of(self, node: NodeProto) -> StoredWeight | None:
        """The stored weight of a layer; None where the node has none (attention scores, a computed basis)."""
        position = WEIGHT_INPUT.get(node.op_type)
        if position is None or len(node.input) <= position:
            return None
        stored = self.stored(node.input[position])
        if stored is None or math.prod(stored.tensor.dims) < 2:
            return None
        if not stored.is_int8:
            # Gather also picks from shapes, which are int64: those are no weights.
            return stored if stored.tensor.data_type in FLOATS else None
        points = {"MatMulInteger": 3, "ConvInteger": 3, "QLinearConv": 5, "QLinearMatMul": 5}
        if node.op_type in points:
            axis = 0 if "Conv" in node.op_type else -1
            return StoredWeight(stored.tensor, self._zero_point(node, points[node.op_type], stored, axis))
        return stored

    def stored(self, name: str) -> StoredWeight | None:
        """The constant that a tensor is made from, through everything that only unpacks or rearranges it."""
        zero_point: int | np.ndarray = 0
        while name not in self.constants:
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op_type == "Mul" and self._unpacks(node):
                name = node.input[0]
            elif node.op_type in UNPACKING:
                if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                    stored = StoredWeight(self.constants[node.input[0]])
                    zero_point = self._zero_point(node, 2, stored, axis)
                name = node.input[0]
            else:
                return None
        return StoredWeight(self.constants[name], zero_point)

    def quantization_constants(self) -> set[str]:
        """Names of constants that are scales and zero points: part of how weights are stored, not parameters."""
        names: set[str] = set()
        for node in self.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                names.update(node.input[1:])
            elif node.op_type == "Mul":
                if self._unpacks(node):
                    names.add(node.input[1])
                for first, second in (node.input, reversed(node.input)):
                    maker = self.producers.get(first)
                    # The scale that DynamicQuantizeLinear found for the activations, times the weight's own.
                    if maker is not None and maker.op_type == "DynamicQuantizeLinear" and first == maker.output[1]:
                        names.add(second)
        return names

    def _unpacks(self, node: NodeProto) -> bool:
        """Whether a Mul is the second half of an int8 weight's unpacking: Cast(int8) * scale."""
        cast = self.producers.get(node.input[0])
        if cast is None or cast.op_type != "Cast" or node.input[1] not in self.constants:
            return False
        source = self.constants.get(cast.input[0])
        return source is not None and source.data_type in BYTES

    def _zero_point(self, node: NodeProto, position: int, weight: StoredWeight, axis: int) -> int | np.ndarray:
        if len(node.input) <= position or node.input[position] not in self.constants:
            return 0
        values = numpy_helper.to_array(self.constants[node.input[position]])
        if values.size == 1:
            return int(values.reshape(()))
        shape = [1] * len(weight.tensor.dims)
        shape[axis] = -1
        return values.reshape(shape)


def inline_identities(graph: GraphProto) -> None:
    """Let layers read their weights directly: remove each Identity over a stored tensor, in place.

    Exporters put one wherever two layers share equal weights; quantizers look for the tensor itself.
    """
    stored = {tensor.name for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    for node in list(graph.node):
        for position, name in enumerate(node.input):
            if name in renamed:
                node.input[position] = renamed[name]
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            graph.node.remove(node)


def copy_named(model: ModelProto) -> ModelProto:
    """A copy whose nodes all have a name and read their weights directly."""
    copy = ModelProto()
    copy.CopyFrom(model)
    inline_identities(copy.graph)
    for number, node in enumerate(copy.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{number}"
    return copy
