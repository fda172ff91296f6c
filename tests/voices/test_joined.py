"""A model in several files: joined it speaks as its files do one after another, and one line says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.voices.declared_graphs import INPUTS, constant, declare, tiny_tts
from ttsopt_lib.voices.adapters.declaration import read_declaration
from ttsopt_lib.voices.adapters.declared import DeclaredModel, open_declared
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.session import open_session

TEXT = "The door is open."
FRAMES = "/decoder/long"  # where the tiny model is cut


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ttsopt"


def halves(folder: Path, inputs: dict[str, str] | None = None) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The tiny model as an acoustic model and a vocoder; `inputs` renames what the vocoder takes."""
    whole = tiny_tts(noise=False)
    graph = whole.graph
    cut = next(number for number, node in enumerate(graph.node) if node.output[0] == FRAMES) + 1
    first, second = onnx.ModelProto.FromString(whole.SerializeToString()), whole
    del first.graph.node[cut:], first.graph.output[:]
    del second.graph.node[:cut], second.graph.input[:]
    frames = helper.make_tensor_value_info(FRAMES, TensorProto.FLOAT, [1, 16, "time"])
    first.graph.output.append(frames)
    second.graph.input.append(frames)
    for node in second.graph.node:
        node.input[:] = [(inputs or {}).get(name, name) for name in node.input]
    for value in second.graph.input:
        value.name = (inputs or {}).get(value.name, value.name)
    return first, second


def declared(folder: Path, vocoder: onnx.ModelProto, acoustic: onnx.ModelProto, **changes: Any) -> Path:
    path = declare(folder, acoustic, **{"then": ["vocoder.onnx"], **changes})
    onnx.save(vocoder, folder / "vocoder.onnx")
    return path


def opened(path: Path) -> DeclaredModel:
    model = read_declaration(path)
    assert model.model is not None and not model.then
    return open_declared(model.model, model, path)


def one_after_another(folder: Path, model: DeclaredModel, ids: list[int]) -> np.ndarray:
    feed = model.feed(ids)
    (frames,) = open_session(folder / "tiny.onnx").run([FRAMES], feed)
    vocoder = open_session(folder / "vocoder.onnx")
    return vocoder.run(["sound"], {vocoder.get_inputs()[0].name: frames})[0].reshape(-1)


@pytest.mark.parametrize("called", [FRAMES, "mels"])
def test_it_speaks_as_its_files_do_one_after_another(tmp_path: Path, called: str) -> None:
    acoustic, vocoder = halves(tmp_path, {FRAMES: called})
    path = declared(tmp_path, vocoder, acoustic)
    model = opened(path)
    ids = model.utterance_ids(TEXT)
    audio, _ = model.open().speak(ids)
    np.testing.assert_array_equal(audio, one_after_another(tmp_path, model, list(ids)))
    assert len(audio) > 1000 and np.abs(audio).max() > 0.1

    before = model.path.stat().st_mtime_ns
    assert opened(path).path == model.path and model.path.stat().st_mtime_ns == before, "it is joined once"


def test_a_copy_of_it_is_whole_without_the_files(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path)
    model = opened(declared(tmp_path / "of", vocoder, acoustic))
    copy = tmp_path / "variant/model.onnx"
    copy.parent.mkdir()
    copy.write_bytes(model.path.read_bytes())
    model.write_config(copy)
    ids = model.utterance_ids(TEXT)
    np.testing.assert_array_equal(open_model(copy).open().speak(ids)[0], model.open().speak(ids)[0])


def test_another_vocoder_is_another_model(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path)
    path = declared(tmp_path, vocoder, acoustic)
    before = opened(path).path
    vocoder.graph.initializer[0].CopyFrom(constant(vocoder.graph.initializer[0].name, np.zeros((40, 16))))
    vocoder.doc_string = "another"
    onnx.save(vocoder, tmp_path / "vocoder.onnx")
    assert opened(path).path != before


def test_names_that_both_files_use_are_kept_apart_and_inputs_are_shared(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path)
    bias = helper.make_node("Add", ["sound", "speed"], ["louder"], name="/encoder/emb")  # a name of the other's
    vocoder.graph.node.append(bias)
    vocoder.graph.input.append(helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]))
    vocoder.graph.output.append(helper.make_tensor_value_info("louder", TensorProto.FLOAT, [1, 1, "time"]))
    model = opened(declared(tmp_path, vocoder, acoustic, audio="louder"))
    assert sorted(model.inputs) == sorted(INPUTS)
    audio = model.open().speak(model.utterance_ids(TEXT))[0]
    plain = opened(declared(tmp_path, vocoder, acoustic)).open().speak(model.utterance_ids(TEXT))[0]
    np.testing.assert_allclose(audio, plain + 0.5, atol=1e-6)


def test_files_of_other_operator_sets_are_joined(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path)
    acoustic.opset_import[0].version = 13
    vocoder.opset_import[0].version = 18
    model = opened(declared(tmp_path, vocoder, acoustic))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_allclose(model.open().speak(ids)[0], one_after_another(tmp_path, model, list(ids)), atol=1e-6)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path, {FRAMES: "mels"})
    more = onnx.ModelProto.FromString(acoustic.SerializeToString())
    more.graph.output.append(helper.make_tensor_value_info("/encoder/act", TensorProto.FLOAT, [1, 16, "ids"]))
    whole = onnx.ModelProto.FromString(vocoder.SerializeToString())
    whole.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    wrong = {"model": "vocoder.onnx", "inputs": {"mel": FRAMES}}
    unknown = {"model": "vocoder.onnx", "inputs": {"mels": "mel"}}
    for graphs, then, words in (
        ((vocoder, acoustic), ["nothing.onnx"], "key then.0: .*nothing.onnx: no such file"),
        ((vocoder, acoustic), "vocoder.onnx", "key then: Input should be a valid"),
        ((vocoder, acoustic), [wrong], "key then.0: vocoder.onnx has no input 'mel' .it has: mels"),
        ((vocoder, acoustic), [unknown], "key then.0.inputs.mels: no file before gives 'mel' .they give: /decoder/l"),
        ((vocoder, more), ["vocoder.onnx"], "takes mels, and no file before it .*write {model: vocoder.onnx, inputs: "),
        ((whole, acoustic), ["vocoder.onnx"], "takes mels as float16, and tiny.onnx gives /decoder/long as float32"),
        ((tiny_tts(), acoustic), ["vocoder.onnx"], "vocoder.onnx takes nothing of what is before it"),
    ):
        path = declared(tmp_path / "one", *graphs, then=then)
        with pytest.raises(VoiceError, match=words) as caught:
            opened(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    known = {"model": "vocoder.onnx", "inputs": {"mels": FRAMES}}
    model = opened(declared(tmp_path / "two", vocoder, more, then=[known]))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_array_equal(model.open().speak(ids)[0], one_after_another(tmp_path / "two", model, list(ids)))
