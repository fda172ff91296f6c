"""The float form of a graph that somebody quantized: its integer arithmetic turned back into float32.

What is given to people as int8 is often slower than float, and its float form is often not given at all. The weights
are taken as they are, `(integer - zero point) * scale`: what rounding them lost is not undone; what goes is the
rounding of activations, in every utterance. Nodes are found by what they do, never by their names:

* `ConvInteger` and `MatMulInteger` between DynamicQuantizeLinear and the product with both scales, with a bias that was
  rounded to integers where there is one (its float values are still in the file),
* ONNX Runtime's `DynamicQuantizeMatMul`, `MatMulIntegerToFloat` and `DynamicQuantizeLSTM`,
* `QLinearConv`, `QLinearMatMul`, `QLinearAdd` and `QLinearMul`,
* pairs of QuantizeLinear and DequantizeLinear around activations, and DequantizeLinear of a stored weight.

What is none of these stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from ttsopt_lib.optimize.graph.index import GraphIndex, copy_named

INTEGER = (
    *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "QLinearAdd", "QLinearMul", "QAttention"),
)


def float_form(model: ModelProto) -> tuple[ModelProto, Counter[str]]:
    """Turn integer arithmetic back into float.

    Args:
        model: a graph; it is not changed.

    Returns:
        the graph in float32, and how many nodes of each operator were turned back.
    """
    result = copy_named(model)
    work = _Dequantizer(result)
    work.run()
    return result, work.found


class _Dequantizer:
    """One pass over a graph, in place."""

    def __init__(self, model: ModelProto):
        self._graph = model.graph
        self._index = GraphIndex(model.graph)
        self._new: dict[str, NodeProto] = {}  # output of a node that goes -> what comes in its place
        self._beside: dict[str, NodeProto] = {}  # output of a node -> what is computed in front of it
        self._weights: dict[tuple[str, ...], str] = {}  # integer weight, scale, zero point, way -> float weight
        self.found: Counter[str] = Counter()

    def run(self) -> None:
        ways: dict[str, Callable[[NodeProto], bool]] = {
            "ConvInteger": self._integer_product,
            "MatMulInteger": self._integer_product,
            "DynamicQuantizeMatMul": self._dynamic_product,
            "MatMulIntegerToFloat": self._product_to_float,
            "DynamicQuantizeLSTM": self._recurrent,
            "QLinearConv": self._qlinear,
            "QLinearMatMul": self._qlinear,
            "QLinearAdd": self._qlinear_pair,
            "QLinearMul": self._qlinear_pair,
            "DequantizeLinear": self._unpacked,
        }
        for node in self._graph.node:
            if node.op_type in ways and ways[node.op_type](node):
                self.found[node.op_type] += 1
        nodes = []
        for node in self._graph.node:
            beside = [self._beside[name] for name in node.output if name in self._beside]
            nodes += [*beside, next((self._new[name] for name in node.output if name in self._new), node)]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        remove_unread(self._graph)

    # --- what is read off the graph ---------------------------------------------------------------------------

    def _maker(self, name: str, *operators: str) -> NodeProto | None:
        node = self._index.producers.get(name)
        return node if node is not None and node.op_type in operators else None

    def _only_reader(self, name: str, operator: str) -> NodeProto | None:
        readers = self._index.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == operator else None

    def _constant(self, name: str) -> np.ndarray | None:
        tensor = self._index.constants.get(name)
        if tensor is None:
            node = self._maker(name, "Constant")
            tensor = next((a.t for a in node.attribute if a.name == "value"), None) if node else None
        return None if tensor is None else numpy_helper.to_array(tensor)

    def _float_source(self, name: str) -> str | None:
        """The float tensor that an integer activation was rounded from."""
        node = self._maker(name, "DynamicQuantizeLinear", "QuantizeLinear")
        return node.input[0] if node else None

    def _float_weight(self, weight: str, scale: str, point: str, axis: int, transpose: bool = False) -> str | None:
        """Name of the stored float weight of an integer one; None where its numbers are not stored."""
        way = (weight, scale, point, str(axis), str(transpose))
        if way not in self._weights:
            values, by = self._constant(weight), self._constant(scale)
            offset = self._constant(point) if point else np.zeros(1)
            if values is None or by is None or offset is None:
                return None

            def along(one: np.ndarray) -> np.ndarray:
                one = one.astype(np.float32)
                if one.size == 1:
                    return one.reshape(())
                if one.ndim > 1:  # of a recurrent layer: [directions, rows]
                    return one.reshape(one.shape[0], *(1,) * (values.ndim - 2), one.shape[1])
                if transpose and one.size == values.shape[0]:  # of a recurrent layer: one for each direction
                    return one.reshape(-1, *(1,) * (values.ndim - 1))
                shape = [1] * values.ndim
                shape[axis] = -1
                return one.reshape(shape)

            floats = (values.astype(np.float32) - along(offset)) * along(by)
            if transpose:
                floats = np.ascontiguousarray(floats.transpose(0, 2, 1))
            name = f"{weight}_float" if len({one[0] for one in self._weights} & {weight}) == 0 else f"{weight}_{scale}"
            self._graph.initializer.append(numpy_helper.from_array(floats.astype(np.float32), name))
            self._weights[way] = name
        return self._weights[way]

    # --- one way for each operator ------------------------------------------------------------------------------

    def _integer_product(self, node: NodeProto) -> bool:
        """x -> DynamicQuantizeLinear -> product [-> Add of an integer bias] -> Cast -> Mul by both scales."""
        source = self._float_source(node.input[0])
        made, bias = node, ""
        summed = self._only_reader(node.output[0], "Add")
        if summed is not None:
            other = summed.input[1] if summed.input[0] == node.output[0] else summed.input[0]
            found = self._rounded_bias(other)
            if found is None:
                return False
            made, bias = summed, found
        cast = self._only_reader(made.output[0], "Cast")
        scaled = self._only_reader(cast.output[0], "Mul") if cast else None
        if source is None or cast is None or scaled is None:
            return False
        scale = self._weight_scale(scaled.input[1] if scaled.input[0] == cast.output[0] else scaled.input[0])
        if scale is None:
            return False
        conv = node.op_type == "ConvInteger"
        if bias and not conv:
            return False
        point = node.input[3] if len(node.input) > 3 else ""
        weight = self._float_weight(node.input[1], scale, point, 0 if conv else -1)
        if weight is None:
            return False
        inputs = [source, weight, *filter(None, [bias])]
        self._new[scaled.output[0]] = _like(node, "Conv" if conv else "MatMul", inputs, scaled.output[0])
        return True

    def _rounded_bias(self, name: str) -> str | None:
        """The stored float bias, one number for each channel, behind Div by the scales, Floor (or Round) and Cast."""
        shaped = self._maker(name, "Reshape")
        cast = self._maker(shaped.input[0] if shaped else name, "Cast")
        whole = self._maker(cast.input[0], "Floor", "Round") if cast else None
        divided = self._maker(whole.input[0], "Div") if whole else None
        if divided is None:
            return None
        values = self._constant(divided.input[0])
        return divided.input[0] if values is not None and values.ndim == 1 else None

    def _weight_scale(self, name: str) -> str | None:
        """The stored one of two scales that are multiplied: the other is the activation's."""
        product = self._maker(name, "Mul")
        if product is None:
            return None
        stored = [one for one in product.input if self._constant(one) is not None]
        return stored[0] if len(stored) == 1 else None

    def _dynamic_product(self, node: NodeProto) -> bool:
        """com.microsoft: A, B, scale of B, [zero point of B], [bias]."""
        names = [*node.input, "", "", ""]
        weight = self._float_weight(names[1], names[2], names[3], -1)
        return weight is not None and self._product(node, names[0], weight, names[4])

    def _product_to_float(self, node: NodeProto) -> bool:
        """com.microsoft: A, B, scale of A, scale of B, [zero point of A], [zero point of B], [bias]."""
        names = [*node.input, "", "", ""]
        source = self._float_source(names[0])
        weight = self._float_weight(names[1], names[3], names[5], -1)
        return source is not None and weight is not None and self._product(node, source, weight, names[6])

    def _product(self, node: NodeProto, source: str, weight: str, bias: str) -> bool:
        output = node.output[0]
        if not bias:
            self._new[output] = _like(node, "MatMul", [source, weight], output)
            return True
        inner = f"{output}_before_bias"
        self._new[output] = helper.make_node("Add", [inner, bias], [output], name=f"{node.name}/bias")
        self._beside[output] = _like(node, "MatMul", [source, weight], inner)
        return True

    def _recurrent(self, node: NodeProto) -> bool:
        """com.microsoft: X, W, R, B, lengths, h, c, P, scale and zero point of W, scale and zero point of R."""
        names = [*node.input, "", "", "", ""]
        first = self._float_weight(names[1], names[8], names[9], -1, transpose=True)
        second = self._float_weight(names[2], names[10], names[11], -1, transpose=True)
        if first is None or second is None:
            return False
        inputs = [names[0], first, second, *names[3:8]]
        while inputs and not inputs[-1]:
            inputs.pop()
        made = _like(node, "LSTM", inputs, *node.output)
        self._new[next(filter(None, node.output))] = made
        return True

    def _qlinear(self, node: NodeProto) -> bool:
        """x, its scale and zero point, w, its scale and zero point, those of y, [an int32 bias]."""
        source = self._unrounded(node.input[0])
        conv = node.op_type == "QLinearConv"
        weight = self._float_weight(node.input[3], node.input[4], node.input[5], 0 if conv else -1)
        if source is None or weight is None:
            return False
        inputs = [source, weight]
        if conv and len(node.input) > 8:
            integers, x, w = (self._constant(node.input[place]) for place in (8, 1, 4))
            if integers is None or x is None or w is None:
                return False
            name = f"{node.input[8]}_float_{node.name}"
            bias = integers.astype(np.float32) * np.float32(x.reshape(-1)[0]) * w.reshape(-1).astype(np.float32)
            self._graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), name))
            inputs.append(name)
        output = f"{node.output[0]}_float"
        self._give_float(node, _like(node, "Conv" if conv else "MatMul", inputs, output))
        return True

    def _qlinear_pair(self, node: NodeProto) -> bool:
        """com.microsoft: a with its scale and zero point, b with its own, those of the result."""
        sources = [
            self._unrounded(node.input[at]) or self._float_weight(*node.input[at : at + 3], axis=-1) for at in (0, 3)
        ]
        if None in sources:
            return False
        self._give_float(node, _like(node, node.op_type.removeprefix("QLinear"), sources, f"{node.output[0]}_float"))
        return True

    def _give_float(self, node: NodeProto, made: NodeProto) -> None:
        """Have the float result computed beside the integer one, for those who read it as float in the end."""
        self._beside[node.output[0]] = made
        for reader in self._index.readers[node.output[0]]:
            if reader.op_type == "DequantizeLinear":
                self._new[reader.output[0]] = _identity(reader, made.output[0])

    def _unrounded(self, name: str) -> str | None:
        """The float tensor that an integer activation stands for: rounded from it, or made by a layer in integers."""
        return f"{name}_float" if name in self._beside else self._float_source(name)

    def _unpacked(self, node: NodeProto) -> bool:
        """A weight that is stored in integers and unpacked in the graph, or the second half of a pair."""
        if node.output[0] in self._new:
            return False
        source = self._maker(node.input[0], "QuantizeLinear")
        if source is not None:
            self._new[node.output[0]] = _identity(node, source.input[0])
            return True
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        point = node.input[2] if len(node.input) > 2 else ""
        values = self._constant(node.input[0])
        if values is None:
            return False
        weight = self._float_weight(node.input[0], node.input[1], point, axis % max(values.ndim, 1))
        if weight is None:
            return False
        self._new[node.output[0]] = _identity(node, weight)
        return True


def _like(node: NodeProto, operator: str, inputs: Iterable[Any], *outputs: str) -> NodeProto:
    """A node of ONNX's own operators with the attributes of another."""
    made = helper.make_node(operator, list(inputs), list(outputs), name=node.name)
    made.attribute.extend(node.attribute)
    return made


def _identity(node: NodeProto, source: str) -> NodeProto:
    return helper.make_node("Identity", [source], [node.output[0]], name=node.name)


def remove_unread(graph: GraphProto) -> None:
    """Remove nodes whose results nobody reads, and stored tensors that no node reads, in place."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed.update(filter(None, node.input))
            for item in node.attribute:
                for inner in (item.g, *item.graphs) if item.HasField("g") or item.graphs else ():
                    needed.update(name for one in inner.node for name in one.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(stored)
