"""Int8 arithmetic in chosen convolutions: QuantizeLinear and DequantizeLinear around them, with given ranges.

ONNX Runtime fuses each such convolution to QLinearConv. Weights are symmetric, one scale per output channel; inputs
and outputs are bytes (unsigned, or signed if asked), one range per tensor; biases are 32 bits wide at the scale of the
products, so finer than any activation. What lies between the layers (activation functions, residual sums, masks)
stays float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.graph.index import GraphIndex, refill
from ttsopt_lib.optimize.graph.int8 import quantize_tensor
from ttsopt_lib.optimize.graph.ranges import STEPS, Range


def quantizable_convolutions(model: ModelProto) -> list[NodeProto]:
    """Convolutions with a stored float weight of their own, in the graph's order."""
    index = GraphIndex(model.graph)
    found = []
    for node in model.graph.node:
        weight = index.constants.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is not None and weight.data_type == TensorProto.FLOAT and len(index.readers[weight.name]) == 1:
            found.append(node)
    return found


def quantized_tensors(nodes: Collection[NodeProto]) -> list[str]:
    """The tensors whose ranges int8 arithmetic in these nodes needs."""
    return list(dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0])))


def quantize_convolutions(
    model: ModelProto, names: Collection[str], ranges: Mapping[str, Range], signed: bool = False, weight_bits: int = 8
) -> ModelProto:
    """A copy of the voice in which the named convolutions compute in int8.

    Args:
        model: the voice.
        names: names of nodes among `quantizable_convolutions`.
        ranges: tensor -> what 8 bits span, for each of `quantized_tensors`.
        signed: activations as signed bytes, which ARM processors multiply faster; the same steps, moved by 128.
        weight_bits: 8, or 7 so that the products of two bytes add up in 16 bits, as processors without VNNI do it.
    """
    result = deepcopy(model)
    graph = result.graph
    constants = GraphIndex(graph).constants
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}  # tensor -> its value after a round trip through 8 bits
    read: set[str] = set()

    def store(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def scale_of(tensor: str) -> tuple[np.float32, str, str]:
        scale, zero = affine(ranges[tensor], signed)
        if f"{tensor}_scale" not in read:
            read.add(f"{tensor}_scale")
            store(f"{tensor}_scale", np.asarray(scale))
            store(f"{tensor}_zero", np.asarray(zero))
        return scale, f"{tensor}_scale", f"{tensor}_zero"

    def round_trip(source: str, target: str, tensor: str) -> None:
        _, scale, zero = scale_of(tensor)
        eight = f"{tensor}_uint8"
        nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [eight], name=f"{eight}/Quantize"))
        nodes.append(helper.make_node("DequantizeLinear", [eight, scale, zero], [target], name=f"{eight}/Dequantize"))

    for node in graph.node:
        if node.name not in names:
            nodes.append(node)
            continue
        data, output = node.input[0], node.output[0]
        if data not in rounded:
            rounded[data] = f"{data}_rounded"
            round_trip(data, rounded[data], data)
        weight = node.input[1]
        integers, scales = quantize_tensor(numpy_helper.to_array(constants[weight]), 0, 2 ** (weight_bits - 1) - 1)
        scales = scales.reshape(-1)
        inputs = [
            rounded[data],
            _dequantized(nodes, store(f"{weight}_int8", integers), store(f"{weight}_scale", scales), weight),
        ]
        graph.initializer.remove(constants[weight])
        if len(node.input) > 2 and node.input[2]:
            bias = node.input[2]
            steps = (scale_of(data)[0] * scales).astype(np.float32)
            value = np.rint(numpy_helper.to_array(constants[bias]) / steps.astype(np.float64))
            whole = np.clip(value, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
            own = f"{bias}_{len(nodes)}"  # two layers may share a bias, but not its scale
            inputs.append(_dequantized(nodes, store(f"{own}_int32", whole), store(f"{own}_scale", steps), own))
        nodes.append(helper.make_node("Conv", inputs, [f"{output}_exact"], name=node.name))
        nodes[-1].attribute.extend(node.attribute)
        round_trip(f"{output}_exact", output, output)
        if output in rounded:
            raise ValueError(f"{output}: read before it is made")
        rounded[output] = output  # another int8 layer that reads it reads the same bytes
    used = {name for node in nodes for name in node.input}
    refill(graph.initializer, (tensor for tensor in graph.initializer if tensor.name in used))
    refill(graph.node, nodes)
    return result


def affine(span: Range, signed: bool) -> tuple[np.float32, np.uint8 | np.int8]:
    """Scale and zero point of bytes that span a range."""
    low, high = span
    scale = np.float32(max((high - low) / STEPS, 1e-12))
    zero = np.clip(np.rint(-low / scale), 0, STEPS)
    return scale, np.int8(zero - 128) if signed else np.uint8(zero)


def _dequantized(nodes: list[NodeProto], integers: str, scale: str, name: str) -> str:
    output = f"{name}_from_{integers.rpartition('_')[2]}"
    nodes.append(helper.make_node("DequantizeLinear", [integers, scale], [output], name=f"{output}/Dequantize", axis=0))
    return output
