"""The integer arithmetic of a graph that somebody else quantized, in float32 again.

A shipped int8 file so has a float form on the same weights, with which other steps can begin. A pattern is known by
what its nodes do, never by names, which every quantizer gives in its own way. What no rule knows stays as it is, and
is counted.

Weights come out as exactly `(integers - zero point) * scale`. A bias that the quantizer rounded to integers is the
float bias again; one that is added in float stays where it is. Bytes whose zero point is their smallest value hold
nothing negative, which a quantizer uses to leave a Relu out: there a Relu comes back. A ceiling that it left out (of a
Clip) cannot be told from a range that was merely seen, and does not come back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.float_form import (
    MOVING,
    FloatGraph,
    Placing,
    along,
    by_channel,
    by_column,
    by_gate,
    input_of,
    one_number,
)
from ttsopt_lib.optimize.graph.index import DOMAINS, copy_named
from ttsopt_lib.optimize.graph.integer_sums import Tail, by_output_channel, float_bias, tail_of
from ttsopt_lib.voices.vits_graph import attribute

QUANTIZED = re.compile(r"QLinear|QOrdered|QGemm|QAttention|QEmbed|DynamicQuantize|[Qq]uantizeLinear|Integer|NBits|Bnb4")
PAIRS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
SINGLE = {"QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu"}
LARGEST_FILE = 2**31 - 1  # bytes that one ONNX file can have


class Dequantized(NamedTuple):
    """A graph in float, and how many nodes of which operator went and stayed."""

    model: ModelProto
    replaced: Counter[str]
    stayed: Counter[str]

    @property
    def note(self) -> str:
        """What was done, in one sentence."""
        if not self.replaced and not self.stayed:
            return "no node computes on integers"
        stayed = f"these stay as they were: {_listed(self.stayed)}" if self.stayed else "no node of a quantizer is left"
        if not self.replaced:
            return f"no pattern of integers is known; {stayed}"
        return f"float32 arithmetic on the same weights takes the place of {_listed(self.replaced)}; {stayed}"


def has_integers(model: ModelProto) -> bool:
    """Whether a quantizer has been at a graph: whether any node of it computes on integers, or rounds to them."""
    return bool(_quantized_nodes(model.graph))


def to_float(model: ModelProto) -> Dequantized:
    """The float form of a quantized graph; equal to `model` where no pattern of it is known.

    Args:
        model: the graph; it is left alone, and so are its branches and loops.

    Raises:
        StudyError: in float the graph is larger than a file can be.
    """
    before = _quantized_nodes(model.graph)
    rules = _Rules(copy_named(model))
    rules.run()
    after = _quantized_nodes(rules.model.graph)
    if after == before:
        return Dequantized(deepcopy(model), Counter(), before)
    return Dequantized(rules.model, before - after, after)


def _quantized_nodes(graph: GraphProto) -> Counter[str]:
    """How many nodes of a quantizer's operators a graph has, in its branches and loops too."""
    found = Counter(node.op_type for node in graph.node if QUANTIZED.search(node.op_type))
    for node in graph.node:
        for item in node.attribute:
            found += _quantized_nodes(item.g)
    return found


def _listed(counts: Counter[str]) -> str:
    return ", ".join(
        f"{count} {operator}" for operator, count in sorted(counts.items(), key=lambda one: (-one[1], one))
    )


class _Operand(NamedTuple):
    """One side of an integer product: a stored weight, or what was rounded from `floats` at `scale`."""

    name: str
    zero: str
    floats: str = ""
    scale: str = ""

    @property
    def stored(self) -> bool:
        return not self.scale


class _Rules(FloatGraph):
    """The patterns. Each rule returns False where it does not know a node, which then stays."""

    def __init__(self, model: ModelProto):
        super().__init__(model)
        self.model = model
        self.rules: dict[str, Callable[[NodeProto], bool]] = {
            "DequantizeLinear": self._dequantize,
            "ConvInteger": self._integer_product,
            "MatMulInteger": self._integer_product,
            "MatMulIntegerToFloat": self._scaled_product,
            "DynamicQuantizeMatMul": self._dynamic_product,
            "DynamicQuantizeLSTM": self._lstm,
            "QLinearConv": self._linear_convolution,
            "QLinearMatMul": self._linear_product,
            "QGemm": self._linear_gemm,
            **dict.fromkeys((*PAIRS, *SINGLE), self._linear_elementwise),
        }

    def run(self) -> None:
        """Replace what is known, and remove what nothing reads any more. Raises `StudyError` of a graph too large."""
        for node in list(self.graph.node):
            if any(name in self.done for name in node.output):
                continue
            rule = self.rules.get(node.op_type) if node.domain in DOMAINS else None
            if rule is None or not rule(node):
                self.nodes.append(node)
        self.finish()
        size = sum(tensor.ByteSize() for tensor in self.graph.initializer)
        if size > LARGEST_FILE:
            most = f"a file holds {LARGEST_FILE / 1e9:.1f} GB at most"
            raise StudyError(f"dequantize: in float32 the weights take {size / 1e9:.1f} GB, and {most}")

    def _dequantize(self, node: NodeProto) -> bool:
        if attribute(node, "block_size", 0):
            return False
        source = self.floats(node.input[0], node.input[1], input_of(node, 2), attribute(node, "axis", 1))
        if source is None:
            return False
        self.stand_in(node.output[0], source, node.name)
        return True

    def _integer_product(self, node: NodeProto) -> bool:
        """ConvInteger or MatMulInteger, with what follows it up to its floats."""
        operands = [self._operand(node.input[side], input_of(node, 2 + side)) for side in (0, 1)]
        sides = [one for one in operands if one is not None]
        convolution = node.op_type == "ConvInteger"
        weights = [one for one in sides if one.stored]
        if len(sides) < 2 or len(weights) == 2 or (convolution and not sides[1].stored):
            return False
        tail = tail_of(self, node, [one.scale for one in sides if not one.stored])
        if tail is None or (not weights and not np.allclose(tail.scale, 1.0, rtol=1e-6)):
            return False
        bias = float_bias(self, tail) if tail.bias else None
        if tail.bias and bias is None:
            return False
        made = self._convolution(node, sides, tail, bias) if convolution else self._product(node, sides, tail, bias)
        if made:
            self.done |= tail.replaced
        return made

    def _convolution(self, node: NodeProto, sides: list[_Operand], tail: Tail, bias: np.ndarray | None) -> bool:
        data, kernel = sides
        shape = self.constants[kernel.name].dims
        scale = by_output_channel(tail.scale, len(shape))
        weight = None if scale is None else self.weight(kernel.name, scale, kernel.zero, by_channel)
        if weight is None:
            return False
        inputs = [data.floats, weight]
        if bias is not None:
            flat = by_output_channel(bias, len(shape))
            if flat is None or flat.size not in (1, shape[0]):
                return False
            inputs.append(self._stored_bias(node, np.broadcast_to(flat, [shape[0]])))
        self.add("Conv", inputs, tail.output, node.name, node)
        return True

    def _product(self, node: NodeProto, sides: list[_Operand], tail: Tail, bias: np.ndarray | None) -> bool:
        data, weight = (
            self.weight(one.name, tail.scale, one.zero, placed) if one.stored else one.floats
            for one, placed in zip(sides, (one_number, by_column), strict=True)
        )
        added = "" if bias is None else self._stored_bias(node, bias)
        return self._matrix_product(node, data, weight, added, tail.output)

    def _stored_bias(self, node: NodeProto, value: np.ndarray) -> str:
        return self.store(("bias", value.shape, value.tobytes()), f"{node.output[0]}_bias", value)

    def _operand(self, name: str, zero: str) -> _Operand | None:
        """One side of an integer product; None where nothing known rounds it."""
        if name in self.constants:
            return _Operand(name, zero)
        origin = self.makers.get(name)
        while origin is not None and origin.op_type in MOVING:
            origin = self.makers.get(origin.input[0])
        if origin is None or origin.op_type not in ("DynamicQuantizeLinear", "QuantizeLinear"):
            return None
        scale = origin.output[1] if origin.op_type == "DynamicQuantizeLinear" else origin.input[1]
        value = self.value(scale)
        if value is not None and value.size != 1:
            return None
        floats = self.floats(name, scale, zero)
        return None if floats is None else _Operand(name, zero, floats, scale)

    def _scaled_product(self, node: NodeProto) -> bool:
        """MatMulIntegerToFloat(A, B, scales, zero points, bias)."""
        first, second, *scales = node.input[:4]
        data = self.floats(first, scales[0], input_of(node, 4))
        weight = self._columns(second, scales[1], input_of(node, 5))
        return self._matrix_product(node, data, weight, input_of(node, 6), node.output[0])

    def _dynamic_product(self, node: NodeProto) -> bool:
        """DynamicQuantizeMatMul(A in float, B, its scale and zero point, bias)."""
        weight = self.weight(node.input[1], node.input[2], input_of(node, 3), by_column)
        return self._matrix_product(node, node.input[0], weight, input_of(node, 4), node.output[0])

    def _matrix_product(self, node: NodeProto, data: str | None, weight: str | None, bias: str, output: str) -> bool:
        if data is None or weight is None:
            return False
        product = self.fresh(f"{output}_product") if bias else output
        self.add("MatMul", [data, weight], product, node.name)
        if bias:
            self.add("Add", [product, bias], output, f"{node.name}/Bias")
        return True

    def _columns(self, name: str, scale: str, zero: str) -> str | None:
        """The right factor of a matrix product, which may have a scale for each column."""
        if name in self.constants:
            return self.weight(name, scale, zero, by_column)
        return self.floats_or_dequantized(name, scale, zero)

    def _lstm(self, node: NodeProto) -> bool:
        """DynamicQuantizeLSTM, whose weights [directions, inputs, 4 * hidden] lie turned against an LSTM's."""
        weights = [
            self.weight(node.input[position], node.input[scale], input_of(node, scale + 1), by_gate, (0, 2, 1))
            for position, scale in ((1, 8), (2, 10))
        ]
        if weights[0] is None or weights[1] is None:
            return False
        inputs = [node.input[0], weights[0], weights[1], *node.input[3:8]]
        while not inputs[-1]:
            inputs.pop()
        lstm = helper.make_node("LSTM", inputs, list(node.output), name=node.name)
        lstm.attribute.extend(node.attribute)
        self.nodes.append(lstm)
        return True

    def _linear_convolution(self, node: NodeProto) -> bool:
        return self._linear_layer(node, "Conv", by_channel, output=6, bias=8)

    def _linear_gemm(self, node: NodeProto) -> bool:
        if attribute(node, "alpha", 1.0) != 1.0:
            return False
        axis = 0 if attribute(node, "transB", 0) else 1
        return self._linear_layer(node, "Gemm", lambda value, rank: along(value, rank, axis), output=7, bias=6)

    def _linear_layer(self, node: NodeProto, operator: str, placed: Placing, output: int, bias: int) -> bool:
        """QLinearConv or QGemm: (x, scale, zero), (weight, scale, zero), and a bias in integers.

        At `output` are the scale and the zero point of the result; without these it is floats.
        """
        weight = self.weight(node.input[3], node.input[4], node.input[5], placed)
        data = None if weight is None else self.floats_or_dequantized(*node.input[:3])
        if data is None or weight is None:
            return False
        inputs = [data, weight]
        if integers := input_of(node, bias):
            inputs.append(self._integer_bias(integers, node.input[1], node.input[4]) or "")
        if not all(inputs):
            return False
        if scale := input_of(node, output):
            return self._requantized(node, operator, inputs, scale, input_of(node, output + 1), node)
        self.add(operator, inputs, node.output[0], node.name, node)
        return True

    def _linear_product(self, node: NodeProto) -> bool:
        data = self.floats_or_dequantized(*node.input[:3])
        weight = self._columns(*node.input[3:6])
        if data is None or weight is None:
            return False
        return self._requantized(node, "MatMul", [data, weight], node.input[6], node.input[7])

    def _linear_elementwise(self, node: NodeProto) -> bool:
        """A sum, a product or an activation function between quantized tensors."""
        pair = node.op_type in PAIRS
        groups = [node.input[:3], node.input[3:6]] if pair else [node.input[:3]]
        inputs = [self.floats_or_dequantized(*group) for group in groups]
        scale, zero = (6, 7) if pair else (3, 4)
        operator = PAIRS.get(node.op_type) or SINGLE[node.op_type]
        known = [name for name in inputs if name is not None]
        if len(known) < len(inputs):
            return False
        return self._requantized(node, operator, known, node.input[scale], input_of(node, zero), None if pair else node)

    def _integer_bias(self, name: str, data_scale: str, weight_scale: str) -> str | None:
        """A bias of 32-bit integers, whose scale is that of the products."""
        integers, first, second = self.value(name), self.value(data_scale), self.value(weight_scale)
        if integers is None or first is None or second is None:
            return None
        value = integers.astype(np.float32) * (first.reshape(-1) * second.reshape(-1)).astype(np.float32)
        return self.store(("bias", name, value.tobytes()), f"{name}_float", value)

    def _requantized(
        self,
        node: NodeProto,
        operator: str,
        inputs: list[str],
        scale: str,
        zero: str,
        attributes: NodeProto | None = None,
    ) -> bool:
        """The float operator, and behind it a quantizer, which goes where everything that reads it is known."""
        output = node.output[0]
        result = self.add(operator, inputs, self.fresh(f"{output}_float"), node.name, attributes)
        self.add("QuantizeLinear", [result, scale, *([zero] if zero else [])], output, f"{node.name}/Quantize")
        return True
