"""Quantized voices: as small as claimed, int8 where claimed, the same voice otherwise."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tests.optimize.small_graphs import arrays, made, normal, speak
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.int8 import quantize_tensor
from ttsopt_lib.optimize.graph.ranges import histograms
from ttsopt_lib.optimize.inventory import take_inventory
from ttsopt_lib.optimize.steps.fp16 import half_precision
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.step import record_of
from ttsopt_lib.step_settings import Fp16, QuantizeDynamic, QuantizeStatic, QuantizeWeights
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import load_piper, open_piper
from ttsopt_lib.voices.session import RuntimeFailure

WEIGHTS = QuantizeWeights(step="quantize_weights")
DYNAMIC = QuantizeDynamic(step="quantize_dynamic")
STATIC = QuantizeStatic(step="quantize_static")
# Only the decoder's convolutions, where one is as good as all: the quantizer's time grows with their number.
DECODER_ONLY = ("^/(enc_p|dp|flow)/",)
STATIC_DECODER = QuantizeStatic(step="quantize_static", exclude=DECODER_ONLY)


def feeds(voice, lengths=(20, 30)):
    config = open_piper(voice).config
    rng = np.random.default_rng(0)
    return [voice_feed(config, rng.integers(3, min(config.num_symbols, 100), length).tolist()) for length in lengths]


def runtime_graph(model, tmp_path):
    """The graph that ONNX Runtime really executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "runtime.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "runtime.onnx").graph


def count(graph, operator):
    return sum(node.op_type == operator for node in graph.node)


@pytest.fixture(scope="module")
def joe_model(joe):
    return onnx.load(joe)


@pytest.fixture(scope="module")
def joe_int8_weights(joe_model):
    return quantize_weights(joe_model, WEIGHTS)


@pytest.fixture(scope="module")
def medium_model(plain_voice):
    return onnx.load(plain_voice)


@pytest.fixture(scope="module")
def medium_static(plain_voice, medium_model):
    return quantize_static(medium_model, STATIC, feeds(plain_voice))


@pytest.mark.slow
def test_int8_weights_take_three_quarters_off_the_file(joe_model, joe_int8_weights):
    assert 1 - joe_int8_weights.ByteSize() / joe_model.ByteSize() > 0.73


@pytest.mark.slow
def test_every_int8_weight_is_within_half_a_step_of_the_original(joe_model, joe_int8_weights):
    originals, stored = arrays(joe_model), arrays(joe_int8_weights)
    quantized = [name for name in originals if f"{name}_int8" in stored]
    assert len(quantized) == 117
    for name in quantized:
        integers, scale = stored[f"{name}_int8"], stored[f"{name}_scale"]
        assert integers.dtype == np.int8
        error = np.abs(integers * scale - originals[name])
        assert (error <= 0.5001 * scale).all(), name


@pytest.mark.slow
def test_each_output_channel_has_its_own_scale(joe_model, joe_int8_weights):
    scales = {t.name: list(t.dims) for t in joe_int8_weights.graph.initializer if t.name.endswith("_scale")}
    assert scales["dec.conv_pre.weight_scale"] == [256, 1, 1]
    assert scales["dec.ups.0.weight_scale"] == [1, 128, 1]  # a transposed convolution counts its outputs second
    embedding = next(node.input[0] for node in joe_model.graph.node if node.name == "/enc_p/emb/Gather")
    assert scales[f"{embedding}_scale"] == [256, 1]


@pytest.mark.slow
def test_int8_weights_are_unpacked_while_loading_and_not_in_every_utterance(joe_model, joe_int8_weights, tmp_path):
    before, after = (runtime_graph(model, tmp_path) for model in (joe_model, joe_int8_weights))
    for operator in ("DequantizeLinear", "Cast", "Mul"):
        assert count(after, operator) == count(before, operator)


@pytest.mark.slow
def test_int8_weights_sound_like_the_original_and_naive_static_int8_does_not(joe, joe_int8_weights, joe_model):
    ids = np.random.default_rng(1).integers(3, 100, 40).tolist()
    reference, durations = PairedSession(joe).speak(ids, seed=1)

    def distance(model):
        """Log-spectral distance, dB."""
        audio, _ = PairedSession(model).speak(ids, seed=1, durations=durations)
        spectra = [
            np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(x, 1024)[::256] * np.hanning(1024)))
            for x in (reference, audio)
        ]
        difference = 20 * np.log10((spectra[0] + 1e-3) / (spectra[1] + 1e-3))
        return np.sqrt((difference**2).mean(axis=1)).mean()

    static = quantize_static(joe_model, STATIC, feeds(joe))
    assert distance(joe_int8_weights) < 4.0 < distance(static)


def test_a_channel_of_zeros_stays_zero():
    weight = np.zeros((2, 3), np.float32)
    weight[1] = [1.0, -2.0, 0.5]
    integers, scale = quantize_tensor(weight, axis=0)
    assert not integers[0].any()
    assert np.isfinite(scale).all()
    assert integers[1].tolist() == [64, -127, 32]


@pytest.mark.slow
def test_small_tensors_and_biases_stay_float(joe_int8_weights):
    assert {"dec.conv_post.weight", "dec.ups.0.bias"} <= set(arrays(joe_int8_weights))


def test_shared_weights_are_stored_once_and_read_through_identities():
    weight = normal(np.random.default_rng(0), 32, 32)
    nodes = [
        helper.make_node("Identity", ["w"], ["w2"]),
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="second"),
    ]
    model = made(nodes, {"w": weight}, {"x": [1, 32]}, rank=2)
    x = np.ones((1, 32), np.float32)
    quantized = quantize_weights(model, WEIGHTS)
    integers, scale = quantize_tensor(weight, 1)
    unpacked = integers * scale
    np.testing.assert_allclose(speak(quantized, {"x": x}), x @ unpacked @ unpacked, rtol=1e-4, atol=1e-4)
    assert list(arrays(quantized)) == ["w_int8", "w_scale"]


def test_dynamic_int8_reaches_nothing_in_a_piper_file_because_no_matmul_holds_a_weight(joe_model):
    assert count(quantize_dynamic(joe_model, DYNAMIC).graph, "MatMulInteger") == 0


@pytest.mark.slow
def test_dynamic_int8_reaches_the_linear_layers_that_pytorch_reaches(plain_voice, exported):
    import torch

    voice = load_piper(open_piper(plain_voice))
    linear = sum(isinstance(module, torch.nn.Linear) for module in voice.modules())
    quantized = quantize_dynamic(onnx.load(exported("plain")), DYNAMIC)
    assert linear > 0
    assert count(quantized.graph, "MatMulInteger") == linear


def test_dynamic_int8_with_conv_makes_integer_convolutions_that_run(plain_voice, medium_model):
    quantized = quantize_dynamic(medium_model, QuantizeDynamic(step="quantize_dynamic", operators=("MatMul", "Conv")))
    assert count(quantized.graph, "ConvInteger") == count(medium_model.graph, "Conv")
    assert np.isfinite(speak(quantized, feeds(plain_voice)[0])).all()


@pytest.mark.slow
def test_static_int8_runs_every_convolution_as_int8(medium_model, medium_static, tmp_path):
    graph = runtime_graph(medium_static, tmp_path)
    assert count(graph, "QLinearConv") == count(medium_model.graph, "Conv")
    assert count(graph, "Conv") == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_every_way_to_calibrate_gives_a_voice_that_speaks_and_prints_nothing(plain_voice, medium_model, method, capsys):
    step = QuantizeStatic(step="quantize_static", calibration=method, exclude=DECODER_ONLY)
    quantized = quantize_static(medium_model, step, feeds(plain_voice, (20,)))
    assert np.isfinite(speak(quantized, feeds(plain_voice)[0])).all()
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_excluded_nodes_stay_float(plain_voice, medium_model, tmp_path):
    graph = runtime_graph(quantize_static(medium_model, STATIC_DECODER, feeds(plain_voice)), tmp_path)
    in_decoder = sum(node.op_type == "Conv" and node.name.startswith("/dec/") for node in medium_model.graph.node)
    assert count(graph, "QLinearConv") == in_decoder
    assert count(graph, "Conv") + count(graph, "FusedConv") == count(medium_model.graph, "Conv") - in_decoder


@pytest.mark.parametrize("pattern, message", [("(", "no regular expression"), ("^/decoder/", "matches no Conv node")])
def test_an_exclude_pattern_that_cannot_be_meant_is_an_error(plain_voice, medium_model, pattern, message):
    step = QuantizeStatic(step="quantize_static", exclude=(pattern,))
    with pytest.raises(StudyError, match=f"exclude: {re.escape(repr(pattern))} .*{message}|{message}"):
        quantize_static(medium_model, step, feeds(plain_voice))


@pytest.mark.slow
def test_static_int8_then_int8_weights_leaves_only_small_tensors_float(plain_voice, medium_static):
    both = quantize_weights(medium_static, WEIGHTS)
    for tensor in both.graph.initializer:
        assert not (tensor.data_type == 1 and len(tensor.dims) > 1 and np.prod(tensor.dims) >= 1024), tensor.name
    assert np.isfinite(speak(both, feeds(plain_voice)[0])).all()


@pytest.mark.slow
def test_interface_metadata_and_randomness_of_the_voice_survive(multi_speaker_voice):
    model = onnx.load(multi_speaker_voice)
    helper.set_model_props(model, {"model_type": "vits", "comment": "piper"})
    before = model.SerializeToString()
    for quantized in (
        quantize_weights(model, WEIGHTS),
        quantize_dynamic(model, QuantizeDynamic(step="quantize_dynamic", operators=("Conv",))),
        quantize_static(model, STATIC_DECODER, feeds(multi_speaker_voice, (20,))),
    ):
        assert list(quantized.metadata_props) == list(model.metadata_props)
        assert list(quantized.graph.input) == list(model.graph.input)
        assert list(quantized.graph.output) == list(model.graph.output)
        onnx.checker.check_model(quantized)
        noise = [node for node in quantized.graph.node if node.op_type.startswith("Random")]
        assert noise
        assert not any(attribute.name == "seed" for node in noise for attribute in node.attribute)
    assert model.SerializeToString() == before


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(medium_model):
    for make in (
        lambda: quantize_weights(medium_model, WEIGHTS),
        lambda: quantize_dynamic(medium_model, QuantizeDynamic(step="quantize_dynamic", operators=("Conv",))),
    ):
        assert make().SerializeToString(deterministic=True) == make().SerializeToString(deterministic=True)


def test_half_precision_halves_the_file_and_keeps_every_weight_to_11_bits(joe_model):
    half = half_precision(joe_model, Fp16(step="fp16"))
    assert len(half.SerializeToString()) < 0.52 * len(joe_model.SerializeToString())
    before = arrays(joe_model)
    stored = {name: value.astype(np.float32) for name, value in arrays(half).items() if name.endswith("_half")}
    assert stored
    for name, value in stored.items():
        original = before[name.removesuffix("_half")]
        assert np.all(np.abs(value - original) <= np.abs(original) * 2**-11 + 2**-25)


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["float32", "float16"])
def test_a_voice_in_half_precision_speaks_for_as_long_as_before(plain_voice, medium_model, tmp_path, arithmetic):
    step = Fp16(step="fp16", arithmetic=arithmetic, minimum_size=16)
    half = half_precision(medium_model, step)
    onnx.checker.check_model(half)  # among others, that its nodes are in order
    feed = voice_feed(open_piper(plain_voice).config, range(3, 30), noise=False)
    audio = speak(half, feed)
    assert audio.dtype == np.float32 and np.isfinite(audio).all()
    assert audio.size == speak(medium_model, feed).size
    path = tmp_path / "half.onnx"
    onnx.save(half, path)
    inventory = take_inventory(path, feed)
    record = record_of(step, inventory, inventory)
    assert record.coverage.parameters > 0.9
    assert (record.coverage.macs > 0.5) == (arithmetic == "float16")


@pytest.mark.slow
def test_signed_activations_are_the_same_steps_moved_by_128(plain_voice, medium_model):
    step = {"step": "quantize_static", "operators": ["Conv"], "exclude": DECODER_ONLY}
    voice_feeds = feeds(plain_voice)
    unsigned, signed = (
        quantize_static(medium_model, QuantizeStatic.model_validate(step | {"activations": kind}), voice_feeds)
        for kind in ("unsigned", "signed")
    )
    points = [
        {name: value for name, value in arrays(model).items() if name.endswith("_zero_point")}
        for model in (unsigned, signed)
    ]
    moved = [name for name, value in points[0].items() if value.dtype == np.uint8]
    assert moved
    assert all(points[1][name].dtype == np.int8 for name in moved)
    assert all(abs(int(points[0][name]) - 128 - int(points[1][name])) <= 1 for name in moved)


@pytest.mark.parametrize(
    "quantize",
    [
        lambda model, feeds: quantize_static(model, STATIC_DECODER, feeds),
        lambda model, feeds: quantize_static(
            model, STATIC_DECODER.model_copy(update={"calibration": "percentile"}), feeds
        ),
        lambda model, feeds: quantize_weights(model, WEIGHTS.model_copy(update={"bits": 4}), feeds),
        lambda model, feeds: histograms(model, [model.graph.node[-1].input[0]], feeds),
    ],
)
def test_a_calibration_sentence_that_the_runtime_cannot_speak_is_named_with_its_words(plain_voice, quantize):
    given = feeds(plain_voice)
    given[1]["input"][0, 3] = 10**6  # a phoneme that no voice has
    with pytest.raises(RuntimeFailure, match=r"^sentences\.calibration: sentence 2: .*ather") as failed:
        quantize(onnx.load(plain_voice), given)
    assert "\n" not in str(failed.value) and "Traceback" not in str(failed.value)
