"""The step `quantize_weights`: every large weight int8 in the file, one scale per output channel; float arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.index import (
    EITHER_FACTOR,
    RECURRENT,
    GraphIndex,
    copy_named,
    free_name,
    refill,
    tensor_names,
)
from ttsopt_lib.optimize.graph.int8 import Int8Work, layers_in_few_bits, moments_of, quantize_tensor
from ttsopt_lib.optimize.graph.low_bits import quantize_low
from ttsopt_lib.step_settings import QuantizeWeights
from ttsopt_lib.voices.vits_graph import attribute

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
        integers = any(layer.computes_int8 for layer in after.layers)
        arithmetic = "the arithmetic stays as it was" if integers else "all arithmetic stays float32"
        return f"{layers_in_few_bits(after, layers, step.bits)} are stored as int8; {arithmetic}"


def quantize_weights(model: ModelProto, step: QuantizeWeights, feeds: Sequence[Feed] = ()) -> ModelProto:
    """Store large weights as int8 with one scale per output channel (embeddings: per row), symmetric around 0.

    Both weights of a recurrent layer (LSTM, GRU) have a scale per direction and row, which is one number of one gate.
    With fewer than 8 bits those that `low_bits.py` knows how to round are int8 of `2 ** bits` values, and `feeds` are
    needed: calibration utterances. Recurrent layers, embeddings and what several layers share keep 8 bits.
    Unpacked by Cast and Mul rather than DequantizeLinear: ONNX Runtime folds the former into a float32 constant while
    it loads the voice, but keeps the latter and pays for it in every utterance.
    """
    result = copy_named(model)
    graph = result.graph
    index = GraphIndex(graph)
    axes: dict[str, tuple[int, ...]] = {}
    for node in graph.node:
        for position in index.weight_inputs(node):
            found = _stored_axes(index, node, position)
            if found and found[0] not in axes and _is_large_float(index.constants[found[0]], step.minimum_size):
                axes[found[0]] = found[1]
    taken, named = tensor_names(graph), {node.name for node in graph.node}
    unpacking: list[NodeProto] = []
    moments = moments_of(result, feeds, axes) if step.bits < 8 else {}
    for tensor in list(graph.initializer):
        if tensor.name not in axes:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if name in moments:
            integers, scale = quantize_low(values, axes[name][0], step.bits, moments[name])
        else:
            integers, scale = quantize_tensor(values, axes[name])
        eight, steps, cast = (free_name(f"{name}_{what}", taken) for what in ("int8", "scale", "cast"))
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, eight))
        graph.initializer.append(numpy_helper.from_array(scale, steps))
        # The product takes over the weight's name: whatever read the weight goes on reading it.
        is_float = tensor.data_type == TensorProto.FLOAT
        product = name if is_float else free_name(f"{name}_float", taken)
        unpacking += [
            helper.make_node("Cast", [eight], [cast], name=free_name(f"{name}/Cast", named), to=TensorProto.FLOAT),
            helper.make_node("Mul", [cast, steps], [product], name=free_name(f"{name}/Mul", named)),
        ]
        if not is_float:
            node = free_name(f"{name}/Type", named)
            unpacking.append(helper.make_node("Cast", [product], [name], name=node, to=tensor.data_type))
    refill(graph.node, [*unpacking, *graph.node])
    return result


def _stored_axes(index: GraphIndex, node: NodeProto, position: int) -> tuple[str, tuple[int, ...]] | None:
    """The stored tensor behind a layer's input, and its axes that have a scale for each place.

    A Transpose between the two (of a weight that other layers read as well) moves the axes. None where nothing is
    stored, or where something else stands between.
    """
    name, permutations = node.input[position], []
    while name not in index.constants:
        maker = index.producers.get(name)
        if maker is None or maker.op_type not in ("Identity", "Transpose", "Cast"):
            return None
        if maker.op_type == "Transpose":
            permutations.append(attribute(maker, "perm", None))
        name = maker.input[0]
    axes = _channel_axes(node, position, len(index.constants[name].dims))
    for permutation in permutations:
        axes = tuple(
            len(index.constants[name].dims) - 1 - axis if permutation is None else permutation[axis] for axis in axes
        )
    return name, axes


def _channel_axes(node: NodeProto, position: int, dims: int) -> tuple[int, ...]:
    """The axis of a weight that counts output channels (of an embedding: rows; of a recurrent layer: two axes)."""
    if node.op_type in RECURRENT:
        return 0, 1  # [directions, gates * hidden, inputs]
    if node.op_type in EITHER_FACTOR:  # [..., inputs, outputs]; the first factor the other way around
        turned = attribute(node, "transA" if position == 0 else "transB", 0)
        return (max(dims - 2 if bool(turned) != (position == 0) else dims - 1, 0),)
    # A transposed convolution's is [in, out / groups, kernel]: with groups, channels of equal number share a scale.
    return (1,) if node.op_type == "ConvTranspose" else (0,)


def _is_large_float(tensor: TensorProto, minimum_size: int) -> bool:
    large = len(tensor.dims) >= 2 and math.prod(tensor.dims) >= minimum_size
    return large and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
