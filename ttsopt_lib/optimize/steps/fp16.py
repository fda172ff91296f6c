"""Half precision: a voice whose weights are float16, and, where asked, whose flow and decoder compute in it too.

Storing is safe anywhere: the file is half as large, and the weights are float32 again once the voice is loaded.
Computing in float16 pays only where the device has kernels for it (a GPU, some ARM processors). An x86 processor has
none: ONNX Runtime converts back and forth around every layer, and the voice gets slower. The text encoder and what
decides durations stay float32: a cumulative sum of frames does not fit into 11 bits. A graph whose names tell no flow
and no decoder as VITS has them is stored in float16 and computes in float32.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from ttsopt_lib.optimize.graph.index import copy_named, free_name, refill, tensor_names
from ttsopt_lib.optimize.steps.step import GraphWork
from ttsopt_lib.step_settings import Fp16
from ttsopt_lib.voices.vits_graph import sort_nodes

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

COMPUTING = re.compile(r"^/?(flow|dec)/")  # stages that compute in float16 where that is asked
LARGEST = float(np.finfo(np.float16).max)


class Fp16Work(GraphWork[Fp16]):
    settings = Fp16
    label = "half precision"
    family = "half precision"

    def apply(self, model: ModelProto, step: Fp16, context: BuildContext) -> ModelProto:
        return half_precision(model, step)

    def reaches(self, step: Fp16, layer: Layer) -> tuple[int, bool]:
        return layer.parameters if layer.stored_half else 0, layer.computes_half

    def note(self, step: Fp16, after: Inventory, layers: int) -> str:
        return (
            f"{layers} of {len(after.weighted)} layers with weights are stored as float16; "
            f"{self.coverage(step, after).macs:.0%} of the multiply-accumulates compute in it"
        )


def half_precision(model: ModelProto, step: Fp16) -> ModelProto:
    """Store weights as float16; with `arithmetic: float16`, let flow and decoder compute in it."""
    result = copy_named(model)
    if step.arithmetic == "float16" and any(COMPUTING.match(node.name) for node in result.graph.node):
        others = [node.name for node in result.graph.node if not COMPUTING.match(node.name)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights below the smallest float16: rounded to it, as documented there
            result = convert_float_to_float16(
                result, keep_io_types=True, disable_shape_infer=False, node_block_list=others
            )
        sort_nodes(result.graph)
    return _stored(result, step.minimum_size)


def _stored(model: ModelProto, minimum_size: int) -> ModelProto:
    """Large float32 tensors as float16, each unpacked by one Cast that ONNX Runtime does once, while it loads."""
    graph = model.graph
    unpacking = []
    taken, named = tensor_names(graph), {node.name for node in graph.node}
    defaults = {value.name for value in graph.input}  # inputs that a caller may leave out
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < minimum_size or tensor.name in defaults:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > LARGEST:
            continue
        name, half = tensor.name, free_name(f"{tensor.name}_half", taken)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), half))
        node = free_name(f"{name}/Unpack", named)
        unpacking.append(helper.make_node("Cast", [half], [name], name=node, to=TensorProto.FLOAT))
    refill(graph.node, [*unpacking, *graph.node])
    return model
