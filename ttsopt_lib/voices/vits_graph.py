"""Reading a VITS graph: which node is which layer, and which constants it holds.

Initializer names say nothing reliable: they differ between versions of torch (in one well-known voice the phoneme
embedding is called `sid`), folded weights are anonymous, and some constants sit behind Identity or Exp nodes. The name
of a *node*, though, is the path of the module it came from. So a layer is found by its nodes, and a weight by the node
that consumes it; whatever lies between the two is evaluated.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

NORMAL, UNIFORM = ("RandomNormalLike", "RandomNormal"), ("RandomUniformLike", "RandomUniform")  # operators that draw


class VitsGraph:
    """The nodes of a voice by scope, and the constants they consume.

    A scope is the path of a module, without a leading slash: `enc_p/encoder/attn_layers.0/conv_q`.
    """

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.graph = model.graph
        self.inputs = [value.name for value in self.graph.input]
        self.producers = {output: node for node in self.graph.node for output in node.output}
        self._opset = model.opset_import
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._values: dict[str, np.ndarray] = {}
        # Nodes are in topological order, so one pass finds every tensor that no input and no noise reaches.
        self._constant = set(self._initializers)
        for node in self.graph.node:
            if node.op_type not in NORMAL + UNIFORM and all(name in self._constant for name in reads(node) if name):
                self._constant.update(node.output)
        self._scopes: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            scope, separator, _ = node.name.rpartition("/")
            if separator:
                self._scopes[scope.strip("/")].append(node)

    def is_constant(self, name: str) -> bool:
        """Whether no input and no noise reaches a tensor."""
        return name in self._constant

    def value(self, name: str) -> np.ndarray | None:
        """The array a tensor always holds, or None if it depends on the inputs."""
        if name not in self._constant:
            return None
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _evaluate(self, name: str) -> np.ndarray:
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        node = self.producers[name]
        feeds = {source: self.value(source) for source in node.input if source}
        outputs: Any = ReferenceEvaluator(
            onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node],
                    "constant",
                    [onnx.helper.make_empty_tensor_value_info(source) for source in feeds],
                    [onnx.helper.make_empty_tensor_value_info(output) for output in node.output],
                ),
                opset_imports=self._opset,
            )
        ).run(None, feeds)  # type: ignore[arg-type]
        return np.asarray(outputs[list(node.output).index(name)])

    def scopes(self, prefix: str) -> list[str]:
        """Every scope at or under `prefix` that has nodes of its own."""
        return [scope for scope in self._scopes if scope == prefix or scope.startswith(prefix + "/")]

    def indices(self, prefix: str) -> list[int]:
        """The numbers n for which `prefix` + `.n` is a scope or has scopes under it, in order."""
        found = set()
        for scope in self._scopes:
            if scope.startswith(prefix + "."):
                number = scope[len(prefix) + 1 :].partition("/")[0]
                if number.isdigit():
                    found.add(int(number))
        return sorted(found)

    def nodes(self, scope: str, *kinds: str) -> Iterator[onnx.NodeProto]:
        """The nodes directly in a scope, in order; of some operator types only, where given."""
        return (node for node in self._scopes.get(scope, ()) if not kinds or node.op_type in kinds)

    def constants(self, nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, np.ndarray]]:
        """Each of the nodes that consumes a constant, with the first constant it consumes."""
        for node in nodes:
            for name in node.input:
                value = self.value(name) if name else None
                if value is not None:
                    yield node, value
                    break

    def ancestors(self, node: onnx.NodeProto) -> set[str]:
        """Names of every tensor the node depends on."""
        seen: set[str] = set()
        waiting = reads(node)
        while waiting:
            name = waiting.pop()
            if name and name not in seen:
                seen.add(name)
                if name in self.producers:
                    waiting.extend(reads(self.producers[name]))
        return seen

    def embedding_rows(self, input_name: str) -> int | None:
        """Rows of the table that a graph input indexes: how many phonemes or speakers the voice knows.

        Looks through the nodes that quantized voices put on their tables. None if the input indexes nothing."""
        for node in self.graph.node:
            if node.op_type == "Gather" and node.input[1] == input_name:
                name = node.input[0]
                if name in self._initializers:
                    return self._initializers[name].dims[0]
                table = self.value(name)
                return None if table is None else table.shape[0]
        return None


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor a node reads, those read inside its branches included."""
    names = list(node.input)
    for item in node.attribute:
        for inner in item.g.node:
            names.extend(reads(inner))
    return names


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose results it reads, in place; apart from that the order stays as it is.

    Runtimes do without that order, and some converters (to float16) put new nodes last.
    """
    nodes = list(graph.node)
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    order: dict[int, None] = {}
    begun: set[int] = set()
    for number in range(len(nodes)):
        waiting = [number]
        while waiting:
            now = waiting[-1]
            begun.add(now)
            before = {makers[name] for name in reads(nodes[now]) if name in makers} - begun
            if before:
                waiting += sorted(before, reverse=True)
            else:
                order[waiting.pop()] = None
    if list(order) != list(range(len(nodes))):
        del graph.node[:]
        graph.node.extend(nodes[number] for number in order)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node as a Python value, `default` where it is absent."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
