"""Int8 arithmetic in chosen convolutions: QuantizeLinear and DequantizeLinear around them, with given ranges.

ONNX Runtime fuses each such convolution to QLinearConv. Weights are symmetric, one scale per output channel; inputs
and outputs are bytes (unsigned, or signed if asked), one range per tensor; biases are 32 bits wide at the scale of the
products, so finer than any activation. What lies between the layers (activation functions, residual sums, masks)
stays float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper, version_converter

from ttsopt_lib.optimize.graph.index import GraphIndex, free_name, name_nodes, refill, remove_unread, tensor_names
from ttsopt_lib.optimize.graph.int8 import quantizable_nodes, quantize_tensor
from ttsopt_lib.optimize.graph.ranges import STEPS, Range

# Operator sets: before the one, ONNX knows no int8 at all; before the other, a tensor has one scale only.
FIRST_WITH_INT8, FIRST_WITH_AXES = 10, 13


def with_int8(model: ModelProto) -> ModelProto:
    """The model in an operator set that knows QuantizeLinear; itself, where that is so."""
    if operator_set(model) >= FIRST_WITH_INT8:
        return model
    raised = version_converter.convert_version(model, FIRST_WITH_INT8)
    name_nodes(raised.graph)
    return raised


def knows_axes(model: ModelProto) -> bool:
    """Whether a tensor can have a scale for each channel in ONNX's QDQ form."""
    return operator_set(model) >= FIRST_WITH_AXES


def operator_set(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def quantizable_convolutions(model: ModelProto) -> list[NodeProto]:
    """Convolutions with a stored float weight of their own, in the graph's order: each may be chosen without others."""
    nodes = quantizable_nodes(model, ("Conv",))
    times = Counter(node.input[1] for node in nodes)
    stored = {
        "",
        *(tensor.name for tensor in model.graph.initializer),
    }  # a bias that is computed cannot be rounded here
    return [node for node in nodes if times[node.input[1]] == 1 and stored.issuperset(node.input[2:])]


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
    taken, named = tensor_names(graph), {node.name for node in graph.node}
    by_channel = knows_axes(model)
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}  # tensor -> its value after a round trip through 8 bits
    scales_of: dict[str, tuple[np.float32, str, str]] = {}  # tensor -> its scale, and the names of scale and zero point

    def store(name: str, value: np.ndarray) -> str:
        name = free_name(name, taken)
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        kind = operator.removesuffix("Linear")
        name = free_name(f"{output}/{kind}", named)
        nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def scale_of(tensor: str) -> tuple[np.float32, str, str]:
        if tensor not in scales_of:
            scale, zero = affine(ranges[tensor], signed)
            names = store(f"{tensor}_scale", np.asarray(scale)), store(f"{tensor}_zero", np.asarray(zero))
            scales_of[tensor] = scale, *names
        return scales_of[tensor]

    def round_trip(source: str, target: str, tensor: str) -> str:
        _, scale, zero = scale_of(tensor)
        eight = add("QuantizeLinear", [source, scale, zero], free_name(f"{tensor}_uint8", taken))
        return add("DequantizeLinear", [eight, scale, zero], target)

    def dequantized(name: str, integers: np.ndarray, scale: np.ndarray) -> str:
        kind = integers.dtype.name
        stored = [store(f"{name}_{kind}", integers), store(f"{name}_scale", scale if by_channel else scale.reshape(()))]
        output = free_name(f"{name}_from_{kind}", taken)
        return add("DequantizeLinear", stored, output, **({"axis": 0} if by_channel else {}))

    for node in graph.node:
        if node.name not in names:
            nodes.append(node)
            continue
        data, output = node.input[0], node.output[0]
        if data not in rounded:
            rounded[data] = round_trip(data, free_name(f"{data}_rounded", taken), data)
        weight = numpy_helper.to_array(constants[node.input[1]])
        integers, scales = quantize_tensor(weight, 0 if by_channel else (), 2 ** (weight_bits - 1) - 1)
        scales = scales.reshape(-1)
        inputs = [rounded[data], dequantized(node.input[1], integers, scales)]
        if len(node.input) > 2 and node.input[2]:
            bias = node.input[2]
            steps = (scale_of(data)[0] * scales).astype(np.float32)
            value = np.rint(numpy_helper.to_array(constants[bias]) / steps.astype(np.float64))
            whole = np.clip(value, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
            inputs.append(dequantized(bias, whole, steps))
        exact = free_name(f"{output}_exact", taken)
        nodes.append(helper.make_node("Conv", inputs, [exact], name=node.name))
        nodes[-1].attribute.extend(node.attribute)
        if output in rounded:
            raise ValueError(f"{output}: read before it is made")
        # Another int8 layer that reads it reads the same bytes.
        rounded[output] = round_trip(exact, output, output)
    refill(graph.node, nodes)
    remove_unread(graph)
    return result


def affine(span: Range, signed: bool) -> tuple[np.float32, np.uint8 | np.int8]:
    """Scale and zero point of bytes that span a range."""
    low, high = span
    scale = np.float32(max((high - low) / STEPS, 1e-12))
    zero = np.clip(np.rint(-low / scale), 0, STEPS)
    return scale, np.int8(zero - 128) if signed else np.uint8(zero)
