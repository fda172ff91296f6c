"""Packing: a finished voice in as few bytes as its numbers need, which ONNX Runtime unpacks while it loads.

Integers stay what they are, other numbers keep 11 bits. Integer weights with at most 128 different values are stored as
that many values (the palette) and, for each weight, the place of its value in it, in as many bits as the places take;
other float tensors are stored as float16 where that keeps 11 bits of every value; tensors get short names, nodes keep
theirs. What unpacks is made of plain operators on constants: with its graph optimizations on, as they are unless a
program turns them off, ONNX Runtime does it once, while it loads the voice (constant folding), and then has the same
tensors as without. A program that turns them off does it for every utterance. ONNX's own 4-bit types would need a newer
operator set than Piper's voices have, and know neither other widths nor a palette.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.optimize.graph.index import BYTES, copy_named, refill
from ttsopt_lib.optimize.steps.step import GraphWork
from ttsopt_lib.step_settings import Pack
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import reads

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

MARK = "~"  # names of the nodes that unpack begin with it
SMALLEST = 64  # elements: below that, unpacking takes more bytes than it saves
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}  # bits -> widths that fill bytes
LETTERS = string.ascii_letters + string.digits


class PackWork(GraphWork[Pack]):
    settings = Pack
    label = "packing"
    family = "packed"
    kind = "packing"
    optimizes = False

    def apply(self, model: ModelProto, step: Pack, context: BuildContext) -> ModelProto:
        return pack(model)

    def reaches(self, step: Pack, layer: Layer) -> tuple[int, bool]:
        return layer.parameters if layer.is_packed else 0, False

    def note(self, step: Pack, after: Inventory, layers: int) -> str:
        return (
            f"{layers} of {len(after.weighted)} layers with weights are stored in fewer than 8 bits a weight, other "
            "numbers as float16 where that keeps 11 bits of them; ONNX Runtime unpacks them while it loads the voice"
        )


def pack(model: ModelProto) -> ModelProto:
    """The same voice in fewer bytes; its inputs, outputs and metadata stay as they are."""
    result = copy_named(model)
    graph = result.graph
    packer = _Packer()
    defaults = {value.name for value in graph.input}  # inputs that a caller may leave out
    for tensor in list(graph.initializer):
        if math.prod(tensor.dims) < SMALLEST or tensor.name in defaults:
            continue
        integers, floats = tensor.data_type in BYTES, tensor.data_type == TensorProto.FLOAT
        if (integers and packer.integers(tensor)) or (floats and packer.half(tensor)):
            graph.initializer.remove(tensor)
    refill(graph.node, [*packer.nodes, *graph.node])
    graph.initializer.extend(packer.tensors.values())
    _shorten_names(graph)
    return result


def unpacked(model: ModelProto) -> tuple[ModelProto, set[str]]:
    """A packed voice as it was before, but for names, and which of its integer weights were packed."""
    unpacking = [node for node in model.graph.node if node.name.startswith(MARK)]
    if not unpacking:
        return model, set()
    made = {name for node in unpacking for name in node.output}
    rest = [node for node in model.graph.node if not node.name.startswith(MARK)]
    read = {name for node in rest for name in reads(node)} | {value.name for value in model.graph.output}
    wanted = sorted(read & made)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    used = {name for node in unpacking for name in node.input} & set(stored)
    graph = helper.make_graph(
        unpacking,
        "unpacking",
        [],
        [helper.make_empty_tensor_value_info(name) for name in wanted],
        [stored[name] for name in sorted(used)],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = open_session(part)
    values = {name: np.asarray(value) for name, value in zip(wanted, session.run(wanted, {}), strict=True)}
    plain = deepcopy(model)
    refill(plain.graph.node, rest)
    refill(plain.graph.initializer, (tensor for name, tensor in stored.items() if name in read))
    plain.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return plain, {name for name, value in values.items() if value.dtype in (np.int8, np.uint8)}


class _Packer:
    """The tensors that replace others, and the nodes that make those of them again."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []

    def integers(self, tensor: TensorProto) -> bool:
        """Pack an integer tensor, if it has few different values and fills whole bytes; says whether it did."""
        values = numpy_helper.to_array(tensor)
        palette, places = np.unique(values, return_inverse=True)
        bits = max(1, math.ceil(math.log2(len(palette))))
        if bits not in PLANES or values.size % 8:
            return False
        name, shift, parts = tensor.name, bits, []
        for width in PLANES[bits]:
            shift -= width
            plane = (places.reshape(-1) >> shift) & (2**width - 1)
            stored = self._store(f"{name}/{shift}", _bytes(plane, width))
            table = self._store(f"{MARK}table/{width}/{shift}", _table(width, shift))
            indices = self._node("Cast", [stored], to=TensorProto.INT32)
            part = self._node("Gather", [table, indices])
            parts.append(self._node("Reshape", [part, self._store(f"{MARK}flat", np.array([-1]))]))
        where = parts[0]
        for part in parts[1:]:
            where = self._node("Add", [where, part])
        found = self._node("Gather", [self._store(f"{name}/palette", palette), where])
        shape = self._store(f"{MARK}shape/{list(values.shape)}", np.array(values.shape))
        self._node("Reshape", [found, shape], name)
        return True

    def half(self, tensor: TensorProto) -> bool:
        """Store a float32 tensor as float16, if that keeps the precision of every value; says whether it did."""
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not (np.abs(half.astype(np.float32) - values) <= 2.0**-11 * np.abs(values)).all():
            return False
        self._node("Cast", [self._store(f"{tensor.name}/half", half)], tensor.name, to=TensorProto.FLOAT)
        return True

    def _store(self, name: str, values: np.ndarray) -> str:
        self.tensors[name] = numpy_helper.from_array(values, name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = f"{MARK}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name


def _bytes(plane: np.ndarray, width: int) -> np.ndarray:
    """Numbers of `width` bits, as many to a byte as it holds, the first in the highest bits; uint8 [bytes]."""
    packed = np.zeros(plane.size * width // 8, dtype=np.uint8)
    for place, part in enumerate(plane.reshape(-1, 8 // width).T):
        packed |= (part << (8 - width * (place + 1))).astype(np.uint8)
    return packed


def _table(width: int, shift: int) -> np.ndarray:
    """What each byte stands for: int32 [256, numbers in a byte]."""
    places = np.arange(8 // width)
    return (((np.arange(256)[:, None] >> (8 - width * (places + 1))) & (2**width - 1)) << shift).astype(np.int32)


def _names(taken: set[str]) -> Iterator[str]:
    """Short names, the shortest first."""
    for length in itertools.count(1):
        for letters in itertools.product(LETTERS, repeat=length):
            if (name := "".join(letters)) not in taken:
                yield name


def _shorten_names(graph: GraphProto) -> None:
    """Rename every tensor that is neither input nor output; none where a node has graphs of its own."""
    if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for node in graph.node for a in node.attribute):
        return
    read = {name for node in graph.node for name in node.input}
    unread = {tensor.name for tensor in graph.initializer} - read
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    names = _names(kept | unread)
    short: dict[str, str] = {name: name for name in kept}
    for node in graph.node:
        for sequence in (node.input, node.output):
            for place, name in enumerate(sequence):
                if name not in short:
                    short[name] = next(names)
                sequence[place] = short[name]
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    del graph.value_info[:]
    del graph.quantization_annotation[:]
