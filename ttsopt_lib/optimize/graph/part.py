"""A piece of a graph that runs alone: what lies between some of its nodes, fed with what they get in an utterance.

A change in a few layers moves the time of a whole voice by a hundredth, which a busy machine hides; of those layers
alone it is a third.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from onnx import ModelProto, NodeProto, helper

from ttsopt_lib.optimize.calibration import Feed, tensor_values
from ttsopt_lib.voices.vits_graph import reads


class Part(NamedTuple):
    """A piece of a graph, and what it is fed."""

    model: ModelProto
    feeds: list[Feed]


def part_around(model: ModelProto, names: Collection[str], feeds: Sequence[Feed]) -> Part:
    """The nodes of these names and everything on a way from one of them to another.

    Its inputs are what these nodes read and do not make, with the values that they have in each utterance; its outputs
    are what others read. Weights, and what unpacks them, go with it. All tensors and nodes keep their names.

    Args:
        model: the graph, in topological order.
        names: of nodes; at least one.
        feeds: utterances for the whole graph.

    Raises:
        ValueError: the graph has none of the nodes.
        RuntimeFailure: ONNX Runtime cannot run the graph.
    """
    nodes = list(model.graph.node)
    wanted = {number for number, node in enumerate(nodes) if node.name in names}
    if not wanted:
        raise ValueError(f"no node of these names in the graph: {', '.join(sorted(names)[:3])}")
    before = _behind(nodes, {name for number in wanted for name in reads(nodes[number])})
    inside = _reached(nodes, wanted) & (wanted | before)
    constants = {name for number in inside for name in reads(nodes[number])} & _constant(model)
    whole = inside | _behind(nodes, constants)
    kept = [nodes[number] for number in sorted(whole)]

    known = {name for node in kept for name in node.output} | {tensor.name for tensor in model.graph.initializer}
    inputs = list(dict.fromkeys(name for node in kept for name in reads(node) if name and name not in known))
    read_elsewhere = {name for number, node in enumerate(nodes) if number not in inside for name in reads(node)}
    read_elsewhere |= {output.name for output in model.graph.output}
    outputs = [name for number in sorted(inside) for name in nodes[number].output if name in read_elsewhere]

    values = list(tensor_values(model, inputs, feeds))
    part = ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = "part"
    part.graph.node.extend(kept)
    used = {name for node in kept for name in reads(node)}
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    for name in inputs:
        value = values[0][name]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        part.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * value.ndim))
    part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    return Part(part, values)


def _reached(nodes: Sequence[NodeProto], wanted: set[int]) -> set[int]:
    """Numbers of these nodes and of all that depend on them."""
    tensors: set[str] = set()
    found = set()
    for number, node in enumerate(nodes):
        if number in wanted or not tensors.isdisjoint(reads(node)):
            found.add(number)
            tensors.update(node.output)
    return found


def _behind(nodes: Sequence[NodeProto], tensors: set[str]) -> set[int]:
    """Numbers of the nodes that make these tensors, and of all that those depend on."""
    needed = set(tensors)
    found = set()
    for number in range(len(nodes) - 1, -1, -1):
        if not needed.isdisjoint(nodes[number].output):
            found.add(number)
            needed.update(reads(nodes[number]))
    return found


def _constant(model: ModelProto) -> set[str]:
    """Tensors that no input and no noise reaches."""
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if not node.op_type.startswith("Random") and all(name in found for name in reads(node) if name):
            found.update(node.output)
    return found
