"""What ONNX Runtime's quantizers made, dequantized: the float graph whose weights are the quantized ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType

from tests.optimize.small_graphs import arrays, assert_same, feeds_of, left_of_the_quantizer, made, normal, speak
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph import to_float as rules
from ttsopt_lib.optimize.graph.to_float import to_float
from ttsopt_lib.optimize.inventory import take_inventory
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.step import record_of, total_coverage, work_of
from ttsopt_lib.step_settings import Dequantize, QuantizeDynamic, QuantizeStatic
from ttsopt_lib.voices.vits_graph import attribute

SEEDS = range(4)
STEP = Dequantize(step="dequantize")


def network(seed):
    """Convolutions with groups, strides, dilations and biases, an upsampling, and two matrices that share an input."""
    rng = np.random.default_rng(seed)
    groups, stride, dilation = [(1, 1, 1), (2, 2, 1), (3, 1, 2), (6, 2, 3)][seed % 4]
    layout = {"group": groups, "strides": [stride], "dilations": [dilation], "pads": [3, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "k1", "b1"], ["a"], name="first", **layout),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.1),
        helper.make_node("Conv", ["b", "k2"], ["c"], name="second"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "up"], ["e"], name="upsampling", strides=[2]),
        helper.make_node("Transpose", ["e"], ["f"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["f", "m1"], ["g"], name="third"),
        helper.make_node("Add", ["g", "c1"], ["h"]),
        helper.make_node("MatMul", ["f", "m2"], ["i"], name="fourth"),
        helper.make_node("Add", ["i", "c2"], ["j"]),
        helper.make_node("Sigmoid", ["j"], ["k"]),
        helper.make_node("Mul", ["h", "k"], ["y"]),
    ]
    tensors = {
        "k1": normal(rng, 12, 6 // groups, 3),
        "b1": normal(rng, 12),
        "k2": normal(rng, 8, 12, 3),
        "up": normal(rng, 8, 5, 4),
        "m1": normal(rng, 5, 7),
        "c1": normal(rng, 7),
        "m2": normal(rng, 5, 7),
        "c2": normal(rng, 7),
    }
    return made(nodes, tensors)


def lstm_network(seed, lengths_known):
    rng = np.random.default_rng(seed)
    outputs = ["out", "", "last"] if seed % 2 else ["out"]
    names = ["x", "w", "r", "b"] + (["lengths", "h0", "c0"] if lengths_known else [])
    nodes = [
        helper.make_node("LSTM", names, outputs, name="lstm", direction="bidirectional", hidden_size=5),
        helper.make_node("Mul", ["out", "two"], ["y"]),
    ]
    tensors = {
        "w": normal(rng, 2, 20, 6),
        "r": normal(rng, 2, 20, 5),
        "b": normal(rng, 2, 40),
        "h0": normal(rng, 2, 3, 5),
        "c0": normal(rng, 2, 3, 5),
        "lengths": np.array([9, 3, 5], np.int32),
        "two": np.float32(2),
    }
    kept = {name: value for name, value in tensors.items() if name in names or name == "two"}
    return made(nodes, kept, {"x": [None, 3, 6]}, rank=4)


class Sentences(quantization.CalibrationDataReader):
    def __init__(self, seed, shape):
        rng = np.random.default_rng(seed + 100)
        self.feeds = iter([{"x": 3 * normal(rng, *shape)} for _ in range(3)])

    def get_next(self):
        return next(self.feeds, None)


def quantized(model, folder: Path, **options):
    onnx.save(model, folder / "float.onnx")
    quantization.quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", **options)
    return onnx.load(folder / "int8.onnx")


def statically(model, folder: Path, seed, shape=(1, 6, 30), **options):
    onnx.save(model, folder / "float.onnx")
    kinds: dict[str, Any] = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8} | options
    quantization.quantize_static(folder / "float.onnx", folder / "int8.onnx", Sentences(seed, shape), **kinds)
    return onnx.load(folder / "int8.onnx")


def with_stored_weights(model, int8):
    """The float network with every tensor that the quantizer rounded, as the quantizer's own file holds it."""
    stored, result = arrays(int8), onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        own = tensor.name
        if f"{own}_quantized" not in stored:
            continue
        integers: Any = stored[f"{own}_quantized"]
        scale: Any
        zero: Any
        layer = next(node for node in int8.graph.node if f"{own}_quantized" in node.input)
        if layer.op_type == "QLinearConv" and own.startswith("b"):  # its scale is that of the products
            scale, zero = stored[layer.input[1]] * stored[layer.input[4]], np.int32(0)
        else:
            scale = stored.get(f"{own}_scale", stored.get(f"{own}_quantized_scale"))
            zero = stored.get(f"{own}_zero_point", stored.get(f"{own}_quantized_zero_point"))
        turned = layer.op_type == "DynamicQuantizeLSTM"
        if turned:
            scale, zero = scale.reshape(2, 1, -1), zero.reshape(2, 1, -1)
        elif scale.size > 1:
            shape = [-1 if axis == (own in ("up", "m1", "m2")) else 1 for axis in range(integers.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
        value = (integers.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale.astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value.transpose(0, 2, 1).copy() if turned else value, own))
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
def test_dynamic_quantization_comes_back_as_the_float_network_on_the_stored_weights(seed, per_channel, kind, tmp_path):
    model = network(seed)
    operators = ["MatMul"] if per_channel else ["Conv", "MatMul"]  # its convolutions have one scale only
    int8 = quantized(model, tmp_path, op_types_to_quantize=operators, per_channel=per_channel, weight_type=kind)
    before = int8.SerializeToString(deterministic=True)
    found = to_float(int8)
    assert int8.SerializeToString(deterministic=True) == before
    assert found.replaced["MatMulInteger"] == 2 and found.replaced["ConvInteger"] == (0 if per_channel else 2)
    assert left_of_the_quantizer(found.model) == [] and found.stayed == {}
    expected = with_stored_weights(model, int8)
    wanted, names = arrays(expected), {node.name: node for node in found.model.graph.node}
    stored = arrays(found.model)
    for name, weight in (("first", "k1"), ("second", "k2"), ("third", "m1"), ("fourth", "m2")):
        layer = next(node for own, node in names.items() if own.startswith(name))
        np.testing.assert_array_equal(stored[layer.input[1]], wanted[weight])
    np.testing.assert_array_equal(stored["up"], wanted["up"])
    read = {name for node in found.model.graph.node for name in node.input}
    assert set(stored) <= read
    assert_same(found.model, expected, feeds_of(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_float_form_is_the_integer_chain_up_to_the_rounding_of_its_input(seed, tmp_path):
    rng = np.random.default_rng(seed)
    groups = (1, 2, 3, 6)[seed]
    tensors = {"k": normal(rng, 12, 6 // groups, 3), "b": normal(rng, 12)}
    model = made([helper.make_node("Conv", ["x", "k", "b"], ["y"], name="conv", group=groups)], tensors)
    int8 = quantized(model, tmp_path, op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8)
    found = to_float(int8).model
    stored = arrays(found)[next(node for node in found.graph.node if node.op_type == "Conv").input[1]]
    for feed in feeds_of(seed):
        integers, floats = speak(int8, feed), speak(found, feed)
        spacing = (max(feed["x"].max(), 0) - min(feed["x"].min(), 0)) / 255
        bound = np.abs(stored).sum(axis=(1, 2)) * spacing / 2 + spacing * float(arrays(int8)["k_scale"])
        assert (np.abs(integers - floats).max(axis=(0, 2)) <= bound + 1e-5).all()
        assert np.abs(integers - floats).max() > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lengths_known", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamic_lstm_comes_back_as_an_lstm(seed, lengths_known, per_channel, tmp_path):
    model = lstm_network(seed, lengths_known)
    int8 = quantized(model, tmp_path, op_types_to_quantize=["LSTM"], per_channel=per_channel)
    assert [node.op_type for node in int8.graph.node][0] == "DynamicQuantizeLSTM"
    found = to_float(int8)
    lstm = found.model.graph.node[0]
    assert lstm.op_type == "LSTM" and lstm.domain == "" and left_of_the_quantizer(found.model) == []
    assert attribute(lstm, "direction", b"") == b"bidirectional"
    expected = with_stored_weights(model, int8)
    for place, name in ((1, "w"), (2, "r")):
        np.testing.assert_array_equal(arrays(found.model)[lstm.input[place]], arrays(expected)[name])
    rng = np.random.default_rng(seed)
    sizes = (9,) if lengths_known else (1, 9, 30)
    assert_same(found.model, expected, [{"x": normal(rng, size, 3, 6)} for size in sizes])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
def test_static_quantization_comes_back_as_the_float_network(seed, layout, per_channel, activations, tmp_path):
    model = network(seed)
    options = {"quant_format": layout, "per_channel": per_channel, "activation_type": activations}
    int8 = statically(model, tmp_path, seed, **options)
    assert left_of_the_quantizer(int8)
    found = to_float(int8)
    assert left_of_the_quantizer(found.model) == [] and found.stayed == {}
    assert_same(found.model, with_stored_weights(model, int8), feeds_of(seed))


@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_relu_that_the_quantizer_left_out_comes_back(layout, tmp_path):
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "k2"], ["y"], name="second"),
    ]
    model = made(nodes, {"k1": normal(rng, 8, 6, 3), "k2": normal(rng, 4, 8, 3)})
    int8 = statically(model, tmp_path, 0, quant_format=layout)
    assert not any(node.op_type == "Relu" for node in int8.graph.node)
    found = to_float(int8).model
    assert [node.op_type for node in found.graph.node] == ["Conv", "Relu", "Conv"]
    assert_same(found, with_stored_weights(model, int8), feeds_of(0))


def test_our_own_int8_products_with_calibrated_ranges_come_back(tmp_path):
    model, feeds = network(1), feeds_of(1)
    step = QuantizeStatic(step="quantize_static", operators=("MatMul",), bits=7)
    long = [{"x": normal(np.random.default_rng(seed), 1, 6, 400)} for seed in range(4)]
    int8 = quantize_static(model, step, long)
    assert "DequantizeLinear" in left_of_the_quantizer(int8)
    found = to_float(int8)
    assert left_of_the_quantizer(found.model) == []
    weights = [arrays(found.model)[node.input[1]] for node in found.model.graph.node if node.op_type == "MatMul"]
    for weight, name in zip(weights, ("m1", "m2"), strict=True):
        assert 0 < np.abs(weight - arrays(model)[name]).max() < 0.1
    wanted, got = (speak(one, feeds[0]) for one in (model, found.model))
    assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()


def test_a_quantized_embedding_comes_back(tmp_path):
    node = helper.make_node("Gather", ["table", "ids"], ["y"], name="embedding")
    table = normal(np.random.default_rng(0), 30, 6)
    model = made([node], {"table": table}, {"ids": [1, None]}, ids=TensorProto.INT64)
    int8 = quantized(model, tmp_path, op_types_to_quantize=["Gather"])
    assert left_of_the_quantizer(int8) == ["DequantizeLinear"]
    found = to_float(int8).model
    assert [node.op_type for node in found.graph.node] == ["Gather"]
    assert_same(found, with_stored_weights(model, int8), [{"ids": np.array([[0, 7, 29]])}])


def test_stored_tensors_that_an_old_graph_lists_among_its_inputs_go_with_them(tmp_path):
    int8 = quantized(network(0), tmp_path, op_types_to_quantize=["Conv", "MatMul"])
    names = {tensor.name for tensor in int8.graph.initializer}
    int8.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in int8.graph.initializer
    )
    found = to_float(int8).model
    listed = {value.name for value in found.graph.input}
    assert "x" in listed and "k1_quantized" in names and "k1_quantized" not in listed
    assert speak(found, feeds_of(0)[0]).size


def test_a_float_graph_is_left_as_it_is():
    model = network(0)
    found = to_float(model)
    assert found.model == model and found.note == "no node computes on integers"


def test_a_float_form_that_no_file_can_hold_is_one_line(tmp_path, monkeypatch):
    int8 = quantized(network(0), tmp_path, op_types_to_quantize=["Conv"])
    monkeypatch.setattr(rules, "LARGEST_FILE", 1000)
    with pytest.raises(StudyError, match=r"^dequantize: in float32 the weights take .* GB at most$"):
        to_float(int8)


def test_the_record_counts_the_layers_that_are_float_again(tmp_path):
    model = network(2)
    int8 = quantized(model, tmp_path, op_types_to_quantize=["Conv", "MatMul"])
    context: Any = SimpleNamespace(note="")
    found = to_float(int8)
    assert work_of(STEP).apply(int8, STEP, context) == found.model and context.note == found.note
    onnx.save(found.model, tmp_path / "again.onnx")
    feed = feeds_of(2)[0]
    before, after = (take_inventory(tmp_path / f"{name}.onnx", feed) for name in ("int8", "again"))
    record = record_of(STEP, after, before, found.note)
    assert record.layers == 4 and record.note == found.note
    reached = {"first", "second", "third", "fourth"}
    plain = take_inventory(tmp_path / "float.onnx", feed)
    share = sum(layer.macs for layer in plain.layers if layer.node in reached) / plain.macs
    assert record.coverage.macs == pytest.approx(share) and 0 < share < 1  # the upsampling was float before
    assert after.parameters_stored == plain.parameters_stored
    assert not record.optimizes and record.kind == "other"
    assert total_coverage([STEP], [record], after).macs == 0
    nothing = record_of(STEP, after, after)
    assert nothing.layers == 0 and nothing.coverage.parameters == nothing.coverage.macs == 0


def test_integer_convolutions_have_unsigned_weights():
    """ONNX Runtime multiplies signed ones several times more slowly on x86."""
    int8 = quantize_dynamic(network(1), QuantizeDynamic(step="quantize_dynamic", operators=("MatMul", "Conv")))
    weights = {tensor.name: tensor.data_type for tensor in int8.graph.initializer}
    kinds = [weights[node.input[1]] for node in int8.graph.node if node.op_type == "ConvInteger"]
    assert kinds == [TensorProto.UINT8] * 2
    zeros = [weights[node.input[3]] for node in int8.graph.node if node.op_type == "ConvInteger"]
    assert zeros == [TensorProto.UINT8] * 2


def test_a_graph_may_have_names_that_the_float_form_would_give(tmp_path):
    int8 = quantized(network(0), tmp_path, op_types_to_quantize=["Conv"])
    for node in int8.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = "k1_quantized_float" if name == "d" else name
    assert_same(to_float(int8).model, with_stored_weights(network(0), int8), feeds_of(0))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("way", ["dynamic", QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_gemm_comes_back(way, transposed, per_channel, tmp_path):
    rng = np.random.default_rng(4)
    node = helper.make_node("Gemm", ["x", "m1", "b1"], ["y"], name="gemm", transB=transposed)
    shape = (6, 6)  # as many rows as columns: a scale along the wrong axis would fit
    sizes = np.geomspace(0.1, 10, 6, dtype=np.float32).reshape((6, 1) if transposed else (1, 6))  # of the columns
    model = made([node], {"m1": normal(rng, *shape) * sizes, "b1": normal(rng, 6)}, {"x": [None, 6]}, rank=2)
    if way == "dynamic":
        int8 = quantized(model, tmp_path, op_types_to_quantize=["Gemm", "MatMul"], per_channel=per_channel)
    else:
        int8 = statically(model, tmp_path, 4, (50, 6), quant_format=way, per_channel=per_channel)
    assert left_of_the_quantizer(int8)
    found = to_float(int8).model
    assert left_of_the_quantizer(found) == []
    feed = {"x": normal(rng, 20, 6)}
    wanted = speak(model, feed)
    error = speak(found, feed) - wanted
    assert 0 < np.abs(error).max() < 0.02 * np.abs(wanted).max()  # of the weights' rounding alone


def test_products_of_two_activations_come_back(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "turned"], ["y"], name="scores"),
    ]
    model = made(nodes, {})
    options = {"extra_options": {"MatMulConstBOnly": False}}
    int8 = quantized(model, tmp_path, op_types_to_quantize=["MatMul"], **options)
    assert left_of_the_quantizer(int8) == ["DynamicQuantizeLinear", "MatMulInteger"]
    found = to_float(int8)
    assert [node.op_type for node in found.model.graph.node] == ["Transpose", "MatMul"]
    assert_same(found.model, model, feeds_of(0))
