"""Mixed precision by search: it finds the layer that int8 ruins, keeps to its budget, and leaves a voice."""

import json

import numpy as np
import onnx
import pytest

from tests.optimize.small_graphs import arrays
from tests.optimize.test_build import make_study
from ttsopt_lib.optimize.build import build_study, speak
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import seed_noise
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions, quantize_convolutions, quantized_tensors
from ttsopt_lib.optimize.graph.ranges import Histogram, histograms
from ttsopt_lib.optimize.graph.sensitivity import SpectralJudge, compare, layer_groups, sensitivities
from ttsopt_lib.optimize.steps.quantize_mixed import quantize_mixed, spend
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import GroupSensitivity, SensitivityRecord
from ttsopt_lib.step_settings import QuantizeMixed
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.piper import open_piper

MIXED = {"step": "quantize_mixed", "budget_db": 50.0, "calibration_sentences": 1, "judged_sentences": 1}
REARRANGE = {"step": "rearrange_decoder"}


@pytest.fixture(scope="module")
def ranges(tiny):
    """Of the layers of the small voice."""
    seeded = copy_named(tiny.model)
    seed_noise(seeded)
    seen = histograms(seeded, quantized_tensors(quantizable_convolutions(tiny.model)), tiny.feeds)
    return {name: histogram.range("minmax") for name, histogram in seen.items()}


def group(name, error, **more):
    return GroupSensitivity(
        group=name, label=name, layers=1, parameters=0.1, time=0.1,
        level_error_db=error, spectral_distance_db=error, level_above_8khz_db=0.0, **more,
    )  # fmt: skip


def record_of_search(model, error):
    """A record in which every group costs the same."""
    groups = [group(name, error) for name in layer_groups(model)]
    return SensitivityRecord(key="k", variant="v", sentences=1, groups=groups, chosen=[], created="")


@pytest.mark.slow
def test_a_ruined_range_makes_its_group_the_most_sensitive(tiny, ranges):
    model, feeds, rate = tiny
    groups = layer_groups(model)
    bad = "dec/resblocks.4"
    ruined = dict(ranges)
    for node in quantizable_convolutions(model):
        if node.name in groups[bad]:
            low, high = ranges[node.output[0]]
            ruined[node.output[0]] = (300 * low, 300 * high)  # nothing but a few of the 256 steps is left
    # of the decoder alone, to be quick
    kept = [name for name in groups if name.startswith("dec/resblocks")]
    judge = SpectralJudge(model, feeds, rate)
    errors = {name: judge.judge(quantize_convolutions(model, groups[name], ruined))["level_error_db"] for name in kept}
    assert max(errors, key=errors.__getitem__) == bad


@pytest.mark.slow
def test_every_group_of_a_voice_is_judged(tiny, ranges):
    model, feeds, rate = tiny
    groups = layer_groups(model)
    record = sensitivities(model, SpectralJudge(model, feeds, rate), ranges, "key", "int8-mixed", groups)
    assert [one.group for one in record.groups] == list(groups)
    assert not any(one.group.startswith("dp") for one in record.groups)  # durations are given: it would look harmless
    assert all(np.isfinite(one.level_error_db) and one.level_error_db >= 0 for one in record.groups)
    assert 0.3 < sum(one.time for one in record.groups) <= 1
    assert sum(one.parameters for one in record.groups) <= 1


@pytest.mark.slow
def test_without_a_budget_no_activation_is_quantized(tiny):
    model, feeds, rate = tiny
    step = QuantizeMixed(step="quantize_mixed", budget_db=0.0, calibration_sentences=1, judged_sentences=1)
    macs = {node.name: 1 for node in model.graph.node}
    mixed = quantize_mixed(model, step, feeds, macs, rate, known=record_of_search(model, 0.0))
    assert not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in mixed.model.graph.node)
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in mixed.model.graph.initializer)


def test_the_budget_goes_where_it_saves_most():
    groups = [group("cheap", 0.2), group("dear", 0.9), group("small", 0.2), group("dec/conv_post", 0.0)]
    saved = {"cheap": 100, "dear": 100, "small": 10, "dec/conv_post": 1000}
    assert spend(groups, saved, 0.5) == ["cheap", "small"]
    assert spend(groups, saved, 0.3) == ["cheap"]
    assert spend(groups, saved, 2.0) == ["cheap", "dear", "small"]  # the last layer never


@pytest.mark.slow
def test_int8_convolution_is_within_the_steps_of_its_ranges(tiny, ranges):
    model = tiny.model
    name = "/dec/conv_pre/Conv"
    node = next(node for node in model.graph.node if node.name == name)
    quantized = quantize_convolutions(model, [name], ranges)
    kinds = [one.op_type for one in quantized.graph.node]
    assert kinds.count("QuantizeLinear") == 2
    stored, weight = arrays(quantized), node.input[1]
    steps = stored[f"{weight}_scale"][:, None, None, None]
    assert np.all(np.abs(stored[f"{weight}_int8"] * steps - arrays(model)[weight]) <= steps / 2 + 1e-7)
    # Signed activations are the same steps, moved by 128.
    signed = arrays(quantize_convolutions(model, [name], ranges, signed=True))
    for tensor in (node.input[0], node.output[0]):
        points = [graph[f"{tensor}_zero"] for graph in (stored, signed)]
        assert [point.dtype for point in points] == [np.uint8, np.int8]
        assert int(points[0]) - 128 == int(points[1])


def test_seven_bits_of_weight_leave_no_product_to_be_cut_off(tiny, ranges):
    tops = {}
    for bits in (8, 7):
        stored = arrays(quantize_convolutions(tiny.model, ["/dec/conv_pre/Conv"], ranges, weight_bits=bits))
        (weight,) = [value for name, value in stored.items() if name.endswith("_int8")]
        tops[bits] = int(np.abs(weight).max())
    assert tops == {8: 127, 7: 63}
    assert 2 * 255 * tops[7] < 2**15 <= 2 * 255 * tops[8]  # two products in 16 bits


def test_squared_error_clips_an_outlier_and_minmax_does_not():
    counts = np.zeros(2048)
    counts[900:1148] = 1e6
    counts[-1] = 1
    histogram = Histogram(-8.0, 8.0, counts)
    assert histogram.range("minmax") == (-8.0, 8.0)
    low, high = histogram.range("squared_error")
    assert -4 < low <= -0.9 and 0.9 <= high < 4


def test_noise_in_the_gaps_counts_and_its_like_in_loud_places_does_not():
    rng = np.random.default_rng(0)
    speech = np.concatenate([rng.standard_normal(20000) * 0.1, np.zeros(20000)]).astype(np.float32)
    noise = rng.standard_normal(20000).astype(np.float32) * 1e-3
    in_gaps, in_speech = speech.copy(), speech.copy()
    in_gaps[20000:] += noise
    in_speech[:20000] += noise
    errors = [compare(speech, audio, 22050)["level_error_db"] for audio in (in_gaps, in_speech)]
    assert errors[0] > 10 > 0.1 > errors[1]


@pytest.mark.slow
def test_mixed_variant_is_a_small_voice_made_the_same_each_time(multi_speaker_voice, tmp_path, monkeypatch):
    study = make_study(multi_speaker_voice, tmp_path, {"int8-mixed": [REARRANGE, MIXED]}, speaker=1)
    folder = StudyFolder(study, tmp_path / "reports")
    original, mixed = build_study(study, folder)
    voice = open_piper(folder.model("int8-mixed"))  # raises where it is no Piper voice
    assert speak(voice.path, voice_feed(voice.config, list(range(3, 20)), speaker=1)).size > 1000
    assert mixed.size_bytes < original.size_bytes
    assert mixed.coverage.macs > 0.3
    assert [step.step for step in mixed.steps] == ["rearrange_decoder", "quantize_mixed"]
    assert "int8 arithmetic in text encoder" in mixed.steps[1].note
    record = read_record(folder.sensitivity_record("int8-mixed"), SensitivityRecord, "optimize")
    assert "dec/conv_post" not in record.chosen and record.error_db <= record.budget_db

    # Made again, the sensitivities are read and not measured, and the bytes are the same.
    monkeypatch.setattr("ttsopt_lib.optimize.steps.quantize_mixed.sensitivities", None)
    (again,) = build_study(study, folder, only=["int8-mixed"], again=True)
    assert again.files == mixed.files
    assert json.loads(folder.sensitivity_record("int8-mixed").read_text())["groups"] == [
        one.model_dump() for one in record.groups
    ]
