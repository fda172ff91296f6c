from pathlib import Path

import numpy as np
import pytest

from ttsopt_lib.evaluate.anchors import ANCHORS, LOWPASS, NOISE, degrade
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import Variant


@pytest.mark.slow
def test_noise_anchor_has_the_stated_signal_to_noise_ratio(spoken):
    noise = degrade(NOISE, spoken[0], 22050, seed=3) - spoken[0]
    ratio = 10 * np.log10(np.mean(spoken[0].astype(float) ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(20, abs=0.2)


@pytest.mark.parametrize(("hz", "low", "high"), [(1000, -0.1, 0.1), (3500, -6.2, -5.8), (6300, -200, -80)])
def test_lowpass_anchor_ends_at_3500_hz(hz, low, high):
    tone = np.sin(2 * np.pi * hz * np.arange(22050) / 22050)
    filtered = degrade(LOWPASS, tone, 22050, seed=0)[5000:-5000]
    assert low <= 10 * np.log10(np.mean(filtered**2) / 0.5) <= high


@pytest.mark.slow
def test_anchors_are_the_same_every_time(spoken):
    for anchor in ANCHORS:
        first, second = (degrade(anchor, spoken[0], 22050, seed=3) for _ in range(2))
        assert np.array_equal(first, second)
    with pytest.raises(KeyError, match="lowpass"):
        degrade("hum", spoken[0], 22050, seed=0)


@pytest.mark.parametrize(
    ("recipe", "naive"),
    [
        ([{"step": "quantize_static"}], True),
        ([{"step": "quantize_static", "operators": ["MatMul", "Conv"], "activations": "signed"}], True),
        ([{"step": "quantize_static", "operators": ["MatMul"]}], False),
        ([{"step": "quantize_static", "exclude": ["/dec/"]}], False),
        ([{"step": "quantize_static", "calibration": "percentile"}], False),
        ([{"step": "rearrange_decoder"}, {"step": "quantize_static"}], False),
        ([{"step": "quantize_dynamic", "operators": ["Conv"]}], False),
        ([], False),
    ],
)
def test_static_int8_of_every_convolution_alone_is_the_naive_one(recipe, naive):
    assert Variant.model_validate({"name": "some", "recipe": recipe}).is_naive_int8 is naive


def test_the_default_study_has_one_such_variant():
    study = read_study(resolve(Path("params/joe.yaml")))
    assert [variant.name for variant in study.variants if variant.is_naive_int8] == ["int8-static"]
