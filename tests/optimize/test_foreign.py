"""Every graph step on graphs of other exporters: right or left alone, counted right, and never a broken file."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.optimize.foreign_graphs import KINDS, already_int8
from tests.optimize.small_graphs import arrays
from tests.optimize.test_quantize import runtime_graph
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import quantize_tensor
from ttsopt_lib.optimize.inventory import take_inventory
from ttsopt_lib.optimize.steps.fp16 import half_precision
from ttsopt_lib.optimize.steps.pack import pack
from ttsopt_lib.optimize.steps.prune_magnitude import PruneMagnitudeWork, prune_graph, prune_magnitude
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_mixed import quantize_mixed
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.step import record_of
from ttsopt_lib.step_settings import (
    Fp16,
    PruneMagnitude,
    QuantizeDynamic,
    QuantizeMixed,
    QuantizeStatic,
    QuantizeWeights,
)
from ttsopt_lib.voices.session import RuntimeFailure, open_session

WEIGHTS = QuantizeWeights(step="quantize_weights")
FOUR_BITS = QuantizeWeights(step="quantize_weights", bits=4)
BOTH: Any = ("MatMul", "Conv")


def matmul_of_few_bits(step):
    return step.model_copy(update={"operators": ("MatMul",), "bits": 4})


DYNAMIC = QuantizeDynamic(step="quantize_dynamic", operators=BOTH)
STATIC = QuantizeStatic(step="quantize_static", operators=BOTH)
MIXED = QuantizeMixed(step="quantize_mixed", budget_db=50.0, calibration_sentences=1, judged_sentences=1)


class Spoken:
    """A graph as the search of `quantize_mixed` opens it."""

    def __init__(self, graph):
        self._graph = graph

    def speak(self, *_, **__):
        raise AssertionError("the search speaks what it was given, by `speak_feed`")

    def speak_feed(self, feed, seed=0, durations=None):
        return say(self._graph, feed).reshape(-1), np.zeros(0, np.int64)


def mixed(model, feeds):
    """Int8 arithmetic in every convolution but the last."""
    macs = {node.name: 1 for node in copy_named(model).graph.node}
    return quantize_mixed(model, MIXED, feeds, macs, 22050, opened=Spoken).model


# Name -> the step, and the largest error that its result may have, as a share of the loudest value.
STEPS = {
    "int8 weights": (lambda model, feeds: quantize_weights(model, WEIGHTS), 0.02),
    "weights of 4 bits": (lambda model, feeds: quantize_weights(model, FOUR_BITS, feeds), 0.3),
    "dynamic": (lambda model, feeds: quantize_dynamic(model, DYNAMIC), 0.05),
    "dynamic of 4 bits": (lambda model, feeds: quantize_dynamic(model, matmul_of_few_bits(DYNAMIC), feeds), 0.3),
    "static": (lambda model, feeds: quantize_static(model, STATIC, feeds), 0.05),
    "static of 4 bits": (lambda model, feeds: quantize_static(model, matmul_of_few_bits(STATIC), feeds), 0.3),
    "mixed": (mixed, 0.05),
    "fp16": (lambda model, feeds: half_precision(model, Fp16(step="fp16")), 0.002),
    "fp16 arithmetic": (lambda model, feeds: half_precision(model, Fp16(step="fp16", arithmetic="float16")), 0.002),
    "pack": (lambda model, feeds: pack(model), 0.002),
    "int8 weights, packed": (lambda model, feeds: pack(quantize_weights(model, WEIGHTS)), 0.02),
    "weights of 4 bits, packed": (lambda model, feeds: pack(quantize_weights(model, FOUR_BITS, feeds)), 0.3),
    "int8 weights after fp16": (
        lambda model, feeds: quantize_weights(half_precision(model, Fp16(step="fp16")), WEIGHTS), 0.02,
    ),
}  # fmt: skip


def say(model, feed):
    """What a graph says, computed as it is written: without VNNI, the int8 kernels cut off sums of 8-bit products."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(feed))[0])


def inventory_of(model, feed, tmp_path):
    onnx.save(model, tmp_path / "counted.onnx")
    return take_inventory(tmp_path / "counted.onnx", feed)


@pytest.fixture(autouse=True)
def quiet_quantizers(caplog):
    """ONNX Runtime's quantizers say on the root logger what they assume of types."""
    caplog.set_level(logging.ERROR)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_products_are_those_known_by_hand(kind, tmp_path):
    model, feed, parameters, macs = KINDS[kind]()
    inventory = inventory_of(model, feed, tmp_path)
    assert (inventory.parameters_stored, inventory.macs) == (parameters, macs)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_keeps_what_a_graph_says_and_the_count(kind, step, tmp_path):
    model, feed, parameters, macs = KINDS[kind]()
    before, given = model.SerializeToString(), list(model.graph.input)
    apply, error = STEPS[step]
    changed = apply(model, [feed])
    assert model.SerializeToString() == before
    onnx.checker.check_model(changed)
    names = Counter(node.name for node in changed.graph.node if node.name)
    assert set(names.values()) == {1}
    assert [value.name for value in changed.graph.input if value.name not in ("w", "v")] == [
        value.name for value in given if value.name not in ("w", "v")
    ]
    expected, heard = say(model, feed), say(changed, feed)
    assert heard.shape == expected.shape == np.shape(open_session(changed).run(None, dict(feed))[0])
    assert np.abs(heard - expected).max() <= error * np.abs(expected).max()
    inventory = inventory_of(changed, feed, tmp_path)
    assert (inventory.parameters_stored, inventory.macs) == (parameters, macs)


@pytest.mark.parametrize("kind", [name for name in KINDS if "convolutions" in name or "only_a_branch" in name])
def test_a_search_lets_every_convolution_but_the_last_compute_in_int8(kind, tmp_path):
    model, feed, *_ = KINDS[kind]()
    after = inventory_of(mixed(model, [feed]), feed, tmp_path)
    assert {layer.node: layer.computes_int8 for layer in after.weighted} == {"/first/conv": True, "/second/conv": False}


def test_an_old_graph_that_onnx_cannot_convert_is_refused_in_one_line():
    model, feed, *_ = KINDS["convolutions_of_opset_9"]()
    model.graph.node[1].op_type = "Unheard"
    with pytest.raises(RuntimeFailure, match="cannot convert it from operator set 9, which knows no int8: ") as raised:
        mixed(model, [feed])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_weights_reach_the_weights_and_are_unpacked_while_loading(kind, tmp_path):
    model, feed, parameters, _ = KINDS[kind]()
    quantized = quantize_weights(model, WEIGHTS)
    before, after = inventory_of(model, feed, tmp_path), inventory_of(quantized, feed, tmp_path)
    assert all(layer.stored_int8 for layer in after.weighted) and after.weighted
    record = record_of(WEIGHTS, after, before)
    weights = {layer.weight: layer.parameters for layer in before.weighted}
    assert record.coverage.parameters == pytest.approx(sum(weights.values()) / parameters)
    assert record.coverage.macs == 0
    assert quantized.ByteSize() < 0.6 * model.ByteSize()
    was, now = (Counter(node.op_type for node in runtime_graph(each, tmp_path).node) for each in (model, quantized))
    for operator in ("Cast", "Mul", "Transpose", "Reshape", "DequantizeLinear"):
        assert now[operator] <= was[operator]


@pytest.mark.parametrize("operator, gates", [("lstm", 4), ("gru_of_opset_21", 3)])
def test_a_recurrent_layer_has_a_scale_for_each_direction_and_row_of_both_weights(operator, gates):
    model = KINDS[operator]().model
    stored, originals = arrays(quantize_weights(model, WEIGHTS)), arrays(model)
    for name in ("w", "r"):
        integers, scale = stored[f"{name}_int8"], stored[f"{name}_scale"]
        assert scale.shape == (2, gates * 16, 1)
        assert integers.dtype == np.int8
        assert (np.abs(integers).max(axis=2) == 127).all()
        assert (np.abs(integers * scale - originals[name]) <= 0.5001 * scale).all()
    np.testing.assert_array_equal(stored["b"], originals["b"])


def test_a_recurrent_layer_of_fewer_bits_keeps_8(tmp_path):
    model, feed, *_ = KINDS["lstm"]()
    inventory = inventory_of(quantize_weights(model, FOUR_BITS, [feed]), feed, tmp_path)
    assert [layer.levels > 128 for layer in inventory.weighted] == [True, True]


@pytest.mark.parametrize(
    "kind, operators",
    [
        ("lstm", ["LSTM"]),
        ("weight_of_three_layers", ["MatMul"]),
        ("nodes_without_names", ["MatMul"]),
        ("convolution_of_opset_21", ["Conv"]),
        ("weight_of_an_embedding_and_turned_of_a_product", ["Gather"]),
    ],
)
def test_what_is_int8_already_is_counted_as_such_and_left_alone(kind, operators, tmp_path):
    model, feed, parameters, macs = already_int8(operators, KINDS[kind](), tmp_path)
    inventory = inventory_of(model, feed, tmp_path)
    assert (inventory.parameters_stored, inventory.macs) == (parameters, macs)
    assert all(layer.stored_int8 for layer in inventory.weighted)
    assert all(layer.computes_int8 for layer in inventory.weighted) == (operators != ["Gather"])
    heard = say(model, feed)
    for name, (apply, _) in STEPS.items():
        changed = apply(model, [feed])
        onnx.checker.check_model(changed)
        assert np.abs(say(changed, feed) - heard).max() <= 1e-3 * np.abs(heard).max(), name
        after = inventory_of(changed, feed, tmp_path)
        assert (after.parameters_stored, after.macs) == (parameters, macs), name
        assert [layer.computes_int8 for layer in after.layers] == [layer.computes_int8 for layer in inventory.layers]


def test_two_nodes_of_one_name_are_told_apart(tmp_path):
    model, feed, parameters, macs = KINDS["nodes_without_names"]()
    heard = say(model, feed)
    for node in model.graph.node:
        node.name = "layer"  # ONNX Runtime refuses such a file, and others do not
    quantized = quantize_weights(model, WEIGHTS)
    assert np.abs(say(quantized, feed) - heard).max() < 0.02 * np.abs(heard).max()
    assert len({layer.node for layer in inventory_of(model, feed, tmp_path).layers}) == 2


def test_numbers_of_pytorchs_code_stay_float_where_initializers_hold_the_weights(tmp_path):
    """A Fourier basis is a Constant node in such a file, and nobody learned it."""
    model, feed, *_ = KINDS["weights_in_constant_nodes"]()
    model.producer_name = "pytorch"
    frozen = inventory_of(quantize_weights(model, WEIGHTS), feed, tmp_path)
    assert [layer.stored_int8 for layer in frozen.weighted] == [True]
    learned = numpy_helper.from_array(np.eye(48, dtype=np.float32), "learned")
    model.graph.initializer.append(learned)
    model.graph.node.append(onnx.helper.make_node("MatMul", ["y", "learned"], ["z"], name="/last"))
    model.graph.output[0].name = "z"
    layers = inventory_of(quantize_weights(model, WEIGHTS), feed, tmp_path).layers
    assert [(layer.node, layer.stored_int8) for layer in layers] == [("/linear/MatMul", False), ("/last", True)]


def test_a_default_that_a_caller_may_replace_can_be_replaced_after_every_step():
    model, feed, *_ = KINDS["input_with_a_default"]()
    feed["style"] = np.full((1, 20, 48), 0.5, np.float32)
    heard = say(model, feed)
    for name, (apply, error) in STEPS.items():
        assert np.abs(say(apply(model, [feed]), feed) - heard).max() <= error * np.abs(heard).max(), name


@pytest.mark.parametrize("steps", [127, 63, 90])
def test_weights_that_were_int8_before_come_back_as_they_were(steps):
    """Another quantizer had one step for all rows, or used fewer than 127 of them."""
    integers = np.random.default_rng(steps).integers(-steps, steps + 1, (16, 8, 5))
    weight = (integers * 0.0123).astype(np.float32)
    stored, scale = quantize_tensor(weight, 0)
    np.testing.assert_array_equal(stored, integers)
    np.testing.assert_allclose(stored * scale, weight, rtol=1e-5)
    random = np.random.default_rng(0).standard_normal((4, 40)).astype(np.float32)
    assert (np.abs(quantize_tensor(random, 0)[0]).max(axis=1) == 127).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pruning_a_graph_sets_the_smallest_weights_to_zero_and_no_others(kind, tmp_path):
    model, feed, _, macs = KINDS[kind]()
    before = inventory_of(model, feed, tmp_path)
    products = [layer for layer in before.weighted if layer.operator != "Gather"]
    floats = sum({layer.weight: layer.parameters for layer in products}.values())
    if not floats:
        with pytest.raises(ValueError, match="no convolution, linear or recurrent layer"):
            prune_graph(model, 0.25)
        return
    pruned, count = prune_graph(model, 0.25)
    after = inventory_of(pruned, feed, tmp_path)
    assert count == round(0.25 * floats)
    assert (after.parameters_stored, after.macs) == (before.parameters_stored, macs)
    assert (
        after.parameters_stored - after.parameters_nonzero
        == count + before.parameters_stored - before.parameters_nonzero
    )
    heard, was = say(pruned, feed), say(model, feed)
    assert 0 < np.abs(heard - was).max() < 0.5 * np.abs(was).max()


def test_pruning_a_network_reaches_recurrent_layers():
    import torch

    torch.manual_seed(0)
    network = torch.nn.LSTM(8, 8, bidirectional=True)
    assert prune_magnitude(network, 0.5) == 512
    zeros = {name: int((parameter == 0).sum()) for name, parameter in network.named_parameters()}
    assert all((count > 0) == name.startswith("weight") for name, count in zeros.items())


def test_a_graph_without_a_weight_is_pruned_only_where_nothing_is_expected():
    value, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y"))
    model = helper.make_model(helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [value], [output]))
    work, step = PruneMagnitudeWork(), PruneMagnitude(step="prune_magnitude", amount=0.2)
    with pytest.raises(StudyError, match="whose weights could be pruned; take the step out"):
        work.in_graph(model, step)
    assert work.in_graph(model, step.model_copy(update={"reaches_nothing": "expected"})) is model
