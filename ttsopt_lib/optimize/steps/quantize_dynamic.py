"""The step `quantize_dynamic`: matrices, and convolutions if asked, int8 with inputs quantized as they come."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import onnx
import torch
from onnx import ModelProto, numpy_helper
from onnxruntime import quantization

from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import (
    Int8Work,
    avoid_clashes,
    cleaned,
    layers_in_few_bits,
    moments_of,
    quantizable_nodes,
    quantizer_files,
)
from ttsopt_lib.optimize.graph.low_bits import quantize_low
from ttsopt_lib.step_settings import QuantizeDynamic
from ttsopt_lib.voices.session import in_words

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory

# What the quantizer takes a tensor for where it cannot tell, because ONNX knows no types of the operator that made it.
FLOATS_BY_DEFAULT = {"DefaultTensorType": onnx.TensorProto.FLOAT}


class QuantizeDynamicWork(Int8Work[QuantizeDynamic]):
    settings = QuantizeDynamic
    label = "dynamic quantization"
    family = "dynamic int8"
    kind = "int8 products"
    remedy = "let a search choose the layers that compute in int8 (`quantize_mixed`)"

    def needs_sentences(self, step: QuantizeDynamic) -> bool:
        return step.bits < 8

    def apply(self, model: ModelProto, step: QuantizeDynamic, context: BuildContext) -> ModelProto:
        return quantize_dynamic(model, step, context.calibration if self.needs_sentences(step) else ())

    def note(self, step: QuantizeDynamic, after: Inventory, layers: int) -> str:
        reached = layers_in_few_bits(after, layers, step.bits)
        if any(layer.operator == "ConvInteger" for layer in after.layers if layer.computes_int8):
            return f"{reached} compute in int8, their inputs quantized anew for every utterance"
        return f"{reached} compute in int8: matrix products (PyTorch's nn.Linear) only, and the rest are convolutions"

    def in_torch(self, model: StagedVits, step: QuantizeDynamic) -> None:
        if step.operators != ("MatMul",) or step.bits < 8:
            super().in_torch(model, step)
        with warnings.catch_warnings():
            # Deprecated, and still the quantization that PyTorch's name stands for: its two warnings say only that.
            warnings.filterwarnings("ignore", message="(?s).*torch.ao.quantization is deprecated")
            warnings.filterwarnings("ignore", message="(?s).*quantized tensor creation functions.*deprecated")
            torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)


def quantize_dynamic(
    model: ModelProto, step: QuantizeDynamic, feeds: Sequence[Feed] = (), only: Collection[str] | None = None
) -> ModelProto:
    """Dynamic int8 as `torch.ao.quantization.quantize_dynamic` does it, in ONNX operators.

    A layer becomes DynamicQuantizeLinear + MatMulInteger (or ConvInteger): the range of its input is found anew for
    every utterance, one scale per tensor on both sides. With fewer than 8 bits the weights are int8 still, of
    `2 ** bits` values and one scale per output channel (`low_bits.py`, which says which weights keep 8 bits).

    Args:
        model: the voice.
        step: which layers, and in how many bits.
        feeds: calibration utterances, which fewer than 8 bits need.
        only: names of the nodes that may be reached; None: all.

    Returns:
        the quantized voice; equal to `model` where no layer is of the chosen operators.
    """
    # ONNX Runtime's ConvInteger takes unsigned weights only; MatMulInteger is signed as in PyTorch.
    types = {"MatMul": quantization.QuantType.QInt8, "Conv": quantization.QuantType.QUInt8}
    result = copy_named(model)
    avoid_clashes(result, step.operators)
    floats = copy_named(result)
    for operator in step.operators:
        nodes = [node.name for node in quantizable_nodes(result, (operator,)) if only is None or node.name in only]
        if nodes:
            with quantizer_files(result) as (source, target), in_words("ONNX Runtime cannot quantize it"):
                quantization.quantize_dynamic(
                    source,
                    target,
                    op_types_to_quantize=[operator],
                    nodes_to_quantize=nodes,
                    weight_type=types[operator],
                    reduce_range=operator == "MatMul",  # 7 bits: see LEVEL_MAX of low_bits.py
                    extra_options=FLOATS_BY_DEFAULT,
                )
                result = cleaned(onnx.load(target), model)
    if step.bits < 8:
        _fewer_levels(result, floats, step.bits, feeds)
    return result


def _fewer_levels(quantized: ModelProto, floats: ModelProto, bits: int, feeds: Sequence[Feed]) -> None:
    """Give the matrices of a dynamically quantized voice fewer levels, and a scale per output channel, in place."""
    weights = {tensor.name: tensor for tensor in floats.graph.initializer}
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    matrices = [node.input[1] for node in quantized.graph.node if node.op_type == "MatMulInteger"]
    matrices = [name for name in matrices if name.removesuffix("_quantized") in weights]  # others were int8 before
    moments = moments_of(floats, feeds, [name.removesuffix("_quantized") for name in matrices])
    for name, inputs in moments.items():
        integers, scale = quantize_low(numpy_helper.to_array(weights[name]), 1, bits, inputs)
        stored[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(integers, f"{name}_quantized"))
        stored[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale.reshape(-1), f"{name}_scale"))
