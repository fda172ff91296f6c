"""Local Hugging Face VITS folders."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VitsConfig, VitsModel, VitsTokenizer

from ttsopt_lib.optimize.build import build_original
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import VoiceSource
from ttsopt_lib.voices.huggingface import load_huggingface, piper_config_for
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import VoiceError, load_piper, open_piper
from ttsopt_lib.voices.source import source_before_export, source_model
from ttsopt_lib.voices.text import TextError, missing_symbols, missing_words, phoneme_ids, utterance_ids

KINDS = {
    "stochastic": {},
    "speakers": {"num_speakers": 3, "speaker_embedding_size": 8},
    "deterministic": {"use_stochastic_duration_prediction": False},
}
LETTERS = "abcdefghijklmnopqrstuvwxyz' "


def make(folder: Path, **changes) -> VitsModel:
    """Save a small random VITS with a character vocabulary."""
    torch.manual_seed(0)
    config = VitsConfig(  # type: ignore[call-arg]
        vocab_size=len(LETTERS) + 1,
        hidden_size=32,
        num_hidden_layers=2,
        ffn_dim=48,
        flow_size=16,
        spectrogram_bins=33,
        upsample_initial_channel=32,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_filter_channels=24,
        wavenet_dilation_rate=2,
        **changes,
    )
    model = VitsModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    vocabulary = {"|": 0} | {letter: number for number, letter in enumerate(LETTERS, 1)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    settings = {"add_blank": True, "is_uroman": False, "language": "eng", "normalize": True, "phonemize": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("huggingface")
    make(path)
    return path


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "tokenizer_config.json"])
def test_json_files_of_an_editor_on_windows_are_read(folder, tmp_path, name):
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert piper_config_for(tmp_path) == piper_config_for(folder)
    whole, marked = (load_huggingface(path).state_dict() for path in (folder, tmp_path))
    assert all(torch.equal(whole[key], marked[key]) for key in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_waveform_equals_transformers(kind, tmp_path):
    theirs = make(tmp_path, **KINDS[kind])
    theirs.noise_scale = theirs.noise_scale_duration = 0.0
    ours = load_huggingface(tmp_path)
    ids = torch.randint(0, len(LETTERS), (1, 40))
    speaker = 2 if kind == "speakers" else None
    with torch.inference_mode():
        expected = theirs(ids, speaker_id=speaker).waveform[0]
        spoken = ours(ids, torch.tensor([40]), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([2]))[0, 0, 0]
    assert spoken.shape == expected.shape
    assert (spoken - expected).abs().max() < 1e-4


def test_exported_folder_is_a_piper_voice(folder, tmp_path):
    model, config = load_huggingface(folder), piper_config_for(folder)
    voice = open_piper(export_piper(model, config, tmp_path / "voice.onnx"))
    ids = utterance_ids(voice.config, "Don't stop")
    waveform, durations = PairedSession(voice.path).speak(ids, seed=1)
    assert waveform.shape == (durations.sum() * model.hop_length,)
    assert load_piper(voice).decoder.config == model.decoder.config
    assert str(load_piper(voice)) == str(model)


@pytest.mark.slow
def test_a_study_opens_what_was_exported_and_exports_nothing_itself(folder, tmp_path):
    study = read_study(resolve(Path("params/joe.yaml"))).model_copy(update={"voice": VoiceSource(huggingface=folder)})
    files = StudyFolder(study, tmp_path)
    assert source_before_export(study).vits("it").config.phoneme_id_map == piper_config_for(folder).phoneme_id_map
    with pytest.raises(VoiceError, match="has to be exported first: ttsopt optimize"):
        source_model(study, files)
    assert not files.variant("original").exists()
    build_original(study, files)
    assert source_model(study, files).path == files.model("original")


def test_piper_config_gives_the_tokenizers_ids(folder):
    tokenizer = VitsTokenizer(str(folder / "vocab.json"), add_blank=True, phonemize=False)
    text = "Don't stop me now"
    assert utterance_ids(piper_config_for(folder), text) == tokenizer(text)["input_ids"]


def test_a_part_of_which_the_tokenizer_leaves_nothing_is_left_out(folder):
    config = piper_config_for(folder)
    first, others = "an only line of letters", "\u2026 \u2026 \u2026 \u2026"
    assert phoneme_ids(config, f"{first} {others}", most=len(first)) == phoneme_ids(config, first)
    with pytest.raises(TextError, match="gives no phonemes"):
        phoneme_ids(config, others)


WRITTEN = "abcdefghilmnopqrstuvxyéèüñôệçßıţîăأإ오늘\u09dc"


@pytest.fixture
def composed(folder, tmp_path):
    """The same folder with a vocabulary of many languages' letters, each with its marks as one, and further symbols."""

    def make_folder(further: str = "", language: str = "fra") -> Path:
        vocabulary = {"k": 0} | {letter: number for number, letter in enumerate(WRITTEN + further + "' ", 1)}
        spoil(folder, tmp_path, "config.json", vocab_size=len(vocabulary))
        settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "language": language}))
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        return tmp_path

    return make_folder


@pytest.mark.parametrize("combining", ["", "\u0301\u0323"])
@pytest.mark.parametrize("language", ["fra", "ron"])
@pytest.mark.parametrize(
    "text",
    [
        "école über año",
        "Ça va ? Élève, Ôter !",
        "Việt",
        "être, ẽ",
        "Straße",
        "Iı",
        "ţară ŢARĂ",
        "țară Țară",
        "أإ",
        "오늘",
        "\u09dc",
    ],
)
def test_composed_letters_get_the_tokenizers_ids(composed, text, language, combining):
    folder = composed(combining, language)
    tokenizer = VitsTokenizer(str(folder / "vocab.json"), add_blank=True, phonemize=False, language=language)
    assert utterance_ids(piper_config_for(folder), text) == tokenizer(text)["input_ids"]
    taken_apart = unicodedata.normalize("NFD", text)
    assert utterance_ids(piper_config_for(folder), taken_apart) == tokenizer(text)["input_ids"]


def test_what_piper_would_not_speak_of_composed_letters_is_said(composed):
    config, texts = piper_config_for(composed()), ["école é", "ok #"]
    missing = missing_symbols(config, texts)
    assert [(one.symbol, one.left_out_by, one.times, one.sentences) for one in missing] == [
        ("é", "piper", 2, 1),
        ("#", "voice", 1, 1),
    ]
    voice, piper = missing_words(missing, len(texts))
    assert "# (1 time, in 1 of 2 texts)" in voice
    assert "piper's own command takes é (2 times, in 1 of 2 texts) apart" in piper


def spoil(folder: Path, target: Path, file: str, **changes) -> Path:
    shutil.copytree(folder, target, dirs_exist_ok=True)
    path = target / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return target


def test_folder_that_is_no_vits_is_refused(folder, tmp_path):
    with pytest.raises(VoiceError, match="config.json: no such file"):
        load_huggingface(tmp_path / "absent")
    with pytest.raises(VoiceError, match="key model_type: 'bert'"):
        load_huggingface(spoil(folder, tmp_path, "config.json", model_type="bert"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(VoiceError, match="config.json: not valid JSON .*copy the whole folder"):
        load_huggingface(tmp_path)


def test_weights_of_another_model_are_refused(folder, tmp_path):
    with pytest.raises(VoiceError, match="model.safetensors: does not fit config.json") as caught:
        load_huggingface(spoil(folder, tmp_path, "config.json", hidden_size=64))
    assert "\n" not in str(caught.value)


def test_a_weight_without_its_direction_is_one_line(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    (half,) = (
        name
        for name in weights
        if "wavenet.in_layers.0" in name
        and name.startswith("flow.flows.0")
        and name.endswith(("weight_v", "original1"))
    )
    save_file({name: value for name, value in weights.items() if name != half}, tmp_path / "model.safetensors")
    with pytest.raises(VoiceError, match=r"does not fit config.json .*in_layers\.0\.weight"):
        load_huggingface(tmp_path)


def test_pickled_weights_are_not_opened(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(VoiceError, match="weights must be safetensors"):
        load_huggingface(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"too short")
    with pytest.raises(VoiceError, match="not a whole safetensors file"):
        load_huggingface(tmp_path)


def test_voice_that_needs_uroman_cannot_be_a_piper_voice(folder, tmp_path):
    with pytest.raises(VoiceError, match="key is_uroman"):
        piper_config_for(spoil(folder, tmp_path, "tokenizer_config.json", is_uroman=True))
