"""Weights in fewer than 8 bits: which levels a tensor may take, and which of them each weight takes.

Two things keep the loss small where rounding to the nearest of 16 equal steps does not:

- *Levels where the weights are* (S. P. Lloyd, "Least squares quantization in PCM", 1982): a tensor has `2 ** bits`
  levels of its own, found over its weights in units of their channel's spread, and one scale per output channel. The
  levels are 8-bit integers, so whatever computes with int8 weights computes with these.
- *Rounding that makes up for itself* (E. Frantar et al., "GPTQ: accurate post-training quantization for generative
  pre-trained transformers", 2023): what rounding one input's weight does to a layer's output is taken out again by the
  weights that are not rounded yet, as far as the inputs go together in real utterances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, helper

from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.weights import GraphIndex

LEVEL_MAX = 127  # the outermost level of a tensor, as an 8-bit integer
ALONE_BITS = 6  # at least, for weights whose rounding errors nothing makes up for: embeddings, depthwise convolutions
DAMPING = 0.01  # of the mean square input, added to every input's: GPTQ's own value
LLOYD_ROUNDS = 60
CLIPPED = np.linspace(0.4, 1.1, 40)  # candidates for a channel's scale, as shares of the one that reaches its maximum
BLOCK = 64  # inputs that are rounded before the others are told


def input_moments(model: ModelProto, feeds: Sequence[Feed]) -> dict[str, np.ndarray]:
    """What the inputs of each product look like in real utterances.

    Args:
        model: a voice. Its noise should be seeded, or the result differs from call to call.
        feeds: utterances.

    Returns:
        name of the weight -> sum over frames of the products of any two inputs, float64 [inputs, inputs]. Of a
        convolution, the inputs are those of all taps, channel by channel. Transposed and grouped convolutions,
        convolutions in two dimensions, and weights that several nodes share are not among them.
    """
    index = GraphIndex(model.graph)
    products = {node.input[1]: node for node in model.graph.node if _is_product(node, index)}
    probe = ModelProto()
    probe.CopyFrom(model)
    asked = sorted({node.input[0] for node in products.values()})
    given = {value.name for value in probe.graph.output}
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked if name not in given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    moments: dict[str, np.ndarray] = {}
    for feed in feeds:
        values = dict(zip(asked, session.run(asked, dict(feed)), strict=True)) if asked else {}
        for weight, node in products.items():
            inputs = _inputs(node, np.asarray(values[node.input[0]]), tuple(index.constants[weight].dims))
            moments[weight] = moments.get(weight, 0.0) + (inputs.T @ inputs).astype(np.float64)
    return moments


def quantize_low(
    weight: np.ndarray, axis: int, bits: int, moments: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A weight with few levels: `integers * scale` stands for it.

    Args:
        weight: float32; of a product with `moments` [inputs, outputs] or [outputs, channels, taps].
        axis: of the output channels, which have a scale each.
        bits: the integers have at most `2 ** bits` different values.
        moments: of `input_moments`; None for a weight each of whose values is rounded for itself, which has at
            least `2 ** ALONE_BITS` levels.

    Returns:
        (int8, as large as `weight`; float32, broadcasts along `axis`)
    """
    channels = np.moveaxis(weight, axis, -1)
    columns = channels.reshape(-1, channels.shape[-1]).astype(np.float64)
    spread = columns.std(axis=0)
    spread[spread == 0] = 1.0  # a channel of equal weights
    levels = _levels((columns / spread).ravel(), 2 ** (bits if moments is not None else max(bits, ALONE_BITS)))
    scale = _scales(columns, levels)
    rounded = _nearest(columns / scale, levels) if moments is None else _compensated(columns, scale, levels, moments)
    integers = np.moveaxis(rounded.reshape(channels.shape), -1, axis).astype(np.int8)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.ascontiguousarray(integers), scale.astype(np.float32).reshape(shape)


def _is_product(node: NodeProto, index: GraphIndex) -> bool:
    """Whether `_inputs` knows what a weight of the file is multiplied by."""
    if node.op_type not in ("MatMul", "Conv") or node.input[1] not in index.constants:
        return False
    if len(index.readers[node.input[1]]) > 1:
        return False
    dims = len(index.constants[node.input[1]].dims)
    if node.op_type == "MatMul":
        return dims == 2
    attributes = _attributes(node)
    return dims == 3 and attributes.get("group", 1) == 1 and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"


def _attributes(node: NodeProto) -> dict:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _inputs(node: NodeProto, values: np.ndarray, weight: tuple[int, ...]) -> np.ndarray:
    """What a product's weight is multiplied by, float32 [frames, inputs]."""
    if node.op_type == "MatMul":
        return values.reshape(-1, values.shape[-1]).astype(np.float32)
    attributes = _attributes(node)
    taps = weight[2]
    dilation, stride = (attributes.get(name, [1])[0] for name in ("dilations", "strides"))
    before, after = attributes.get("pads", [0, 0])
    padded = np.pad(values, ((0, 0), (0, 0), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (taps - 1) * dilation + 1, axis=2)
    windows = windows[:, :, ::stride, ::dilation]  # [utterance, channel, frame, tap]
    return windows.transpose(0, 2, 1, 3).reshape(-1, weight[1] * taps).astype(np.float32)


def _levels(values: np.ndarray, count: int) -> np.ndarray:
    """Levels that lie nearest to the values on average: sorted integers, the outermost `LEVEL_MAX` from 0."""
    values = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(LLOYD_ROUNDS):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        size = np.diff(edges)
        centres = np.where(size > 0, np.diff(sums[edges]) / np.maximum(size, 1), centres)
    largest = np.abs(centres).max()
    return np.unique(np.rint(centres / (largest if largest > 0 else 1.0) * LEVEL_MAX))


def _nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def _scales(columns: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Per column, the scale with which its values lie nearest to levels."""
    largest = np.abs(columns).max(axis=0)
    largest[largest == 0] = 1.0
    best, least = largest, np.full(largest.shape, np.inf)
    for share in CLIPPED:
        scale = largest * share / LEVEL_MAX
        error = ((_nearest(columns / scale, levels) * scale - columns) ** 2).sum(axis=0)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _compensated(columns: np.ndarray, scale: np.ndarray, levels: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Levels of each weight, so that the errors of a column cancel in the layer's output (GPTQ)."""
    size = len(columns)
    order = np.argsort(-np.diag(moments), kind="stable")  # the loudest inputs first, while all others can make up
    left = columns[order].copy()
    damped = moments[np.ix_(order, order)] + (DAMPING * np.diag(moments).mean() + 1e-12) * np.eye(size)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    rounded = np.empty_like(left)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((stop - start, left.shape[1]))
        for row in range(start, stop):
            rounded[row] = _nearest(left[row] / scale, levels)
            errors[row - start] = (left[row] - rounded[row] * scale) / factor[row, row]
            left[row:stop] -= np.outer(factor[row, row:stop], errors[row - start])
        left[stop:] -= factor[start:stop, stop:].T @ errors
    result = np.empty_like(rounded)
    result[order] = rounded
    return result
