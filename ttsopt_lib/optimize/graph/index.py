"""Where the weights of an ONNX graph lie: which stored tensor feeds which layer, however it is stored.

Initializer names are not to be trusted (exporters rename them), so a weight is found through the node that consumes it.
Between the two may stand an Identity, a Transpose, or what unpacks an int8 weight: DequantizeLinear, or Cast and Mul.
`copy_named` writes a graph so that as little as possible stands there.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from ttsopt_lib.voices.vits_graph import attribute, reads

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
BYTES = (TensorProto.INT8, TensorProto.UINT8)

DECODER = re.compile(r"^/?(dec|decoder)[/.]")  # node names that exporters give the decoder's layers
RECURRENT = ("LSTM", "GRU", "RNN")  # weights [directions, gates * hidden, inputs]
# Operator -> positions of its weights among its inputs. A recurrent layer has two: for what comes in, for its state.
WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "FusedConv": (1,),
    "ConvTranspose": (1,),
    "MatMul": (1,),
    "FusedMatMul": (1,),
    "Gemm": (1,),
    "Gather": (0,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
    "MatMulIntegerToFloat": (1,),
    "DynamicQuantizeMatMul": (1,),
    "DynamicQuantizeLSTM": (1, 2),
    "QLinearConv": (3,),
    "QLinearMatMul": (3,),
}
EITHER_FACTOR = ("MatMul", "FusedMatMul", "Gemm")  # their weight may also be the first input, where that is stored
DOMAINS = ("", "ai.onnx", "com.microsoft")  # whose operators are those above
REARRANGING = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
UNPACKING = (*REARRANGING, "Cast", "DequantizeLinear")
# Operator that multiplies integers -> positions of the zero points of its weights.
ZERO_POINTS = {
    "ConvInteger": (3,),
    "MatMulInteger": (3,),
    "MatMulIntegerToFloat": (5,),
    "DynamicQuantizeMatMul": (3,),
    "DynamicQuantizeLSTM": (9, 11),
    "QLinearConv": (5,),
    "QLinearMatMul": (5,),
}
# Operator -> positions of all its scales and zero points.
SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}


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

    Constant nodes are not counted among the latter: PyTorch's exporters put numbers of the code there (a Fourier basis,
    an axis), and everything learned among the initializers. `copy_named` moves those of other exporters there too.
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

    def weight_inputs(self, node: NodeProto) -> tuple[int, ...]:
        """Positions of the weights among a layer's inputs; () for what is no layer.

        Of a matrix product the first factor, where that is stored and the second is not.
        """
        if node.domain not in DOMAINS:
            return ()
        positions = WEIGHT_INPUTS.get(node.op_type, ())
        if node.op_type in EITHER_FACTOR and not self.stored(node.input[1]) and self.stored(node.input[0]):
            return (0,)
        return tuple(position for position in positions if position < len(node.input))

    def weights_of(self, node: NodeProto) -> list[StoredWeight | None]:
        """What is stored at each of `weight_inputs`; None where nothing is (attention scores, a computed basis)."""
        return [self._weight(node, place, position) for place, position in enumerate(self.weight_inputs(node))]

    def _weight(self, node: NodeProto, place: int, position: int) -> StoredWeight | None:
        stored = self.stored(node.input[position])
        if stored is None or math.prod(stored.tensor.dims) < 2:
            return None
        if not stored.is_int8:
            # Gather also picks from shapes, which are int64: those are no weights.
            return stored if stored.tensor.data_type in FLOATS else None
        if node.op_type in ZERO_POINTS:
            axis = 0 if node.op_type in ("ConvInteger", "QLinearConv", "DynamicQuantizeLSTM") else -1
            point = self._zero_point(node, ZERO_POINTS[node.op_type][place], stored, axis)
            return StoredWeight(stored.tensor, point)
        return stored

    def stored(self, name: str) -> StoredWeight | None:
        """The constant that a tensor is made from, through everything that only unpacks or rearranges it."""
        zero_point: int | np.ndarray = 0
        while name not in self.constants:
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op_type == "Mul" and (cast := self._unpacks(node)) is not None:
                name = node.input[cast]
            elif node.op_type in UNPACKING:
                if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                    stored = StoredWeight(self.constants[node.input[0]])
                    zero_point = self._zero_point(node, 2, stored, attribute(node, "axis", 1))
                name = node.input[0]
            else:
                return None
        return StoredWeight(self.constants[name], zero_point)

    def quantization_constants(self) -> set[str]:
        """Names of constants that are scales and zero points: part of how weights are stored, not parameters."""
        names: set[str] = set()
        for node in self.graph.node:
            if node.op_type in SCALES:
                names.update(node.input[at] for at in SCALES[node.op_type] if at < len(node.input))
            elif node.op_type == "Mul":
                if (cast := self._unpacks(node)) is not None:
                    names.add(node.input[1 - cast])
                for first, second in (node.input, reversed(node.input)):
                    maker = self.producers.get(first)
                    # The scale that DynamicQuantizeLinear found for the activations, times the weight's own.
                    if maker is not None and maker.op_type == "DynamicQuantizeLinear" and first == maker.output[1]:
                        names.add(second)
                    # Both in one, of activations with a fixed range.
                    made = self.producers.get(maker.input[0]) if maker is not None and maker.op_type == "Cast" else None
                    if made is not None and made.op_type in ("MatMulInteger", "ConvInteger"):
                        names.add(second)
        return names - {""}

    def _unpacks(self, node: NodeProto) -> int | None:
        """Where a Mul reads the Cast, if it is the second half of an int8 weight's unpacking: Cast(int8) * scale."""
        for position in (0, 1):
            cast = self.producers.get(node.input[position])
            if cast is not None and cast.op_type == "Cast" and node.input[1 - position] in self.constants:
                source = self.constants.get(cast.input[0])
                if source is not None and source.data_type in BYTES:
                    return position
        return None

    def _zero_point(self, node: NodeProto, position: int, weight: StoredWeight, axis: int) -> int | np.ndarray:
        if len(node.input) <= position or node.input[position] not in self.constants:
            return 0
        values = numpy_helper.to_array(self.constants[node.input[position]])
        if values.size == 1:
            return int(values.reshape(()))
        if values.ndim > 1:  # of a recurrent layer, per direction and row: [directions, gates * hidden]
            return values[:, None, :]
        shape = [1] * len(weight.tensor.dims)
        shape[axis] = -1
        return values.reshape(shape)


def inline_identities(graph: GraphProto) -> None:
    """Let layers read their weights directly: remove each Identity over a stored tensor, in place.

    Exporters put one wherever two layers share equal weights; quantizers look for the tensor itself.
    """
    stored = {tensor.name for tensor in graph.initializer}
    kept = {output.name for output in graph.output} | read_in_branches(graph)
    renamed: dict[str, str] = {}
    for node in list(graph.node):
        refill(node.input, [renamed.get(name, name) for name in node.input])
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in kept:
            renamed[node.output[0]] = node.input[0]
            graph.node.remove(node)


def copy_named(model: ModelProto) -> ModelProto:
    """A copy whose nodes all have a name of their own and read their weights directly, whatever exporter wrote it.

    Functions of the file's own are written out, weights that are Constant nodes or inputs with a default become
    initializers, and what only rearranges a weight is done. A graph of PyTorch's, as a rule, stays as it is.
    """
    copy = inliner.inline_local_functions(model) if model.functions else deepcopy(model)
    _store_constants(copy)
    _fix_defaults(copy)
    inline_identities(copy.graph)
    _rearrange_weights(copy)
    name_nodes(copy.graph)
    return copy


def refill(field: Any, values: Iterable[Any]) -> None:
    """Let a repeated field of a graph (its nodes, say) hold these values alone; they may be among those it has."""
    kept = list(values)
    del field[:]
    field.extend(kept)


def remove_unread(graph: GraphProto) -> None:
    """Remove stored tensors that no node reads any more: ONNX Runtime warns of each whenever the voice is opened."""
    kept = {name for node in graph.node for name in reads(node)} | {one.name for one in (*graph.input, *graph.output)}
    refill(graph.initializer, (tensor for tensor in graph.initializer if tensor.name in kept))


def name_nodes(graph: GraphProto, unnamed: bool = True) -> None:
    """Give every node a name that no other has, in place: ONNX Runtime loads no file with two nodes of one name.

    `unnamed=False` leaves those without any, which it does load.
    """
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if node.name in seen or (unnamed and not node.name):
            node.name = free_name(f"{node.name or node.op_type}_{number}", taken)
        if node.name:
            seen.add(node.name)


def free_name(wanted: str, taken: set[str]) -> str:
    """The wanted name, with a stroke for each time that it is taken; it is taken from then on."""
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def tensor_names(graph: GraphProto) -> set[str]:
    """Every name of a tensor that a graph knows, those of its branches included."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names.update(node.input, node.output)
    return names | read_in_branches(graph)


def read_in_branches(graph: GraphProto) -> set[str]:
    """Names that graphs within nodes (of If, Loop) may read: they refer to this one by name."""
    names: set[str] = set()
    for node in graph.node:
        for item in node.attribute:
            for branch in (item.g, *item.graphs):
                names |= tensor_names(branch)
    return names


def _store_constants(model: ModelProto) -> None:
    """Make initializers of the Constant nodes that hold numbers, where weights lie in those, in place.

    That is so where another exporter than PyTorch's wrote the file, or no layer reads an initializer (a frozen
    TorchScript).
    """
    graph = model.graph
    index = GraphIndex(graph)
    if model.producer_name == "pytorch" and any(weight for node in graph.node for weight in index.weights_of(node)):
        return
    outputs = {output.name for output in graph.output}
    moved: set[str] = set()
    for name, node in index.producers.items():
        tensor = _fixed(index, name) if node.op_type == "Constant" and name not in outputs else None
        if tensor is not None and tensor.data_type in (*FLOATS, *BYTES):
            graph.initializer.append(tensor)
            graph.initializer[-1].name = name
            moved.add(name)
    _remove_makers(graph, moved)


def _remove_makers(graph: GraphProto, names: set[str]) -> None:
    """Remove the nodes whose first output is one of these, in place."""
    refill(graph.node, (node for node in graph.node if not node.output or node.output[0] not in names))


def _fix_defaults(model: ModelProto) -> None:
    """Take weights off the list of inputs, in place: up to IR version 3 every initializer stands there as well."""
    graph = model.graph
    index = GraphIndex(graph)
    fixed = set(index.constants)
    if model.ir_version >= 4:  # an initializer among the inputs is a default, which a caller may replace
        fixed = {weight.name for node in graph.node for weight in index.weights_of(node) if weight}
    for value in [value for value in graph.input if value.name in fixed]:
        graph.input.remove(value)
        model.ir_version = max(model.ir_version, 4)


def _rearrange_weights(model: ModelProto) -> None:
    """Do once what a graph does to a layer's weight for every utterance (Transpose, Reshape), in place.

    Only where nothing else reads the tensor, or it would be stored twice, and only to floats that are stored as such.
    """
    graph = model.graph
    index = GraphIndex(graph)
    kept = {output.name for output in graph.output} | read_in_branches(graph)
    gone: set[str] = set()
    for node in graph.node:
        for position in index.weight_inputs(node):
            name = node.input[position]
            chain = _chain(index, name, kept)
            if not chain:
                continue
            source = index.constants[chain[0].input[0]]
            value = _evaluate(model, chain, source, index)
            graph.initializer.remove(source)
            del index.constants[source.name]
            graph.initializer.append(numpy_helper.from_array(value, name))
            index.constants[name] = graph.initializer[-1]
            gone.update(done.output[0] for done in chain)
    _remove_makers(graph, gone)


def _chain(index: GraphIndex, name: str, kept: set[str]) -> list[NodeProto]:
    """The nodes that rearrange a stored float tensor, which only they read, to this one; [] where others are there."""
    chain: list[NodeProto] = []
    while name not in index.constants:
        node = index.producers.get(name)
        if node is None or node.op_type not in (*REARRANGING, "Cast") or node.domain or name in kept:
            return []
        if chain and len(index.readers[name]) > 1:
            return []
        if any(_fixed(index, given) is None for given in node.input[1:]):
            return []
        chain.insert(0, node)
        name = node.input[0]
    tensor = index.constants[name]
    # A cast from float16 is how a weight is stored in half of its bytes: that is to stay.
    wide = tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    half = tensor.data_type == TensorProto.FLOAT16 and not any(node.op_type == "Cast" for node in chain)
    alone = len(index.readers[name]) == 1 and name not in kept
    return chain if alone and (wide or half) else []


def _fixed(index: GraphIndex, name: str) -> TensorProto | None:
    """A stored tensor, or one that a Constant node holds."""
    node = index.producers.get(name)
    if node is not None and node.op_type == "Constant":
        return attribute(node, "value", None)
    return index.constants.get(name)


def _evaluate(model: ModelProto, chain: list[NodeProto], source: TensorProto, index: GraphIndex) -> np.ndarray:
    """What a chain of nodes makes of a stored tensor."""
    given = {name: _fixed(index, name) for node in chain for name in node.input[1:] if name}
    values = {name: numpy_helper.to_array(tensor) for name, tensor in given.items() if tensor is not None}
    values[source.name] = numpy_helper.to_array(source)
    graph = helper.make_graph(
        chain,
        "rearranging",
        [helper.make_empty_tensor_value_info(name) for name in values],
        [helper.make_empty_tensor_value_info(chain[-1].output[0])],
    )
    made = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, values)
    return np.ascontiguousarray(made[0])  # type: ignore[index]
