"""What no quantizer of ONNX Runtime writes, dequantized: other orders, other biases, and what is left alone."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.optimize.small_graphs import (
    LENGTHS,
    arrays,
    assert_same,
    feeds_of,
    left_of_the_quantizer,
    made,
    normal,
    speak,
)
from ttsopt_lib.optimize.graph.to_float import to_float
from ttsopt_lib.voices.session import open_session


def int8_matrix(rng, columns=7):
    """Signed weights of a matrix [6, columns] with a scale and a zero point for each column, and their floats."""
    integers = rng.integers(-127, 128, (6, columns)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, columns).astype(np.float32)
    zero = rng.integers(-5, 6, columns).astype(np.int8)
    return integers, scale, zero, (integers.astype(np.int32) - zero).astype(np.float32) * scale


CHAINS = {
    "the scales multiplied beforehand": [("Mul", ["xs", "s"], "both"), ("Mul", ["f", "both"], "y")],
    "beforehand, the other way round": [("Mul", ["s", "xs"], "both"), ("Mul", ["both", "f"], "y")],
    "one scale after the other": [("Mul", ["f", "xs"], "half"), ("Mul", ["half", "s"], "y")],
    "the weight's first": [("Mul", ["s", "f"], "half"), ("Mul", ["xs", "half"], "y")],
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", range(4))
def test_the_order_in_which_scales_are_multiplied_does_not_matter(chain, seed):
    rng = np.random.default_rng(seed)
    integers, scale, zero, weight = int8_matrix(rng)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["q", "w", "xz", "z"], ["sums"], name="product"),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        *[helper.make_node(operator, reads, [output]) for operator, reads, output in CHAINS[chain]],
    ]
    inputs = {"x": [1, None, 6]}
    found = to_float(made(nodes, {"w": integers, "s": scale, "z": zero}, inputs))
    assert [node.op_type for node in found.model.graph.node] == ["MatMul"]
    (name,) = arrays(found.model)
    np.testing.assert_array_equal(arrays(found.model)[name], weight)
    expected = made([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, inputs)
    assert_same(found.model, expected, [{"x": normal(rng, 1, length, 6)} for length in LENGTHS])


@pytest.mark.parametrize("divided", [True, False], ids=["divided in every run", "stored as integers"])
@pytest.mark.parametrize("operator", ["ConvInteger", "MatMulInteger"])
def test_a_bias_that_is_added_in_integers_is_a_float_bias_again(divided, operator):
    """As one quantizer divides it by a scale that is found anew, and another stores it for a fixed scale."""
    rng = np.random.default_rng(0)
    convolution = operator == "ConvInteger"
    shape = [12, 6, 3] if convolution else [6, 12]
    integers, bias = rng.integers(0, 256, shape).astype(np.uint8), normal(rng, 12)
    tensors = {
        "w": integers,
        "s": np.float32(0.01),
        "z": np.uint8(120),
        "to": np.array([1, -1, 1] if convolution else [-1]),
    }
    if divided:
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
            helper.make_node("Mul", ["xs", "s"], ["both"]),
            helper.make_node("Div", ["b", "both"], ["steps"]),
            helper.make_node("Floor", ["steps"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["bq"], to=TensorProto.INT32),
        ]
        tensors["b"] = bias
    else:
        both = np.float32(0.02) * tensors["s"]
        tensors |= {"xs": np.float32(0.02), "xz": np.uint8(128), "both": both}
        tensors["bq"] = np.rint(bias / both).astype(np.int32)
        bias = tensors["bq"].astype(np.float32) * both
        nodes = [helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"])]
    nodes += [
        helper.make_node("Reshape", ["bq", "to"], ["bias"]),
        helper.make_node(operator, ["q", "w", "xz", "z"], ["sums"], name="layer"),
        helper.make_node("Add", ["sums", "bias"], ["biased"]),
        helper.make_node("Cast", ["biased"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    inputs = {"x": [1, 6, None] if convolution else [1, None, 6]}
    if divided:  # by another scale, it is another bias
        other = [helper.make_node("Div", ["b", "xs"], ["steps"]) if node.op_type == "Div" else node for node in nodes]
        assert to_float(made(other, tensors, inputs)).stayed == {operator: 1, "DynamicQuantizeLinear": 1}
    found = to_float(made(nodes, tensors, inputs)).model
    assert left_of_the_quantizer(found) == []
    weight = (integers.astype(np.int32) - 120).astype(np.float32) * np.float32(0.01)
    if convolution:
        expected = made([helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"w": weight, "b": bias}, inputs)
        assert [node.op_type for node in found.graph.node] == ["Conv"]
    else:
        pair = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
        expected = made(pair, {"w": weight, "b": bias}, inputs)
    if divided:  # the weights to the bit; those of one stored scale have been divided by the input's
        assert any(np.array_equal(value, weight) for value in arrays(found).values())
    sizes = [(1, 6, length) if convolution else (1, length, 6) for length in LENGTHS]
    assert_same(found, expected, [{"x": normal(rng, *size)} for size in sizes])


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_fused_products_of_onnx_runtime_come_back(with_bias):
    rng = np.random.default_rng(3)
    integers, scale, zero, weight = int8_matrix(rng)
    bias = ["b"] if with_bias else []
    nodes = [
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z", *bias], ["a"], domain="com.microsoft"),
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node(
            "MatMulIntegerToFloat", ["q", "w", "xs", "s", "xz", "z", *bias], ["c"], domain="com.microsoft"
        ),
        helper.make_node("Sub", ["a", "c"], ["difference"]),
        helper.make_node("Add", ["a", "difference"], ["y"]),
    ]
    tensors = {"w": integers, "s": scale, "z": zero} | ({"b": normal(rng, 7)} if with_bias else {})
    inputs = {"x": [1, None, 6]}
    found = to_float(made(nodes, tensors, inputs))
    assert found.replaced == {"DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1, "DynamicQuantizeLinear": 1}
    assert len(arrays(found.model)) == 1 + with_bias  # the weight that both share is there once
    sums = [helper.make_node("MatMul", ["x", "w"], ["p" if with_bias else "y"])]
    sums += [helper.make_node("Add", ["p", "b"], ["y"])] if with_bias else []
    expected = made(sums, {"w": weight} | ({"b": tensors["b"]} if with_bias else {}), inputs)
    assert_same(found.model, expected, [{"x": normal(rng, 1, length, 6)} for length in LENGTHS])


def test_what_is_not_known_stays_and_is_counted():
    """Sums that two nodes read, a scale that is none of the input's, and an operator without a rule."""
    rng = np.random.default_rng(0)
    integers, scale, zero, _ = int8_matrix(rng)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["q", "w", "xz", "z"], ["sums"], name="read twice"),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "s"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["a"]),
        helper.make_node("Cast", ["sums"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("DynamicQuantizeLinear", ["a"], ["q2", "xs2", "xz2"]),
        helper.make_node("MatMulInteger", ["q2", "w2", "xz2"], ["sums2"], name="of another scale"),
        helper.make_node("Cast", ["sums2"], ["f2"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f2", "both"], ["b"]),
        helper.make_node("Sub", ["b", "g"], ["y"]),
    ]
    tensors = {"w": integers, "s": scale, "z": zero, "w2": rng.integers(-9, 9, (7, 7)).astype(np.int8)}
    model = made(nodes, tensors, {"x": [1, None, 6]})
    found = to_float(model)
    assert found.model == model and found.replaced == {}
    assert found.note == (
        "no pattern of integers is known; these stay as they were: 2 DynamicQuantizeLinear, 2 MatMulInteger"
    )


def test_integers_of_unknown_origin_are_dequantized_before_a_float_layer():
    rng = np.random.default_rng(0)
    integers = rng.integers(-63, 64, (4, 6, 3)).astype(np.int8)  # sums that no processor cuts off
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("Clip", ["q", "low", "high"], ["clipped"]),
        helper.make_node("QLinearConv", ["clipped", "xs", "xz", "w", "s", "z", "ys", "xz"], ["qy"], name="layer"),
        helper.make_node("DequantizeLinear", ["qy", "ys", "xz"], ["y"]),
    ]
    tensors = {"xs": np.float32(0.03), "xz": np.uint8(128), "low": np.uint8(100), "high": np.uint8(150), "w": integers}
    tensors |= {"s": np.float32(0.01), "z": np.int8(0), "ys": np.float32(0.2)}
    model = made(nodes, tensors)
    found = to_float(model)
    assert found.replaced == {"QLinearConv": 1}
    assert found.stayed == {"QuantizeLinear": 1, "DequantizeLinear": 1}
    assert "these stay as they were: 1 DequantizeLinear, 1 QuantizeLinear" in found.note
    for feed in feeds_of(0):
        before, after = speak(model, feed), speak(found.model, feed)
        assert np.abs(before - after).max() <= 0.2 / 2 + 1e-5


def test_a_float_weight_that_is_rounded_in_every_run_is_stored_rounded():
    rng = np.random.default_rng(0)
    weight, scale = normal(rng, 6, 7), rng.uniform(0.02, 0.03, 7).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"], axis=1),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wf"], axis=1),
        helper.make_node("MatMul", ["x", "wf"], ["y"]),
    ]
    model = made(nodes, {"w": weight, "s": scale, "z": np.zeros(7, np.int8)}, {"x": [1, None, 6]})
    found = to_float(model).model
    assert [node.op_type for node in found.graph.node] == ["MatMul"]
    rounded = np.clip(np.rint(weight / scale), -128, 127).astype(np.float32) * scale
    np.testing.assert_array_equal(arrays(found)[found.graph.node[0].input[1]], rounded)
    assert np.abs(rounded - weight).max() > 0.001


def test_tensors_that_a_branch_or_an_output_reads_keep_their_names():
    inner = helper.make_graph(
        [helper.make_node("Neg", ["back"], ["negative"])],
        "then",
        [],
        [helper.make_tensor_value_info("negative", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["back"], ["positive"])],
        "else",
        [],
        [helper.make_tensor_value_info("positive", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Neg", ["x"], ["u"]),
        helper.make_node("QuantizeLinear", ["u", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["back"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other),
    ]
    tensors = {"s": np.float32(0.1), "z": np.int8(0), "yes": np.array(True)}
    x = normal(np.random.default_rng(0), 1, 6, 9)
    for outputs in (("y",), ("y", "back"), ("y", "back", "u")):
        found = to_float(made(nodes, tensors, outputs=outputs)).model
        assert left_of_the_quantizer(found) == []
        y, *others = open_session(found).run(None, {"x": x})
        np.testing.assert_array_equal(y, x)
        for other in others:
            np.testing.assert_array_equal(other, -x)


@pytest.mark.parametrize("shape", [(1, 12, 1), (12, 1)])
def test_an_integer_convolution_may_have_a_scale_for_each_channel(shape):
    rng = np.random.default_rng(1)
    integers, scale = (
        rng.integers(0, 256, (12, 3, 3)).astype(np.uint8),
        rng.uniform(0.01, 0.02, shape).astype(np.float32),
    )
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("ConvInteger", ["q", "w", "xz", "z"], ["sums"], name="layer", group=2, pads=[1, 1]),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "s"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    found = to_float(made(nodes, {"w": integers, "s": scale, "z": np.uint8(130)})).model
    weight = (integers.astype(np.int32) - 130).astype(np.float32) * scale.reshape(12, 1, 1)
    np.testing.assert_array_equal(arrays(found)[found.graph.node[0].input[1]], weight)
    expected = made([helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=[1, 1])], {"w": weight})
    assert_same(found, expected, feeds_of(0))


def test_a_scale_along_the_time_of_a_convolution_is_none_of_its_weight():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("ConvInteger", ["q", "w", "xz"], ["sums"], name="layer"),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "s"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    model = made(nodes, {"w": np.ones((12, 6, 1), np.uint8), "s": np.ones(12, np.float32)}, {"x": [1, 6, 12]})
    found = to_float(model)
    assert found.model == model and found.stayed == {"ConvInteger": 1, "DynamicQuantizeLinear": 1}


def test_integers_that_are_only_moved_are_those_of_what_was_moved():
    rng = np.random.default_rng(2)
    integers, scale, zero, weight = int8_matrix(rng)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("Transpose", ["q"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMulInteger", ["turned", "w", "xz", "z"], ["sums"], name="product"),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "s"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    found = to_float(made(nodes, {"w": integers, "s": scale, "z": zero})).model
    turning = helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1])
    expected = made([turning, helper.make_node("MatMul", ["turned", "w"], ["y"])], {"w": weight})
    assert [node.op_type for node in found.graph.node] == ["Transpose", "MatMul"]
    assert_same(found, expected, feeds_of(2))


@pytest.mark.parametrize(("scale", "zero"), [(0.1, 127), (0.2, 128), (0.2, 127)])
def test_bytes_that_are_read_at_another_scale_than_they_were_made_stay(scale, zero):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s2", "z2"], ["y"]),
    ]
    tensors = {"s": np.float32(0.1), "z": np.uint8(128), "s2": np.float32(scale), "z2": np.uint8(zero)}
    found = to_float(made(nodes, tensors))
    assert found.stayed == {"QuantizeLinear": 1, "DequantizeLinear": 1}
    assert to_float(made(nodes, tensors | {"s2": np.float32(0.1), "z2": np.uint8(128)})).stayed == {}


def test_a_product_of_two_activations_with_a_scale_of_neither_stays():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("DynamicQuantizeLinear", ["t"], ["p", "ts", "tz"]),
        helper.make_node("MatMulInteger", ["q", "p", "xz", "tz"], ["sums"], name="scores"),
        helper.make_node("Cast", ["sums"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "half"], ["a"]),
        helper.make_node("Mul", ["a", "ts"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    found = to_float(made(nodes, {"half": np.float32(0.5)}))
    assert found.stayed == {"DynamicQuantizeLinear": 2, "MatMulInteger": 1}
    assert to_float(made(nodes, {"half": np.float32(1.0)})).stayed == {}
