"""A voice with a known amount of work added, so that a measurement can be held against the truth.

The work is a chain of matrix products whose result is 0, added to the audio: the voice speaks the same and takes longer
by what the chain takes alone, which is timed beside it. Needs the package `onnx`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

WIDTH = 384  # of the matrices: one product is 57 million multiply-accumulates, and fits into a core's cache
SILENCE = 22050  # samples that the work alone "speaks"


def voice_with_work(path: Path, multiplications: int) -> onnx.ModelProto:
    """The voice, speaking the same, with the chain of products on top."""
    from onnx import helper

    from ttsopt_lib.voices.onnx_file import read_model

    model = read_model(path)
    nodes, constants = _work(multiplications)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["audio_without_work" if name == output else name for name in node.output]
    nodes.append(helper.make_node("Add", ["audio_without_work", "work"], [output]))
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    return model


def work_alone(multiplications: int, speakers: bool = False) -> onnx.ModelProto:
    """The chain of products with the inputs of a voice (of several `speakers`), and nothing else: its own cost."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = _work(multiplications)
    constants.append(numpy_helper.from_array(np.zeros(SILENCE, dtype=np.float32), "silence"))
    nodes.append(helper.make_node("Add", ["silence", "work"], ["output"]))
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        *([helper.make_tensor_value_info("sid", TensorProto.INT64, [1])] if speakers else []),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [SILENCE])]
    graph = helper.make_graph(nodes, "work", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def _work(multiplications: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A chain of products that no optimizer can fold, because it begins with an input; gives the scalar `work`, 0."""
    from onnx import helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "work_matrix"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "work_first"),
        numpy_helper.from_array(np.array(0, dtype=np.float32), "work_zero"),
    ]
    nodes = [
        helper.make_node("Gather", ["scales", "work_first"], ["work_scale"]),
        helper.make_node("Mul", ["work_matrix", "work_scale"], ["work_0"]),
    ]
    nodes += [
        helper.make_node("MatMul", [f"work_{step}", "work_matrix"], [f"work_{step + 1}"])
        for step in range(multiplications)
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"work_{multiplications}"], ["work_sum"], keepdims=0),
        helper.make_node("Mul", ["work_sum", "work_zero"], ["work"]),
    ]
    return nodes, constants
