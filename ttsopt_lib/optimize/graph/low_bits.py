"""Weights in fewer than 8 bits: which levels a tensor may take, and which of them each weight takes.

This is for matrix products and convolutions. What has no neighbours to make up for its rounding (embeddings, depthwise
convolutions) is small in most voices, and stays in 8 bits. Two things keep the loss small where rounding to the nearest
of 16 equal steps does not:

- *Levels where the weights are* (S. P. Lloyd, "Least squares quantization in PCM", 1982): a tensor has `2 ** bits`
  levels of its own, found over its weights in units of their channel's root mean square, and one scale per output
  channel. The levels are 8-bit integers, so whatever computes with int8 weights computes with these.
- *Rounding that makes up for itself* (E. Frantar et al., "GPTQ: accurate post-training quantization for generative
  pre-trained transformers", 2023): what rounding one input's weight does to a layer's output is taken out again by the
  weights that are not rounded yet, as far as the inputs go together in real utterances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from ttsopt_lib.optimize.calibration import Feed, tensor_values
from ttsopt_lib.optimize.graph.index import GraphIndex
from ttsopt_lib.voices.vits_graph import attribute

# The outermost level of a tensor, as an 8-bit integer. x86 processors without VNNI add two products of an unsigned byte
# and a signed one in 16 bits: with more than 7 bits in the weights the sum is cut off (docs/optimizing.md).
LEVEL_MAX = 63
DAMPING = 0.01  # of the mean square input, added to every input's: GPTQ's own value
LLOYD_ROUNDS = 60
CLIPPED = np.linspace(0.4, 1.1, 40)  # candidates for a channel's scale, as shares of two that suggest themselves
BLOCK = 64  # inputs that are rounded before the others are told


def input_moments(model: ModelProto, feeds: Sequence[Feed], weights: Collection[str]) -> dict[str, np.ndarray]:
    """What the inputs of products look like in real utterances.

    Args:
        model: a voice. Its noise should be seeded, or the result differs from call to call.
        feeds: utterances.
        weights: names of those whose inputs are asked for.

    Returns:
        name of the weight -> sum over frames of the products of any two inputs, float64 [inputs, inputs]. Of a
        convolution, the inputs are those of all taps, channel by channel. Not among them: transposed and grouped
        convolutions, convolutions with rows as well as columns, weights that several nodes share, and weights that
        the utterances show fewer frames than they have inputs (a speaker's embedding is one frame).
    """
    index = GraphIndex(model.graph)
    products = {
        node.input[1]: node for node in model.graph.node if _is_product(node, index) and node.input[1] in weights
    }
    asked = sorted({node.input[0] for node in products.values()})
    moments: dict[str, np.ndarray] = {}
    frames: Counter[str] = Counter()
    for values in tensor_values(model, asked, feeds):
        for weight, node in products.items():
            inputs = _inputs(node, values[node.input[0]], tuple(index.constants[weight].dims))
            moments[weight] = moments.get(weight, 0.0) + (inputs.T @ inputs).astype(np.float64)
            frames[weight] += len(inputs)
    return {weight: sums for weight, sums in moments.items() if frames[weight] >= len(sums)}


def quantize_low(weight: np.ndarray, axis: int, bits: int, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight with few levels: `integers * scale` stands for it.

    Args:
        weight: float32 [inputs, outputs] or [outputs, channels, ..., taps].
        axis: of the output channels, which have a scale each.
        bits: the integers have at most `2 ** bits` different values.
        moments: of `input_moments`, float64 [inputs, inputs].

    Returns:
        (int8, as large as `weight`; float32, broadcasts along `axis`)
    """
    channels = np.moveaxis(weight, axis, -1)
    columns = channels.reshape(-1, channels.shape[-1]).astype(np.float64)
    size = np.sqrt((columns**2).mean(axis=0))
    size[size == 0] = 1.0  # a channel of zeros
    levels, largest = _levels((columns / size).ravel(), 2**bits)
    scale = _scales(columns, levels, size * largest)
    rounded = _compensated(columns, scale, levels, moments)
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
    dims = index.constants[node.input[1]].dims
    if node.op_type == "MatMul":
        return len(dims) == 2
    plain = attribute(node, "group", 1) == 1 and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    in_a_row = len(dims) == 3 or (len(dims) == 4 and dims[2] == 1)  # the latter of a rearranged decoder
    return plain and in_a_row


def _inputs(node: NodeProto, values: np.ndarray, weight: tuple[int, ...]) -> np.ndarray:
    """What a product's weight is multiplied by, float32 [frames, inputs]."""
    if node.op_type == "MatMul":
        return values.reshape(-1, values.shape[-1]).astype(np.float32)
    taps = weight[-1]
    dilation, stride = (attribute(node, name, [1])[-1] for name in ("dilations", "strides"))
    pads = attribute(node, "pads", [0, 0])
    padded = np.pad(values.reshape(*values.shape[:2], -1), ((0, 0), (0, 0), (pads[len(pads) // 2 - 1], pads[-1])))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (taps - 1) * dilation + 1, axis=2)
    windows = windows[:, :, ::stride, ::dilation]  # [utterance, channel, frame, tap]
    return windows.transpose(0, 2, 1, 3).reshape(-1, weight[1] * taps).astype(np.float32)


def _levels(values: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Levels that lie nearest to the values on average.

    Returns:
        (sorted integers, the outermost `LEVEL_MAX` from 0; the value that the outermost stands for)
    """
    values = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(LLOYD_ROUNDS):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        size = np.diff(edges)
        centres = np.where(size > 0, np.diff(sums[edges]) / np.maximum(size, 1), centres)
    largest = float(np.abs(centres).max()) or 1.0
    return np.unique(np.rint(centres / largest * LEVEL_MAX)), largest


def _nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def _scales(columns: np.ndarray, levels: np.ndarray, outermost: np.ndarray) -> np.ndarray:
    """Per column, the scale with which its values lie nearest to levels; `outermost` is what those were found for."""
    largest = np.abs(columns).max(axis=0)
    largest[largest == 0] = 1.0
    best, least = largest, np.full(largest.shape, np.inf)
    for scale in (reach * share / LEVEL_MAX for reach in (largest, outermost) for share in CLIPPED):
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
