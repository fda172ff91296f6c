"""Declared models: any ONNX graph from ids to audio, by what its declaration says of it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ttsopt_lib.records.quality import MissingSymbol
from ttsopt_lib.voices.adapters.declaration import Declaration, Given, checked, imported
from ttsopt_lib.voices.adapters.model import Feed, Ids, TtsModel
from ttsopt_lib.voices.adapters.seeded import SeededSession
from ttsopt_lib.voices.language import other_language
from ttsopt_lib.voices.onnx_file import (
    DECLARED,
    VoiceError,
    check_operators,
    describe,
    is_numbers,
    model_sha256,
    read_model,
)
from ttsopt_lib.voices.session import RuntimeFailure, in_words
from ttsopt_lib.voices.text import TextError, counted, espeak_phonemes
from ttsopt_lib.voices.vits_graph import attribute

WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL)
COPIES = ("Cast", "Identity")  # operators that keep numbers and their shape ...
RANKS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")  # ... or the numbers alone


class DeclaredModel(TtsModel):
    """A declared model that was opened.

    Attributes:
        declaration: what it is fed and what its audio is.
        inputs: of the graph, by name.
        rows: of the table in which the numbers of an input are looked up, by name.
        origin: where the declaration stands, for messages.
    """

    def __init__(self, path: Path, graph: ModelProto, declaration: Declaration, origin: Path | str):
        """`graph` is what is in the file."""
        self.path, self.onnx_sha256 = path, model_sha256(path)
        self.declaration, self.origin = declaration, origin
        self.inputs, self.rows = _real_inputs(graph), _table_rows(graph)
        self.kind, self.language_code = declaration.name, declaration.language
        self.sample_rate, self.outputs = declaration.sample_rate, declaration.outputs
        self.vocoder, self.code = declaration.vocoder, declaration.code

    def utterance_ids(self, text: str) -> Sequence[int]:
        asked = self.declaration.ids
        if asked.espeak:
            found = [number for _, number in self._symbols(text) if number is not None]
            if not found:
                phonemes = "".join(symbol for symbol, _ in self._symbols(text))[:30]
                raise TextError(
                    f"text {text[:60]!r} gives no phonemes that {self.kind} knows: write words, or correct "
                    f"ids.symbols, which has none of {phonemes!r}"
                )
            between = [[*asked.between, number] for number in found[1:]]
            ids = [*asked.begin, found[0], *(number for some in between for number in some), *asked.end]
            self._check_ids(ids, f"{self.origin}: ids.symbols (or begin, end, between), for {text[:60]!r},")
        elif asked.table is not None:
            assert not isinstance(asked.table, Path)  # it was read with the declaration
            if text not in asked.table:
                raise TextError(f"{self.origin}: text {text[:60]!r} has no ids in ids.table: add it")
            ids = self._ids_in(asked.table[text], f"{self.origin}: ids.table, for {text[:60]!r},")
        else:
            ids = self._called(text)
        for name, given in self.declaration.inputs.items():
            if isinstance(given, Given) and given.row == "length" and given.array:
                rows, spoken = given.array.shape[0], self._spoken(ids)
                if spoken >= rows:
                    raise TextError(
                        f"text {text[:60]!r} has {spoken} ids, and the input {name} is made for fewer than {rows}: put "
                        "each sentence on a line of its own"
                    )
        return ids

    def missing_symbols(self, texts: Sequence[str]) -> list[MissingSymbol]:
        if not self.declaration.ids.espeak:
            return []
        return counted(
            [(symbol, "voice") for symbol, number in self._symbols(text) if number is None] for text in texts
        )

    def language_doubt(self, language: str | None) -> list[str]:
        return other_language(language, self.language_code, "its declaration, key language")

    def feed(self, ids: Sequence[int], speaker: int | None = None, noise: bool = True) -> Feed:
        self.speaker(speaker)
        feed = {}
        for name, given in self.declaration.inputs.items():
            if given == "ids":
                values: Any = [ids]
            elif given == "mask":
                values = [[1] * len(ids)]
            elif given == "length":
                values = len(ids)
            elif given.each is not None:
                values = [[given.each] * len(ids)]
            elif given.given is not None:
                assert isinstance(ids, Ids)
                values = ids.beside[given.given]
            elif given.array is not None:
                values = given.array.values()
                if given.row is not None:
                    values = values[self._spoken(ids) if given.row == "length" else given.row]
            else:
                values = given.value
            feed[name] = shaped(values, self.inputs[name])
        return feed

    def open(self, graph: ModelProto | None = None) -> DeclaredSpeaker:
        return DeclaredSpeaker(self, graph if graph is not None else read_model(self.path))

    def write_config(self, model: Path) -> None:
        said = self.declaration.model_copy(update={"model": None}).model_dump(mode="json", exclude_defaults=True)
        Path(f"{model}.json").write_text(
            json.dumps({DECLARED: 1, **said}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )

    def _symbols(self, text: str) -> list[tuple[str, int | None]]:
        """The text's phonemes, each with its id; None where the model has none."""
        asked = self.declaration.ids
        assert asked.espeak is not None and isinstance(asked.symbols, dict)
        phonemes = " ".join("".join(sentence) for sentence in espeak_phonemes(asked.espeak, text))
        for name, own in asked.replace.items():
            phonemes = phonemes.replace(_decomposed(name), _decomposed(own))
        known = {_decomposed(symbol): number for symbol, number in asked.symbols.items()}
        longest = max(map(len, known), default=1)
        found: list[tuple[str, int | None]] = []
        at = 0
        while at < len(phonemes):
            lengths = range(min(longest, len(phonemes) - at), 0, -1)
            length = next((one for one in lengths if phonemes[at : at + one] in known), 1)
            symbol = phonemes[at : at + length]
            found.append((symbol, known.get(symbol)))
            at += length
        return found

    def _called(self, text: str) -> Sequence[int]:
        """What the declaration's function makes of a text."""
        name = self.declaration.ids.function or ""
        key = f"{self.origin}: ids.function"
        called = imported(name, self.code, key)
        try:
            found = called(text)
        except (Exception, SystemExit) as error:  # somebody else's code
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise TextError(f"{key} {name} cannot make ids of {text[:60]!r}: {words}") from None
        return self._ids_in(found, f"{key} {name}, of {text[:60]!r},")

    def _ids_in(self, found: Any, source: str) -> Sequence[int]:
        """The ids that a function or a table gives, with what the inputs take beside them.

        Args:
            found: ids, or a mapping with `ids` and others.
            source: who gave it for which text, as messages begin with it.

        Raises:
            TextError: something that an input takes is not there, or does not fit it.
        """
        given = dict(found) if isinstance(found, Mapping) else {"ids": found}
        if "ids" not in given:
            raise TextError(f"{source} gives no 'ids' (it gives: {', '.join(map(str, given))})")
        ids = self._check_ids(given["ids"], source)
        beside = {}
        for name, wanted in self.declaration.inputs.items():
            if isinstance(wanted, Given) and wanted.given is not None:
                if wanted.given not in given:
                    raise TextError(
                        f"{source} gives no {wanted.given!r}, which the input {name} takes (it gives: "
                        f"{', '.join(map(str, given))})"
                    )
                numbers = given[wanted.given]
                self._check_given(numbers, name, wanted.given, source)
                beside[wanted.given] = shaped(numbers, self.inputs[name])
                if wrong := self._other_length(beside[wanted.given], name, len(ids)):
                    raise TextError(f"{source} gives as {wanted.given!r} what the input {name} does not take: {wrong}")
        return Ids(ids, beside) if beside else ids

    def _check_ids(self, ids: Any, source: str) -> list[int]:
        """Whatever stands for ids, as a list of whole numbers that the model knows. Raises `TextError`."""
        self._check_given(ids, self._takes_ids, "ids", source)
        found = np.asarray(ids)
        if found.size != max(found.shape, default=0):
            raise TextError(f"{source} gives ids of shape {list(found.shape)}, where a text has one row of them")
        if not found.size:
            raise TextError(f"{source} gives no ids: write words")
        return [int(one) for one in found.reshape(-1)]

    def _check_given(self, numbers: Any, name: str, called: str, source: str) -> None:
        """Raises `TextError` where an input does not take what it is given."""
        if wrong := _misfit(numbers, self.inputs[name], self.rows.get(name)):
            raise TextError(f"{source} gives as {called!r} what the input {name} does not take: {wrong}")

    @property
    def _takes_ids(self) -> str:
        """The input that takes the ids."""
        return next(name for name, given in self.declaration.inputs.items() if given == "ids")

    def _other_length(self, numbers: np.ndarray, name: str, count: int) -> str | None:
        """Says that an input which is as long as the ids is given another number of numbers; None where it is not."""
        axes = [dim.dim_param for dim in self.inputs[self._takes_ids].type.tensor_type.shape.dim]
        longest = next((axis for axis in reversed(axes) if axis), None)
        for dim, size in zip(self.inputs[name].type.tensor_type.shape.dim, numbers.shape, strict=False):
            if longest and dim.dim_param == longest and size != count:
                return f"{size} along the axis {longest}, where there are {count} ids"
        return None

    def _spoken(self, ids: Sequence[int]) -> int:
        """How many ids there are without the marks at both ends."""
        asked = self.declaration.ids
        return len(ids) - (len(asked.begin) + len(asked.end) if asked.espeak else 0)


class DeclaredSpeaker:
    """A declared model, or a variant of it, ready to speak. It keeps its own durations, and does not tell them."""

    def __init__(self, model: DeclaredModel, graph: ModelProto):
        self._model = model
        self._session = SeededSession(graph, model.outputs or (graph.graph.output[0].name,))
        self._vocoder = imported(model.vocoder, model.code, f"{model.kind}: vocoder") if model.vocoder else None

    def speak(
        self,
        ids: Sequence[int],
        seed: int = 0,
        *,
        durations: Sequence[int] | np.ndarray | None = None,
        scales: Sequence[float] = (),
        sid: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Speaker.speak`."""
        return self.speak_feed(self._model.feed(ids), seed)

    def speak_feed(
        self, feed: Feed, seed: int = 0, durations: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Speaker.speak_feed`."""
        try:
            found = self._session.run(feed, seed)
        except RuntimeFailure as error:
            fed = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
            raise RuntimeFailure(f"{error}; it was fed {fed}") from None
        if self._vocoder is None:
            audio = samples_of(found[0], "the model's audio")
        else:
            with in_words(f"the vocoder {self._model.vocoder} cannot speak it"):
                made = self._vocoder(*found)
                made = made if made is None else np.asarray(made)
            audio = samples_of(made, f"what the vocoder {self._model.vocoder} returns")
        return audio, np.zeros(0, dtype=np.int64)


def open_declared(path: Path, declaration: Declaration, origin: Path | str) -> DeclaredModel:
    """Open a declared model's file and check that the two belong together.

    Args:
        path: the `.onnx` file.
        declaration: of `read_declaration`, or what lies beside a variant.
        origin: where the declaration stands, for messages.

    Raises:
        VoiceError: one line that names the file and the key, and says what to write.
    """
    graph = read_model(path)
    model = DeclaredModel(path, graph, declaration, origin)
    _check(model, graph)
    return model


def declaration_beside(path: Path) -> Declaration | None:
    """The declaration that lies beside a variant; None where what lies there is something else."""
    config = Path(f"{path}.json")
    try:
        said = json.loads(config.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None  # whoever opens it says so
    if not isinstance(said, dict) or DECLARED not in said:
        return None
    return checked({key: value for key, value in said.items() if key != DECLARED}, config)


def samples_of(audio: np.ndarray | None, called: str) -> np.ndarray:
    """Audio as float32 [samples]. Raises `RuntimeFailure` for what is no row of samples; `called` is its name."""
    if audio is None or audio.dtype.kind != "f":
        kind = "nothing" if audio is None else audio.dtype.name
        raise RuntimeFailure(f"{called} is {kind}, where samples are an array of float numbers from -1 to 1")
    if sum(size > 1 for size in audio.shape) > 1:
        raise RuntimeFailure(
            f"{called} is of shape {list(audio.shape)}, where samples lie along one axis: of a spectrum, of frames or "
            "of several channels a vocoder makes them"
        )
    return audio.astype(np.float32, copy=False).reshape(-1)


def shaped(values: Any, wanted: ValueInfoProto) -> np.ndarray:
    """Numbers in the type and rank of a graph's input: missing first axes are added, first axes of one are dropped."""
    kind = wanted.type.tensor_type
    array = np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(kind.elem_type))
    rank = len(kind.shape.dim) if kind.HasField("shape") else array.ndim
    while array.ndim > rank and len(array) == 1:
        array = array.reshape(array.shape[1:])
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _real_inputs(model: ModelProto) -> dict[str, ValueInfoProto]:
    """The inputs that have to be fed; older exporters list weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in weights}


def _table_rows(model: ModelProto) -> dict[str, int]:
    """Of each input whose numbers are looked up in a table of weights, how many rows that has."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    same = {name: name for name in _real_inputs(model)}
    rows: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in COPIES + RANKS and node.input[0] in same:
            same[node.output[0]] = same[node.input[0]]
        elif node.op_type in (*COPIES, "DequantizeLinear") and node.input[0] in tables:
            tables[node.output[0]] = tables[node.input[0]]
        elif node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and node.input[1] in same:
            name, count = same[node.input[1]], tables.get(node.input[0])
            if count is not None:
                rows[name] = min(count, rows.get(name, count))
    return rows


def _check(model: DeclaredModel, graph: ModelProto) -> None:
    path, declaration, origin, inputs = model.path, model.declaration, model.origin, model.inputs
    check_operators(graph, path)
    for name in declaration.inputs:
        if name not in inputs:
            raise VoiceError(
                f"{origin}: key inputs.{name}: {path.name} has no such input (it has: {', '.join(inputs)})"
            )
    for name, value in inputs.items():
        if name not in declaration.inputs:
            whole = value.type.tensor_type.elem_type in WHOLE
            ways = [*(["ids", "length", "mask"] if whole else []), "{value: ...}", "{file: ...}", "{each: ...}"]
            ways += [] if declaration.ids.espeak else [f"{{given: {name}}}"]
            raise VoiceError(
                f"{origin}: key inputs: says nothing of {name}, which {path.name} asks for ({describe(value)}): add "
                f"'{name}: ' and one of {', '.join(ways)} (docs/models.md)"
            )
    for name, given in declaration.inputs.items():
        key = f"{origin}: key inputs.{name}"
        if not is_numbers(inputs[name]):
            raise VoiceError(f"{key}: it takes {describe(inputs[name])}: export the model so that it takes numbers")
        if given in ("ids", "mask") or isinstance(given, Given) and given.each is not None:
            _check_any_length(inputs[name], key)
        if isinstance(given, Given) and given.given is None:
            _check_numbers(given, inputs[name], model.rows.get(name), key)
    outputs = {value.name: value for value in graph.graph.output}
    for key, function in (("vocoder", declaration.vocoder), ("ids.function", declaration.ids.function)):
        if function:
            imported(function, declaration.code, f"{origin}: key {key}")
    audio = (declaration.outputs or tuple(outputs))[0]
    for name in (*declaration.outputs, audio):
        if name not in outputs:
            there = ", ".join(outputs)
            raise VoiceError(f"{origin}: key audio: {path.name} has no output {name!r} (it has: {there})")
    if not declaration.vocoder and outputs[audio].type.tensor_type.elem_type not in (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
    ):
        raise VoiceError(
            f"{origin}: key audio: the output {audio} of {path.name} is no sound ({describe(outputs[audio])}): name "
            "the output that holds the samples as float numbers, or a vocoder that makes such numbers of it"
        )


def _check_numbers(given: Given, value: ValueInfoProto, rows: int | None, key: str) -> None:
    numbers = [[given.each]] if given.each is not None else given.value
    if given.array:
        numbers = given.array.values()
        if given.row is not None:
            row = 0 if given.row == "length" else given.row
            if not -len(numbers) <= row < len(numbers):
                raise VoiceError(f"{key}: row: {row}, but the file has the rows 0 to {len(numbers) - 1}")
            numbers = numbers[row]
    wrong = _misfit(numbers, value, rows)
    if wrong:
        raise VoiceError(f"{key}: {wrong}")


def _misfit(numbers: Any, value: ValueInfoProto, rows: int | None) -> str | None:
    """Why an input cannot be given these numbers; None where it can.

    Args:
        numbers: an array, or nested lists.
        value: the input.
        rows: of the table in which they are looked up; None: they are looked up in none.
    """
    try:
        array = shaped(numbers, value)
        plain = np.asarray(numbers).reshape(-1)
        whole = array.dtype.kind not in "iub" or not (array.reshape(-1) != plain).any()
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # the last: tensors of PyTorch with gradients
        return f"does not fit the input ({describe(value)}): {' '.join(str(error).split())}"
    if not whole:
        return f"does not fit the input ({describe(value)}): give whole numbers"
    if array.dtype.kind == "f" and np.isnan(array).any():
        return "does not fit the input: NaN is among the numbers"
    wanted = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    fits = len(wanted) == array.ndim and all(one in (None, size) for one, size in zip(wanted, array.shape, strict=True))
    if value.type.tensor_type.HasField("shape") and not fits:
        return f"numbers of shape {list(array.shape)}, where the input is {describe(value)}"
    if rows is not None and array.size:
        wrong = next((one for one in (array.min(), array.max()) if not -rows <= one < rows), None)
        if wrong is not None:
            return f"{wrong} is out of range: the model has the numbers 0 to {rows - 1}"
    return None


def _check_any_length(value: ValueInfoProto, key: str) -> None:
    dims = value.type.tensor_type.shape.dim
    if dims and all(dim.HasField("dim_value") for dim in dims):
        raise VoiceError(
            f"{key}: the input is always {describe(value)}, and texts have different lengths: export the model with a "
            "dynamic axis for the ids"
        )


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)
