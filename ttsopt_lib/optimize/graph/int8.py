"""What the int8 steps share: weights rounded to int8, and ONNX Runtime's quantizers with their files.

What is never quantized: normalizations, softmax, and transposed convolutions in int8 arithmetic, for which ONNX Runtime
has no kernel. Inputs, outputs and metadata of the voice stay as they are.

Activations are unsigned (signed if asked) and weights signed 8 bits wide, which x86 processors with VNNI multiply
exactly; older ones (AVX2) cut off the sum of two large products. Matrix products keep 7 bits in their weights for that
(`LEVEL_MAX` of `low_bits.py`); convolutions do where `quantize_mixed` is asked for it.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.index import (
    GraphIndex,
    copy_named,
    free_name,
    name_nodes,
    read_in_branches,
    refill,
    tensor_names,
)
from ttsopt_lib.optimize.graph.low_bits import input_moments
from ttsopt_lib.optimize.steps.step import GraphSettings, GraphWork, Reached
from ttsopt_lib.voices.vits_graph import attribute

if TYPE_CHECKING:
    from ttsopt_lib.optimize.inventory import Inventory, Layer

ENDINGS = ("_scale", "_zero_point", "_quantized", "_QuantizeLinear_Output", "_DequantizeLinear_Output")
FEW_WEIGHTS, SAMPLE = 16, 512  # of a channel: too few to tell a step by; as many as it is looked for in
INT8_MAX = 127  # -128 stays unused, so that the range is symmetric and 0 is exact


class Int8Work(GraphWork[GraphSettings]):
    """A step that makes weights int8. An earlier one may have done so too: what is new is what this one reached."""

    def reaches(self, step: GraphSettings, layer: Layer) -> tuple[int, bool]:
        return layer.parameters if layer.stored_int8 else 0, layer.computes_int8

    def reached(self, step: GraphSettings, after: Inventory, before: Inventory) -> Reached:
        coverage, layers = self.gained(step, after, before)
        return Reached(coverage, layers, self.note(step, after, layers))


def layers_in_few_bits(after: Inventory, layers: int, bits: int) -> str:
    """How many layers a quantization reached, and with how many bits: the beginning of its note."""
    reached = f"{layers} of {len(after.weighted)} layers with weights"
    if bits == 8:
        return reached
    few = sum(0 < layer.levels <= 2**bits for layer in after.weighted)
    return f"{reached} ({few} of all have {bits} bits so far, rounded on the calibration sentences; other int8 has 8)"


def moments_of(model: ModelProto, feeds: Sequence[Feed], weights: Collection[str]) -> dict[str, np.ndarray]:
    """`input_moments` of a voice whose noise is the same at every call. Raises `StudyError` without feeds."""
    if not feeds:
        raise StudyError("bits: fewer than 8 are chosen on calibration utterances, and there are none")
    seeded = copy_named(model)
    seed_noise(seeded)
    return input_moments(seeded, feeds, weights)


def quantize_tensor(
    weight: np.ndarray, axis: int | tuple[int, ...], top: int = INT8_MAX
) -> tuple[np.ndarray, np.ndarray]:
    """A weight as (int8, scale): `int8 * scale` is within half a step of it.

    There is a scale for each place along `axis` (for each pair of places along two), and it broadcasts along that.
    No integer is further from 0 than `top`.
    """
    kept = (axis,) if isinstance(axis, int) else axis
    others = tuple(dim for dim in range(weight.ndim) if dim not in kept)
    scale = (np.abs(weight).max(axis=others, keepdims=True) / top).astype(np.float32)
    scale[scale == 0] = 1.0  # a channel of zeros
    channels = np.moveaxis(weight, kept, range(len(kept)))
    known = _known_steps(channels.reshape(math.prod(channels.shape[: len(kept)]), -1)).reshape(scale.shape)
    scale = np.where((known > 0) & (top == INT8_MAX), known, scale)
    return np.clip(np.rint(weight / scale), -top, top).astype(np.int8), scale


def _known_steps(channels: np.ndarray) -> np.ndarray:
    """The step of each channel that was int8 before, and 0 where none was: [channels, weights] -> float32 [channels].

    Weights that another program quantized, and that were unpacked since, are multiples of a step. With any other step
    they would be rounded a second time.
    """
    found = np.zeros(len(channels), np.float32)
    if channels.shape[1] < FEW_WEIGHTS:
        return found
    largest = np.abs(channels).max(axis=1)
    gaps = np.diff(np.sort(channels[:, :SAMPLE].astype(np.float64), axis=1), axis=1)
    gaps = np.where(gaps > largest[:, None] * 1e-4, gaps, np.inf).min(axis=1)
    counts = np.rint(largest / gaps)
    for channel in np.flatnonzero((counts > 0) & (counts <= INT8_MAX)):
        step = largest[channel] / counts[channel]
        places = channels[channel] / step
        if np.abs(places - np.rint(places)).max() < 1e-3:
            found[channel] = step
    return found


def quantizable_nodes(model: ModelProto, operators: Sequence[str]) -> list[NodeProto]:
    """Nodes of these operators that read a stored float weight, in the graph's order.

    A MatMul's must be a matrix, as `nn.Linear` has it. Not among them are those whose weight something else reads too
    (an embedding of the same numbers, a branch): it would be stored in int8 and in float.
    """
    index = GraphIndex(model.graph)
    kept = read_in_branches(model.graph) | {output.name for output in model.graph.output}
    found = []
    for node in model.graph.node:
        if node.op_type in operators and not node.domain and node.input[1] in index.constants:
            weight = index.constants[node.input[1]]
            if weight.data_type == TensorProto.FLOAT and (node.op_type != "MatMul" or len(weight.dims) == 2):
                found.append(node)
    times = Counter(node.input[1] for node in found)
    return [
        node
        for node in found
        if times[node.input[1]] == len(index.readers[node.input[1]]) and node.input[1] not in kept
    ]


def avoid_clashes(model: ModelProto, operators: Sequence[str]) -> None:
    """Rename tensors, in place, of which ONNX Runtime's quantizers would make others whose names are taken.

    What they make of `a` is called `a_scale`, `a_quantized` and so on, whether or not a voice has such a tensor.
    """
    graph = model.graph
    taken = tensor_names(graph)
    quantized = {name for node in quantizable_nodes(model, operators) for name in (*node.input, *node.output)}
    clashing = {name for name in quantized for ending in ENDINGS if f"{name}{ending}" in taken}
    if not clashing:
        return
    fixed = {value.name for value in (*graph.input, *graph.output)} | read_in_branches(graph)
    others = {f"{name}{ending}" for name in clashing & fixed for ending in ENDINGS} & taken
    renamed = {name: free_name(f"{name}_own", taken) for name in sorted((clashing | others) - fixed)}
    for node in graph.node:
        for names in (node.input, node.output):
            refill(names, [renamed.get(name, name) for name in names])
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    del graph.value_info[:]


@contextlib.contextmanager
def quantizer_files(model: ModelProto) -> Iterator[tuple[str, str]]:
    """ONNX Runtime's quantizers work on files: the model in one, and where to put the result."""
    # Pre-processing is shape inference, which the quantizer does itself: said here, or the root logger gets a warning.
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory(prefix="ttsopt-") as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        yield str(source), str(target)


def cleaned(quantized: ModelProto, original: ModelProto) -> ModelProto:
    """The voice's own metadata and output again, and no inferred shapes, which only take space."""
    refill(quantized.metadata_props, original.metadata_props)
    quantized.producer_name, quantized.producer_version = original.producer_name, original.producer_version
    quantized.graph.name = original.graph.name
    refill(quantized.graph.output, original.graph.output)
    del quantized.graph.value_info[:]
    name_nodes(quantized.graph, unnamed=False)
    return quantized


def seed_noise(model: ModelProto) -> set[str]:
    """Give every unseeded noise node a seed of its own; returns the names of those nodes."""
    seeded = set()
    for number, node in enumerate(model.graph.node):
        if node.op_type.startswith("Random") and attribute(node, "seed", None) is None:
            node.attribute.append(helper.make_attribute("seed", float(number + 1)))
            seeded.add(node.name)
    return seeded
