"""Weights of few levels: as few as asked for, and rounded so that what a layer puts out changes little."""

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.optimize.small_graphs import arrays, made, normal, speak
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.low_bits import input_moments, quantize_low
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.step_settings import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from ttsopt_lib.study import Variant


def above_its_error(weight, rounded, inputs):
    """What a layer puts out beside what the rounding of its weight does to that, dB."""
    integers, scale = rounded
    error = inputs @ (integers * scale - weight)
    return 10 * np.log10(((inputs @ weight) ** 2).sum() / (error**2).sum())


@pytest.fixture(scope="module")
def layer():
    """A layer whose inputs go together, as those of a network do: weight [64, 48], inputs to choose by and to judge."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((16, 64)) + 0.3
    inputs = rng.standard_normal((4000, 16)) @ mixing + 0.2 * rng.standard_normal((4000, 64))
    return rng.standard_normal((64, 48)).astype(np.float32), inputs[:2000], inputs[2000:]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_a_weight_has_no_more_levels_than_its_bits_can_tell_apart(layer, bits):
    weight, inputs, _ = layer
    integers, scale = quantize_low(weight, 1, bits, inputs.T @ inputs)
    assert integers.dtype == np.int8 and integers.shape == weight.shape
    assert scale.dtype == np.float32 and scale.shape == (1, 48)
    assert 2 ** (bits - 1) < len(np.unique(integers)) <= 2**bits


def test_each_bit_more_takes_about_6_db_of_the_error_away(layer):
    weight, inputs, _ = layer
    rounded = [quantize_low(weight, 1, bits, inputs.T @ inputs) for bits in (3, 4, 5, 6)]
    assert all(4 < gain < 8 for gain in np.diff([above_its_error(weight, one, inputs) for one in rounded]))


def test_rounding_that_makes_up_for_itself_beats_rounding_each_weight_alone_on_other_inputs_too(layer):
    weight, chosen_by, judged_by = layer
    together, alone = (quantize_low(weight, 1, 4, moments) for moments in (chosen_by.T @ chosen_by, np.eye(64)))
    assert above_its_error(weight, together, judged_by) > above_its_error(weight, alone, judged_by) + 5


def test_levels_where_the_weights_are_beat_equal_steps():
    weight, inputs = normal(np.random.default_rng(1), 512, 8), np.eye(512)
    steps = np.abs(weight).max(axis=0) / 7
    even = (np.rint(weight / steps), steps)
    rounded = quantize_low(weight, 1, 4, inputs)
    assert above_its_error(weight, rounded, inputs) > above_its_error(weight, even, inputs) + 1.5


def test_one_channel_unlike_the_others_does_not_take_their_levels():
    weight, inputs = normal(np.random.default_rng(4), 256, 100), np.eye(256)

    def left(values):
        integers, scale = quantize_low(values, 1, 4, inputs)
        return above_its_error(values[:, 1:], (integers[:, 1:], scale[:, 1:]), inputs)

    before = left(weight)
    weight[:, 0] += 30
    assert left(weight) > before - 1


def test_weights_whose_inputs_were_seen_too_rarely_are_not_rounded_on_them():
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    model = made([node], {"w": normal(np.random.default_rng(0), 40, 30)}, {"x": ["frames", 40]}, rank=None)
    x = np.ones((39, 40), np.float32)
    assert not input_moments(model, [{"x": x}], ["w"])
    assert input_moments(model, [{"x": x}, {"x": x}], ["w"])["w"].shape == (40, 40)
    assert not input_moments(model, [{"x": x}, {"x": x}], [])
    few = QuantizeWeights(step="quantize_weights", bits=4)
    eight = quantize_weights(model, QuantizeWeights(step="quantize_weights"))
    assert quantize_weights(model, few, [{"x": x}]) == eight
    assert quantize_weights(model, few, [{"x": x}, {"x": x}]) != eight
    with pytest.raises(StudyError, match="calibration utterances, and there are none"):
        quantize_weights(model, few)


def test_channels_of_zeros_and_of_equal_weights_stay_what_they_are():
    weight = np.random.default_rng(2).standard_normal((64, 3)).astype(np.float32)
    weight[:, 0], weight[:, 1] = 0.0, 0.25
    integers, scale = quantize_low(weight, 1, 7, np.eye(64))
    assert np.abs((integers * scale)[:, 0]).max() < 0.05
    assert np.abs((integers * scale)[:, 1] - 0.25).max() < 0.02
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("rows", [(), (1,)], ids=["1d", "2d"])
@pytest.mark.parametrize(("dilation", "stride"), [(1, 1), (2, 1), (1, 3)])
def test_moments_of_a_convolution_are_of_all_its_taps(dilation, stride, rows):
    rng = np.random.default_rng(3)
    weight = normal(rng, 5, 4, *rows, 3)
    none = [0] * len(rows)
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        name="conv",
        dilations=[*rows, dilation],
        strides=[*rows, stride],
        pads=[*none, dilation, *none, 2 * dilation],
    )
    model = made([node], {"w": weight}, {"x": [1, 4, *rows, "frames"]}, rank=None)
    x = normal(rng, 1, 4, *rows, 40)
    moments = input_moments(model, [{"x": x}], ["w"])["w"]
    y = speak(model, {"x": x})
    rows = weight.reshape(5, -1).astype(np.float64)
    # sum over frames of y^2 = w M w', for every channel of the output
    np.testing.assert_allclose(
        np.einsum("oi,ij,oj->o", rows, moments, rows), (y[0].reshape(5, -1) ** 2).sum(axis=1), rtol=1e-4
    )


@pytest.mark.slow
def test_few_bits_make_a_voice_of_few_levels_that_multiplies_int8(in_four_bits, exported):
    quantized, products, sentences = in_four_bits.voice, in_four_bits.products, in_four_bits.sentences
    model = onnx.load(exported("medium"))
    before = model.SerializeToString()
    stored = arrays(quantized)
    matrices = [stored[node.input[1]] for node in quantized.graph.node if node.op_type == "MatMulInteger"]
    assert matrices and all(len(np.unique(matrix)) <= 16 for matrix in matrices)
    weights = [values for name, values in stored.items() if name.endswith("_int8")]
    assert sum(len(np.unique(values)) <= 16 for values in weights) > len(weights) / 2
    few = sum(values.size for values in (*weights, *matrices) if len(np.unique(values)) <= 16)
    assert few > 0.7 * sum(values.size for values in (*weights, *matrices))
    onnx.checker.check_model(quantized)
    assert np.isfinite(speak(quantized, sentences[0])).all()
    again = quantize_dynamic(model, QuantizeDynamic(step="quantize_dynamic", bits=4), sentences)
    assert model.SerializeToString() == before
    assert again.SerializeToString(deterministic=True) == products.SerializeToString(deterministic=True)


@pytest.mark.slow
def test_products_with_fixed_ranges_leave_no_tensor_that_nothing_reads(in_four_bits, exported):
    """ONNX Runtime warns of each of them, whenever a voice is opened."""
    step = QuantizeStatic(step="quantize_static", operators=("MatMul",), bits=4)
    found = quantize_static(onnx.load(exported("medium")), step, in_four_bits.sentences[:2])
    assert any(node.op_type == "QuantizeLinear" for node in found.graph.node)
    read = {name for node in found.graph.node for name in node.input}
    assert [one.name for one in found.graph.initializer if one.name not in read] == []


def test_few_bits_of_convolutions_that_quantize_their_inputs_are_refused():
    with pytest.raises(ValueError, match=r"bits: fewer than 8 go with operators: \[MatMul\] only"):
        QuantizeDynamic(step="quantize_dynamic", operators=("MatMul", "Conv"), bits=4)
    with pytest.raises(ValueError, match="less than or equal to 8"):
        QuantizeWeights(step="quantize_weights", bits=16)


def test_packing_comes_last():
    assert Variant.model_validate({"name": "small", "recipe": [{"step": "quantize_weights"}, {"step": "pack"}]})
    with pytest.raises(ValueError, match="'small': pack must be the last step"):
        Variant.model_validate({"name": "small", "recipe": [{"step": "pack"}, {"step": "quantize_weights"}]})


@pytest.mark.slow
def test_sums_of_int8_products_fit_into_16_bits_where_the_processor_has_no_more(in_four_bits, exported):
    """255 * 64 * 2 < 2 ** 15: processors without VNNI would cut off larger sums of two, and the voice would suffer."""
    eight = quantize_dynamic(onnx.load(exported("medium")), QuantizeDynamic(step="quantize_dynamic"))
    for model in (in_four_bits.products, eight):
        stored = arrays(model)
        weights = [stored[node.input[1]] for node in model.graph.node if node.op_type == "MatMulInteger"]
        assert weights and all(np.abs(weight.astype(int)).max() <= 64 for weight in weights)
