"""Coverage is what the finished file holds, counted against figures that can be worked out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.optimize.small_graphs import made, normal
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.optimize.inventory import take_inventory
from ttsopt_lib.optimize.steps.prune_magnitude import prune_magnitude
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.step import record_of, total_coverage
from ttsopt_lib.step_settings import Distill, PruneMagnitude, QuantizeDynamic, QuantizeStatic, QuantizeWeights
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.piper import load_piper, open_piper


def reference(voice, length=40):
    config = open_piper(voice).config
    ids = np.random.default_rng(0).integers(3, min(config.num_symbols, 100), length).tolist()
    return voice_feed(config, ids, noise=False)


def saved(model, tmp_path, name="model.onnx"):
    onnx.save(model, tmp_path / name)
    return tmp_path / name


@pytest.fixture
def one_of_each(tmp_path):
    """A graph with one layer of every kind, and shapes small enough to count by hand."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], name="gather"),  # [1, 10, 8]
        helper.make_node("MatMul", ["embedded", "linear"], ["a"], name="matmul"),  # [1, 10, 6]
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),  # [1, 6, 10]
        helper.make_node("Conv", ["b", "grouped", "bias"], ["c"], name="conv", group=2, pads=[1, 1]),  # [1, 4, 10]
        helper.make_node("ConvTranspose", ["c", "up"], ["d"], name="up", strides=[2]),  # [1, 5, 22]
        helper.make_node("Shape", ["d"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["length"], name="not a weight"),
        helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["d", "e"], ["output"], name="scores"),  # [1, 5, 5]
        helper.make_node("Identity", ["length"], ["unused"]),
    ]
    tensors = {
        "table": normal(rng, 20, 8),
        "linear": normal(rng, 8, 6),
        "grouped": normal(rng, 4, 3, 3),
        "bias": normal(rng, 4),
        "up": normal(rng, 4, 5, 4),
        "two": np.array(2),
    }
    integers = {"ids": TensorProto.INT64, "unused": TensorProto.INT64}
    return saved(made(nodes, tensors, {"ids": [1, 10]}, ["output", "unused"], rank=None, **integers), tmp_path)


def test_multiply_accumulates_and_parameters_are_those_counted_by_hand(one_of_each):
    inventory = take_inventory(one_of_each, {"ids": np.arange(10)[None]})
    assert {layer.node: (layer.parameters, layer.macs) for layer in inventory.layers} == {
        "gather": (160, 0),
        "matmul": (48, 10 * 6 * 8),
        "conv": (36, 4 * 10 * 3 * 3),
        "up": (80, 4 * 10 * 5 * 4),
        "scores": (0, 5 * 5 * 22),
    }
    assert inventory.parameters_stored == inventory.parameters_nonzero == 160 + 48 + 36 + 4 + 80


def test_the_default_voice_has_the_parameters_and_layers_that_it_is_known_to_have(joe):
    inventory = take_inventory(joe, reference(joe))
    assert round(inventory.parameters_stored / 1e6, 2) == 15.65
    decoder = sum(layer.parameters for layer in inventory.weighted if layer.in_decoder)
    assert round(decoder / 1e6, 2) == 1.66
    in_decoder = sum(layer.macs for layer in inventory.layers if layer.in_decoder)
    assert 0.6 < in_decoder / inventory.macs < 0.8


@pytest.mark.slow
def test_the_export_stores_and_computes_what_the_original_does(medium_voice, exported):
    original, ours = (take_inventory(p, reference(medium_voice)) for p in (medium_voice, exported("medium")))
    # Folded duration layers may leave a handful of scalars more or less.
    assert ours.parameters_stored == pytest.approx(original.parameters_stored, rel=1e-3)
    assert ours.macs == pytest.approx(original.macs, rel=0.02)


@pytest.mark.slow
def test_weight_only_int8_reaches_nearly_all_parameters_and_no_arithmetic(joe, tmp_path):
    path = saved(quantize_weights(onnx.load(joe), QuantizeWeights(step="quantize_weights")), tmp_path)
    before, after = take_inventory(joe, reference(joe)), take_inventory(path, reference(joe))
    step = QuantizeWeights(step="quantize_weights")
    record = record_of(step, after, before)
    assert record.coverage.parameters > 0.99
    assert record.coverage.macs == 0.0
    assert record.layers == 117
    assert after.parameters_stored == before.parameters_stored  # scales are no parameters
    assert total_coverage([step], [record], after) == record.coverage


@pytest.fixture(scope="module")
def static(medium_voice):
    return quantize_static(onnx.load(medium_voice), QuantizeStatic(step="quantize_static"), [reference(medium_voice)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_arithmetic_covers_every_convolution_but_the_transposed(medium_voice, static, tmp_path, kind):
    model, feed = onnx.load(medium_voice), reference(medium_voice)
    if kind == "dynamic":
        step = QuantizeDynamic(step="quantize_dynamic", operators=("Conv",))
        quantized = quantize_dynamic(model, step)
    else:
        step, quantized = QuantizeStatic(step="quantize_static"), static
    before, after = take_inventory(medium_voice, feed), take_inventory(saved(quantized, tmp_path), feed)
    convolutions = [layer for layer in before.layers if layer.operator == "Conv"]
    record = record_of(step, after, before)
    assert record.layers == len(convolutions)
    assert record.coverage.parameters == pytest.approx(
        sum(layer.parameters for layer in convolutions) / before.parameters_stored, rel=1e-6
    )
    assert record.coverage.macs == pytest.approx(sum(layer.macs for layer in convolutions) / before.macs, rel=0.05)
    assert after.parameters_stored == before.parameters_stored


@pytest.mark.slow
def test_a_convolution_whose_output_stays_float_is_not_counted_as_int8_arithmetic(medium_voice, static, tmp_path):
    feed, quantized = reference(medium_voice), onnx.ModelProto()
    quantized.CopyFrom(static)
    counts = [take_inventory(saved(quantized, tmp_path), feed)]
    # Read one convolution's float output directly, so that no quantizer folds into it.
    conv = next(node for node in quantized.graph.node if node.op_type == "Conv" and "/dec/resblocks" in node.name)
    reader = next(node for node in quantized.graph.node if conv.output[0] in node.input)
    for node in quantized.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == reader.output[0]:
            node.op_type, kept = "Identity", conv.output[0]
            del node.input[:]
            node.input.append(kept)
    counts.append(take_inventory(saved(quantized, tmp_path), feed))
    computing = [sum(layer.computes_int8 for layer in inventory.layers) for inventory in counts]
    assert computing[1] == computing[0] - 1


@pytest.fixture(scope="module")
def pruned(medium_voice, tmp_path_factory):
    """A pruned voice's file and how many of its weights were set to zero."""
    voice, path = open_piper(medium_voice), tmp_path_factory.mktemp("pruned") / "pruned.onnx"
    network = load_piper(voice)
    zeroed = prune_magnitude(network, 0.3)
    return export_piper(network, voice.config, path), zeroed


def test_pruning_covers_the_zeros_and_no_arithmetic(medium_voice, pruned):
    path, zeroed = pruned
    inventory = take_inventory(path, reference(medium_voice))
    record = record_of(PruneMagnitude(step="prune_magnitude"), inventory, inventory)
    assert record.coverage.parameters == pytest.approx(zeroed / inventory.parameters_stored, rel=1e-3)
    assert record.coverage.macs == 0.0
    assert inventory.parameters_stored - inventory.parameters_nonzero == pytest.approx(zeroed, rel=1e-3)
    assert "zero" in record.note


@pytest.mark.slow
def test_a_student_decoder_is_counted_as_what_replaced_the_teachers(medium_voice, tmp_path):
    voice = open_piper(medium_voice)
    network = load_piper(voice)
    network.decoder = IstftDecoder(IstftDecoderConfig(latent_channels=24, channels=16, inner_channels=32, blocks=2))
    weights = sum(p.numel() for name, p in network.decoder.named_parameters() if p.dim() > 1)
    export_piper(network, voice.config, tmp_path / "student.onnx")
    inventory = take_inventory(tmp_path / "student.onnx", reference(medium_voice))
    (tmp_path / "student").mkdir()
    (tmp_path / "student/config.json").write_text('{"decoder": {}}')
    step = Distill(step="distill", student=tmp_path / "student")
    record = record_of(step, inventory, inventory)
    assert record.note == "decoder replaced by the student student"
    assert record.coverage.parameters == pytest.approx(weights / inventory.parameters_stored, rel=1e-6)
    assert 0.0 < record.coverage.macs < 1.0
    assert total_coverage([step], [record], inventory) == record.coverage


def test_steps_together_never_count_a_parameter_twice(medium_voice, pruned, tmp_path):
    both = quantize_weights(onnx.load(pruned[0]), QuantizeWeights(step="quantize_weights"))
    inventory = take_inventory(saved(both, tmp_path), reference(medium_voice))
    steps = [PruneMagnitude(step="prune_magnitude"), QuantizeWeights(step="quantize_weights")]
    records = [record_of(step, inventory, inventory) for step in steps]
    total = total_coverage(steps, records, inventory)
    assert total_coverage(steps[1:], records[1:], inventory).parameters < total.parameters <= 1.0
