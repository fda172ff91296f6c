"""What turns the sums of an integer product into floats: a bias in integers, a cast, and the scales.

Quantizers write it in several ways: the scale of the input times that of the weight beforehand, or one after the other,
or both as one stored number; the bias as stored integers, or divided by the scale in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto

from ttsopt_lib.optimize.graph.float_form import FloatGraph, input_of
from ttsopt_lib.voices.vits_graph import attribute

ROUNDING = ("Floor", "Round", "Ceil")


class Tail(NamedTuple):
    """What follows an integer product, up to its floats."""

    output: str  # the floats
    scale: np.ndarray  # what is left of the factors without the scales of activations: the weight's
    factors: tuple[str, ...]  # of the whole scale: tensors that are stored, or found in every run
    bias: str  # integers that are added to the sums; empty: none
    replaced: frozenset[str]  # outputs of all nodes of it


def tail_of(graph: FloatGraph, node: NodeProto, activations: Sequence[str]) -> Tail | None:
    """What follows an integer product; None where it is nothing known.

    Args:
        graph: the graph.
        node: the product, whose sums only its tail reads.
        activations: the scales of those of its inputs that are no stored weights.
    """
    bias, replaced = "", set()
    output = node.output[0]
    reader = graph.only_reader(output)
    if reader is not None and reader.op_type == "Add":
        bias, output = _other_input(reader, output), reader.output[0]
        replaced.add(output)
        reader = graph.only_reader(output)
    if reader is None or reader.op_type != "Cast" or attribute(reader, "to", 0) != TensorProto.FLOAT:
        return None
    output = reader.output[0]
    replaced.add(output)
    factors: list[str] = []
    found: Tail | None = None
    while (reader := graph.only_reader(output)) is not None and reader.op_type == "Mul":
        factors = [*factors, *_factors(graph, _other_input(reader, output))]
        output = reader.output[0]
        replaced.add(output)
        scale = _weight_scale(graph, factors, activations)
        if scale is not None:
            found = Tail(output, scale, tuple(factors), bias, frozenset(replaced))
        if found is not None and (scale is None or len(factors) > len(activations) or len(activations) == 2):
            break
    return found


def _weight_scale(graph: FloatGraph, factors: Sequence[str], activations: Sequence[str]) -> np.ndarray | None:
    """The product of the factors without the activations' scales; None where one of these is not there yet."""
    left = _without(graph, factors, activations)
    product = np.ones((), np.float32)
    for name in factors if left is None else left:
        number = graph.value(name)
        if number is None:
            return None
        product = product * number.astype(np.float32)
    if left is None:
        # All scales may be one stored number.
        fixed = graph.value(activations[0]) if len(factors) == len(activations) == 1 else None
        if fixed is None:
            return None
        product = product / fixed.astype(np.float32).reshape(())
    return product


def float_bias(graph: FloatGraph, tail: Tail) -> np.ndarray | None:
    """The float bias behind the integers that a tail adds, in the shape in which it adds it; None: not known."""
    name, shapes = tail.bias, []
    maker = graph.makers.get(name)
    while maker is not None and maker.op_type in ("Reshape", "Unsqueeze"):
        shapes.append(maker)
        name = maker.input[0]
        maker = graph.makers.get(name)
    bias = graph.value(name)
    bias = _divided_bias(graph, maker, tail.factors) if bias is None else bias.astype(np.float32)
    for node in reversed(shapes):
        target = graph.value(input_of(node, 1)) if len(node.input) > 1 else attribute(node, "axes", None)
        if bias is None or target is None:
            return None
        sizes = [int(size) for size in target]
        bias = bias.reshape(sizes) if node.op_type == "Reshape" else np.expand_dims(bias, tuple(sizes))
    if name in graph.constants and bias is not None:
        for factor in tail.factors:
            number = graph.value(factor)
            if number is None:
                return None
            bias = bias * number.astype(np.float32)
    return bias


def _divided_bias(graph: FloatGraph, cast: NodeProto | None, factors: Sequence[str]) -> np.ndarray | None:
    """The stored float that is divided by the scale of the sums, rounded and cast to integers, in every run."""
    if cast is None or cast.op_type != "Cast" or attribute(cast, "to", 0) != TensorProto.INT32:
        return None
    maker = graph.makers.get(cast.input[0])
    if maker is not None and maker.op_type in ROUNDING:
        maker = graph.makers.get(maker.input[0])
    if maker is None or maker.op_type != "Div":
        return None
    divisor = _factors(graph, maker.input[1])
    same = len(divisor) == len(factors) and _without(graph, divisor, factors) is not None
    return graph.value(maker.input[0]) if same else None


def by_output_channel(value: np.ndarray, rank: int) -> np.ndarray | None:
    """What meets the channels of a convolution's output [batch, channels, ...], flat; None where it meets others."""
    if value.size == 1:
        return value.reshape(())
    shape = [1] * (rank - value.ndim) + list(value.shape)
    return value.reshape(-1) if len(shape) == rank and shape[1] == value.size else None


def _factors(graph: FloatGraph, name: str) -> list[str]:
    """A product of scales, taken apart."""
    maker = graph.makers.get(name)
    if name not in graph.constants and maker is not None and maker.op_type == "Mul":
        return [*_factors(graph, maker.input[0]), *_factors(graph, maker.input[1])]
    return [name]


def _without(graph: FloatGraph, factors: Sequence[str], scales: Sequence[str]) -> list[str] | None:
    """The factors but for these scales; None where one of the scales is not among them."""
    left = list(factors)
    for scale in scales:
        found = next((factor for factor in left if graph.same(factor, scale)), None)
        if found is None:
            return None
        left.remove(found)
    return left


def _other_input(node: NodeProto, name: str) -> str:
    """The one of two inputs that `name` is not."""
    return node.input[1] if node.input[0] == name else node.input[0]
