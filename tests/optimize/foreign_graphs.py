"""Small graphs as other exporters than this project's write them: each a layer or two, with its weights somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SIZE = 48  # channels: a square weight of so many has 2304 numbers, and none is a tensor that steps find too small
FRAMES = 20


class Foreign(NamedTuple):
    """A graph, what it is fed, and what is known of it by hand.

    Attributes:
        model: its first input is `x`.
        feed: one utterance.
        parameters: numbers that are learned.
        macs: multiply-accumulates of that utterance.
    """

    model: ModelProto
    feed: dict[str, np.ndarray]
    parameters: int
    macs: int


KINDS: dict[str, Callable[[], Foreign]] = {}


def kind(make: Callable[[], Foreign]) -> Callable[[], Foreign]:
    KINDS[make.__name__] = make
    return make


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Weights that keep the size of what they are multiplied with."""
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def tensor(name: str, values: Any, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def graph(
    nodes: list[NodeProto],
    stored: list[TensorProto],
    shape: tuple[int, ...] = (1, FRAMES, SIZE),
    opset: int = 17,
    output: str = "y",
    **more: Any,
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A model with the input `x`, and an utterance for it."""
    made = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *["n"] * (len(shape) - 1)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * more.pop("rank", len(shape)))],
        stored,
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(made, opset_imports=domains, ir_version=more.pop("ir_version", 8), **more)
    return model, {"x": np.random.default_rng(7).standard_normal(shape).astype(np.float32)}


PRODUCT = FRAMES * SIZE * SIZE


def recurrent(operator: str, gates: int, outputs: list[str], **more: Any) -> Foreign:
    """A layer in both directions, with a bias for each product."""
    hidden = 16
    node = helper.make_node(
        operator,
        ["turned", "w", "r", "b"],
        outputs,
        name="/rnn",
        hidden_size=hidden,
        direction="bidirectional",
    )
    if operator == "GRU":
        node.attribute.append(helper.make_attribute("linear_before_reset", 1))
    model, feed = graph(
        rank=4 if len(outputs) == 1 else 3,
        nodes=[
            helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
            node,
            helper.make_node("Identity", outputs[-1:], ["y"]),
        ],
        stored=[
            tensor("w", numbers(2, gates * hidden, SIZE)),
            tensor("r", numbers(2, gates * hidden, hidden, seed=1)),
            tensor("b", numbers(2, 2 * gates * hidden, seed=2)),
        ],
        **more,
    )
    weights = 2 * gates * hidden * (SIZE + hidden)
    return Foreign(model, feed, weights + 4 * gates * hidden, FRAMES * weights)


@kind
def lstm() -> Foreign:
    return recurrent("LSTM", 4, ["all"])


@kind
def lstm_whose_last_state_alone_is_read() -> Foreign:
    return recurrent("LSTM", 4, ["", "last"])


@kind
def gru_of_opset_11() -> Foreign:
    return recurrent("GRU", 3, ["all"], opset=11)


@kind
def gru_of_opset_21() -> Foreign:
    return recurrent("GRU", 3, ["all"], opset=21, ir_version=10)


@kind
def weights_in_constant_nodes() -> Foreign:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor("", numbers(SIZE, SIZE))),
        helper.make_node("Constant", [], ["b"], value=tensor("", numbers(SIZE))),
        helper.make_node("MatMul", ["x", "w"], ["product"], name="/linear/MatMul"),
        helper.make_node("Add", ["product", "b"], ["y"], name="/linear/Add"),
    ]
    return Foreign(*graph(nodes, []), SIZE * SIZE + SIZE, PRODUCT)


@kind
def convolution_and_bias_in_constant_nodes() -> Foreign:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor("", numbers(SIZE, SIZE, 3))),
        helper.make_node("Constant", [], ["b"], value=tensor("", numbers(SIZE))),
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="/conv", pads=[1, 1]),
    ]
    return Foreign(*graph(nodes, [], (1, SIZE, FRAMES)), 3 * SIZE * SIZE + SIZE, 3 * PRODUCT)


def behind(nodes: list[NodeProto], stored: list[TensorProto], last: str, elements: int = SIZE * SIZE) -> Foreign:
    """A product with a weight that these nodes make of a stored one."""
    product = helper.make_node("MatMul", ["x", last], ["y"], name="/linear/MatMul")
    return Foreign(*graph([*nodes, product], stored), elements, PRODUCT)


@kind
def weight_behind_a_transpose() -> Foreign:
    turn = helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0])
    return behind([turn], [tensor("w", numbers(SIZE, SIZE))], "turned")


@kind
def weight_behind_a_reshape_and_an_identity() -> Foreign:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=tensor("", [SIZE, SIZE], np.int64)),
        helper.make_node("Reshape", ["w", "shape"], ["matrix"]),
        helper.make_node("Identity", ["matrix"], ["same"]),
    ]
    return behind(nodes, [tensor("w", numbers(SIZE * SIZE).reshape(-1) * 7)], "same")


@kind
def weight_behind_a_cast_from_double() -> Foreign:
    cast = helper.make_node("Cast", ["w"], ["floats"], to=TensorProto.FLOAT)
    return behind([cast], [tensor("w", numbers(SIZE, SIZE), np.float64)], "floats")


@kind
def weight_behind_a_cast_from_half() -> Foreign:
    cast = helper.make_node("Cast", ["w"], ["floats"], to=TensorProto.FLOAT)
    return behind([cast], [tensor("w", numbers(SIZE, SIZE), np.float16)], "floats")


@kind
def weight_of_an_embedding_and_turned_of_a_product() -> Foreign:
    nodes = [
        helper.make_node("Constant", [], ["places"], value=tensor("", list(range(FRAMES)), np.int64)),
        helper.make_node("Gather", ["w", "places"], ["rows"], name="/embedding"),
        helper.make_node("Add", ["x", "rows"], ["sum"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["sum", "turned"], ["y"], name="/output"),
    ]
    return Foreign(*graph(nodes, [tensor("w", numbers(SIZE, SIZE))]), SIZE * SIZE, PRODUCT)


@kind
def weight_of_three_layers() -> Foreign:
    nodes = [helper.make_node("MatMul", [a, "w"], [b], name=f"/layer/{b}") for a, b in ("xa", "ab", "by")]
    return Foreign(*graph(nodes, [tensor("w", numbers(SIZE, SIZE))]), SIZE * SIZE, 3 * PRODUCT)


@kind
def weight_as_the_first_factor() -> Foreign:
    node = helper.make_node("MatMul", ["w", "x"], ["y"], name="/first")
    return Foreign(*graph([node], [tensor("w", numbers(SIZE, SIZE))], (1, SIZE, FRAMES)), SIZE * SIZE, PRODUCT)


@kind
def convolution_of_rows_and_columns() -> Foreign:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="/conv2d", pads=[1, 1, 1, 1])
    model, feed = graph([node], [tensor("w", numbers(16, 16, 3, 3) / 3)], (1, 16, 8, FRAMES))
    return Foreign(model, feed, 16 * 16 * 9, 8 * FRAMES * 16 * 16 * 9)


@kind
def gemm_with_a_turned_weight() -> Foreign:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="/gemm", transB=1)
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("b", numbers(SIZE))]
    return Foreign(*graph([node], stored, (FRAMES, SIZE)), SIZE * SIZE + SIZE, PRODUCT)


@kind
def gemm_whose_first_factor_is_stored() -> Foreign:
    node = helper.make_node("Gemm", ["w", "x"], ["y"], name="/gemm", transA=1)
    model, feed = graph([node], [tensor("w", numbers(SIZE, 60))], (SIZE, FRAMES))
    return Foreign(model, feed, SIZE * 60, SIZE * 60 * FRAMES)


@kind
def fused_operators_of_onnx_runtime() -> Foreign:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["a"], name="/fused", domain="com.microsoft", transB=1, alpha=0.5),
        helper.make_node("FastGelu", ["a", "b"], ["g"], name="/gelu", domain="com.microsoft"),
        helper.make_node("SkipLayerNormalization", ["x", "g", "gain"], ["n"], name="/norm", domain="com.microsoft"),
        helper.make_node("MatMul", ["n", "v"], ["y"], name="/output/MatMul"),
    ]
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("v", numbers(SIZE, SIZE, seed=1)), tensor("b", numbers(SIZE))]
    made = graph(nodes, [*stored, tensor("gain", np.ones(SIZE) * 0.9)])
    return Foreign(*made, 2 * SIZE * SIZE + 2 * SIZE, 2 * PRODUCT)


@kind
def nodes_without_names() -> Foreign:
    nodes = [helper.make_node("MatMul", [a, w], [b]) for a, w, b in ("xwa", "avy")]
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("v", numbers(SIZE, SIZE, seed=1))]
    return Foreign(*graph(nodes, stored), 2 * SIZE * SIZE, 2 * PRODUCT)


@kind
def products_of_opset_11() -> Foreign:
    nodes = [helper.make_node("MatMul", [a, w], [b], name=f"/linear/{b}") for a, w, b in ("xwa", "avb", "bwy")]
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("v", numbers(SIZE, SIZE, seed=1))]
    return Foreign(*graph(nodes, stored, opset=11), 2 * SIZE * SIZE, 3 * PRODUCT)


@kind
def names_that_steps_would_give() -> Foreign:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["w_cast"], name="w/Mul"),
        helper.make_node("MatMul", ["w_cast", "w_int8"], ["w_float"], name="w/Cast"),
        helper.make_node("Add", ["w_float", "w_scale"], ["sum"], name="Add_3"),
        helper.make_node("Add", ["sum", "w_half"], ["more"]),
        helper.make_node("Add", ["more", "x_quantized_spacing"], ["y"]),
    ]
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("w_int8", numbers(SIZE, SIZE, seed=1))]
    added = [tensor(name, numbers(SIZE)) for name in ("w_scale", "w_half", "x_quantized_spacing")]
    return Foreign(*graph(nodes, [*stored, *added, tensor("a", 1.0)]), 2 * SIZE * SIZE + 3 * SIZE, 2 * PRODUCT)


@kind
def initializers_among_the_inputs() -> Foreign:
    model, feed, parameters, macs = nodes_without_names()
    model.ir_version = 3
    for stored in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(stored.name, TensorProto.FLOAT, stored.dims))
    return Foreign(model, feed, parameters, macs)


@kind
def input_with_a_default() -> Foreign:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="/linear"),
        helper.make_node("Mul", ["a", "style"], ["y"], name="/styled"),
    ]
    stored = [tensor("w", numbers(SIZE, SIZE)), tensor("style", numbers(1, FRAMES, SIZE))]
    model, feed = graph(nodes, stored)
    model.graph.input.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, FRAMES, SIZE]))
    return Foreign(model, feed, SIZE * SIZE + FRAMES * SIZE, PRODUCT)


@kind
def weight_that_a_branch_reads() -> Foreign:
    def branch(name: str, operator: str) -> Any:
        node = helper.make_node(operator, ["sum", "same"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)])

    nodes = [
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("MatMul", ["x", "w"], ["sum"], name="/linear"),
        helper.make_node("ReduceMax", ["sum"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["loud"]),
        helper.make_node(
            "If", ["loud"], ["y"], name="/if", then_branch=branch("p", "MatMul"), else_branch=branch("q", "Add")
        ),
    ]
    # The product within the branch is not counted: which branch is taken, the utterance decides.
    made = graph(nodes, [tensor("w", numbers(SIZE, SIZE)), tensor("zero", 0.0)])
    return Foreign(*made, SIZE * SIZE, PRODUCT)


@kind
def layer_in_a_function_of_the_file() -> Foreign:
    body = [helper.make_node("MatMul", ["a", "b"], ["c"], name="inner")]
    function = helper.make_function("own", "Linear", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Linear", ["x", "w"], ["y"], domain="own", name="/linear")]
    model, feed = graph(nodes, [tensor("w", numbers(SIZE, SIZE))], functions=[function])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return Foreign(model, feed, SIZE * SIZE, PRODUCT)


@kind
def output_called_as_a_weight_would_be() -> Foreign:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["w_scale"], name="/linear")]
    made = graph(nodes, [tensor("w", numbers(SIZE, SIZE))], output="w_scale")
    return Foreign(*made, SIZE * SIZE, PRODUCT)


def convolution(**more: Any) -> Foreign:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="/conv", pads=[1, 1])
    stored = [tensor("w", numbers(SIZE, SIZE, 3)), tensor("b", numbers(SIZE))]
    return Foreign(*graph([node], stored, (1, SIZE, FRAMES), **more), 3 * SIZE * SIZE + SIZE, 3 * PRODUCT)


@kind
def convolution_of_opset_11() -> Foreign:
    return convolution(opset=11)


@kind
def convolution_of_opset_21() -> Foreign:
    return convolution(opset=21, ir_version=10)


def convolutions(between: list[NodeProto], stored: list[TensorProto], names: str = "wbvcdy", **more: Any) -> Foreign:
    """Two with a bias each, and what turns the first one's output `d` into the second one's input `e`.

    `names` are those of the weights and biases, of the first one's output and of the second one's.
    """
    w, b, v, c, d, y = names.split() if " " in names else names
    nodes = [
        helper.make_node("Conv", ["x", w, b], [d], name="/first/conv", pads=[1, 1]),
        *between,
        helper.make_node("Conv", ["e", v, c], [y], name="/second/conv", pads=[1, 1]),
    ]
    weights = [tensor(name, numbers(SIZE, SIZE, 3, seed=seed) / 2) for seed, name in enumerate((w, v))]
    biases = [tensor(name, numbers(SIZE, seed=seed)) for seed, name in enumerate((b, c))]
    made = graph(nodes, [*weights, *biases, *stored], (1, SIZE, FRAMES), output=y, **more)
    return Foreign(*made, 2 * (3 * SIZE * SIZE + SIZE), 6 * PRODUCT)


@kind
def convolutions_of_opset_9() -> Foreign:
    return convolutions([helper.make_node("Relu", ["d"], ["e"])], [], opset=9)


@kind
def convolutions_of_opset_11() -> Foreign:
    return convolutions([helper.make_node("Relu", ["d"], ["e"])], [], opset=11)


@kind
def convolutions_with_names_that_steps_would_give() -> Foreign:
    relu = helper.make_node("Relu", ["w_from_int8"], ["e"], name="x_rounded/Dequantize")
    return convolutions([relu], [], "w w_scale w_int8 x_scale w_from_int8 x_rounded")


@kind
def number_that_only_a_branch_reads() -> Foreign:
    def branch(name: str, operator: str) -> Any:
        node = helper.make_node(operator, ["d", "gain"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)])

    nodes = [
        helper.make_node("ReduceMax", ["d"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["loud"]),
        helper.make_node(
            "If", ["loud"], ["e"], name="/if", then_branch=branch("p", "Mul"), else_branch=branch("q", "Add")
        ),
    ]
    return convolutions(nodes, [tensor("zero", 0.0), tensor("gain", 0.5)])


@kind
def embedding_convolution_and_transposed_convolution() -> Foreign:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/conv", pads=[1, 1], group=2),
        helper.make_node("LeakyRelu", ["a"], ["l"]),
        helper.make_node("ConvTranspose", ["l", "up"], ["y"], name="/up", strides=[2]),
    ]
    stored = [tensor("w", numbers(SIZE, SIZE // 2, 3)), tensor("up", numbers(SIZE, SIZE, 4))]
    made = graph(nodes, stored, (1, SIZE, FRAMES))
    return Foreign(*made, 3 * SIZE * SIZE // 2 + 4 * SIZE * SIZE, 3 * PRODUCT // 2 + 4 * PRODUCT)


def already_int8(operators: list[str], made: Foreign, folder: Any) -> Foreign:
    """The same graph after ONNX Runtime's own dynamic quantizer."""
    source, target = str(folder / "float.onnx"), str(folder / "int8.onnx")
    onnx.save(made.model, source)
    types = {"Conv": QuantType.QUInt8}
    quantize_dynamic(
        source, target, op_types_to_quantize=operators, weight_type=types.get(operators[0], QuantType.QInt8),
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )  # fmt: skip
    return made._replace(model=onnx.load(target))
