"""The step `quantize_static`: convolutions, and matrices if asked, int8 with ranges seen on calibration sentences."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnxruntime import quantization

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.calibration import Feed, SentenceReader
from ttsopt_lib.optimize.graph.index import GraphIndex, copy_named, free_name, refill, remove_unread, tensor_names
from ttsopt_lib.optimize.graph.int8 import (
    Int8Work,
    avoid_clashes,
    cleaned,
    layers_in_few_bits,
    quantizable_nodes,
    quantizer_files,
    seed_noise,
)
from ttsopt_lib.optimize.graph.qdq import affine, knows_axes
from ttsopt_lib.optimize.graph.ranges import histograms
from ttsopt_lib.optimize.steps.quantize_dynamic import FLOATS_BY_DEFAULT, quantize_dynamic
from ttsopt_lib.step_settings import QuantizeDynamic, QuantizeStatic
from ttsopt_lib.voices.vits_graph import reads

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
        reached = f"{layers_in_few_bits(after, layers, step.bits)} compute in int8"
        return f"{reached}; ONNX Runtime has no int8 transposed convolution" if "Conv" in step.operators else reached


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
    avoid_clashes(result, step.operators)
    excluded = _excluded(result, step)
    nodes = [node.name for node in quantizable_nodes(result, step.operators) if node.name not in excluded]
    if not nodes:
        return result
    if step.bits < 8:
        return _few_levels(result, step, nodes, feeds)
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
            per_channel=knows_axes(result),
            activation_type=signed if step.activations == "signed" else quantization.QuantType.QUInt8,
            weight_type=signed,
            calibrate_method=method,
            # One utterance at a time: the histogram methods otherwise hold every tensor of every sentence in memory.
            extra_options={"CalibStridedMinMax": 1, **FLOATS_BY_DEFAULT},
        )
        result = cleaned(onnx.load(target), model)
    _unseed_noise(result, seeded)
    return result


def _few_levels(model: ModelProto, step: QuantizeStatic, nodes: list[str], feeds: Sequence[Feed]) -> ModelProto:
    """Matrices whose weights have few levels: those of `quantize_dynamic`, with ranges that stay the same.

    What a product adds up then depends on its own moment alone, so that a voice can be spoken piece by piece.
    """
    products = QuantizeDynamic(step="quantize_dynamic", operators=("MatMul",), bits=step.bits)
    result = quantize_dynamic(model, products, feeds, nodes)
    floats = copy_named(model)
    seed_noise(floats)
    before = {name for node in floats.graph.node for name in node.output}  # products that were int8 already stay so
    ranged = {
        node.output[0]: node
        for node in result.graph.node
        if node.op_type == "DynamicQuantizeLinear" and node.output[0] not in before
    }
    rule = "percentile" if step.calibration == "percentile" else "minmax"
    seen = histograms(floats, [node.input[0] for node in ranged.values()], feeds)
    spans = {name: seen[node.input[0]].range(rule) for name, node in ranged.items()}
    steps = {name: affine(span, signed=step.activations == "signed") for name, span in spans.items()}
    if not knows_axes(result):
        _as_integers(result, ranged, steps)
        return result
    rounded: dict[str, list[NodeProto]] = {}
    taken = tensor_names(result.graph)
    for integers, node in ranged.items():
        spacing, middle = steps[integers]
        scale, zero, floated = (free_name(f"{integers}_{what}", taken) for what in ("spacing", "middle", "floats"))
        result.graph.initializer.extend(
            [numpy_helper.from_array(np.asarray(spacing), scale), numpy_helper.from_array(np.asarray(middle), zero)]
        )
        rounded[integers] = [
            helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [integers], name=node.name),
            helper.make_node("DequantizeLinear", [integers, scale, zero], [floated], name=f"{node.name}_back"),
        ]
    _as_products(result, rounded)
    return result


def _as_integers(
    model: ModelProto, ranged: Mapping[str, NodeProto], steps: Mapping[str, tuple[np.float32, np.uint8 | np.int8]]
) -> None:
    """Give the integer products of a voice inputs with fixed ranges, in place.

    The QDQ form needs a scale for each channel, which DequantizeLinear does not know in old operator sets.
    """
    graph = model.graph
    index = GraphIndex(graph)
    taken = tensor_names(graph)
    for node in [node for node in graph.node if node.op_type == "MatMulInteger" and node.input[0] in ranged]:
        (cast,) = index.readers[node.output[0]]
        (scaled,) = index.readers[cast.output[0]]
        place = next(place for place, name in enumerate(scaled.input) if name != cast.output[0])
        (own,) = [name for name in index.producers[scaled.input[place]].input if name in index.constants]
        both = numpy_helper.to_array(index.constants[own]) * steps[node.input[0]][0]
        scaled.input[place] = free_name(f"{node.name}_steps", taken)
        graph.initializer.append(numpy_helper.from_array(both.astype(np.float32), scaled.input[place]))
    for integers, node in ranged.items():
        for name, value in zip(node.output[1:], steps[integers], strict=True):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        fixed = helper.make_node("QuantizeLinear", [node.input[0], *node.output[1:]], [integers], name=node.name)
        node.CopyFrom(fixed)
    outputs = {output.name for output in graph.output}
    read = {name for node in graph.node for name in reads(node)} | outputs
    refill(graph.node, (node for node in graph.node if node.op_type != "Mul" or node.output[0] in read))
    remove_unread(graph)


def _as_products(model: ModelProto, rounded: Mapping[str, list[NodeProto]]) -> None:
    """Write integer products in ONNX's QDQ form, in place: MatMulInteger, Cast and two Mul become one MatMul."""
    index = GraphIndex(model.graph)
    replaced: dict[str, list[NodeProto]] = {nodes[0].output[0]: nodes for nodes in rounded.values()}
    gone: set[str] = set()
    taken = tensor_names(model.graph)
    for node in [node for node in model.graph.node if node.op_type == "MatMulInteger" and node.input[0] in rounded]:
        integers, weight = node.input[:2]
        (cast,) = index.readers[node.output[0]]
        (scaled,) = index.readers[cast.output[0]]
        both = index.producers[next(name for name in scaled.input if name != cast.output[0])]
        (spacing,) = [name for name in both.input if name in index.constants]
        name = node.name
        floated = free_name(f"{name}_floats", taken)
        replaced[node.output[0]] = [
            helper.make_node("DequantizeLinear", [weight, spacing], [floated], name=f"{name}_weights", axis=1),
            helper.make_node("MatMul", [rounded[integers][1].output[0], floated], [scaled.output[0]], name=name),
        ]
        gone |= {cast.output[0], scaled.output[0], both.output[0]}
    nodes = [new for node in model.graph.node for new in replaced.get(node.output[0], [node])]
    refill(model.graph.node, (node for node in nodes if node.output[0] not in gone or node.op_type == "MatMul"))
    remove_unread(model.graph)


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
            refill(node.attribute, (attribute for attribute in node.attribute if attribute.name != "seed"))
