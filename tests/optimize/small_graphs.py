"""Small graphs made by hand, and what tests of quantized ones compare."""

import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.voices.session import open_session

QUANTIZERS = re.compile("Integer|QLinear|[Qq]uantize|QGemm")


def arrays(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def made(nodes, tensors, inputs=None, outputs=("y",), rank=3):
    """A model of these nodes; `inputs` are names and shapes, and every output has `rank` axes."""
    given = inputs or {"x": [1, 6, None]}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    domains = [helper.make_opsetid("", 15), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def left_of_the_quantizer(model):
    return sorted({node.op_type for node in model.graph.node if QUANTIZERS.search(node.op_type)})


def assert_same(float_form, expected, feeds):
    onnx.checker.check_model(float_form)
    sessions = [open_session(model) for model in (float_form, expected)]
    for feed in feeds:
        found, wanted = (np.asarray(session.run(None, feed)[0]) for session in sessions)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
