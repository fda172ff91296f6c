"""Groups of layers of any voice, found in the names of its nodes.

An exporter names a node after the module that it came from: `/decoder/generator/resblocks.3/convs1.0/Conv`. The parts
of a name, which `/` and `.` divide, are a tree. From its root on, whatever is too large for one group is divided into
what the next part tells apart, the largest first. Where names tell nothing more, layers that follow one another are a
group, each group of about the same size.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions

FEWEST, MOST = 8, 40  # groups, where there are so many layers
LARGE = 1 / 10  # of the whole: what is larger is divided
SMALL = 1 / 250  # of the whole: what is smaller is in one group with the other small parts beside it
RUNS = 16  # groups of a voice whose names tell nothing
PART = re.compile(r"[^/.]+")


def scope_groups(model: ModelProto) -> dict[str, list[str]]:
    """Group -> names of its convolutions, both in the graph's order. The last layer is a group by itself.

    Args:
        model: a voice whose nodes all have names of their own (`copy_named`).
    """
    layers = _layers(model)
    if not layers:
        return {}
    groups = [*_divided(layers[:-1]), _Group(layers[-1:], layers[-1].scope)]
    groups.sort(key=lambda group: min(layer.place for layer in group.layers))
    named: dict[str, list[str]] = {}
    for group in groups:
        key = wanted = joined(group.scope) or "layers"
        number = 1
        while key in named:
            number += 1
            key = f"{wanted}#{number}"
        named[key] = [layer.name for layer in sorted(group.layers, key=lambda layer: layer.place)]
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
class _Layer:
    """A convolution.

    Attributes:
        name: of the node.
        scope: the parts of its name but for the last.
        parameters: share of those of all layers.
        size: by which groups are divided: between that share and an equal one for each layer, so that neither what
            takes space nor a whole half of a voice is one group.
        place: in the graph's order.
    """

    name: str
    scope: tuple[str, ...]
    parameters: float
    size: float
    place: int


@dataclass
class _Group:
    layers: list[_Layer]
    scope: tuple[str, ...]  # that they have in common
    whole: bool = False  # whether it is to stay as it is

    @property
    def size(self) -> float:
        return sum(layer.size for layer in self.layers)


def _layers(model: ModelProto) -> list[_Layer]:
    """The convolutions of a voice, in the graph's order."""
    nodes = quantizable_convolutions(model)
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    whole = sum(sizes[node.input[1]] for node in nodes)
    layers = []
    for place, node in enumerate(nodes):
        parameters = sizes[node.input[1]] / whole
        size = (2 * parameters + 1 / len(nodes)) / 3
        layers.append(_Layer(node.name, scope_of(node.name), parameters, size, place))
    return layers


def _grouped(layers: list[_Layer]) -> _Group:
    """These layers, and the parts with which the names of all begin (`commonprefix` knows tuples, too)."""
    return _Group(layers, tuple(os.path.commonprefix([layer.scope for layer in layers])))


def _divided(layers: list[_Layer]) -> list[_Group]:
    """Groups of all layers: at least `FEWEST` where there are so many layers, none `LARGE` that can be divided."""
    groups = [_grouped(layers)] if layers else []
    while True:
        open_ones = [group for group in groups if not group.whole and len(group.layers) > 1]
        largest = max(open_ones, key=lambda group: group.size, default=None)
        if largest is None or (largest.size <= LARGE and len(groups) >= FEWEST):
            return groups
        room = MOST - len(groups)
        parts = _parts(largest)
        if len(parts) == 1:
            wanted = max(round(largest.size * RUNS), 2 if largest.size > LARGE else 1, FEWEST - len(groups) + 1)
            parts = _runs([[layer] for layer in largest.layers], min(wanted, room))
            for part in parts:
                part.whole = True
        elif len(parts) > room:
            parts = _runs([part.layers for part in parts], room)
        if len(parts) == 1:
            largest.whole = True
        else:
            groups.remove(largest)
            groups.extend(parts)


def _parts(group: _Group) -> list[_Group]:
    """What the next part of the names tells apart; all that is small, and what has no next part, is one group."""
    depth = len(group.scope)
    by_part: dict[str, list[_Layer]] = {}
    for layer in group.layers:
        by_part.setdefault(layer.scope[depth] if len(layer.scope) > depth else "", []).append(layer)
    rest = by_part.pop("", [])
    parts = []
    for layers in by_part.values():
        part = _grouped(layers)
        if len(by_part) > 1 and part.size < SMALL:
            rest += layers
        else:
            parts.append(part)
    if rest:
        parts.append(_Group(rest, group.scope, whole=bool(parts)))
    return parts


def _runs(blocks: Sequence[list[_Layer]], count: int) -> list[_Group]:
    """At most `count` groups of blocks that follow one another, each with about as many parameters."""
    blocks = sorted(blocks, key=lambda layers: min(layer.place for layer in layers))
    whole = sum(layer.parameters for layers in blocks for layer in layers)
    runs: dict[int, list[_Layer]] = {}
    before = 0.0
    for layers in blocks:
        size = sum(layer.parameters for layer in layers)
        runs.setdefault(min(int((before + size / 2) / whole * count), count - 1), []).extend(layers)
        before += size
    return [_grouped(layers) for layers in runs.values()]
