"""A part of a voice's graph that runs alone: from any of its tensors to any others.

`paired.py` and `adapters/seeded.py` turn noise into inputs by it, `seam.py` cuts a voice in two.
"""

from collections.abc import Sequence

import onnx

from ttsopt_lib.voices.vits_graph import VitsGraph


def part_of(
    model: onnx.ModelProto, outputs: list[str], inputs: list[str], extra: Sequence[onnx.NodeProto] = ()
) -> onnx.ModelProto:
    """A copy of what `outputs` depend on, with the tensors `inputs` fed instead of computed."""
    nodes = [node for node in model.graph.node if not set(node.output) & set(inputs)] + [*extra]
    part = onnx.ModelProto()
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
    part.graph.input.extend(value for value in model.graph.input if value.name in needed)
    part.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None, None])
        for name in inputs
        if name in needed
    )
    known = {value.name: value for value in model.graph.output}
    part.graph.output.extend(known.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    return part
