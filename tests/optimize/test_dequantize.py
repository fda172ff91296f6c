"""Integer arithmetic turned back: equal to the float graph on the same rounded weights, whoever quantized it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import quantization

from ttsopt_lib.optimize.graph.float_form import INTEGER, float_form
from ttsopt_lib.optimize.steps.dequantize import words
from ttsopt_lib.voices.session import open_session

CHANNELS = 8


def graph_of(nodes: list[Any], weights: dict[str, np.ndarray], inputs: dict[str, list[Any]]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutions(rng: np.random.Generator) -> ModelProto:
    """Two layers that read one tensor, with groups, strides and dilations; one without a bias."""
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "one", pads=[2, 2], dilations=[2], group=2),
        helper.make_node("Conv", ["x", "w2"], ["b"], "two", pads=[1, 1]),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node("Conv", ["c", "w3", "b3"], ["y"], "three", strides=[2]),
    ]
    weights = {
        **{"w1": draw(CHANNELS, CHANNELS // 2, 3), "b1": draw(CHANNELS), "w2": draw(CHANNELS, CHANNELS, 3)},
        **{"w3": draw(4, CHANNELS, 1), "b3": draw(4)},
    }
    return graph_of(nodes, weights, {"x": [1, CHANNELS, "t"]})


def products(rng: np.random.Generator) -> ModelProto:
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "one"),
        helper.make_node("Add", ["a", "b1"], ["b"], "bias"),
        helper.make_node("Tanh", ["b"], ["c"], "tanh"),
        helper.make_node("MatMul", ["c", "w2"], ["y"], "two"),
    ]
    weights = {"w1": draw(CHANNELS, 16), "b1": draw(16), "w2": draw(16, 5)}
    return graph_of(nodes, weights, {"x": [1, "t", CHANNELS]})


def recurrent(rng: np.random.Generator) -> ModelProto:
    draw = lambda *shape: (0.3 * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
    hidden = 6
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w", "r", "b"], ["h", "", ""], "lstm", hidden_size=hidden, direction="bidirectional"
        ),
        helper.make_node("Identity", ["h"], ["y"], "out"),
    ]
    weights = {"w": draw(2, 4 * hidden, CHANNELS), "r": draw(2, 4 * hidden, hidden), "b": draw(2, 8 * hidden)}
    return graph_of(nodes, weights, {"x": ["t", 1, CHANNELS]})


KINDS: dict[str, tuple[Callable[[np.random.Generator], ModelProto], Callable[[int], tuple[int, ...]]]] = {
    "convolutions": (convolutions, lambda length: (1, CHANNELS, length)),
    "products": (products, lambda length: (1, length, CHANNELS)),
    "recurrent": (recurrent, lambda length: (length, 1, CHANNELS)),
}


class Reader(quantization.CalibrationDataReader):
    def __init__(self, inputs: list[np.ndarray]):
        self._rest = iter({"x": one} for one in inputs)

    def get_next(self) -> Any:
        return next(self._rest, None)


def quantized(model: ModelProto, way: str, inputs: list[np.ndarray], folder: Path) -> ModelProto:
    """The model as ONNX Runtime's own tool quantizes it."""
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(model, source)
    if way.startswith("dynamic"):
        kind = quantization.QuantType.QUInt8 if way == "dynamic unsigned" else quantization.QuantType.QInt8
        quantization.quantize_dynamic(
            source, target, weight_type=kind, per_channel=way == "dynamic by channel", reduce_range=True
        )
    else:
        form = quantization.QuantFormat.QDQ if way == "pairs" else quantization.QuantFormat.QOperator
        quantization.quantize_static(source, target, Reader(inputs), quant_format=form, reduce_range=True)
    return onnx.load(target)


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model).run(["y"], {"x": x})[0]


def with_rounded_weights(model: ModelProto, rounded: ModelProto) -> ModelProto:
    """The float model on the weights that lie in the one that was turned back."""
    result = ModelProto()
    result.CopyFrom(model)
    there = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
    for tensor in result.graph.initializer:
        values = numpy_helper.to_array(tensor)
        same = [
            one
            for name, one in there.items()
            if one.shape == values.shape and name.startswith(tensor.name) and one.dtype == np.float32
        ]
        assert same, f"{tensor.name} is not in {list(there)}"
        assert np.abs(same[0] - values).max() <= 0.02 * np.abs(values).max()  # rounded to 8 bits, not more
        tensor.CopyFrom(numpy_helper.from_array(same[0], tensor.name))
    return result


WAYS = ("dynamic unsigned", "dynamic signed", "dynamic by channel", "pairs", "operators")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_in_float_on_the_same_weights(kind: str, way: str, tmp_path: Path) -> None:
    make, shape = KINDS[kind]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = make(rng)
        inputs = [rng.standard_normal(shape(length)).astype(np.float32) for length in (5, 17, 40)]
        shrunk = quantized(model, way, inputs, tmp_path)
        result, found = float_form(shrunk)
        onnx.checker.check_model(result)
        operators = Counter(node.op_type for node in result.graph.node)
        assert not {*INTEGER, "DynamicQuantizeLinear", "QuantizeLinear"} & operators.keys(), operators
        if not (kind == "recurrent" and way in ("pairs", "operators")):  # which ONNX Runtime does not quantize then
            assert sum(found.values())
            expected = with_rounded_weights(model, result)
        else:
            expected = model
        for x in inputs:
            want, got = run(expected, x), run(result, x)
            np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, float(np.abs(want).max())))
            # and the integers were near: they rounded activations as well
            assert np.abs(run(shrunk, x) - got).max() < 0.12 * np.abs(want).max()


def test_a_float_graph_is_left_as_it_is() -> None:
    model = convolutions(np.random.default_rng(0))
    result, found = float_form(model)
    assert result.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    assert not found and "no integer arithmetic" in words(found, Counter())


def test_an_activation_that_comes_as_an_integer_stays_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w"], ["product"], "whole"),
        helper.make_node("Cast", ["product"], ["y"], "float", to=TensorProto.FLOAT),
    ]
    weight = np.random.default_rng(0).integers(0, 255, (4, 3)).astype(np.uint8)
    model = graph_of(nodes, {"w": weight}, {})
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 4]))
    result, found = float_form(model)
    assert not found and [node.op_type for node in result.graph.node] == ["MatMulInteger", "Cast"]
    assert words(found, Counter(MatMulInteger=1)).endswith("still in integers: 1 MatMulInteger")
