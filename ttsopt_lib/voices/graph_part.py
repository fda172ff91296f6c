"""A part of a voice's graph that runs alone: from any of its tensors to any others.

`paired.py` and `adapters/seeded.py` turn noise into inputs by it, `seam.py` cuts a voice in two.
"""

import math
from collections.abc import Iterable, Sequence

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, shape_inference

from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import VitsGraph

# Types of numbers, as ONNX Runtime calls them.
TYPES = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(bool)": TensorProto.BOOL,
    "tensor(int32)": TensorProto.INT32,
    "tensor(int64)": TensorProto.INT64,
}


def part_of(
    model: ModelProto, outputs: Sequence[str], inputs: Sequence[ValueInfoProto] = (), extra: Sequence[NodeProto] = ()
) -> ModelProto:
    """A copy of what `outputs` depend on.

    Args:
        model: the graph, in topological order.
        outputs: names of tensors.
        inputs: tensors that are fed instead of computed (`as_inputs`).
        extra: nodes behind those of the graph.
    """
    fed = {value.name for value in inputs}
    nodes = [node for node in model.graph.node if not fed.intersection(node.output)] + [*extra]
    part = ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name or "part"
    part.graph.node.extend(nodes)
    graph = VitsGraph(part)
    needed = set(outputs)
    for output in outputs:
        needed |= graph.ancestors(graph.producers[output])
    kept = [node for node in nodes if set(node.output) & needed]
    del part.graph.node[:]
    part.graph.node.extend(kept)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    part.graph.input.extend(value for value in (*model.graph.input, *inputs) if value.name in needed)
    known = {value.name: value for value in model.graph.output}
    part.graph.output.extend(known.get(name) or helper.make_empty_tensor_value_info(name) for name in outputs)
    return part


def as_inputs(model: ModelProto, names: Sequence[str], rank: int | None = None) -> list[ValueInfoProto]:
    """Tensors of a graph as inputs of a part, of the types that they have in it.

    Args:
        model: the graph, in topological order.
        names: of the tensors.
        rank: how many axes each has; None: that is not said.
    """
    types = _types(model, names) if names else {}
    return [helper.make_tensor_value_info(name, types[name], None if rank is None else [None] * rank) for name in names]


A_SHAPE = 1000  # elements that a tensor has at most which says of what shape others are


def _types(model: ModelProto, names: Iterable[str]) -> dict[str, int]:
    """As ONNX infers them, which takes no time without the weights; behind operators of its own ONNX Runtime knows."""
    bare = ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    for tensor in model.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) or math.prod(tensor.dims) > A_SHAPE:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    found = shape_inference.infer_shapes(bare).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*found.value_info, *model.graph.output)}
    unknown = [name for name in names if not types.get(name)]
    if unknown:
        session = open_session(part_of(model, unknown))
        types |= {value.name: int(TYPES[value.type]) for value in session.get_outputs()}
    return types
