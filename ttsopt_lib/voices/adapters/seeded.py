"""A graph whose noise is decided by a seed, wherever in it the noise is drawn.

Seeding the runtime does not make two variants comparable, because one inserted node changes every later draw. So
every node that draws becomes an input, in the order in which the graph computes, and what it is fed has the shape that
the node would have drawn: a part of the graph in front of it tells that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, inliner

from ttsopt_lib.voices.adapters.model import Feed
from ttsopt_lib.voices.graph_part import as_inputs, part_of
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.session import Session, open_session, run_graph
from ttsopt_lib.voices.vits_graph import NORMAL, UNIFORM, VitsGraph, attribute

OTHERS = ("Multinomial", "Bernoulli")  # that draw, and whose draws cannot be handed in


class SeededSession:
    """A graph in ONNX Runtime on one thread; its noise is an input."""

    def __init__(self, model: ModelProto, outputs: Sequence[str]):
        """
        Args:
            model: the graph; it is not changed.
            outputs: those to compute.

        Raises:
            VoiceError: it draws noise in a way that cannot be handed in.
            RuntimeFailure: ONNX Runtime cannot load it.
        """
        if model.functions:  # a function may draw, too
            model = inliner.inline_local_functions(model)
        graph = VitsGraph(model)
        makers = [graph.producers[name] for name in outputs if name in graph.producers]
        needed: set[str] = set().union(*(graph.ancestors(node) for node in makers))
        drawing = [node for node in model.graph.node if node.op_type in NORMAL + UNIFORM]
        self._draws = [node for node in drawing if node.output[0] in needed]
        _refuse_other_draws(model.graph)
        noises = [node.output[0] for node in self._draws]
        inputs = as_inputs(model, noises)
        self._shapes: list[tuple[int, ...] | Session] = []
        for number, node in enumerate(self._draws):
            if not node.input:
                self._shapes.append(tuple(attribute(node, "shape", [])))
                continue
            name = f"{node.output[0]} shape"
            shape = helper.make_node("Shape", [node.input[0]], [name])
            self._shapes.append(open_session(part_of(model, [name], inputs[:number], [shape])))
        self._types = [helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in inputs]
        self._outputs = list(outputs)
        self._session = open_session(part_of(model, self._outputs, inputs) if noises else model)

    def run(self, feed: Feed, seed: int) -> list[np.ndarray]:
        """The outputs for the inputs and a seed. Raises `RuntimeFailure`."""
        given = dict(feed)
        for number, (node, shape) in enumerate(zip(self._draws, self._shapes, strict=True)):
            if not isinstance(shape, tuple):
                (found,) = run_graph(shape, given)
                shape = tuple(int(size) for size in found)
            draws = _draw(node, shape, np.random.default_rng((seed, number)))
            given[node.output[0]] = draws.astype(self._types[number], copy=False)
        return run_graph(self._session, given, self._outputs)


def _draw(node: NodeProto, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if node.op_type in NORMAL:
        draws = rng.standard_normal(shape, dtype=np.float32)
        return draws * np.float32(attribute(node, "scale", 1.0)) + np.float32(attribute(node, "mean", 0.0))
    low, high = attribute(node, "low", 0.0), attribute(node, "high", 1.0)
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)


def _refuse_other_draws(graph: onnx.GraphProto, inside: bool = False) -> None:
    for node in graph.node:
        if node.op_type in OTHERS or (inside and node.op_type in NORMAL + UNIFORM):
            where = " inside a loop or a branch" if inside else ""
            raise VoiceError(
                f"the model draws noise with {node.op_type}{where}, which cannot be made the same for two "
                "variants: export it with noise of RandomNormalLike, or with none"
            )
        for item in node.attribute:
            for inner in (item.g, *item.graphs):
                _refuse_other_draws(inner, inside=True)
