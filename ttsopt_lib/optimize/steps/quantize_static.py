"""The step `quantize_static`: convolutions, and matrices if asked, int8 with ranges seen on calibration sentences."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto
from onnxruntime import quantization

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.calibration import Feed, SentenceReader
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import (
    Int8Work,
    cleaned,
    layers_in_few_bits,
    quantizable_nodes,
    quantizer_files,
    seed_noise,
)
from ttsopt_lib.steps import QuantizeStatic

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory


class QuantizeStaticWork(Int8Work[QuantizeStatic]):
    settings = QuantizeStatic
    label = "static quantization"
    family = "static int8"
    kind = "int8 products"
    remedy = "let a search choose the layers that compute in int8 (`quantize_mixed`)"

    def needs_sentences(self, step: QuantizeStatic) -> bool:
        return True

    def apply(self, model: ModelProto, step: QuantizeStatic, context: BuildContext) -> ModelProto:
        return quantize_static(model, step, context.calibration)

    def note(self, step: QuantizeStatic, after: Inventory, layers: int) -> str:
        return (
            f"{layers_in_few_bits(after, layers, 8)} compute in int8; ONNX Runtime has no int8 transposed convolution"
        )


def quantize_static(model: ModelProto, step: QuantizeStatic, feeds: Sequence[Feed]) -> ModelProto:
    """Static int8: QuantizeLinear/DequantizeLinear around every chosen layer, which runtimes fuse to int8 kernels.

    Args:
        model: the voice.
        step: which layers, and how activation ranges follow from what was seen.
        feeds: calibration utterances; the voice's noise is drawn with a fixed seed, so the same give the same bytes.

    Raises:
        StudyError: an `exclude` pattern is no regular expression, or matches no node.
    """
    result = copy_named(model)
    excluded = _excluded(result, step)
    nodes = [node.name for node in quantizable_nodes(result, step.operators) if node.name not in excluded]
    if not nodes:
        return result
    seeded = seed_noise(result)
    method = {
        "minmax": quantization.CalibrationMethod.MinMax,
        "percentile": quantization.CalibrationMethod.Percentile,
        "entropy": quantization.CalibrationMethod.Entropy,
    }[step.calibration]
    signed = quantization.QuantType.QInt8
    # The histogram calibrators print; a library does not.
    reader = SentenceReader(feeds)
    with quantizer_files(result) as (source, target), contextlib.redirect_stdout(io.StringIO()), reader.named():
        quantization.quantize_static(
            source,
            target,
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(step.operators),
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=signed if step.activations == "signed" else quantization.QuantType.QUInt8,
            weight_type=signed,
            calibrate_method=method,
            # One utterance at a time: the histogram methods otherwise hold every tensor of every sentence in memory.
            extra_options={"CalibStridedMinMax": 1},
        )
        result = cleaned(onnx.load(target), model)
    _unseed_noise(result, seeded)
    return result


def _excluded(model: ModelProto, step: QuantizeStatic) -> set[str]:
    """Names of the nodes that `exclude` keeps in float32."""
    names = [node.name for node in model.graph.node if node.op_type in step.operators]
    excluded: set[str] = set()
    for pattern in step.exclude:
        try:
            matched = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise StudyError(f"quantize_static: exclude: {pattern!r} is no regular expression: {error}") from None
        if not matched:
            some = ", ".join(names[-3:])
            raise StudyError(
                f"quantize_static: exclude: {pattern!r} matches no {'/'.join(step.operators)} node "
                f"(names look like {some})"
            )
        excluded |= matched
    return excluded


def _unseed_noise(model: ModelProto, names: set[str]) -> None:
    """A deployed voice draws its noise anew for every utterance: take the calibration's seeds away again."""
    for node in model.graph.node:
        if node.name in names:
            for attribute in [a for a in node.attribute if a.name == "seed"]:
                node.attribute.remove(attribute)
