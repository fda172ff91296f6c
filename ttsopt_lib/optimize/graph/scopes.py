"""Groups of layers of any voice, found in the names of its nodes.

An exporter names a node after the module that it came from: `/decoder/generator/resblocks.3/convs1.0/Conv`. The parts
of a name, which `/` and `.` divide, are a tree. From its root on, whatever is too large for one group is divided into
what the next part tells apart, the largest first. Where names tell nothing more, layers that follow one another are a
group, each group of about the same size. Layers that share a weight are in one group, however often a voice repeats
them: int8 in one of them is int8 in all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto

from ttsopt_lib.optimize.graph.index import GraphIndex
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions

FEWEST, MOST = 8, 40  # groups, where there are so many layers
LARGE = 1 / 10  # of the whole: what is larger is divided
SMALL = 1 / 250  # of the whole: what is smaller is in one group with the other small parts beside it
RUNS = 16  # groups of a voice whose names tell nothing
PART = re.compile(r"[^/.]+")


def quantizable_products(model: ModelProto, operators: Collection[str] = ("MatMul", "Gemm")) -> list[NodeProto]:
    """Matrix products with a stored float matrix as second factor, in the graph's order; several may share it."""
    constants = GraphIndex(model.graph).constants
    found = []
    for node in model.graph.node:
        weight = constants.get(node.input[1]) if node.op_type in operators and not node.domain else None
        if weight is not None and weight.data_type == TensorProto.FLOAT and len(weight.dims) == 2:
            found.append(node)
    return found


def quantizable_layers(model: ModelProto, operators: Collection[str]) -> list[NodeProto]:
    """Convolutions with a weight of their own and matrix products, of these operators, in the graph's order."""
    convolutions = quantizable_convolutions(model) if "Conv" in operators else []
    names = {node.name for node in (*convolutions, *quantizable_products(model, set(operators) - {"Conv"}))}
    return [node for node in model.graph.node if node.name in names]


def scope_groups(
    model: ModelProto, operators: Collection[str] = ("Conv",), macs: Mapping[str, int] | None = None
) -> dict[str, list[str]]:
    """Group -> names of its layers, both in the graph's order. The last layer is a group by itself.

    Args:
        model: a voice whose nodes all have names of their own (`copy_named`).
        operators: of the layers: `Conv`, `MatMul`, `Gemm`.
        macs: multiply-accumulates of each node of an utterance; None: parameters stand for them. A group's size is
            the mean of its shares of these, of the parameters and of the weights, so that neither what takes time nor
            what takes space nor a whole half of a voice is one group.
    """
    units = _units(model, quantizable_layers(model, operators), macs)
    if not units:
        return {}
    last = max(units, key=lambda unit: unit.place)
    groups = _divided([unit for unit in units if unit is not last])
    groups.append(_Group([last], last.scope))
    groups.sort(key=lambda group: min(unit.place for unit in group.units))
    named: dict[str, list[str]] = {}
    order = {node.name: place for place, node in enumerate(model.graph.node)}
    for group in groups:
        key = wanted = joined(group.scope) or "layers"
        number = 1
        while key in named:
            number += 1
            key = f"{wanted}#{number}"
        named[key] = sorted((name for unit in group.units for name in unit.names), key=order.__getitem__)
    return named


def group_at(node: str, groups: Mapping[str, Collection[str]]) -> str | None:
    """The group that a node is in, or whose scope it lies in; None where there is none."""
    for group, names in groups.items():
        if node in names:
            return group
    scope = f"{joined(scope_of(node))}/"
    around = [group for group in groups if scope.startswith(tuple(f"{group.partition('#')[0]}{end}" for end in "/."))]
    return max(around, key=len, default=None)


def scope_of(node: str) -> tuple[str, ...]:
    """The parts of a node's name but for the last, which is its own."""
    return tuple(PART.findall(node)[:-1])


def joined(scope: tuple[str, ...]) -> str:
    """A scope as a name: `generator/resblocks.3`."""
    return "".join(f".{part}" if part.isdigit() else f"/{part}" for part in scope).strip("/.")


@dataclass(frozen=True)
class _Unit:
    """Layers that cannot be in different groups.

    Attributes:
        names: of the nodes.
        scope: what their names have in common.
        size: share of the whole, by which groups are divided.
        work: share of the multiply-accumulates.
        place: of the first in the graph.
    """

    names: tuple[str, ...]
    scope: tuple[str, ...]
    size: float
    work: float
    place: int


@dataclass
class _Group:
    units: list[_Unit]
    scope: tuple[str, ...]  # that they have in common
    whole: bool = False  # whether it is to stay as it is

    @property
    def size(self) -> float:
        return sum(unit.size for unit in self.units)


def _units(model: ModelProto, layers: Sequence[NodeProto], macs: Mapping[str, int] | None) -> list[_Unit]:
    """Layers by their weight, in the order in which those are first read."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    sharing: dict[str, list[NodeProto]] = {}
    for node in layers:
        sharing.setdefault(node.input[1], []).append(node)
    stored = _shares([sizes[weight] for weight in sharing])
    work = stored
    if macs is not None:
        work = _shares([sum(macs.get(node.name, 0) for node in nodes) for nodes in sharing.values()])
    return [
        _Unit(
            names=tuple(node.name for node in nodes),
            scope=_common([scope_of(node.name) for node in nodes]),
            size=(stored[place] + work[place] + 1 / len(sharing)) / 3,
            work=work[place],
            place=place,
        )
        for place, nodes in enumerate(sharing.values())
    ]


def _shares(sizes: Sequence[int]) -> list[float]:
    whole = max(sum(sizes), 1)
    return [size / whole for size in sizes]


def _common(scopes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The parts with which all begin."""
    first, last = min(scopes), max(scopes)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: same.index(False) if False in same else len(same)]


def _divided(units: list[_Unit]) -> list[_Group]:
    """Groups of all units: at least `FEWEST` where there are so many units, none `LARGE` that can be divided."""
    groups = [_Group(units, _common([unit.scope for unit in units]))] if units else []
    while True:
        open_ones = [group for group in groups if not group.whole and len(group.units) > 1]
        largest = max(open_ones, key=lambda group: group.size, default=None)
        if largest is None or (largest.size <= LARGE and len(groups) >= FEWEST):
            return groups
        room = MOST - len(groups)
        parts = _parts(largest)
        if len(parts) == 1:
            wanted = max(round(largest.size * RUNS), 2 if largest.size > LARGE else 1, FEWEST - len(groups) + 1)
            parts = _runs([[unit] for unit in largest.units], min(wanted, room))
            for part in parts:
                part.whole = True
        elif len(parts) > room:
            parts = _runs([part.units for part in parts], room)
        if len(parts) == 1:
            largest.whole = True
        else:
            groups.remove(largest)
            groups.extend(parts)


def _parts(group: _Group) -> list[_Group]:
    """What the next part of the names tells apart; all that is small, and what has no next part, is one group."""
    depth = len(group.scope)
    by_part: dict[str, list[_Unit]] = {}
    for unit in group.units:
        by_part.setdefault(unit.scope[depth] if len(unit.scope) > depth else "", []).append(unit)
    rest = by_part.pop("", [])
    parts = []
    for units in by_part.values():
        if len(by_part) > 1 and sum(unit.size for unit in units) < SMALL:
            rest += units
        else:
            parts.append(_Group(units, _common([unit.scope for unit in units])))
    if rest:
        parts.append(_Group(rest, group.scope, whole=bool(parts)))
    return parts


def _runs(blocks: Sequence[list[_Unit]], count: int) -> list[_Group]:
    """At most `count` groups of blocks that follow one another, each with about as much work."""
    blocks = sorted(blocks, key=lambda units: min(unit.place for unit in units))
    whole = sum(unit.work for units in blocks for unit in units) or 1.0
    runs: dict[int, list[_Unit]] = {}
    before = 0.0
    for units in blocks:
        size = sum(unit.work for unit in units)
        runs.setdefault(min(int((before + size / 2) / whole * count), count - 1), []).extend(units)
        before += size
    return [_Group(units, _common([unit.scope for unit in units])) for units in runs.values()]
