"""A quantized graph on its way to float arithmetic: which float tensor integers are the rounding of.

The answer is what a quantizer reads, or a stored weight as `(integers - zero point) * scale`, or the same through
operators that only move values. Tensors are told apart by what makes and reads them, never by names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.graph.index import GraphIndex, free_name, read_in_branches, refill, tensor_names
from ttsopt_lib.voices.vits_graph import attribute, reads

INTEGERS = tuple(map(TensorProto.DataType.Value, ("INT8", "UINT8", "INT16", "UINT16", "INT32", "INT4", "UINT4")))
# Operators of one data input that move or choose values and compute nothing: rounding before or after them is the same.
MOVING = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Slice", "Expand", "MaxPool")
NONNEGATIVE = ("Relu", "Sigmoid", "Softmax", "Exp", "Abs", "Sqrt", "Softplus", "HardSigmoid")

Placing = Callable[[np.ndarray, int], np.ndarray | None]  # a scale and a rank -> the shape in which it meets a tensor


class FloatGraph:
    """A graph while its integers are replaced, node by node from its inputs on: a step's rules add to `nodes`.

    Attributes:
        graph: the graph, as it was until `finish`.
        index: who makes and reads what, as it was.
        makers: tensor -> the node that makes it, as it was or as it is now.
        constants: what is stored, in initializers and in Constant nodes.
        kept: tensors that must be there under their names: outputs, and what branches and loops read.
        nodes: the new graph so far.
        done: outputs of nodes that a rule has replaced before their turn.
        instead: tensor -> the name that it has in the end, which is often another tensor's.
    """

    def __init__(self, model: ModelProto):
        self.graph = model.graph
        self.index = GraphIndex(model.graph)
        self.makers = dict(self.index.producers)
        self.constants = dict(self.index.constants)
        self.kept = {value.name for value in self.graph.output} | read_in_branches(self.graph)
        self.nodes: list[NodeProto] = []
        self.done: set[str] = set()
        self.instead: dict[str, str] = {}
        for node in self.graph.node:
            if node.op_type == "Constant" and (tensor := attribute(node, "value", None)) is not None:
                self.constants[node.output[0]] = tensor
        self._names = tensor_names(self.graph)
        self._made: dict[tuple, str] = {}  # what was stored or computed once, by what it is made from

    def finish(self) -> None:
        """Make `nodes` the graph's own, without what nothing reads any more."""
        for node in self.nodes:
            for names in (node.input, node.output):
                refill(names, [self.resolved(name) for name in names])
        live = {value.name for value in self.graph.output}
        nodes: list[NodeProto] = []
        for node in reversed(self.nodes):
            if any(name in live for name in node.output):
                nodes.append(node)
                live.update(reads(node))
        nodes.reverse()
        unread = {tensor.name for tensor in self.graph.initializer} - live
        for values in (self.graph.initializer, self.graph.input):  # old graphs list stored tensors among both
            refill(values, [value for value in values if value.name not in unread])
        there = {name for node in nodes for name in node.output}
        refill(self.graph.value_info, [value for value in self.graph.value_info if value.name in there])
        refill(self.graph.node, nodes)

    def value(self, name: str) -> np.ndarray | None:
        """The array that a tensor always is; None for one that is computed."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def resolved(self, name: str) -> str:
        """The name that a tensor has in the end."""
        while name in self.instead:
            name = self.instead[name]
        return name

    def stand_in(self, name: str, source: str, node: str) -> None:
        """Let everything that reads `name` read `source`; where `name` has to stay, `source` gets that name."""
        source = self.resolved(source)
        if name not in self.kept:
            self.instead[name] = source
        elif source in self.kept or source not in self.makers or source in self.constants:
            self.add("Identity", [source], name, node)
        else:
            self.instead[source] = name
            self.makers[name] = self.makers[source]

    def fresh(self, name: str) -> str:
        """A name that no tensor has yet."""
        return free_name(name, self._names)

    def store(self, key: tuple, name: str, value: np.ndarray) -> str:
        """Put a tensor into the graph; what is made from the same is there once."""
        if key not in self._made:
            self._made[key] = self.fresh(name)
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), self._made[key])
            self.graph.initializer.append(tensor)
            self.constants[tensor.name] = tensor
        return self._made[key]

    def add(self, operator: str, inputs: list[str], output: str, name: str, attributes: NodeProto | None = None) -> str:
        """Append a node of one output, with another node's attributes where given; returns the output."""
        node = helper.make_node(operator, inputs, [output], name=name)
        if attributes is not None:
            node.attribute.extend(attributes.attribute)
        self.nodes.append(node)
        self.makers[output] = node
        return output

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors always hold the same numbers; an absent zero point is 0."""
        if first == second:
            return True
        values = [self.value(name) if name else np.zeros(1, np.uint8) for name in (first, second)]
        if values[0] is None or values[1] is None:
            return False
        return bool(np.array_equal(values[0].reshape(-1), values[1].reshape(-1)))

    def floats(self, name: str, scale: str, zero: str, axis: int = 1) -> str | None:
        """The float tensor whose rounding at this scale and zero point `name` is; None where that is not known."""
        if name in self.constants:
            return self.weight(name, scale, zero, lambda value, rank: along(value, rank, axis))
        maker = self.makers.get(name)
        if maker is None:
            return None
        if maker.op_type == "DynamicQuantizeLinear":
            return maker.input[0] if [scale, zero] == list(maker.output[1:3]) else None
        if maker.op_type == "QuantizeLinear":
            same = self.same(scale, maker.input[1]) and self.same(zero, input_of(maker, 2))
            values = self.value(maker.input[1])
            if not same or values is None or attribute(maker, "block_size", 0):
                return None
            if values.size > 1 and attribute(maker, "axis", 1) != axis:
                return None
            stored = self.value(self.resolved(maker.input[0]))
            return self._unclipped(maker) if stored is None else self._rounded(maker, stored, values)
        if maker.op_type in MOVING and len(maker.output) == 1 and self._is_one_number(scale):
            key = ("moved", name, scale, zero)
            if key not in self._made:
                source = self.floats(maker.input[0], scale, zero)
                if source is None:
                    return None
                output = self.fresh(f"{name}_float")
                self.add(maker.op_type, [source, *maker.input[1:]], output, maker.name, maker)
                self._made[key] = output
            return self._made[key]
        return None

    def _is_one_number(self, scale: str) -> bool:
        value, maker = self.value(scale), self.makers.get(scale)
        return value.size == 1 if value is not None else maker is not None and maker.op_type == "DynamicQuantizeLinear"

    def _rounded(self, quantizer: NodeProto, value: np.ndarray, scale: np.ndarray) -> str | None:
        """A float weight that a quantizer rounds anew in every run, rounded."""
        name, zero = input_of(quantizer, 2), self.value(input_of(quantizer, 2))
        if name and zero is None or attribute(quantizer, "output_dtype", 0):
            return None
        zero = np.zeros((), np.uint8) if zero is None else zero
        axis = attribute(quantizer, "axis", 1)
        factor, offset = along(scale, value.ndim, axis), along(zero.astype(np.int32), value.ndim, axis)
        if factor is None or offset is None or zero.dtype.kind not in "iu":
            return None
        limits = np.iinfo(zero.dtype)
        integers = np.clip(np.rint(value / factor) + offset, limits.min, limits.max).astype(np.int32)
        rounded = (integers - offset).astype(scale.dtype) * factor
        return self.store(("rounded", quantizer.output[0]), f"{quantizer.input[0]}_rounded", rounded)

    def _unclipped(self, quantizer: NodeProto) -> str:
        """What a quantizer reads, through a Relu where its bytes begin at 0: so a quantizer leaves a Relu out."""
        source, zero = self.resolved(quantizer.input[0]), self.value(input_of(quantizer, 2))
        if zero is None and (input_of(quantizer, 2) or attribute(quantizer, "output_dtype", 0)):
            return source
        lowest = 0 if zero is None else np.iinfo(zero.dtype).min if zero.dtype.kind in "iu" else None
        maker = self.makers.get(source)
        if lowest is None or (zero is not None and (zero != lowest).any()):
            return source
        if maker is not None and maker.op_type in NONNEGATIVE:
            return source
        key = ("relu", source)
        if key not in self._made:
            self._made[key] = self.add("Relu", [source], self.fresh(f"{source}_relu"), f"{quantizer.name}/Relu")
        return self._made[key]

    def floats_or_dequantized(self, name: str, scale: str, zero: str) -> str | None:
        """As `floats`; integers of unknown origin are dequantized by a node of their own."""
        found = self.floats(name, scale, zero)
        if found is None and name not in self.constants and self._is_one_number(scale):
            key = ("dequantized", name, scale, zero)
            if key not in self._made:
                inputs = [name, scale, *([zero] if zero else [])]
                self._made[key] = self.add(
                    "DequantizeLinear", inputs, self.fresh(f"{name}_float"), f"{name}/Dequantize"
                )
            found = self._made[key]
        return found

    def weight(
        self,
        name: str,
        scale: str | np.ndarray,
        zero: str,
        placed: Placing,
        perm: tuple[int, ...] | None = None,
    ) -> str | None:
        """Store `(integers - zero) * scale`; None where one of them is computed or does not fit.

        Args:
            name: the stored integers.
            scale: the name of a tensor, or its value.
            zero: the name of a tensor; empty for 0.
            placed: gives scale and zero point, with the integers' rank, the shape in which they meet the integers.
            perm: how the result's axes are turned; None: not at all.
        """
        tensor = self.constants.get(name)
        factor = self.value(scale) if isinstance(scale, str) else scale
        offset = self.value(zero) if zero else np.zeros((), np.int32)
        if tensor is None or tensor.data_type not in INTEGERS or factor is None or offset is None:
            return None
        integers = numpy_helper.to_array(tensor).astype(np.int32)
        placed_factor, placed_offset = placed(factor, integers.ndim), placed(offset.astype(np.int32), integers.ndim)
        if placed_factor is None or placed_offset is None:
            return None
        try:
            value = (integers - placed_offset).astype(factor.dtype) * placed_factor
        except ValueError:  # a scale of another shape than the weight's
            return None
        if value.shape != integers.shape:
            return None
        key = (name, placed_factor.shape, placed_factor.tobytes(), placed_offset.shape, placed_offset.tobytes(), perm)
        return self.store(key, f"{name}_float", value if perm is None else value.transpose(perm))

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads a tensor; None where others do too, or where the tensor has to stay."""
        readers = self.index.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.kept else None


def input_of(node: NodeProto, position: int) -> str:
    """An input that may be absent; empty then."""
    return node.input[position] if len(node.input) > position else ""


def along(value: np.ndarray, rank: int, axis: int) -> np.ndarray | None:
    """One number, or one for each place of an axis, in the shape in which it meets a tensor of this rank."""
    if value.size == 1:
        return value.reshape(())
    if value.ndim != 1 or not -rank <= axis < rank:
        return None
    return value.reshape([-1 if dim == axis % rank else 1 for dim in range(rank)])


def by_channel(value: np.ndarray, rank: int) -> np.ndarray | None:
    """As `along` the first axis, which counts a convolution's output channels."""
    return along(value, rank, 0)


def by_column(value: np.ndarray, rank: int) -> np.ndarray | None:
    """As `along` the last axis; also with a scale for each matrix of a stack. Rows may not differ."""
    if value.size == 1:
        return value.reshape(())
    fits = value.ndim == 1 or (value.ndim <= rank and value.shape[-2] == 1)
    return value if fits and rank > 1 else None


def by_gate(value: np.ndarray, rank: int) -> np.ndarray | None:
    """One number for each direction, or for each direction and row of an LSTM's gates."""
    return value.reshape(value.shape[0], 1, -1) if value.ndim in (1, 2) else one_number(value, rank)


def one_number(value: np.ndarray, rank: int) -> np.ndarray | None:
    """One number for the whole tensor, or nothing."""
    return value.reshape(()) if value.size == 1 else None
