"""Peers are made by their own tools; what is unchanged is not made again, what fails says why."""

from pathlib import Path
from shutil import copyfile

import numpy as np
import onnx
import onnxruntime
import pytest

from ttsopt_lib.optimize import peers
from ttsopt_lib.optimize.peers import build_peers, peer_key
from ttsopt_lib.params import read_study
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.study import ORIGINAL, PeerName, SentenceRange, Study
from ttsopt_lib.voices.paired import PairedSession


@pytest.fixture
def make(tmp_path: Path, medium_voice: Path):
    """Build peers of a small voice."""

    def build(*names: PeerName) -> tuple[StudyFolder, list[PeerRecord]]:
        study = read_study(Path("params/joe.yaml"))
        study = study.model_copy(update={"measure": study.measure.model_copy(update={"peers": names})})
        assert isinstance(study, Study)
        folder = StudyFolder(study, tmp_path)
        if not folder.model(ORIGINAL).exists():
            folder.variant(ORIGINAL).mkdir(parents=True)
            copyfile(medium_voice, folder.model(ORIGINAL))
            copyfile(f"{medium_voice}.json", f"{folder.model(ORIGINAL)}.json")
        return folder, build_peers(study, folder)

    return build


@pytest.mark.slow
def test_float16_and_int8_voices_keep_float32_inputs_and_outputs(make):
    folder, records = make("ort-fp16", "ort-int8-dynamic")
    kinds = {}
    for record in records:
        path = folder.peer(record.name) / record.model
        session = onnxruntime.InferenceSession(str(path))
        feed = {
            "input": np.array([[1, 0, 5, 0, 6, 0, 7, 0, 2]]),
            "input_lengths": np.array([9]),
            "scales": np.array([0.667, 1, 0], np.float32),
        }
        audio = np.asarray(session.run(None, feed)[0])
        assert audio.dtype == np.float32 and np.isfinite(audio).all() and audio.size > 256
        assert record.size_bytes == path.stat().st_size < folder.model(ORIGINAL).stat().st_size
        assert PairedSession(path).speak(feed["input"][0].tolist())[0].size, "it takes the noise of the variants"
        kinds[record.name] = {node.op_type for node in onnx.load(path).graph.node}
    assert "ConvInteger" in kinds["ort-int8-dynamic"] and "Cast" in kinds["ort-fp16"]


def test_what_is_unchanged_is_not_made_again_and_a_new_version_is(make, monkeypatch):
    folder, (first,) = make("ort-fp16")
    _, (second,) = make("ort-fp16")
    assert second == first
    monkeypatch.setattr(peers, "versions_of", lambda name: {"onnxruntime": "99"})
    _, (third,) = make("ort-fp16")
    assert third.key != first.key and third.versions == {"onnxruntime": "99"}
    (folder.peer("ort-fp16") / "model.onnx").unlink()
    _, (fourth,) = make("ort-fp16")
    assert (folder.peer("ort-fp16") / "model.onnx").is_file() and fourth.files == third.files


def test_what_a_peer_is_made_from_is_the_sentences_and_the_config_too(make, tmp_path):
    folder, _ = make()
    texts = tmp_path / "texts.txt"
    texts.write_text("One.\nTwo.\n", encoding="utf-8")
    calibration = SentenceRange(file=texts, count=2)
    study = read_study(Path("params/joe.yaml"))
    sentences = study.sentences.model_copy(update={"calibration": calibration})
    study = study.model_copy(update={"sentences": sentences})

    def keys():
        return [peer_key(study, folder, name) for name in ("openvino-int8", "ort-fp16")]

    first = keys()
    assert keys() == first
    texts.write_text("One.\nThree.\n", encoding="utf-8")
    second = keys()
    assert second[0] != first[0] and second[1] == first[1]  # float16 asks for no sentences
    config = Path(f"{folder.model(ORIGINAL)}.json")
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert all(now != before for now, before in zip(keys(), second, strict=True))


def test_a_missing_package_and_a_tool_that_fails_cost_their_own_peer_alone(make, monkeypatch):
    def broken(original: Path, target: Path) -> str:
        (target / "half.onnx").write_bytes(b"half")
        raise ValueError("no such\noperator")

    monkeypatch.setitem(peers.MAKERS, "ort-int8-dynamic", broken)
    monkeypatch.setattr(
        peers, "missing_packages", lambda name: "gone; pip install gone" if name == "hibari-tts" else None
    )
    folder, records = make("ort-fp16", "ort-int8-dynamic", "hibari-tts")
    assert [record.status for record in records] == ["ready", "not_available", "not_available"]
    assert (
        records[1].reason == "it could not be made: no such operator" and records[2].reason == "gone; pip install gone"
    )
    assert [path.name for path in folder.peer("ort-int8-dynamic").iterdir()] == ["peer.json"]


def test_peers_with_the_originals_own_file_have_its_size(make):
    folder, records = make("piper-tts", "openvino-fp32", "sherpa-onnx", "hibari-tts")
    size = folder.model(ORIGINAL).stat().st_size
    piper, openvino, sherpa, hibari = records
    assert piper.size_bytes == openvino.size_bytes == size and piper.model is None
    assert sherpa.size_bytes and 0 < sherpa.size_bytes - size < 1000, "metadata alone is added"
    assert set(sherpa.files) == {"model.onnx", "tokens.txt"}
    assert hibari.size_bytes and 7e6 < hibari.size_bytes < 9e6
