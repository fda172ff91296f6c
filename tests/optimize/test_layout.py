"""A rearranged decoder says the same as before, and runs in the kernels that it was rearranged for."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.layout import rearrange_decoder
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
    dimensions = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    decoder = [node for node in model.graph.node if node.op_type == "Conv" and node.name.startswith("/dec/")]
    assert (
        sum(dimensions.get(node.input[1]) == 4 for node in decoder) == 23
    )  # 18 of the residual blocks, 3 upsamplings, first and last
    # a mean over blocks that stayed a division would force a change of layout in the middle of every stage
    assert not any(node.op_type == "Div" and node.name.startswith("/dec/") for node in model.graph.node)


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"), [(16, 8, (4, 4)), (8, 4, (2, 2)), (7, 3, (1, 2)), (4, 4, (0, 0))]
)
def test_polyphase_filter_equals_the_transposed_convolution(kernel, stride, pads):
    rng = np.random.default_rng(kernel)
    weight = rng.standard_normal((6, 5, kernel)).astype(np.float32)
    bias = rng.standard_normal(5).astype(np.float32)
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], name="/dec/ups.0/ConvTranspose", strides=[stride], pads=list(pads)
    )
    graph = helper.make_graph(
        [node],
        "upsampling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    x = rng.standard_normal((1, 6, 11)).astype(np.float32)
    expected, found = (_run(one, x) for one in (model, rearrange_decoder(model)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_decoder_without_upsampling_layers_is_left_alone():
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="/dec/conv/Conv")],
        "student",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 4, 3), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    assert rearrange_decoder(model) == model


def _run(model, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])
