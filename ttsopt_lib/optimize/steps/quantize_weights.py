"""The step `quantize_weights`: every large weight int8 in the file, one scale per output channel; float arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.index import WEIGHT_INPUT, GraphIndex, copy_named
from ttsopt_lib.optimize.graph.int8 import Int8Work, layers_in_few_bits, moments_of, quantize_tensor
from ttsopt_lib.optimize.graph.low_bits import quantize_low
from ttsopt_lib.steps import QuantizeWeights

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory


class QuantizeWeightsWork(Int8Work[QuantizeWeights]):
    settings = QuantizeWeights
    label = "weight quantization"
    family = "int8 weights"
    kind = "stored weights"

    def needs_sentences(self, step: QuantizeWeights) -> bool:
        return step.bits < 8

    def apply(self, model: ModelProto, step: QuantizeWeights, context: BuildContext) -> ModelProto:
        return quantize_weights(model, step, context.calibration if self.needs_sentences(step) else ())

    def note(self, step: QuantizeWeights, after: Inventory, layers: int) -> str:
        return f"{layers_in_few_bits(after, layers, step.bits)} are stored as int8; all arithmetic stays float32"


def quantize_weights(model: ModelProto, step: QuantizeWeights, feeds: Sequence[Feed] = ()) -> ModelProto:
    """Store large weights as int8 with one scale per output channel (embeddings: per row), symmetric around 0.

    With fewer than 8 bits those that `low_bits.py` knows how to round are int8 of `2 ** bits` values, and `feeds` are
    needed: calibration utterances.
    Unpacked by Cast and Mul rather than DequantizeLinear: ONNX Runtime folds the former into a float32 constant while
    it loads the voice, but keeps the latter and pays for it in every utterance.
    """
    result = copy_named(model)
    graph = result.graph
    index = GraphIndex(graph)
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in WEIGHT_INPUT and len(node.input) > WEIGHT_INPUT[node.op_type]:
            name = node.input[WEIGHT_INPUT[node.op_type]]
            tensor = index.constants.get(name)
            if tensor is not None and name not in axes and _is_large_float(tensor, step.minimum_size):
                axes[name] = _channel_axis(node, len(tensor.dims))
    unpacking: list[NodeProto] = []
    moments = moments_of(result, feeds, axes) if step.bits < 8 else {}
    for tensor in list(graph.initializer):
        if tensor.name not in axes:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if name in moments:
            integers, scale = quantize_low(values, axes[name], step.bits, moments[name])
        else:
            integers, scale = quantize_tensor(values, axes[name])
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        # The product takes over the weight's name: whatever read the weight goes on reading it.
        unpacking += [
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], name=f"{name}/Cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name], name=f"{name}/Mul"),
        ]
    nodes = [*unpacking, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _channel_axis(node: NodeProto, dims: int) -> int:
    """The axis of a weight that counts output channels (of an embedding: rows)."""
    if node.op_type in ("Conv", "Gather"):
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if node.op_type == "ConvTranspose":
        return 1  # [in, out / groups, kernel]: with groups, the channels of equal number share a scale
    return dims - 1


def _is_large_float(tensor: TensorProto, minimum_size: int) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2 and math.prod(tensor.dims) >= minimum_size
