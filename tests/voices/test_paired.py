"""Two variants that speak with the same noise and the same durations."""

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from ttsopt_lib.voices.paired import PairedSession, duration_noise, prior_noise
from ttsopt_lib.voices.piper import VoiceError, open_piper
from ttsopt_lib.voices.text import utterance_ids

IDS = [1, 0, 20, 0, 31, 0, 15, 0, 9, 0, 22, 0, 2]


@pytest.fixture(scope="module")
def session(medium_voice):
    return PairedSession(medium_voice)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joe", "medium", "speakers", "deterministic"])
def test_original_and_its_export_say_the_same_with_the_same_noise(name, joe, random_voice, exported):
    voice = open_piper(joe if name == "joe" else random_voice(name))
    original, copy = PairedSession(voice.path), PairedSession(exported(name))
    for seed, text in enumerate(["Yes.", "A lathe is a big tool, and grab every dish of sugar."]):
        ids = utterance_ids(voice.config, text)
        expected, durations = original.speak(ids, seed=seed, sid=1)
        waveform, copied = copy.speak(ids, seed=seed, sid=1)
        assert copied.tolist() == durations.tolist()
        assert waveform.shape == expected.shape
        assert np.abs(waveform - expected).max() < 1e-4


def test_seed_decides_the_speech(session):
    first, _ = session.speak(IDS, seed=1)
    again, _ = session.speak(IDS, seed=1)
    other, _ = session.speak(IDS, seed=2)
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_speech_lasts_as_long_as_its_durations(session):
    waveform, durations = session.speak(IDS)
    assert waveform.shape == (durations.sum() * 256,)
    assert waveform.dtype == np.float32
    assert durations.dtype == np.int64
    given, kept = session.speak(IDS, durations=[3] * len(IDS))
    assert given.shape == (3 * len(IDS) * 256,)
    assert kept.tolist() == [3] * len(IDS)


def test_longer_speech_begins_with_the_same_noise():
    assert np.array_equal(prior_noise(4, 24, 50), prior_noise(4, 24, 80)[:, :50])
    assert np.array_equal(duration_noise(4, 10), duration_noise(4, 12)[:, :10])
    assert prior_noise(4, 24, 50).shape == (24, 50)


def test_speech_without_noise_does_not_depend_on_the_seed(session):
    first, _ = session.speak(IDS, seed=1, scales=(0.0, 1.0, 0.0))
    second, _ = session.speak(IDS, seed=2, scales=(0.0, 1.0, 0.0))
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_quantized_variants_can_be_paired(medium_voice, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    path = tmp_path / "int8.onnx"
    quantize_dynamic(medium_voice, path, op_types_to_quantize=["Conv", "MatMul"])
    original = PairedSession(medium_voice)
    expected, durations = original.speak(IDS, seed=1)
    waveform, _ = PairedSession(path).speak(IDS, seed=1, durations=durations)
    assert waveform.shape == expected.shape
    assert not np.array_equal(waveform, expected)
    assert np.abs(waveform - expected).max() < 0.5 * np.abs(expected).max()


def test_a_voice_in_float16_takes_the_same_noise_and_durations(plain_voice, tmp_path):
    path = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(plain_voice), keep_io_types=True), path)
    expected, durations = PairedSession(plain_voice).speak(IDS, seed=1)
    half = PairedSession(path)
    waveform, _ = half.speak(IDS, seed=1, durations=durations)
    assert waveform.dtype == np.float32
    assert 0 < np.abs(waveform - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(half.speak(IDS, seed=1)[1] - durations).max() <= 1


def test_speakers_differ(multi_speaker_voice):
    session = PairedSession(multi_speaker_voice)
    assert session.speakers == 3
    durations = [4] * len(IDS)
    first, _ = session.speak(IDS, durations=durations, sid=0)
    second, _ = session.speak(IDS, durations=durations, sid=2)
    assert not np.array_equal(first, second)


def test_loaded_model_is_left_alone(medium_voice):
    model = onnx.load(medium_voice)
    before = model.SerializeToString(deterministic=True)
    PairedSession(model)
    assert model.SerializeToString(deterministic=True) == before


def test_bad_calls_say_what_would_be_right(session):
    with pytest.raises(ValueError, match="no phoneme ids"):
        session.speak([])
    with pytest.raises(ValueError, match="2 durations for 13 phoneme ids"):
        session.speak(IDS, durations=[1, 2])


def test_what_is_no_voice_is_refused(tmp_path):
    with pytest.raises(VoiceError, match="no such file"):
        PairedSession(tmp_path / "absent.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [result])
    with pytest.raises(VoiceError, match="not a Piper voice: 0 Ceil nodes"):
        PairedSession(onnx.helper.make_model(graph))
