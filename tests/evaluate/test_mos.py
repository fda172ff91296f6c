import sys
from types import ModuleType

import numpy as np
import pytest

from ttsopt_lib.evaluate.anchors import ANCHORS, degrade
from ttsopt_lib.evaluate.predictors import mos
from ttsopt_lib.evaluate.predictors.stand_ins import stand_in
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written, to_16khz

# Scores of speechmos 0.0.1.1's own function (with librosa 0.11) on the signals of `speechlike`. 2.0 s becomes 16 s by
# doubling and is scored in eight segments; 2.5 s becomes 10 s and is scored once.
PACKAGE_SCORES = {2.0: 2.605969, 2.5: 2.616036, 9.5: 2.678244, 12.0: 2.664872}


@pytest.mark.parametrize("seconds", PACKAGE_SCORES)
def test_p808_gives_the_scores_of_its_package(seconds, speechlike):
    score = mos.load_predictor("dnsmos_p808").score(speechlike(seconds))
    assert score == pytest.approx(PACKAGE_SCORES[seconds], abs=1e-4)


@pytest.fixture(scope="module")
def packaged_distillmos():
    """The network as its package calls it: padded with zeros to 7.68 s, every frame computed."""
    with stand_in("torchaudio"):
        from distillmos import ConvTransformerSQAModel
    return ConvTransformerSQAModel().eval()


@pytest.mark.slow
def test_distillmos_gives_the_scores_of_its_package(heard, capsys, packaged_distillmos):
    import torch

    capsys.readouterr()
    score = mos.load_predictor("distillmos").score(heard[0])
    assert capsys.readouterr().out == ""
    with torch.inference_mode():
        assert score == pytest.approx(packaged_distillmos(torch.from_numpy(heard[0])[None]).item(), abs=1e-5)


# one frame; odd numbers of frames and samples; the last lengths that leave room for zeros; none; more than a segment
@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 160, 479, 16001, 37777, 90000, 119679, 119680, 119681, 122880, 150001])
def test_distillmos_skips_no_frame_that_says_something(samples, speechlike, packaged_distillmos):
    import torch

    waveform = speechlike(samples / 16000 + 0.01)[:samples] * np.float32(0.3)
    with torch.inference_mode():
        expected = packaged_distillmos(torch.from_numpy(waveform)[None]).item()
    assert mos.load_predictor("distillmos").score(waveform) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("before", [None, ModuleType("torchaudio")])
def test_a_stand_in_is_gone_after_the_import(monkeypatch, before):
    if before:
        monkeypatch.setitem(sys.modules, "torchaudio", before)
    else:
        monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    with stand_in("torchaudio", size=3):
        assert sys.modules["torchaudio"].size == 3
    assert sys.modules.get("torchaudio") is before


@pytest.mark.slow
@pytest.mark.parametrize("name", mos.PREDICTORS)
def test_a_score_depends_on_the_audio_alone(name, heard):
    predictor = mos.load_predictor(name)
    first = [predictor.score(waveform) for waveform in heard]
    backwards = [predictor.score(waveform) for waveform in reversed(heard)]
    assert first == backwards[::-1]
    assert len(set(first)) == len(first)


@pytest.mark.slow
@pytest.mark.parametrize("name", mos.PREDICTORS)
def test_the_original_scores_as_a_good_voice_and_both_anchors_below_it(name, spoken, heard):
    predictor = mos.load_predictor(name)
    original = np.mean([predictor.score(waveform) for waveform in heard])
    assert 3.6 < original < 4.5
    for anchor in ANCHORS:
        damaged = [as_float(as_written(degrade(anchor, waveform, 22050, seed=0))) for waveform in spoken]
        scores = [predictor.score(to_16khz(waveform, 22050)) for waveform in damaged]
        assert np.mean(scores) < original - 0.2, anchor


@pytest.mark.parametrize("name", mos.PREDICTORS)
def test_a_predictor_is_named_with_version_and_hash(name):
    record = mos.describe(name)
    assert record.version and len(record.weights_sha256) == 64


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(mos.PREDICTORS, "distillmos", ("DistillMOS", "no-such-package", "weights.pt"))
    with pytest.raises(mos.PredictorError, match="pip install --no-deps no-such-package"):
        mos.describe("distillmos")
