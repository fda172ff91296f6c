"""A model in several files: joined it speaks as its files do one after another, and one line says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.voices.declared_graphs import INPUTS, constant, declare, tiny_tts
from ttsopt_lib.optimize.graph.sensitivity import is_vits
from ttsopt_lib.voices.adapters import joined
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


@pytest.mark.parametrize(("first", "second"), [(13, 18), (18, 13), (17, 11)])
def test_files_of_other_operator_sets_are_joined(tmp_path: Path, first: int, second: int) -> None:
    acoustic, vocoder = halves(tmp_path)
    acoustic.opset_import[0].version, vocoder.opset_import[0].version = first, second
    model = opened(declared(tmp_path, vocoder, acoustic))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_allclose(model.open().speak(ids)[0], one_after_another(tmp_path, model, list(ids)), atol=1e-6)


MELS = helper.make_tensor_value_info("mels", TensorProto.FLOAT, [1, 16, "time"])
SOUND = helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["samples"])


def vocoder_of(nodes: list[onnx.NodeProto], operator_set: int = 17, **changes: Any) -> onnx.ModelProto:
    """A vocoder of nodes from `mels` to `flat`, which becomes `sound`."""
    flat = [constant("all", [-1], np.int64), *changes.pop("weights", [])]
    nodes = [*nodes, helper.make_node("Reshape", ["flat", "all"], ["sound"])]
    graph = helper.make_graph(
        nodes, "vocoder", changes.pop("inputs", [MELS]), changes.pop("outputs", [SOUND]), flat, **changes
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", operator_set)], ir_version=8)


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


def test_an_old_upsampling_sounds_as_it_did(tmp_path: Path) -> None:
    scales = constant("scales", [1.0, 1.0, 2.5])
    for operator, version in (("Upsample", 9), ("Resize", 10)):
        vocoder = vocoder_of([node(operator, ["mels", "scales"], "flat", mode="linear")], version, weights=[scales])
        acoustic, _ = halves(tmp_path)
        model = opened(declared(tmp_path / operator, vocoder, acoustic))
        ids = model.utterance_ids(TEXT)
        expected = one_after_another(tmp_path / operator, model, list(ids))
        np.testing.assert_allclose(model.open().speak(ids)[0], expected, atol=1e-6)


def test_an_output_may_have_the_name_of_an_input(tmp_path: Path) -> None:
    """As of icefall's Matcha, which takes `x`, and Vocos, which gives one; and a file may pass an input on."""
    acoustic, _ = halves(tmp_path)
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["samples"])
    speed = helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1])
    vocoder = vocoder_of([node("Tanh", ["mels"], "flat"), node("Identity", ["sound"], "tokens")], outputs=[tokens])
    model = opened(declared(tmp_path / "alone", vocoder, acoustic, audio="tokens"))
    assert len(model.open().speak(model.utterance_ids(TEXT))[0])
    passing = vocoder_of([node("Tanh", ["mels"], "flat")], inputs=[MELS, speed], outputs=[speed, SOUND])
    for audio in ("sound", None):
        model = opened(declared(tmp_path / f"passing-{audio}", passing, acoustic, audio=audio))
        assert len(model.open().speak(model.utterance_ids(TEXT))[0])


def test_a_branch_s_axes_are_its_own(tmp_path: Path) -> None:
    """The vocoder calls its frames `ids`, which the acoustic model calls the text's length."""
    acoustic, _ = halves(tmp_path)
    frames = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1, 16, "ids"])
    branches = {
        name: helper.make_graph([node(operator, ["mels"], "branch")], name, [], [frames])
        for name, operator in (("then_branch", "Tanh"), ("else_branch", "Neg"))
    }
    inputs = [helper.make_tensor_value_info("mels", TensorProto.FLOAT, [1, 16, "ids"])]
    nodes = [node("If", ["yes"], "chosen", **branches), node("Neg", ["chosen"], "flat")]
    vocoder = vocoder_of(nodes, weights=[constant("yes", True, np.bool_)], inputs=inputs)
    model = opened(declared(tmp_path, vocoder, acoustic))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_array_equal(model.open().speak(ids)[0], one_after_another(tmp_path, model, list(ids)))


def test_files_that_are_called_like_stages_of_a_vits_are_none(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path)
    onnx.save(acoustic, tmp_path / "enc_p.onnx")
    onnx.save(vocoder, tmp_path / "dec.onnx")
    (tmp_path / "more").mkdir()
    louder = vocoder_of([node("Add", ["sound_before", "sound_before"], "flat")])
    louder.graph.input[0].CopyFrom(helper.make_tensor_value_info("sound_before", TensorProto.FLOAT, None))
    onnx.save(louder, tmp_path / "more/dec.onnx")
    then = ["dec.onnx", {"model": "more/dec.onnx", "inputs": {"sound_before": "sound"}}]
    path = declare(tmp_path, acoustic, model="enc_p.onnx", then=then)
    model = opened(path)
    assert not is_vits(onnx.load(model.path))
    alone = opened(declare(tmp_path / "alone", tiny_tts(noise=False)))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_allclose(model.open().speak(ids)[0], 2 * alone.open().speak(ids)[0], atol=1e-6)


def test_what_another_version_joined_is_joined_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acoustic, vocoder = halves(tmp_path)
    path = declared(tmp_path, vocoder, acoustic)
    before = opened(path).path
    monkeypatch.setattr(joined, "code_digest", lambda *modules: "another")
    assert opened(path).path != before


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    acoustic, vocoder = halves(tmp_path, {FRAMES: "mels"})
    more = onnx.ModelProto.FromString(acoustic.SerializeToString())
    more.graph.output.append(helper.make_tensor_value_info("/encoder/act", TensorProto.FLOAT, [1, 16, "ids"]))
    whole = onnx.ModelProto.FromString(vocoder.SerializeToString())
    whole.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    tanh = [node("Tanh", ["mels"], "flat")]
    flat, other_bins, one_length = (
        vocoder_of(tanh, inputs=[helper.make_tensor_value_info("mels", TensorProto.FLOAT, shape)])
        for shape in ([16, "time"], [1, 80, "time"], [1, 16, 100])
    )
    speaker = helper.make_tensor_value_info("speaker", TensorProto.FLOAT, [1, 16, "one"])
    also = vocoder_of([node("Add", ["mels", "speaker"], "flat")], inputs=[MELS, speaker])
    functions = vocoder_of([node("Squash", ["mels"], "flat", domain="own")])
    functions.functions.append(
        helper.make_function("own", "Squash", ["x"], ["y"], [node("Tanh", ["x"], "y")], [helper.make_opsetid("", 18)])
    )
    functions.opset_import.append(helper.make_opsetid("own", 1))
    known = {"model": "vocoder.onnx", "inputs": {"mels": FRAMES}}
    wrong = {"model": "vocoder.onnx", "inputs": {"mel": FRAMES}}
    unknown = {"model": "vocoder.onnx", "inputs": {"mels": "mel"}}
    for graphs, then, words in (
        ((vocoder, acoustic), ["nothing.onnx"], "key then.0: .*nothing.onnx: no such file"),
        ((vocoder, acoustic), "vocoder.onnx", "key then: Input should be a valid"),
        ((vocoder, acoustic), [wrong], "key then.0: vocoder.onnx has no input 'mel' .it has: mels"),
        ((vocoder, acoustic), [unknown], "key then.0.inputs.mels: no file before gives 'mel' .they give: /decoder/l"),
        ((vocoder, more), ["vocoder.onnx"], "takes mels, and no file before it .*write {model: vocoder.onnx, inputs: "),
        ((whole, acoustic), ["vocoder.onnx"], r"takes mels as float16 \[1, 16, time\], and tiny.onnx gives /d"),
        (
            (tiny_tts(), acoustic),
            ["vocoder.onnx"],
            "takes nothing of what is before it: write {model: vocoder.onnx, in",
        ),
        ((flat, acoustic), ["vocoder.onnx"], r"takes mels as float32 \[16, time\], and .* gives .*: export both alike"),
        ((other_bins, acoustic), ["vocoder.onnx"], r"takes mels as float32 \[1, 80, time\], and"),
        ((one_length, acoustic), ["vocoder.onnx"], r"takes mels as float32 \[1, 16, 100\], and .* without fixed len"),
        ((also, more), [known], "takes speaker, and no file before it .* or feed it by a key of inputs"),
        ((functions, acoustic), ["vocoder.onnx"], "vocoder.onnx has functions of another operator set than its own"),
    ):
        path = declared(tmp_path / "one", *graphs, then=then)
        with pytest.raises(VoiceError, match=words) as caught:
            opened(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    model = opened(declared(tmp_path / "two", vocoder, more, then=[known]))
    ids = model.utterance_ids(TEXT)
    np.testing.assert_array_equal(model.open().speak(ids)[0], one_after_another(tmp_path / "two", model, list(ids)))
