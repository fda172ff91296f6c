"""Small graphs made by hand, and what tests of quantized ones compare."""

import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.voices.session import open_session

QUANTIZERS = re.compile("Integer|QLinear|[Qq]uantize|QGemm")
LENGTHS = (9, 16, 41)


def arrays(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def made(nodes, tensors, inputs=None, outputs=("y",), rank: int | None = 3, **kinds):
    """A model of these nodes.

    Args:
        nodes: in order.
        tensors: name -> what is stored.
        inputs: names and shapes.
        outputs: their names.
        rank: how many axes each output has; None: not known.
        kinds: types of inputs and outputs that are no float32.
    """
    given = inputs or {"x": [1, 6, None]}

    def value(name, shape):
        return helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)

    graph = helper.make_graph(
        nodes,
        "network",
        [value(name, shape) for name, shape in given.items()],
        [value(name, None if rank is None else [None] * rank) for name in outputs],
        [numpy_helper.from_array(np.asarray(stored), name) for name, stored in tensors.items()],
    )
    domains = [helper.make_opsetid("", 15), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def feeds_of(seed):
    """Utterances of six channels."""
    rng = np.random.default_rng(seed + 200)
    return [{"x": normal(rng, 1, 6, length)} for length in LENGTHS]


def speak(model, feed):
    """The first output."""
    return np.asarray(open_session(model).run(None, feed)[0])


def left_of_the_quantizer(model):
    return sorted({node.op_type for node in model.graph.node if QUANTIZERS.search(node.op_type)})


def assert_same(float_form, expected, feeds):
    onnx.checker.check_model(float_form)
    sessions = [open_session(model) for model in (float_form, expected)]
    for feed in feeds:
        found, wanted = (np.asarray(session.run(None, feed)[0]) for session in sessions)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
