"""Post-training quantization of an ONNX voice to int8. Graph in, graph out; nothing is trained.

| function | int8 in the file | int8 arithmetic | float32 |
|---|---|---|---|
| `quantize_dynamic` | weights of MatMul (and Conv, if asked) | the same, inputs quantized as they come | all else |
| `quantize_weights` | every large weight, one scale per output channel | none | all arithmetic, biases |
| `quantize_static` | weights of Conv (and MatMul, if asked), per channel | the same, calibrated ranges | all else |

What is never quantized: biases of `quantize_weights`, normalizations, softmax, and transposed convolutions in int8
arithmetic, for which ONNX Runtime has no kernel. Inputs, outputs and metadata of the voice stay as they are.

Activations are unsigned (signed if asked) and weights signed 8 bits wide, which x86 processors with VNNI multiply
exactly; older ones (AVX2) cut off the sum of two large products. Matrix products keep 7 bits in their weights for that
(`LEVEL_MAX` of `low_bits.py`); convolutions do not yet.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ttsopt_lib.optimize.calibration import Feed, SentenceReader
from ttsopt_lib.optimize.low_bits import input_moments, quantize_low
from ttsopt_lib.optimize.weights import WEIGHT_INPUT, GraphIndex, inline_identities
from ttsopt_lib.study import QuantizeDynamic, QuantizeStatic, QuantizeWeights, StudyError
from ttsopt_lib.voices.session import in_words

INT8_MAX = 127  # -128 stays unused, so that the range is symmetric and 0 is exact


def quantize_dynamic(model: ModelProto, step: QuantizeDynamic, feeds: Sequence[Feed] = ()) -> ModelProto:
    """Dynamic int8 as `torch.ao.quantization.quantize_dynamic` does it, in ONNX operators.

    A layer becomes DynamicQuantizeLinear + MatMulInteger (or ConvInteger): the range of its input is found anew for
    every utterance, one scale per tensor on both sides. With fewer than 8 bits the weights are int8 still, of
    `2 ** bits` values and one scale per output channel (`low_bits.py`, which says which weights keep 8 bits).

    Args:
        model: the voice.
        step: which layers, and in how many bits.
        feeds: calibration utterances, which fewer than 8 bits need.

    Returns:
        the quantized voice; equal to `model` where no layer is of the chosen operators.
    """
    # ONNX Runtime's ConvInteger takes unsigned weights only; MatMulInteger is signed as in PyTorch.
    types = {"MatMul": quantization.QuantType.QInt8, "Conv": quantization.QuantType.QUInt8}
    result = copy_named(model)
    for operator in step.operators:
        nodes = [node.name for node in _quantizable(result, (operator,))]
        if nodes:
            with _quantizer_files(result) as (source, target), in_words("ONNX Runtime cannot quantize it"):
                quantization.quantize_dynamic(
                    source,
                    target,
                    op_types_to_quantize=[operator],
                    nodes_to_quantize=nodes,
                    weight_type=types[operator],
                    reduce_range=operator == "MatMul",  # 7 bits: see LEVEL_MAX of low_bits.py
                )
                result = _cleaned(onnx.load(target), model)
    if step.bits < 8:
        _fewer_levels(result, copy_named(model), step.bits, feeds)
    return result


def _fewer_levels(quantized: ModelProto, floats: ModelProto, bits: int, feeds: Sequence[Feed]) -> None:
    """Give the matrices of a dynamically quantized voice fewer levels, and a scale per output channel, in place."""
    weights = {tensor.name: tensor for tensor in floats.graph.initializer}
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    matrices = [node.input[1] for node in quantized.graph.node if node.op_type == "MatMulInteger"]
    moments = _moments(floats, feeds, [name.removesuffix("_quantized") for name in matrices])
    for name, inputs in moments.items():
        integers, scale = quantize_low(numpy_helper.to_array(weights[name]), 1, bits, inputs)
        stored[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(integers, f"{name}_quantized"))
        stored[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scale.reshape(-1), f"{name}_scale"))


def _moments(model: ModelProto, feeds: Sequence[Feed], weights: Collection[str]) -> dict[str, np.ndarray]:
    """`input_moments` of a voice whose noise is the same at every call. Raises :class:`StudyError` without feeds."""
    if not feeds:
        raise StudyError("bits: fewer than 8 are chosen on calibration utterances, and there are none")
    seeded = copy_named(model)
    seed_noise(seeded)
    return input_moments(seeded, feeds, weights)


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
    nodes = [node.name for node in _quantizable(result, step.operators) if node.name not in excluded]
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
    with _quantizer_files(result) as (source, target), contextlib.redirect_stdout(io.StringIO()), reader.named():
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
        result = _cleaned(onnx.load(target), model)
    _unseed_noise(result, seeded)
    return result


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
    moments = _moments(result, feeds, axes) if step.bits < 8 else {}
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


def quantize_tensor(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight as (int8, scale): `int8 * scale` is within half a step of it. The scale broadcasts along `axis`."""
    others = tuple(dim for dim in range(weight.ndim) if dim != axis)
    scale = (np.abs(weight).max(axis=others, keepdims=True) / INT8_MAX).astype(np.float32)
    scale[scale == 0] = 1.0  # a channel of zeros
    return np.clip(np.rint(weight / scale), -INT8_MAX, INT8_MAX).astype(np.int8), scale


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


def _quantizable(model: ModelProto, operators: Sequence[str]) -> list[NodeProto]:
    """Nodes of these operators that read a stored float weight. A MatMul's must be a matrix, as `nn.Linear` has it."""
    constants = GraphIndex(model.graph).constants
    found = []
    for node in model.graph.node:
        if node.op_type in operators and node.input[1] in constants:
            weight = constants[node.input[1]]
            if weight.data_type == TensorProto.FLOAT and (node.op_type != "MatMul" or len(weight.dims) == 2):
                found.append(node)
    return found


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


def copy_named(model: ModelProto) -> ModelProto:
    """A copy whose nodes all have a name and read their weights directly."""
    copy = ModelProto()
    copy.CopyFrom(model)
    inline_identities(copy.graph)
    for number, node in enumerate(copy.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{number}"
    return copy


@contextlib.contextmanager
def _quantizer_files(model: ModelProto) -> Iterator[tuple[str, str]]:
    """ONNX Runtime's quantizers work on files: the model in one, and where to put the result."""
    # Pre-processing is shape inference, which the quantizer does itself: said here, or the root logger gets a warning.
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory(prefix="ttsopt-") as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        yield str(source), str(target)


def _cleaned(quantized: ModelProto, original: ModelProto) -> ModelProto:
    """The voice's own metadata and output again, and no inferred shapes, which only take space."""
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(original.metadata_props)
    quantized.producer_name, quantized.producer_version = original.producer_name, original.producer_version
    quantized.graph.name = original.graph.name
    del quantized.graph.output[:]
    quantized.graph.output.extend(original.graph.output)
    del quantized.graph.value_info[:]
    return quantized


def seed_noise(model: ModelProto) -> set[str]:
    """Give every unseeded noise node a seed of its own; returns the names of those nodes."""
    seeded = set()
    for number, node in enumerate(model.graph.node):
        if node.op_type.startswith("Random") and not any(a.name == "seed" for a in node.attribute):
            node.attribute.append(helper.make_attribute("seed", float(number + 1)))
            seeded.add(node.name)
    return seeded


def _unseed_noise(model: ModelProto, names: set[str]) -> None:
    """A deployed voice draws its noise anew for every utterance: take the calibration's seeds away again."""
    for node in model.graph.node:
        if node.name in names:
            for attribute in [a for a in node.attribute if a.name == "seed"]:
                node.attribute.remove(attribute)
