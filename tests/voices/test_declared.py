"""Declared models: what they are fed, that a seed decides their noise, and one line for everything that is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.voices.declared_graphs import (
    INPUTS,
    RATE,
    READ,
    STYLES,
    SYMBOLS,
    TONED,
    constant,
    declaration,
    declare,
    tiny_tts,
    toned,
)
from ttsopt_lib.measure.runtimes.onnx_runtime import speaker_of
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.params import check
from ttsopt_lib.study import VoiceSource
from ttsopt_lib.terminal import say
from ttsopt_lib.voices.adapters.declaration import read_declaration
from ttsopt_lib.voices.adapters.declared import DeclaredModel, open_declared, shaped
from ttsopt_lib.voices.adapters.model import Ids
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.adapters.seeded import SeededSession
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.session import RuntimeFailure, open_session
from ttsopt_lib.voices.text import TextError

TEXT = "The door is open."


def opened(path: Path) -> DeclaredModel:
    declared = read_declaration(path)
    assert declared.model is not None
    return open_declared(declared.model, declared, path)


def test_it_is_fed_what_the_declaration_says(tmp_path: Path) -> None:
    model = opened(declare(tmp_path))
    ids = model.utterance_ids(TEXT)
    assert ids[0] == ids[-1] == 0
    known = {number: symbol for symbol, number in SYMBOLS.items()}
    assert "".join(known[number] for number in ids[1:-1]).startswith("ðə dˈ")

    feed = model.feed(ids)
    styles = np.fromfile(tmp_path / "styles.bin", dtype="<f4").reshape(STYLES, 1, 8)
    assert feed["tokens"].tolist() == [ids] and feed["tokens"].dtype == np.int64
    np.testing.assert_array_equal(feed["style"], styles[len(ids) - 2])
    np.testing.assert_array_equal(feed["speed"], np.asarray([0.5], np.float32))
    expected = open_session(tmp_path / "tiny.onnx").run(["sound"], feed)[0]
    assert expected.dtype == np.float32 and model.sample_rate == RATE


def test_without_noise_it_speaks_as_plain_onnxruntime_does(tmp_path: Path) -> None:
    model = opened(declare(tmp_path, tiny_tts(noise=False)))
    ids = model.utterance_ids(TEXT)
    audio, durations = model.open().speak(ids, seed=3)
    plain = open_session(tmp_path / "tiny.onnx").run(["sound"], model.feed(ids))[0]
    np.testing.assert_array_equal(audio, plain.reshape(-1))
    assert not len(durations) and not model.has_noise


def test_a_seed_decides_noise_and_length_in_the_model_and_in_its_variants(tmp_path: Path) -> None:
    model = opened(declare(tmp_path))
    assert model.has_noise
    ids = model.utterance_ids(TEXT)
    variant = onnx.load(model.path)  # with a node and a draw more than the model
    variant.graph.node.insert(0, helper.make_node("RandomNormal", [], ["unused"], shape=[3]))
    variant.graph.node.append(helper.make_node("Identity", ["sound"], ["copy"]))
    first, second = model.open(), model.open(variant)
    lengths = set()
    for seed in range(6):
        audio, _ = first.speak(ids, seed)
        np.testing.assert_array_equal(audio, first.speak(ids, seed)[0])
        np.testing.assert_array_equal(audio, second.speak(ids, seed)[0])
        lengths.add(len(audio))
    assert len(lengths) > 1


def test_noise_in_a_function_of_the_model_is_decided_by_the_seed(tmp_path: Path) -> None:
    graph = tiny_tts()
    (draw,) = (node for node in graph.graph.node if node.op_type == "RandomNormalLike")
    body, opsets = [helper.make_node("RandomNormalLike", ["a"], ["b"], scale=0.3)], [helper.make_opsetid("", 17)]
    graph.functions.append(helper.make_function("own", "Draw", ["a"], ["b"], body, opsets))
    graph.opset_import.append(helper.make_opsetid("own", 1))
    draw.op_type, draw.domain = "Draw", "own"
    del draw.attribute[:]
    model = opened(declare(tmp_path, graph))
    assert model.has_noise
    ids, variant = model.utterance_ids(TEXT), copy_named(onnx.load(model.path))
    audio, _ = model.open().speak(ids, 5)
    np.testing.assert_array_equal(audio, model.open().speak(ids, 5)[0])
    np.testing.assert_array_equal(audio, model.open(variant).speak(ids, 5)[0])
    assert not np.array_equal(audio, model.open().speak(ids, 6)[0])


def drawing(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> SeededSession:
    """A graph from `x`, float32 [a, b], to `all`."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"])
    graph = helper.make_graph(nodes, "draws", [given], [helper.make_tensor_value_info("all", kind, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return SeededSession(model, ["all"])


def test_noise_has_the_distribution_that_the_node_says() -> None:
    session = drawing(
        helper.make_node("RandomNormalLike", ["x"], ["n"], mean=3.0, scale=0.5),
        helper.make_node("RandomUniformLike", ["x"], ["u"], low=-2.0, high=-1.0),
        helper.make_node("Concat", ["n", "u"], ["all"], axis=0),
    )
    (both,) = session.run({"x": np.zeros((200, 100), np.float32)}, seed=1)
    normal, uniform = both.reshape(2, -1)
    assert normal.mean() == pytest.approx(3.0, abs=0.02) and normal.std() == pytest.approx(0.5, abs=0.02)
    assert -2.0 <= uniform.min() < -1.99 and -1.01 < uniform.max() <= -1.0


def test_ids_come_from_a_function_or_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_ids.py").write_text("def ids(text):\n    return [len(word) for word in text.split()]\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = opened(declare(tmp_path / "function", ids={"function": "my_ids:ids"}))
    assert model.utterance_ids(TEXT) == [3, 4, 2, 5] and model.missing_symbols([TEXT]) == []
    model = opened(declare(tmp_path / "table", ids={"table": {TEXT: [1, 2, 3]}}))
    assert model.utterance_ids(TEXT) == [1, 2, 3]
    with pytest.raises(TextError, match=r"ids\.table: add it"):
        model.utterance_ids("Another text.")


def test_symbols_that_the_model_does_not_know_are_counted_and_others_stand_in(tmp_path: Path) -> None:
    path = declare(tmp_path)
    symbols = {symbol: number for symbol, number in SYMBOLS.items() if symbol not in "ðʃ"}
    (tmp_path / "symbols.json").write_text(json.dumps(symbols | {"tʃ": 9}), encoding="utf-8")
    model = opened(path)
    missing = model.missing_symbols([TEXT, "The ship."])
    assert [(one.symbol, one.times, one.sentences) for one in missing] == [("ð", 2, 2), ("ʃ", 1, 1)]
    assert 9 in model.utterance_ids("A chair.")

    ids = {**declaration()["ids"], "replace": {"ð": "d"}}
    replaced = opened(declare(tmp_path / "replaced", ids=ids))
    assert not [one for one in replaced.missing_symbols([TEXT]) if one.symbol == "ð"]


def test_every_path_of_a_declaration_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table = tmp_path / "home", {TEXT: [1, 2, 3]}
    monkeypatch.setenv("HOME", str(home))
    declare(home)
    (home / "table.json").write_text(json.dumps(table), encoding="utf-8")
    (home / "code").mkdir()
    (home / "code" / "ids_at_home.py").write_text("def ids(text):\n    return [1, 2, 3]\n", encoding="utf-8")
    given = {"model": "~/tiny.onnx", "inputs": {**INPUTS, "style": {**INPUTS["style"], "file": "~/styles.bin"}}}
    for number, ids in enumerate(
        (
            {**declaration()["ids"], "symbols": "~/symbols.json"},
            {"table": "~/table.json"},
            {"function": "ids_at_home:ids"},
        )
    ):
        other = declare(tmp_path / str(number), ids=ids, code="~/code", **given)
        for file in other.parent.iterdir():
            if file != other:
                file.unlink()
        assert opened(other).utterance_ids(TEXT)


def test_a_variant_folder_is_all_that_it_takes(tmp_path: Path) -> None:
    model = opened(declare(tmp_path / "source"))
    alone = tmp_path / "alone" / "model.onnx"
    alone.parent.mkdir()
    alone.write_bytes(model.path.read_bytes())
    model.write_config(alone)
    for file in (tmp_path / "source").iterdir():
        file.unlink()
    again = open_model(alone)
    ids = again.utterance_ids(TEXT)
    assert again.sample_rate == RATE and again.outputs == ("sound",) and again.language_code == "en"
    audio, _ = again.open().speak(ids, 5)
    assert len(audio) and np.isfinite(audio).all()
    with pytest.raises(VoiceError, match="training needs a VITS voice, and this is Tiny"):
        again.vits("training")
    with pytest.raises(VoiceError, match="this is Tiny, and what was asked for needs a Piper voice"):
        open_piper(alone)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sample_rate": None}, "key sample_rate"),
    ({"sample_rat": 16000}, "key sample_rat: unknown key"),
    ({"model": None}, "key model: missing"),
    ({"package": "no_such.models"}, "key package: no_such.models: no such Python package is installed"),
    ({"model": "other.onnx"}, "key model: .*other.onnx: no such file"),
    ({"audio": "wave"}, r"no output 'wave' \(it has: size, sound\)"),
    ({"audio": None}, r"the output size of tiny.onnx is no sound \(int64 \[3\]\)"),
    ({"ids": {}}, "key ids: give exactly one of espeak, function, table"),
    ({"ids": {"espeak": "en-us"}}, "key ids: espeak needs symbols"),
    ({"ids": {"espeak": "en-us", "symbols": "none.json"}}, "key ids.symbols: .*none.json: no such file"),
    ({"ids": {"function": "ids"}}, "module:function"),
    ({"inputs": {"tokens": "length"}}, "none of them is 'ids'"),
    ({"inputs": {"tokens": "ids", "style": "id", "speed": {"value": 1}}}, "should be ids, length"),
    ({"sampel_rate": 16000, "sample_rate": None}, r"key sampel_rate: unknown key; known here: model, .*sample_rate"),
    ({"inputs": {"tokens": "ids", "speed": {"value": 1}}}, r"says nothing of style, which .* \(float32 \[1, 8\]\)"),
    ({"inputs": {**INPUTS, "sid": {"value": 0}}}, "no such input .*tokens, style, speed"),
    ({"inputs": {**INPUTS, "speed": {"value": [1, 2]}}}, r"shape \[2\], where the input is float32"),
    ({"inputs": {**INPUTS, "speed": {"value": "fast"}}}, "key inputs.speed.value: should be a number"),
    ({"inputs": {**INPUTS, "speed": {"value": 1, "row": 2}}}, "speed: row and shape belong to a file"),
    ({"inputs": {**INPUTS, "speed": {"vale": 1}}}, "key inputs.speed.vale: unknown key"),
    ({"ids": {"espeak": "en-us", "symbols": {"a": "b"}}}, "key ids.symbols.a: Input should be a valid integer"),
    ({"ids": {"table": {"a": "b"}}}, "key ids.table.a: Input should be a valid list"),
    ({"ids": {"function": "no_such_module:x"}}, "key ids.function: no_such_module:x: cannot be imported"),
    ({"inputs": {**INPUTS, "speed": {}}}, "key inputs.speed: give exactly one of value, file"),
    ({"inputs": {**INPUTS, "style": {"file": "x.npy"}}}, "key inputs.style: .*x.npy: no such file"),
    ({"inputs": {**INPUTS, "style": {"file": "styles.npz"}}}, r"styles.npz: should be a .npy file, or a .bin file"),
    (
        {"inputs": {**INPUTS, "style": {"file": "styles.bin", "shape": [3, 8]}}},
        r"no float32 of shape \[3, 8\]; correct 'shape'",
    ),
    (
        {"inputs": {**INPUTS, "style": {"file": "styles.bin", "shape": [STYLES, 1, 8], "row": 999}}},
        f"row: 999, but the file has the rows 0 to {STYLES - 1}",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_wrong_in_a_declaration_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VoiceError, match=message) as error:
        opened(declare(tmp_path, **changes))
    said = str(error.value)
    assert "\n" not in said and ("tiny" in said or "other" in said)


def test_what_is_wrong_in_a_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VoiceError, match="needs the operator Vocode of 'my.own'"):
        opened(declare(tmp_path / "domain", tiny_tts(domain="my.own")))
    for domain in ("", "com.microsoft"):
        graph = tiny_tts()
        graph.graph.node.append(helper.make_node("Vocode", ["sound"], ["more"], domain=domain))
        with pytest.raises(VoiceError, match=r"tiny.onnx: needs the operator Vocode( of 'com.microsoft')?, which"):
            opened(declare(tmp_path / "unknown", graph))
    with pytest.raises(VoiceError, match="tiny.onnx: needs the operator Vocode of 'my.own'"):
        opened(declare(tmp_path / "branch", branching("my.own")))

    path = declare(tmp_path / "external")
    model = onnx.load(path.with_name("tiny.onnx"))
    onnx.save(model, path.with_name("tiny.onnx"), save_as_external_data=True, location="tiny.data", size_threshold=0)
    assert len(opened(path).open().speak([1, 2, 3])[0])
    path.with_name("tiny.data").unlink()
    with pytest.raises(VoiceError, match=r"tiny.data: no such file"):
        opened(path)

    path = declare(tmp_path / "cut")
    path.with_name("tiny.onnx").write_bytes(path.with_name("tiny.onnx").read_bytes()[:-500])
    with pytest.raises(VoiceError, match="not a whole ONNX file"):
        opened(path)
    for text in ("", "- model", "tiny.onnx"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(VoiceError, match=r"tiny.yaml: declares no model: write model, sample_rate, ids and inputs"):
            read_declaration(path)
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(VoiceError, match=r"tiny\.yaml: not valid YAML in line 1"):
        read_declaration(path)
    path.write_text("model: a.onnx\nids: {espeak: en-us}\nids: {table: ids.json}\n", encoding="utf-8")
    with pytest.raises(VoiceError, match=r"tiny\.yaml: not valid YAML in line 3: key ids stands there twice"):
        read_declaration(path)
    with pytest.raises(VoiceError, match=r"none\.yaml: no such file"):
        read_declaration(tmp_path / "none.yaml")

    (tmp_path / "broken_ids.py").write_text("def ids(text):\n    raise KeyError('boom')\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken = opened(declare(tmp_path / "broken", ids={"function": "broken_ids:ids"}))
    with pytest.raises(TextError, match="broken_ids:ids cannot make ids of 'The door is open.': 'boom'"):
        broken.utterance_ids(TEXT)
    (tmp_path / "leaving_ids.py").write_text("raise SystemExit(2)\n")
    with pytest.raises(VoiceError, match=r"key ids.function: leaving_ids:ids: cannot be imported"):
        opened(declare(tmp_path / "leaving", ids={"function": "leaving_ids:ids"}))


def branching(domain: str) -> onnx.ModelProto:
    """The tiny graph with a branch in which an operator of this domain stands."""
    model = tiny_tts(noise=False)
    branches = {}
    for branch, operator, of in (("then_branch", "Vocode", domain), ("else_branch", "Identity", "")):
        node = helper.make_node(operator, ["sound"], [f"{branch} out"], domain=of)
        value = helper.make_tensor_value_info(f"{branch} out", TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph([node], branch, [], [value])
    model.graph.initializer.append(constant("yes", True, np.bool_))
    model.graph.node.append(helper.make_node("If", ["yes"], ["more"], **branches))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def fed_by(kinds: dict[str, tuple[int, list[Any]]]) -> onnx.ModelProto:
    """The tiny graph whose inputs have these types and shapes; inputs that are new feed nothing."""
    model = tiny_tts(noise=False)
    for name, (kind, shape) in kinds.items():
        for old in [one for one in model.graph.input if one.name == name]:
            model.graph.input.remove(old)
            model.graph.initializer.append(constant(f"{name} shape", [1, -1] if name == "tokens" else [1], np.int64))
            for reader in model.graph.node:
                reader.input[:] = [f"{name} ranked" if one == name else one for one in reader.input]
            node = helper.make_node("Reshape", [name, f"{name} shape"], [f"{name} ranked"])
            model.graph.node.insert(0, node)
        model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    return model


@pytest.mark.parametrize("shape", [["ids"], [1, "ids"], [1, 1, "ids"], [None, None]])
def test_ids_masks_and_numbers_have_the_rank_and_type_of_their_input(tmp_path: Path, shape: list[Any]) -> None:
    graph = fed_by(
        {
            "tokens": (TensorProto.INT32, shape),
            "mask": (TensorProto.FLOAT, shape),
            "length": (TensorProto.INT32, []),
            "speed": (TensorProto.FLOAT, []),
        }
    )
    inputs = {**INPUTS, "mask": "mask", "length": "length", "speed": {"value": [0.5]}}
    model = opened(declare(tmp_path, graph, inputs=inputs))
    feed = model.feed([1, 2, 3])
    assert feed["tokens"].ndim == feed["mask"].ndim == len(shape) and feed["tokens"].dtype == np.int32
    assert feed["tokens"].reshape(-1).tolist() == [1, 2, 3] and feed["mask"].reshape(-1).tolist() == [1.0] * 3
    assert feed["length"].shape == feed["speed"].shape == () and feed["length"] == 3 and feed["speed"] == 0.5
    plain = opened(declare(tmp_path / "plain", tiny_tts(noise=False)))
    np.testing.assert_array_equal(model.open().speak([1, 2, 3])[0], plain.open().speak([1, 2, 3])[0])


def test_an_input_or_output_that_no_text_or_sound_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match=r"inputs.tokens: the input is always int64 \[1, 50\].* a dynamic axis"):
        opened(declare(tmp_path, fed_by({"tokens": (TensorProto.INT64, [1, 50])})))
    inputs = {**INPUTS, "words": {"value": 1}}
    with pytest.raises(VoiceError, match=r"inputs.words: it takes text: export the model"):
        opened(declare(tmp_path, fed_by({"words": (TensorProto.STRING, [1])}), inputs=inputs))
    for number in (1.5, 2**70):
        inputs = {**INPUTS, "sid": {"value": number}}
        with pytest.raises(VoiceError, match=r"key inputs.sid: does not fit the input \(int64 \[1\]\): "):
            opened(declare(tmp_path, fed_by({"sid": (TensorProto.INT64, [1])}), inputs=inputs))
    sequence = tiny_tts(noise=False)
    sequence.graph.node.append(helper.make_node("SequenceConstruct", ["sound"], ["sounds"]))
    sequence.graph.output.append(helper.make_tensor_sequence_value_info("sounds", TensorProto.FLOAT, None))
    with pytest.raises(VoiceError, match=r"key audio: the output sounds .*no tensor \(sequence_type\)"):
        opened(declare(tmp_path, sequence, audio="sounds"))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_noise_has_the_type_of_the_graph(kind: int) -> None:
    session = drawing(
        helper.make_node("Cast", ["x"], ["y"], to=kind),
        helper.make_node("RandomNormalLike", ["y"], ["first"]),
        helper.make_node("RandomUniform", [], ["second"], shape=[1], dtype=kind),
        helper.make_node("Add", ["first", "second"], ["sum"]),
        helper.make_node("RandomUniformLike", ["sum"], ["third"]),
        helper.make_node("Add", ["sum", "third"], ["all"]),
        kind=kind,
    )
    feed = {"x": np.zeros((20, 10), np.float32)}
    (drawn,) = session.run(feed, seed=1)
    assert drawn.dtype == helper.tensor_dtype_to_np_dtype(kind) and drawn.std() > 0.5
    np.testing.assert_array_equal(drawn, session.run(feed, seed=1)[0])


def test_the_name_of_a_function_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("warning", "my_module:x: cannot be imported, nor boom.py:boom:")
    assert "my_module:x: cannot be imported, nor boom.py:boom:" in capsys.readouterr().out


def test_a_draw_that_cannot_be_handed_in_is_refused(tmp_path: Path) -> None:
    model = tiny_tts(noise=False)
    model.graph.node.append(helper.make_node("Bernoulli", ["sound"], ["coin"]))
    with pytest.raises(VoiceError, match="draws noise with Bernoulli"):
        opened(declare(tmp_path, model)).open()


def test_a_text_that_is_too_long_for_the_table_of_styles_is_refused(tmp_path: Path) -> None:
    model = opened(declare(tmp_path))
    with pytest.raises(TextError, match="style is made for fewer than 200"):
        model.utterance_ids("One and another. " * 40)


def test_a_study_names_one_source(tmp_path: Path) -> None:
    from ttsopt_lib.errors import StudyError

    with pytest.raises(StudyError, match="exactly one of package, path, huggingface, kokoro, declared"):
        check(VoiceSource, {"declared": "a.yaml", "package": "b"}, "study.yaml")


def test_a_vocoder_of_ones_own_makes_the_samples(tmp_path: Path) -> None:
    (tmp_path / "my_vocoder.py").write_text(
        "import numpy as np\n\n\ndef samples(sound, size):\n"
        "    return np.repeat(sound.reshape(-1), 2) * float(size[-1] > 0)\n"
    )
    path = declare(tmp_path, tiny_tts(noise=False), audio=["sound", "size"], vocoder="my_vocoder:samples")
    model = opened(path)
    ids = model.utterance_ids(TEXT)
    plain = open_session(tmp_path / "tiny.onnx").run(["sound"], model.feed(ids))[0].reshape(-1)
    np.testing.assert_array_equal(model.open().speak(ids)[0], np.repeat(plain, 2))

    (tmp_path / "elsewhere").mkdir()
    variant = tmp_path / "elsewhere" / "model.onnx"
    variant.write_bytes(model.path.read_bytes())
    model.write_config(variant)
    again = open_model(variant)
    assert len(again.open().speak(ids)[0]) == 2 * len(plain)
    row = {"outputs": list(again.outputs), "vocoder": again.vocoder, "code": str(again.code)}
    timed = speaker_of(open_session(variant), [], None, row)
    assert len(timed(again.feed(ids))) == 2 * len(plain)

    with pytest.raises(VoiceError, match="audio: several outputs need a vocoder"):
        opened(declare(tmp_path / "none", audio=["sound", "size"]))
    with pytest.raises(VoiceError, match="key vocoder: my_vocoder:no_such: cannot be imported"):
        opened(declare(tmp_path, audio=["sound"], vocoder="my_vocoder:no_such"))


def test_a_model_may_lie_in_a_package(tmp_path: Path) -> None:
    from ttsopt_lib.paths import shipped_root

    model = opened(shipped_root() / "params" / "models" / "hibari.yaml")
    audio, _ = model.open().speak(model.utterance_ids("The door is open."))
    assert 0.6 < len(audio) / model.sample_rate < 2.5 and 0.05 < abs(audio).max() <= 1.5
    with pytest.raises(VoiceError, match="key package: no_such_package: no such Python package"):
        opened(declare(tmp_path, package="no_such_package"))


def test_numbers_take_the_rank_of_the_input() -> None:
    row = helper.make_tensor_value_info("ids", TensorProto.INT32, ["ids"])
    assert shaped([[1, 2, 3]], row).tolist() == [1, 2, 3] and shaped([[1]], row).dtype == np.int32
    assert shaped([0.5], helper.make_tensor_value_info("speed", TensorProto.FLOAT, [])).shape == ()
    assert shaped(2, helper.make_tensor_value_info("sid", TensorProto.INT64, [1, 1])).shape == (1, 1)


def test_a_changed_module_changes_what_lies_beside_a_variant(tmp_path: Path) -> None:
    module = tmp_path / "my_sound.py"
    module.write_text("def samples(sound):\n    return sound\n")
    path = declare(tmp_path, vocoder="my_sound:samples")
    before, again = read_declaration(path), read_declaration(path)
    module.write_text("def samples(sound):\n    return 0.5 * sound\n")
    after = read_declaration(path)
    assert before == again and before != after
    opened(path).write_config(tmp_path / "model.onnx")
    assert after.modules["my_sound:samples"] in (tmp_path / "model.onnx.json").read_text(encoding="utf-8")


def test_modules_of_one_name_are_those_of_their_folders_and_may_import_neighbours_later(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / f"neighbour_{number}.py").write_text(f"NUMBER = {number}\n")
        (folder / "same_name.py").write_text(
            f"def ids(text):\n    from neighbour_{number} import NUMBER\n\n    return [NUMBER]\n"
        )
    models = [opened(declare(tmp_path / str(number), ids={"function": "same_name:ids"})) for number in (1, 2)]
    assert [model.utterance_ids("Yes.") for model in (*models, *models)] == [[1], [2], [1], [2]]


# --- what is given beside the ids ---------------------------------------------------------------------------------


def test_a_function_gives_tones_and_features_beside_the_ids(tmp_path: Path) -> None:
    path = declare(tmp_path, toned(), ids={"function": "toned_reading:read"}, inputs=TONED)
    (tmp_path / "toned_reading.py").write_text(READ, encoding="utf-8")
    model = opened(path)
    ids = model.utterance_ids(TEXT)
    feed = model.feed(ids)
    assert feed["tones"].tolist() == [[one % 9 for one in ids]] and feed["tones"].dtype == np.int64
    assert feed["languages"].tolist() == [[2] * len(ids)]
    np.testing.assert_array_equal(feed["colour"], np.full((1, 16), len(TEXT) / 100, np.float32))
    audio, _ = model.open().speak(ids)
    plain = open_session(model.path).run(["sound"], feed)[0]
    np.testing.assert_array_equal(audio, plain.reshape(-1))


def test_utterances_with_other_tones_are_others_and_travel_with_them() -> None:
    ids, other = Ids([1, 2], {"tones": [0, 1]}), Ids([1, 2], {"tones": [1, 1]})
    assert ids != other and ids == Ids([1, 2], {"tones": [0, 1]}) and ids != (1, 2) and Ids([1, 2]) == (1, 2)
    features = [Ids([1, 2], {"bert": np.full((4, 2), one)}) for one in (0.5, 0.5, 0.6)]
    assert features[0] == features[1] != features[2]
    copy = pickle.loads(pickle.dumps(ids))
    assert copy == ids and copy.beside == {"tones": [0, 1]}


def test_a_table_gives_them_too_and_a_folder_keeps_them(tmp_path: Path) -> None:
    table = {TEXT: {"ids": [1, 2, 3], "tones": [0, 1, 2], "colour": [0.5] * 16}}
    model = opened(declare(tmp_path, toned(), ids={"table": table}, inputs=TONED))
    model.write_config(model.path)
    again = open_model(model.path)
    assert again.feed(again.utterance_ids(TEXT))["tones"].tolist() == [[0, 1, 2]]


SAID = {"ids": [1, 2], "tones": [1, 2], "colour": [0.0] * 16}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([1, 2], r"gives no '(tones|colour)', which the input (tones|colour) takes \(it gives: ids\)"),
        ({"tones": [1]}, r"gives no 'ids' \(it gives: tones\)"),
        (SAID | {"tones": [1]}, "1 along the axis ids, where there are 2 ids"),
        (SAID | {"tones": [1, 0.5]}, "give whole numbers"),
        (SAID | {"colour": [0.0] * 15}, r"numbers of shape \[1, 15\]"),
        (SAID | {"tones": "high"}, "does not fit the input"),
        (SAID | {"tones": [[1], [1, 2]]}, "does not fit the input"),
        (SAID | {"tones": None}, "does not fit the input"),
        (SAID | {"tones": [1, 9]}, "9 is out of range: the model has the numbers 0 to 8"),
        (SAID | {"colour": [float("nan")] * 16}, "NaN is among the numbers"),
        (SAID | {"ids": [1, 999]}, "'ids' what the input tokens does not take: 999 is"),
        (SAID | {"ids": [1, 1.5]}, "'ids' what the input tokens .* give whole numbers"),
        (SAID | {"ids": [1, 2**70]}, "'ids' what the input tokens does not take"),
        (SAID | {"ids": "words"}, "'ids' what the input tokens does not take"),
        (SAID | {"ids": None}, "'ids' what the input tokens does not take"),
        (SAID | {"ids": [[1, 2], [3, 4]]}, r"numbers of shape \[2, 2\]"),
        (SAID | {"ids": [], "tones": []}, "gives no ids: write words"),
    ],
)
def test_what_does_not_fit_beside_the_ids_is_one_line(tmp_path: Path, said: Any, message: str) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "misfit_reading.py").write_text(f"nan = float('nan')\nread = lambda text: {said!r}\n")
    for way in ({"table": {TEXT: said}}, {"function": "misfit_reading:read"}):
        folder = tmp_path / next(iter(way))
        model = opened(declare(folder, toned(), ids=way, inputs=TONED))
        with pytest.raises(TextError, match=message) as raised:
            model.utterance_ids(TEXT)
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith(f"{folder / 'tiny.yaml'}: ids.{next(iter(way))}")


def test_arrays_and_tensors_are_taken_and_a_tensor_with_gradients_is_one_line(tmp_path: Path) -> None:
    read = """
import numpy as np
import torch


def read(text):
    return {"ids": np.array([[1, 2]]), "tones": torch.tensor([3, 4]), "colour": torch.zeros(16, requires_grad=GRAD)}
"""
    models = {}
    for grad in (False, True):
        folder = tmp_path / str(grad)
        path = declare(folder, toned(), ids={"function": f"tensors_{grad}:read"}, inputs=TONED)
        (folder / f"tensors_{grad}.py").write_text(read.replace("GRAD", str(grad)), encoding="utf-8")
        models[grad] = opened(path)
    ids = models[False].utterance_ids(TEXT)
    assert list(ids) == [1, 2] and models[False].feed(ids)["tones"].tolist() == [[3, 4]]
    with pytest.raises(TextError, match="tensors_True:read, .* gives as 'colour' what .* requires grad") as raised:
        models[True].utterance_ids(TEXT)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("axis", ["", "tones_dynamic_axes_1"])  # what exporters write who were told no name
def test_unequal_lengths_along_axes_without_a_common_name_are_told_by_what_was_fed(tmp_path: Path, axis: str) -> None:
    graph = toned()
    (tones,) = [one for one in graph.graph.input if one.name == "tones"]
    tones.type.tensor_type.shape.dim[1].CopyFrom(onnx.TensorShapeProto.Dimension(dim_param=axis or None))
    table = {TEXT: {"ids": [1, 2, 3], "tones": [1, 2], "colour": [0.0] * 16}}
    model = opened(declare(tmp_path, graph, ids={"table": table}, inputs=TONED))
    ids = model.utterance_ids(TEXT)
    with pytest.raises(RuntimeFailure, match=r"2 by 3; it was fed .*tokens \[1, 3\], tones \[1, 2\]") as raised:
        model.open().speak(ids)
    assert "onnxruntime_src" not in str(raised.value)


def test_numbers_outside_the_models_tables_are_refused_where_they_stand(tmp_path: Path) -> None:
    inputs = {**TONED, "tones": {"each": 0}, "colour": {"value": [0.0] * 16}}
    with pytest.raises(VoiceError, match="key inputs.languages: 9 is out of range: the model has the numbers 0 to 8"):
        opened(declare(tmp_path, toned(), inputs={**inputs, "languages": {"each": 9}}))
    model = opened(declare(tmp_path, toned(), inputs=inputs, ids={**declaration()["ids"], "end": [49]}))
    with pytest.raises(TextError, match=r"tiny.yaml: ids.symbols .* 49 is out of range: .* 0 to 48"):
        model.utterance_ids(TEXT)
    model = opened(declare(tmp_path, fed_by({"tokens": (TensorProto.INT32, [1, 1, "ids"])})))
    assert model.rows == {"tokens": 49}  # through a Reshape


def test_espeak_gives_nothing_beside_the_ids(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match=r"inputs\.(tones|colour): espeak gives ids alone"):
        opened(declare(tmp_path, toned(), inputs=TONED))
