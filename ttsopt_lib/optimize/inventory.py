"""What a finished ONNX voice stores and multiplies, layer by layer: what steps reached is counted in it.

Two fractions are counted, because size and time live in different layers of a voice:

- `parameters`: of all parameters that the file stores.
- `macs`: of the multiply-accumulates of one reference utterance, in convolutions and matrix products.

Which layers a step reached is in the step's own file.

Shapes are those of a real run, because the number of frames depends on the text. Embeddings look up and do not
multiply. What is not counted: sums, activation functions and normalizations, which no step here changes.

A recurrent layer (LSTM, GRU) is counted as the two products that it is: what comes in by one weight, at all moments at
once, and its own last state by another, moment by moment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from ttsopt_lib.optimize.graph.index import (
    DECODER,
    DOMAINS,
    FLOATS,
    RECURRENT,
    WEIGHT_INPUTS,
    ZERO_POINTS,
    GraphIndex,
    StoredWeight,
    copy_named,
)
from ttsopt_lib.optimize.steps.pack import unpacked
from ttsopt_lib.records.variant import Coverage
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import attribute
from ttsopt_lib.voices.weights import STAGES

STAGE = re.compile(r"^/?(\w+)[/.]")  # node names begin with the stage, ours or Piper's name of it
PRODUCTS = tuple(operator for operator in WEIGHT_INPUTS if operator != "Gather")


@dataclass(frozen=True)
class Layer:
    """A node of the graph that has a weight or multiplies matrices; of a recurrent layer, one of its two products."""

    node: str
    operator: str
    weight: str | None  # name of the stored tensor; None where both factors are computed
    parameters: int  # elements of the weight
    zeros: int  # of them
    macs: int  # multiply-accumulates of the reference utterance
    stored_int8: bool
    computes_int8: bool
    two_dimensional: bool = False  # a convolution of rows and columns
    is_packed: bool = False  # an integer weight that takes fewer than 8 bits in the file
    levels: int = 0  # different values of an integer weight
    stored_half: bool = False
    computes_half: bool = False

    @property
    def in_decoder(self) -> bool:
        return bool(DECODER.match(self.node))

    def in_stages(self, stages: Collection[str]) -> bool:
        """Whether the layer belongs to one of these stages of a `StagedVits`."""
        found = STAGE.match(self.node)
        return bool(found) and any(found[1] in (stage, STAGES[stage]) for stage in stages)


@dataclass(frozen=True)
class Inventory:
    """The layers of a voice, and what it stores and computes in all."""

    layers: tuple[Layer, ...]
    parameters_stored: int  # weights, biases and other learned tensors; no scales, zero points or shape constants
    parameters_nonzero: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the reference utterance."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """Layers with a stored weight."""
        return tuple(layer for layer in self.layers if layer.weight is not None)

    def coverage(self, reached: Callable[[Layer], tuple[int, bool]]) -> Coverage:
        """Fractions of the whole that were reached.

        `reached` says how many of a layer's parameters were, and whether its products were. A weight that several
        nodes share is stored, and counted, once.
        """
        parameters: dict[str, int] = {}
        macs = 0
        for layer in self.layers:
            count, products = reached(layer)
            if layer.weight is not None:
                parameters[layer.weight] = max(parameters.get(layer.weight, 0), count)
            if products:
                macs += layer.macs
        return Coverage(
            parameters=sum(parameters.values()) / max(self.parameters_stored, 1), macs=macs / max(self.macs, 1)
        )


def take_inventory(path: Path, feed: dict[str, np.ndarray]) -> Inventory:
    """Count a voice's layers, parameters and multiply-accumulates.

    Args:
        path: an ONNX voice: original, our export, or quantized in any of our ways.
        feed: the reference utterance, as the model's inputs.
    """
    model, packed = unpacked(onnx.load(path))
    model = copy_named(model)
    index = GraphIndex(model.graph)
    shapes = _product_shapes(model, index, feed)
    layers = []
    for node in model.graph.node:
        weights = index.weights_of(node)
        if node.op_type == "Gather" and weights == [None]:
            continue
        for position, weight in zip(index.weight_inputs(node), weights, strict=True):
            layers.append(
                Layer(
                    node=node.name,
                    operator=node.op_type,
                    weight=weight.name if weight else None,
                    parameters=weight.size if weight else 0,
                    zeros=weight.size - weight.count_nonzero() if weight else 0,
                    macs=_macs(node, position, shapes) if node.op_type in PRODUCTS else 0,
                    stored_int8=bool(weight and weight.is_int8),
                    computes_int8=_computes_int8(node, index),
                    is_packed=bool(weight and weight.name in packed),
                    levels=weight.count_levels() if weight and weight.is_int8 else 0,
                    stored_half=bool(weight and weight.tensor.data_type == TensorProto.FLOAT16),
                    computes_half=_computes_half(node, position, index),
                    two_dimensional=node.op_type == "Conv" and len(shapes[node.output[0]]) == 4,
                )
            )
    stored, nonzero = _count_parameters(index)
    return Inventory(tuple(layers), stored, nonzero)


def _computes_int8(node: NodeProto, index: GraphIndex) -> bool:
    """Whether ONNX Runtime multiplies int8 here: an integer operator, or one between the right (de)quantizers."""
    if node.op_type in ZERO_POINTS:
        return True
    if node.op_type not in ("Conv", "MatMul", "Gemm"):
        return False
    for name in node.input[:2]:
        maker = index.producers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
    if node.op_type != "Conv":
        return True
    # A convolution has an int8 kernel only where its output is quantized as well (Relu and Clip fold into that).
    readers = index.readers[node.output[0]]
    while len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        readers = index.readers[readers[0].output[0]]
    return bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)


def _computes_half(node: NodeProto, position: int, index: GraphIndex) -> bool:
    """Whether a layer multiplies float16: its weight is, and no Cast makes it float32 before it gets there."""
    if node.op_type == "Gather":
        return False
    tensor = index.constants.get(node.input[position])
    return tensor is not None and tensor.data_type == TensorProto.FLOAT16


def _count_parameters(index: GraphIndex) -> tuple[int, int]:
    """(stored, non-zero) parameters: every float tensor of two elements or more, and integers that stand for floats."""
    scales = index.quantization_constants()
    found: dict[str, StoredWeight] = {}
    for name, tensor in index.constants.items():
        if tensor.data_type in FLOATS and name not in scales and math.prod(tensor.dims) > 1:
            found[name] = StoredWeight(tensor)
    for node in index.graph.node:
        several = index.weights_of(node)
        if node.op_type == "DequantizeLinear" and node.input[0] in index.constants:  # also int32 biases
            several = [index.stored(node.output[0])]
        elif node.op_type == "QLinearConv" and len(node.input) > 8:
            several.append(index.stored(node.input[8]))
        for stored in several:
            if stored is not None and stored.tensor.data_type not in FLOATS:
                found[stored.name] = stored
    return sum(w.size for w in found.values()), sum(w.count_nonzero() for w in found.values())


Shapes = dict[str, tuple[int, ...]]  # of tensors, by name


def _product_shapes(model: ModelProto, index: GraphIndex, feed: dict[str, np.ndarray]) -> Shapes:
    """Shapes of all that products read and make in one real run."""
    probe = deepcopy(model)
    asked: set[str] = set()
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.domain in DOMAINS:
            asked.update(name for name in (node.input[0], node.output[0]) if name)
            asked.update(node.input[position] for position in index.weight_inputs(node))
    names = sorted(asked)
    for name in names:
        probe.graph.node.append(helper.make_node("Shape", [name], [f"shape of {name}"]))
        probe.graph.output.append(helper.make_tensor_value_info(f"shape of {name}", TensorProto.INT64, None))
    values = open_session(probe).run([f"shape of {name}" for name in names], feed) if names else []
    return {name: tuple(map(int, shape)) for name, shape in zip(names, values, strict=True)}


def _macs(node: NodeProto, position: int, shapes: Shapes) -> int:
    """Multiply-accumulates of one node with its weight at `position`, from the shapes of what it reads and makes."""
    data, weight = shapes[node.input[0]], shapes[node.input[position]]
    if node.op_type.removeprefix("DynamicQuantize") in RECURRENT:
        return math.prod(data[:2]) * math.prod(weight)  # data [steps, utterances, in], or the first two turned
    result = shapes[node.output[0]]
    if node.op_type == "ConvTranspose":  # weight [in, out / groups, kernel]: each input meets all of its channel's
        return math.prod(data) * math.prod(weight[1:])
    if "Conv" in node.op_type:  # weight [out, in / groups, kernel]
        return math.prod(result) * math.prod(weight[1:])
    return math.prod(result) * data[-2 if attribute(node, "transA", 0) else -1]
