"""UTMOS and NISQA-TTS: their loaders, on small files of the same format, and what is said where no hub is reached."""

import io

import numpy as np
import pytest
import torch
from small_study import changed

from ttsopt_lib.evaluate.keys import scorer_key
from ttsopt_lib.evaluate.predictors import hub_predictors, mos
from ttsopt_lib.evaluate.predictors.hub_predictors import NisqaTts, Utmos, _nisqa_library, hub_weights
from ttsopt_lib.evaluate.quality import evaluate_study

# What weights/nisqa_tts.tar of gabrielmittag/NISQA says of itself, with fewer channels.
NISQA_SETTINGS = {
    "ms_sr": None, "ms_fmax": 8000, "ms_n_fft": 4096, "ms_hop_length": 0.01, "ms_win_length": 0.02, "ms_n_mels": 48,
    "ms_seg_length": 15, "ms_seg_hop_length": 1, "cnn_model": "standard", "cnn_c_out_1": 2, "cnn_c_out_2": 3,
    "cnn_c_out_3": 4, "cnn_kernel_size": (3, 3), "cnn_dropout": 0.2, "cnn_fc_out_h": 5, "cnn_pool_1": None,
    "cnn_pool_2": None, "cnn_pool_3": None, "td": "lstm", "td_lstm_h": 6, "td_lstm_num_layers": 1,
    "td_lstm_dropout": 0, "td_lstm_bidirectional": True, "td_2": "skip", "pool": "last_step_bi",
    "name": "small", "tr_bs": 40,
}  # fmt: skip


class Loudness(torch.nn.Module):
    """In place of UTMOS: takes [1, samples], gives [1]."""

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return 1.0 + wave.abs().mean(dim=-1)


@pytest.fixture(scope="module")
def nisqa_weights(tmp_path_factory):
    torch.manual_seed(0)
    names = [name for name in NISQA_SETTINGS if name.startswith(("cnn_", "td", "pool", "ms_seg_length", "ms_n_mels"))]
    network = _nisqa_library().NISQA(**{name: NISQA_SETTINGS[name] for name in names})
    path = tmp_path_factory.mktemp("nisqa") / "small.tar"
    torch.save({"args": NISQA_SETTINGS, "model_state_dict": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def utmos_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("utmos") / "small.pt"
    torch.jit.script(Loudness()).save(str(path))
    return path


def test_utmos_is_given_one_utterance_and_gives_one_score(utmos_weights):
    predictor = Utmos(utmos_weights)
    assert predictor.score(np.full(800, 0.5, np.float32)) == pytest.approx(1.5)
    assert predictor.score(np.full(16000, -0.25, np.float32)) == pytest.approx(1.25)


def test_nisqa_scores_what_its_own_network_scores(nisqa_weights, speechlike):
    predictor = NisqaTts(nisqa_weights)
    first, second = (predictor.score(speechlike(seconds)) for seconds in (1.0, 2.0))
    assert np.isfinite([first, second]).all() and first != second
    assert predictor.score(speechlike(1.0)) == first
    assert np.isfinite(predictor.score(speechlike(0.15)))  # less than a window of 15 frames


def test_nisqa_hears_a_tone_in_its_band_and_no_more_than_80_db_below(nisqa_weights):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    features = NisqaTts(nisqa_weights).features(tone.astype(np.float32))
    assert features.shape == (48, 101)
    middle = features[:, 20:80].mean(axis=1)
    assert middle.argmax() == round(15 / (45.245 / 49)) - 1 and middle.min() >= middle.max() - 80.001


@pytest.mark.parametrize("load", [Utmos, NisqaTts])
def test_a_file_that_holds_something_else_is_named(load, tmp_path):
    (tmp_path / "weights").write_bytes(b"<html>not found</html>")
    with pytest.raises(mos.PredictorError, match=r"weights: no .*fetch "):
        load(tmp_path / "weights")


def offline(*_, **__):
    raise OSError("Network is unreachable")


@pytest.mark.parametrize("name", mos.OPTIONAL)
def test_without_a_hub_it_is_said_what_to_fetch_and_where_to_name_it(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr(hub_predictors.urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(mos.PredictorError, match=rf"unreachable\); fetch .* evaluate.weights: {name}"):
        mos.describe(name)
    with pytest.raises(mos.PredictorError, match="gone.pt is not there"):
        hub_weights(name, tmp_path / "gone.pt")


def test_weights_that_were_changed_on_the_way_are_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_predictors.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(mos.PredictorError, match="another file"):
        hub_weights("nisqa_tts")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_study_scores_with_what_is_there_and_says_what_is_not(folder, make_study, utmos_weights, monkeypatch):
    monkeypatch.setattr(hub_predictors, "_fetch_nisqa", offline)
    asked = ["dnsmos_p808", "utmos", "nisqa_tts"]
    study = make_study(predictors=asked, weights={"utmos": str(utmos_weights)})
    record = evaluate_study(changed(study, sentences={"evaluation": {"count": 1}}), folder, processes=1)
    assert [one.name for one in record.predictors] == ["dnsmos_p808", "utmos"]
    assert all(set(row.scores) == {"dnsmos_p808", "utmos"} for row in record.rows)
    assert [one.label for one in record.unavailable] == ["NISQA-TTS"] and "fetch" in record.unavailable[0].reason
    with pytest.raises(mos.PredictorError, match="could not be fetched"):
        evaluate_study(make_study(predictors=asked, primary="nisqa_tts"), folder, processes=1)


def test_other_weights_or_another_recognizer_at_the_same_path_are_another_scorer(study, tmp_path):
    weights, recognizer = tmp_path / "utmos.pt", tmp_path / "whisper"
    recognizer.mkdir()
    predictors = (*study.evaluate.predictors, "utmos")
    asking = {"predictors": predictors, "weights": {"utmos": weights}, "asr_model": str(recognizer)}
    study = changed(study, evaluate=study.evaluate.model_copy(update=asking))
    keys = [scorer_key(study)]
    for file in (weights, weights, recognizer / "model.bin", recognizer / "model.bin"):
        file.write_text(f"{len(keys)}")
        keys.append(scorer_key(study))
    assert len(set(keys)) == 5 and scorer_key(study) == keys[-1]
