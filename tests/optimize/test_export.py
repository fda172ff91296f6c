"""Exported voices: drop-in Piper files."""

import hashlib
import json
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ttsopt_lib.optimize import export
from ttsopt_lib.optimize.export import export_piper, to_onnx
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import load_piper, open_piper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def medium(medium_voice):
    voice = open_piper(medium_voice)
    return voice, load_piper(voice)


@pytest.fixture(scope="module")
def medium_export(exported) -> Path:
    return exported("medium")


@pytest.fixture(scope="module")
def joe_export(exported) -> Path:
    return exported("joe")


def run_torch(model, ids, scales=(0.0, 1.0, 0.0)):
    arguments = [torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor(scales)]
    with torch.inference_mode():
        return model(*arguments)[0, 0, 0].numpy()


def test_audio_is_the_pytorch_models_at_every_length(medium, medium_export):
    _, model = medium
    session = PairedSession(medium_export)
    for length in [1, 4, 5, 6, 23, 100, 400]:
        ids = np.random.default_rng(length).integers(0, 40, length).tolist()
        waveform, _ = session.speak(ids, scales=(0.0, 1.0, 0.0))
        expected = run_torch(model, ids)
        assert waveform.shape == expected.shape
        assert np.abs(waveform - expected).max() < 1e-4


def test_unmodified_piper_command_speaks_with_an_export(joe_export, tmp_path):
    output = tmp_path / "spoken.wav"
    command = [sys.executable, "-m", "piper", "-m", str(joe_export), "-f", str(output), "--", "Good morning to you."]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with wave.open(str(output)) as audio:
        assert audio.getframerate() == 22050
        assert 0.5 < audio.getnframes() / 22050 < 4.0
        samples = np.frombuffer(audio.readframes(audio.getnframes()), np.int16)
    assert np.abs(samples).max() > 3000


def test_inputs_and_output_are_pipers(medium_voice, medium_export):
    def interface(path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return [(value.name, value.type, len(value.shape)) for value in (*session.get_inputs(), *session.get_outputs())]

    assert interface(medium_export) == interface(medium_voice)


def test_graph_of_the_real_voice_is_smaller_than_pipers_own(joe, joe_export):
    def operators(path):
        return sum(node.op_type != "Constant" for node in onnx.load(path).graph.node)

    assert operators(joe_export) < operators(joe)
    assert joe_export.stat().st_size < joe.stat().st_size


def test_export_can_be_loaded_again(medium, medium_export):
    _, model = medium
    again = load_piper(open_piper(medium_export))
    assert str(again) == str(model)
    ids = list(range(30))
    assert np.array_equal(run_torch(again, ids), run_torch(model, ids))


@pytest.mark.parametrize("name", ["low", "high", "speakers", "deterministic"])
def test_every_kind_of_voice_survives_the_round_trip(name, random_voice, exported):
    voice, copy = open_piper(random_voice(name)), open_piper(exported(name))
    ids = list(range(25))
    expected, durations = PairedSession(voice.path).speak(ids, seed=2, sid=1)
    waveform, copied = PairedSession(copy.path).speak(ids, seed=2, sid=1)
    assert copied.tolist() == durations.tolist()
    assert np.abs(waveform - expected).max() < 1e-4
    assert str(load_piper(copy)) == str(load_piper(voice))


def test_the_same_model_gives_the_same_bytes(medium_voice, medium_export, tmp_path):
    """In another process, with another hash seed and after other random numbers."""
    code = (
        "import sys, torch; from ttsopt_lib.optimize.export import export_piper;"
        "from ttsopt_lib.voices.piper import load_piper, open_piper; torch.manual_seed(99);"
        "voice = open_piper(sys.argv[1]); export_piper(load_piper(voice), voice.config, sys.argv[2])"
    )
    again = tmp_path / "other name.onnx"
    subprocess.run([sys.executable, "-c", code, str(medium_voice), str(again)], check=True, capture_output=True)
    for suffix in ("", ".json"):
        first, second = (Path(f"{path}{suffix}").read_bytes() for path in (medium_export, again))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_exporting_draws_none_of_the_callers_random_numbers(medium):
    voice, model = medium
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    to_onnx(model, voice.config)
    assert torch.equal(torch.randn(3), expected)


def test_nodes_carry_their_stage(medium_export):
    model = onnx.load(medium_export)
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert weighted
    assert all(node.name.startswith(("/enc_p/", "/dp/", "/flow/", "/dec/")) for node in weighted)
    assert "/flow/flows.6/enc/in_layers.0/Conv" in {node.name for node in weighted}
    # Every weight says where it belongs too.
    assert all("::" not in tensor.name for tensor in model.graph.initializer)


def test_sherpa_onnx_finds_its_metadata(medium_export):
    found = {entry.key: entry.value for entry in onnx.load(medium_export).metadata_props}
    assert found == {
        "model_type": "vits",
        "comment": "piper",
        "language": "en_US",
        "voice": "en-us",
        "has_espeak": "1",
        "n_speakers": "1",
        "sample_rate": "22050",
        "version": "1",
    }


def test_config_beside_the_export_is_the_voices_own(joe, joe_export):
    original = json.loads(Path(f"{joe}.json").read_text(encoding="utf-8"))
    assert json.loads(Path(f"{joe_export}.json").read_text(encoding="utf-8")) == original


class Student(nn.Module):
    """A decoder that is nothing like a HiFi-GAN."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv1d(24, 256, 3, padding=1)

    def forward(self, z, g=None):
        return torch.tanh(self.head(z)).transpose(1, 2).reshape(z.shape[0], 1, -1)


def test_student_decoder_is_exported_in_its_place(medium_voice, tmp_path):
    voice = open_piper(medium_voice)
    model = load_piper(voice)
    model.decoder = Student().eval()
    path = export_piper(model, voice.config, tmp_path / "student.onnx")
    open_piper(path)
    waveform, _ = PairedSession(path).speak(list(range(17)), scales=(0.0, 1.0, 0.0))
    assert np.abs(waveform - run_torch(model, list(range(17)))).max() < 1e-4


def test_narrowed_layers_are_exported_and_loaded_again(medium_voice, tmp_path):
    """Channels removed from some layers only, as structured pruning does."""
    voice = open_piper(medium_voice)
    model: Any = load_piper(voice)
    feed_forward = model.text_encoder.encoder.ffn_layers[0]
    narrow = nn.Conv1d(32, 50, 3, padding=1), nn.Conv1d(50, 32, 3, padding=1)
    feed_forward.conv_1, feed_forward.conv_2 = narrow
    wavenet = model.flow.flows[2].enc
    gates = torch.cat([torch.arange(20), torch.arange(32, 52)])
    old = wavenet.in_layers[1], wavenet.res_skip_layers[1]
    wavenet.in_layers[1] = nn.Conv1d(32, 40, 5, padding=2)
    wavenet.in_layers[1].weight.data = old[0].weight.data[gates]
    wavenet.in_layers[1].bias.data = old[0].bias.data[gates]
    wavenet.res_skip_layers[1] = nn.Conv1d(20, 64, 1)
    wavenet.res_skip_layers[1].weight.data = old[1].weight.data[:, :20]
    path = export_piper(model.eval(), voice.config, tmp_path / "narrow.onnx")
    waveform, _ = PairedSession(path).speak(list(range(31)), scales=(0.0, 1.0, 0.0))
    expected = run_torch(model, list(range(31)))
    assert np.abs(waveform - expected).max() < 1e-4
    assert np.array_equal(run_torch(load_piper(open_piper(path)), list(range(31))), expected)


def test_failed_export_leaves_nothing_behind(medium, medium_export, tmp_path, monkeypatch):
    voice, model = medium
    monkeypatch.setattr(export, "to_onnx", lambda *_: onnx.load(medium_export))
    path = tmp_path / "model.onnx"

    def full_disk(self, text, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_piper(model, voice.config, path)
    assert list(tmp_path.iterdir()) == []
