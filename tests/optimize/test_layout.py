"""A rearranged decoder says the same as before, and runs in the kernels that it was rearranged for."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.optimize.small_graphs import made, normal, speak
from ttsopt_lib.optimize.steps.rearrange_decoder import rearrange_decoder
from ttsopt_lib.voices.paired import PairedSession


@pytest.mark.slow
@pytest.mark.parametrize("name", ["high", "speakers"])
def test_rearranged_decoder_says_the_same(exported, name):
    model = onnx.load(exported(name))
    rearranged = rearrange_decoder(model)
    onnx.checker.check_model(rearranged)
    assert not any(node.op_type == "ConvTranspose" for node in rearranged.graph.node)
    ids, speaker = list(range(3, 25)), 1 if name == "speakers" else None
    expected, durations = PairedSession(model).speak(ids, sid=speaker)
    audio, _ = PairedSession(rearranged).speak(ids, durations=durations, sid=speaker)
    np.testing.assert_allclose(audio, expected, atol=2e-5)


@pytest.mark.slow
def test_real_voice_gets_two_dimensional_kernels(exported):
    model = rearrange_decoder(onnx.load(exported("joe")))
    weights = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.name.startswith("/dec/")]
    assert (
        sum(weights.get(node.input[1]) == 4 for node in convolutions) == 23
    )  # 18 of the residual blocks, 3 upsamplings, first and last
    # a mean over blocks that stayed a division would force a change of layout in the middle of every stage
    assert not any(node.op_type == "Div" and node.name.startswith("/dec/") for node in model.graph.node)


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"), [(16, 8, (4, 4)), (8, 4, (2, 2)), (7, 3, (1, 2)), (4, 4, (0, 0))]
)
def test_polyphase_filter_equals_the_transposed_convolution(kernel, stride, pads):
    rng = np.random.default_rng(kernel)
    weight, bias = normal(rng, 6, 5, kernel), normal(rng, 5)
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], name="/dec/ups.0/ConvTranspose", strides=[stride], pads=list(pads)
    )
    model = made([node], {"w": weight, "b": bias}, rank=None)
    feed = {"x": normal(rng, 1, 6, 11)}
    expected, found = speak(model, feed), speak(rearrange_decoder(model), feed)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_a_branch_reads_stays_and_names_that_are_taken_are_not_given_again():
    def branch(name, operator):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["half", "gain"], [name])], name, [], [value])

    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["up"], name="/dec/ups/ConvTranspose", strides=[2]),
        helper.make_node("Div", ["up", "two"], ["half"], name="/dec/Div"),
        helper.make_node("LeakyRelu", ["half"], ["relu"], name="/dec/LeakyRelu"),
        helper.make_node("Conv", ["relu", "w_4d"], ["up_4d"], name="/dec/conv/Conv"),
        helper.make_node("ReduceMax", ["up_4d"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["loud"]),
        helper.make_node("If", ["loud"], ["chosen"], then_branch=branch("p", "Mul"), else_branch=branch("q", "Add")),
        helper.make_node("Concat", ["up_4d", "chosen"], ["y"], axis=2),
    ]
    numbers = {"w": normal(rng, 6, 6, 4), "w_4d": normal(rng, 6, 6, 3), "two": np.float32(2), "gain": np.float32(3)}
    model = made(nodes, {**numbers, "zero": np.float32(0)}, rank=None)
    feed = {"x": normal(rng, 1, 6, 11)}
    rearranged = rearrange_decoder(model)
    assert not any(node.op_type == "ConvTranspose" for node in rearranged.graph.node)
    np.testing.assert_allclose(speak(rearranged, feed), speak(model, feed), atol=1e-5)


def test_decoder_without_upsampling_layers_is_left_alone():
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="/dec/conv/Conv")
    model = made([node], {"w": np.ones((4, 6, 3), np.float32)})
    assert rearrange_decoder(model) == model
