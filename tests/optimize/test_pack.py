"""Packed voices: smaller files that hold the same numbers, and the same graph once a runtime has loaded them."""

import shutil
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.optimize.small_graphs import arrays, made, speak
from tests.optimize.test_coverage import reference
from tests.optimize.test_quantize import feeds, runtime_graph
from ttsopt_lib.optimize.inventory import take_inventory
from ttsopt_lib.optimize.steps.pack import MARK, pack, unpacked
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.step import record_of
from ttsopt_lib.step_settings import Pack, QuantizeWeights
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import open_piper


@pytest.fixture
def four_bits(in_four_bits):
    """A voice with int8 products and weights of 4 bits."""
    return in_four_bits.voice


def adding(tensor):
    """A graph that adds a stored tensor, as float, to its input."""
    nodes = [
        helper.make_node("Cast", ["stored"], ["value"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "value"], ["y"], name="sum"),
    ]
    return made(nodes, {"stored": tensor}, {"x": [1]}, rank=None)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("bits", range(1, 8))
def test_integers_come_back_as_they_were_and_take_their_bits(bits, dtype):
    rng = np.random.default_rng(bits)
    levels = rng.choice(np.arange(256).astype(np.uint8).view(dtype), 2**bits, replace=False)
    values = rng.choice(levels, (40, 3, 8))
    values.reshape(-1)[: 2**bits] = levels
    packed = pack(adding(values))
    restored = speak(packed, {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(restored, values.astype(np.float32))
    planes = [value for value in arrays(packed).values() if value.dtype == np.uint8]
    stored = sum(plane.size for plane in planes if not (plane.shape == (2**bits,) and dtype == np.uint8))
    assert stored == values.size * bits / 8
    plain, names = unpacked(packed)
    (name,) = names
    np.testing.assert_array_equal(arrays(plain)[name], values)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(-128, 128).astype(np.int8).reshape(16, 16),  # needs all its bits
        np.zeros((9, 9), np.int8),  # fills no whole number of bytes
        np.zeros((4, 8), np.int8),  # too small to gain anything
        np.full((8, 16), 70000.0, np.float32),  # beyond float16
        np.full((8, 16), 1e-7, np.float32),  # below it
    ],
)
def test_what_would_lose_or_gain_nothing_is_left_alone(values):
    packed = pack(adding(values))
    assert not any(node.name.startswith(MARK) for node in packed.graph.node)
    assert unpacked(packed) == (packed, set())
    np.testing.assert_array_equal(speak(packed, {"x": np.zeros(1, np.float32)}), values.astype(np.float32))


@pytest.mark.slow
def test_a_packed_voice_is_the_same_one_in_a_smaller_file(four_bits, medium_voice):
    packed = pack(four_bits)
    assert len(packed.SerializeToString()) < 0.7 * len(four_bits.SerializeToString())
    onnx.checker.check_model(packed)
    assert list(packed.metadata_props) == list(four_bits.metadata_props)
    assert list(packed.graph.input) == list(four_bits.graph.input)
    assert list(packed.graph.output) == list(four_bits.graph.output)
    ids = list(range(3, 25))
    was, durations = PairedSession(four_bits).speak(ids)
    now, same = PairedSession(packed).speak(ids, durations=durations)
    np.testing.assert_array_equal(same, durations)
    # float16 has 11 bits
    assert np.abs(now - was).max() < 0.02 * np.abs(was).max()


@pytest.mark.slow
def test_a_packed_voice_of_several_speakers_knows_them_and_its_phonemes(multi_speaker_voice, exported, tmp_path):
    few = QuantizeWeights(step="quantize_weights", bits=4, minimum_size=64)
    model = onnx.load(exported("speakers"))
    onnx.save(pack(quantize_weights(model, few, feeds(multi_speaker_voice))), tmp_path / "packed.onnx")
    shutil.copyfile(f"{multi_speaker_voice}.json", tmp_path / "packed.onnx.json")
    assert PairedSession(open_piper(tmp_path / "packed.onnx").path).speakers == 3


@pytest.mark.slow
def test_the_runtime_executes_the_same_operators_as_without_packing(four_bits, tmp_path):
    graphs = [runtime_graph(model, tmp_path) for model in (four_bits, pack(four_bits))]
    was, now = (Counter(node.op_type for node in graph.node) for graph in graphs)
    assert now == was
    assert not any(node.name.startswith(MARK) for node in graphs[1].node)


@pytest.mark.slow
def test_nodes_keep_their_names_and_tensors_get_short_ones(four_bits):
    packed = pack(four_bits)
    was, now = ({node.name for node in model.graph.node} for model in (four_bits, packed))
    assert was - {""} <= now
    kept = {value.name for value in (*packed.graph.input, *packed.graph.output)}
    assert all(len(name) <= 3 or name in kept for node in packed.graph.node for name in (*node.input, *node.output))


def test_a_graph_within_a_node_keeps_the_names_it_refers_to():
    branch = helper.make_graph(
        [helper.make_node("Cast", ["stored"], ["cast"], to=TensorProto.FLOAT)],
        "branch",
        [],
        [helper.make_tensor_value_info("cast", 1, None)],
    )
    node = helper.make_node("If", ["which"], ["y"], "if", then_branch=branch, else_branch=branch)
    stored = np.tile(np.array([3, -4], np.int8), 64)
    model = made([node], {"stored": stored}, {"which": []}, rank=None, which=TensorProto.BOOL)
    np.testing.assert_array_equal(speak(pack(model), {"which": np.array(True)}), stored.astype(np.float32))


@pytest.mark.slow
def test_what_is_counted_in_a_packed_voice_is_what_it_holds(four_bits, medium_voice, tmp_path):
    feed = reference(medium_voice)
    inventories = []
    for name, model in (("plain", four_bits), ("packed", pack(four_bits))):
        onnx.save(model, tmp_path / f"{name}.onnx")
        inventories.append(take_inventory(tmp_path / f"{name}.onnx", feed))
    before, after = inventories
    assert (after.parameters_stored, after.parameters_nonzero) == (before.parameters_stored, before.parameters_nonzero)
    assert [(x.node, x.parameters, x.computes_int8) for x in after.layers] == [
        (x.node, x.parameters, x.computes_int8) for x in before.layers
    ]
    record = record_of(Pack(step="pack"), after, before)
    assert record.layers == sum(0 < layer.levels <= 128 for layer in before.weighted) > 0
    assert record.coverage.parameters > 0.7
    assert record.coverage.macs == 0.0
    assert record_of(Pack(step="pack"), before, before).layers == 0
