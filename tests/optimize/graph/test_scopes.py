"""Groups of layers: of VITS as ever; of another voice by its node names, or by order where those say nothing."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.optimize.foreign_graphs import graph, tensor
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions
from ttsopt_lib.optimize.graph.ranges import histograms
from ttsopt_lib.optimize.graph.scopes import FEWEST, MOST, group_at
from ttsopt_lib.optimize.graph.sensitivity import group_label, group_of, layer_groups, sensitivities


def voice(names, channels=8):
    """A chain of layers with these names; what ends in `MatMul` is one, and all others are convolutions."""
    nodes, stored, last, sizes = [], [], "x", np.random.default_rng(0)
    for number, name in enumerate(names):
        operator = "MatMul" if name.endswith("MatMul") else "Conv"
        shape = (channels, channels, 1) if operator == "Conv" else (channels, channels)
        stored.append(tensor(f"w{number}", sizes.standard_normal(shape) / channels**0.5))
        output = "y" if number == len(names) - 1 else f"t{number}"
        nodes.append(helper.make_node(operator, [last, f"w{number}"], [output], name=name))
        last = output
    model, feed = graph(nodes, stored, (1, channels, channels))
    return copy_named(model), feed


def kokoro():
    """Names of layers of Kokoro-82M."""
    names = [f"/encoder/predictor/text_encoder/lstms.{n}/fc/MatMul" for n in (1, 3, 5)]
    for half in ("F0", "N"):
        names += [f"/encoder/{half}.{n}/conv{m}/Conv" for n in range(3) for m in (1, 2)]
    names += [f"/decoder/decoder/decode.{n}/conv{m}/Conv" for n in range(4) for m in (1, 2)]
    for block in range(6):
        scope = f"/decoder/decoder/generator/resblocks.{block}"
        for n in range(2):
            names.append(f"{scope}/adain1.{n}/fc/MatMul")
            names += [f"{scope}/convs{m}.{n}/Conv" for m in (1, 2)]
    return [*names, "/decoder/decoder/generator/conv_post/Conv"]


CONVOLUTIONS = [name for name in kokoro() if name.endswith("Conv")]


def groups_of_vits(model):
    """What a group was when only VITS had any."""
    groups = {}
    for node in quantizable_convolutions(model):
        if re.match(r"^/?(enc_p|flow|dec)/", node.name):
            path = node.name.strip("/").split("/")
            group = path[0] if path[0] == "enc_p" or len(path) < 3 else f"{path[0]}/{path[1]}"
            groups.setdefault(group, []).append(node.name)
    return groups


@pytest.mark.parametrize("name", ["joe", "plain_voice", "multi_speaker_voice"])
def test_the_groups_of_vits_are_what_they_were(name, request):
    model = copy_named(onnx.load(request.getfixturevalue(name)))
    groups, wanted = layer_groups(model), groups_of_vits(model)
    assert groups == wanted and list(groups) == list(wanted) and len(groups) > 8
    assert not any(group.startswith("dp") for group in groups)
    assert group_label("dec/resblocks.8") == "decoder resblocks.8"
    assert [group_label(group) for group in ("enc_p", "flow/flows.2")] == ["text encoder", "flow flows.2"]


def test_the_groups_of_another_voice_are_its_modules_and_hold_convolutions_only():
    model, _ = voice(kokoro())
    groups = layer_groups(model)
    assert FEWEST <= len(groups) <= MOST
    assert sorted(name for names in groups.values() for name in names) == sorted(CONVOLUTIONS)
    for block in range(6):
        members = groups[f"decoder/decoder/generator/resblocks.{block}"]
        assert len(members) == 4 and all(f"/resblocks.{block}/" in name for name in members)
    assert groups["decoder/decoder/generator/conv_post"] == ["/decoder/decoder/generator/conv_post/Conv"]
    assert all(len({name.split("/")[1] for name in names}) == 1 for names in groups.values())
    assert group_label("decoder/decoder/generator/resblocks.3") == "decoder generator resblocks.3"


@pytest.mark.parametrize("name", ["", "layer_{}", "Conv_{}"])
def test_where_names_say_nothing_neighbours_with_about_as_many_parameters_are_a_group(name):
    model, _ = voice([name.format(number) for number in range(100)])
    sizes = {node.name: 1 + number // 10 for number, node in enumerate(model.graph.node)}
    for node, stored in zip(model.graph.node, model.graph.initializer, strict=True):
        stored.CopyFrom(tensor(stored.name, np.ones((sizes[node.name], 8, 1))))
    groups = layer_groups(model)
    assert FEWEST <= len(groups) <= MOST
    assert [layer for names in groups.values() for layer in names] == list(sizes)
    work = [sum(sizes[layer] for layer in names) for names in list(groups.values())[:-1]]
    assert max(work) < 2 * min(work)
    assert list(groups.values())[-1] == list(sizes)[-1:]


def test_a_voice_of_many_equal_blocks_has_no_more_groups_than_a_search_can_try():
    model, _ = voice([f"/blocks.{n}/part.{m}/Conv" for n in range(60) for m in range(3)])
    groups = layer_groups(model)
    assert FEWEST <= len(groups) <= MOST
    blocks = [{int(re.findall(r"\d+", name)[0]) for name in names} for names in list(groups.values())[:-1]]
    assert all(max(one) - min(one) < 4 for one in blocks)


def test_a_voice_of_few_layers_has_a_group_for_each_and_one_of_none_has_none():
    model, _ = voice([f"/a/b{n}/Conv" for n in range(3)])
    assert [len(names) for names in layer_groups(model).values()] == [1, 1, 1]
    empty, _ = voice(["/a/MatMul"])
    assert layer_groups(empty) == {}


def test_what_is_no_layer_belongs_to_the_nearest_scope():
    groups = {"a/resblocks.1": ["/a/resblocks.1/convs.0/Conv"], "a": ["/a/pre/Conv"], "b#2": ["/c/Conv"]}
    assert group_at("/a/resblocks.1/act/Tanh", groups) == "a/resblocks.1"
    assert group_at("/a/resblocks.10/act/Tanh", groups) == "a"
    assert group_at("/c/Conv", groups) == "b#2"
    assert group_at("/d/Tanh", groups) is None
    assert group_of("/a/resblocks.1/act/Tanh", groups) == "a/resblocks.1"


def test_every_group_of_another_voice_is_judged():
    model, feed = voice(CONVOLUTIONS)
    names = [name for node in model.graph.node for name in (node.input[0], node.output[0])]
    ranges = {name: seen.range("minmax") for name, seen in histograms(model, names, [feed]).items()}
    judge: Any = SimpleNamespace(
        feeds=[feed],
        judge=lambda quantized: {
            "level_error_db": float(sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node)),
            "spectral_distance_db": 0.0,
            "level_above_8khz_db": 0.0,
        },
    )
    groups = layer_groups(model)
    record = sensitivities(model, judge, ranges, "key", "variant", groups)
    assert [one.group for one in record.groups] == list(groups)
    assert all(one.level_error_db > 0 for one in record.groups)
    assert sum(one.parameters for one in record.groups) == pytest.approx(1)
    chosen = dict(list(groups.items())[:2])
    assert [one.group for one in sensitivities(model, judge, ranges, "k", "v", chosen).groups] == list(chosen)
