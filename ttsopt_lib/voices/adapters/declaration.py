"""A declared model: a YAML file that says what any text-to-speech model in ONNX is fed.

    model: my-tts.onnx          # beside this file
    then: [vocoder.onnx]        # where it goes on in further files (`joined.py`)
    sample_rate: 24000
    language: en
    audio: waveform             # the output with the samples; the first if left out
    ids: {espeak: en-us, symbols: symbols.json, begin: [0], end: [0]}
    inputs:
      tokens: ids
      token_lengths: length   # or mask: a 1 for each id
      style: {file: styles.npy, row: length}
      speed: {value: 1.0}
      tones: {given: tones}   # what a function or a table gives beside the ids

What files hold is taken into the declaration when it is read, so that it can lie beside every variant as
`model.onnx.json`, and a variant's folder is all that it takes to speak, beside Python functions of a person's own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from ttsopt_lib.files import file_sha256
from ttsopt_lib.paths import from_home, user_cache
from ttsopt_lib.step_settings import Strict
from ttsopt_lib.text_files import parsed_yaml, read_json
from ttsopt_lib.voices.adapters.functions import file_of, function_of
from ttsopt_lib.voices.adapters.joined import Further, join, output_name
from ttsopt_lib.voices.onnx_file import VoiceError

Scalar = bool | int | float


class Array(Strict):
    """Numbers of an input that is not computed from the text.

    Attributes:
        shape: of all of them.
        data: float32 or int64, little-endian, as base64.
    """

    dtype: Literal["float32", "int64"] = "float32"
    shape: tuple[int, ...]
    data: str = Field(repr=False)

    @classmethod
    def of(cls, values: np.ndarray) -> Array:
        """The numbers of an array; what is no integer becomes float32."""
        whole = np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_
        values = np.ascontiguousarray(values, dtype="<i8" if whole else "<f4")
        data = base64.b64encode(values.tobytes()).decode("ascii")
        return cls(dtype="int64" if whole else "float32", shape=values.shape, data=data)

    def values(self) -> np.ndarray:
        """The array."""
        kind = "<i8" if self.dtype == "int64" else "<f4"
        return np.frombuffer(base64.b64decode(self.data), dtype=kind).reshape(self.shape)


class Given(Strict):
    """An input with numbers of its own: the same for every text, as many as ids, or what is given beside the ids."""

    value: Scalar | list[Any] | None = Field(default=None, description="a number, or nested lists of numbers")
    file: Path | None = Field(default=None, description="a .npy file, or a .bin file of float32")
    shape: tuple[int, ...] | None = Field(default=None, description="of a .bin file")
    row: Literal["length"] | int | None = Field(
        default=None, description="which row of the file: a number, or as many as the text has ids without marks"
    )
    each: Scalar | None = Field(default=None, description="a number that stands there for each id")
    given: str | None = Field(default=None, description="the name under which the function or table of ids gives it")
    array: Array | None = Field(default=None, description="what the file holds, in a declaration that was read")

    @model_validator(mode="after")
    def _one_source(self) -> Given:
        if sum(one is not None for one in (self.value, self.file, self.each, self.given, self.array)) != 1:
            raise ValueError("give exactly one of value, file, each, given")
        if self.file is None and self.array is None and (self.row is not None or self.shape is not None):
            raise ValueError("row and shape belong to a file")
        return self


class Ids(Strict):
    """How text becomes ids: by espeak's phonemes and a table of symbols, by a Python function, or looked up."""

    espeak: str | None = Field(default=None, description="voice of espeak-ng, as in en-us")
    symbols: Path | dict[str, int] | None = Field(default=None, description="phoneme -> id, or a JSON file with that")
    replace: dict[str, str] = Field(default={}, description="phonemes that the model has under another name")
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    between: tuple[int, ...] = Field(default=(), description="ids that stand between any two phonemes")
    function: str | None = Field(
        default=None, description="module:function, from a text to a list of ids, or to a mapping with it and others"
    )
    table: Path | dict[str, list[int] | dict[str, Any]] | None = Field(
        default=None, description="text -> ids, or a mapping with them and others, or a JSON file with that"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Ids:
        ways = [name for name in ("espeak", "function", "table") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give exactly one of espeak, function, table (given: {', '.join(ways) or 'none'})")
        if self.espeak and self.symbols is None:
            raise ValueError("espeak needs symbols: a JSON file with the id of each phoneme")
        if self.function and ":" not in self.function:
            raise ValueError(f"function: {self.function!r} is not of the form module:function")
        return self


class Declaration(Strict):
    """What a model is fed and what its audio is."""

    model: Path | None = Field(default=None, description="the .onnx file; relative to the declaration's")
    then: tuple[Further, ...] = Field(default=(), description="further .onnx files, each fed with what is before it")
    package: str | None = Field(default=None, description="Python package that the paths of the files are relative to")
    name: str = "a declared model"
    sample_rate: int = Field(ge=8000, le=192000, description="of the audio, Hz")
    language: str = Field(default="", description="what it speaks, as in en")
    audio: str | tuple[str, ...] | None = Field(
        default=None, description="the output with the samples, or those that the vocoder makes samples of"
    )
    vocoder: str | None = Field(default=None, description="module:function, from these outputs to samples")
    code: Path | None = Field(default=None, description="folder of Python modules that it names; else beside it")
    modules: dict[str, str] = Field(default={}, description="hashes of these modules, in a declaration that was read")
    ids: Ids
    inputs: dict[str, Literal["ids", "length", "mask"] | Given] = Field(min_length=1)
    licence_chain: tuple[str, ...] = ()

    @field_validator("then", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        """A file may be named alone."""
        return [{"model": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fed_with_ids(self) -> Declaration:
        if "ids" not in self.inputs.values():
            raise ValueError("inputs: none of them is 'ids': say which input takes them")
        given = [name for name, one in self.inputs.items() if isinstance(one, Given) and one.given]
        if given and self.ids.espeak:
            raise ValueError(
                f"inputs.{given[0]}: espeak gives ids alone: take ids.function or ids.table, or {{each: ...}}"
            )
        if self.vocoder and ":" not in self.vocoder:
            raise ValueError(f"vocoder: {self.vocoder!r} is not of the form module:function")
        if isinstance(self.audio, tuple) and not self.vocoder:
            raise ValueError("audio: several outputs need a vocoder, a Python function that makes samples of them")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs to compute; none: the first of the graph."""
        return (self.audio,) if isinstance(self.audio, str) else self.audio or ()


def is_declaration(path: Path) -> bool:
    """Whether a file that a person names declares a model, and is none itself."""
    return path.suffix.lower() in (".yaml", ".yml")


def read_declaration(path: Path) -> Declaration:
    """Read a declaration and what it names, so that it is whole by itself; `model` becomes an absolute path.

    Raises:
        VoiceError: one line with the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise VoiceError(f"{path}: no such file; it should declare a model (docs/models.md)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VoiceError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        values = parsed_yaml(text)
    except ValueError as error:
        raise VoiceError(f"{path}: {error}") from None
    declaration = checked(values, path)
    if declaration.model is None:
        raise VoiceError(f"{path}: key model: missing; name the .onnx file")
    return whole(declaration, path.parent, path)


def checked(values: Any, origin: Path | str) -> Declaration:
    """Values as a declaration. Raises `VoiceError` with one line that names the first wrong key."""
    if not isinstance(values, Mapping):
        raise VoiceError(f"{origin}: declares no model: write model, sample_rate, ids and inputs (docs/models.md)")
    try:
        return Declaration.model_validate(values)
    except ValidationError as error:
        # An unknown key, which may be why another one is missing; of several ways to read a key, the one that came
        # furthest; of an input that is no word, what is wrong with its numbers.
        first = max(
            error.errors(),
            key=lambda one: (
                one["type"] == "extra_forbidden" and len(one["loc"]) == 1,
                len(_written(one, values)),
                not (one["type"] == "literal_error" and isinstance(one["input"], dict)),
            ),
        )
        parts = _written(first, values)
        key = ".".join(parts)
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "literal_error" and parts[:1] == ["inputs"]:
            message = "should be ids, length, mask, {value: ...}, {file: ...}, {each: ...} or {given: ...}"
        if parts[:1] == ["inputs"] and parts[2:3] == ["value"]:
            message = "should be a number, or nested lists of numbers"
        if first["type"] == "extra_forbidden":
            known = f"; known here: {', '.join(Declaration.model_fields)}" if len(first["loc"]) == 1 else ""
            message = f"unknown key{known}"
        if first["type"] == "missing":
            message = "missing"
        raise VoiceError(f"{origin}: key {key or '(top level)'}: {message}") from None


def _written(error: Any, values: Any) -> list[str]:
    """The keys that lead to what is wrong, as the file has them: without pydantic's names for ways to read them."""
    parts = []
    for part in error["loc"]:
        if isinstance(values, Mapping) and part in values or isinstance(values, list) and isinstance(part, int):
            parts.append(str(part))
            values = values[part]
    return [*parts, str(error["loc"][-1])] if error["type"] == "missing" else parts


def whole(declaration: Declaration, folder: Path, origin: Path) -> Declaration:
    """The declaration with what its files hold in their place; relative paths start from `folder`."""
    values = declaration.model_dump()
    for key in ("symbols", "table"):
        file = values["ids"][key]
        if isinstance(file, Path):
            values["ids"][key] = read_json(folder / from_home(file), VoiceError, f"{origin}: key ids.{key}: ")
    for name, given in declaration.inputs.items():
        if isinstance(given, Given) and given.file is not None:
            array = read_array(folder / from_home(given.file), given.shape, f"{origin}: key inputs.{name}")
            values["inputs"][name] = {"row": given.row, "array": Array.of(array).model_dump()}
    if declaration.vocoder or declaration.ids.function:
        values["code"] = code = (folder / from_home(declaration.code or Path())).absolute()
        # so that what was made, timed and scored with them is made again when they change
        files = {name: file_of(name, code) for name in (declaration.vocoder, declaration.ids.function) if name}
        values["modules"] = {name: file_sha256(file) for name, file in files.items() if file}
    if declaration.package is not None:
        folder = package_folder(declaration.package, f"{origin}: key package")
    if declaration.model is not None:
        values["model"] = model = folder / from_home(declaration.model)
        if not model.is_file():
            raise VoiceError(f"{origin}: key model: {model}: no such file")
        further = [one.model_copy(update={"model": folder / from_home(one.model)}) for one in declaration.then]
        for number, one in enumerate(further):
            if not one.model.is_file():
                raise VoiceError(f"{origin}: key then.{number}: {one.model}: no such file")
        if further:
            fed, audio, values["then"] = declaration.inputs, declaration.outputs, ()
            values["model"] = join(model, further, fed, audio, user_cache(), str(origin))
            renamed = tuple(output_name(name, fed) for name in audio)
            values["audio"] = renamed[0] if isinstance(declaration.audio, str) else renamed or None
    return checked(values, origin)


def imported(name: str, code: Path | None, key: str) -> Callable[..., Any]:
    """The function that a declaration names as `module:function`, from its folder or from what is installed.

    Raises:
        VoiceError: it cannot be imported; the message begins with `key`.
    """
    try:
        return function_of(name, code)
    except (Exception, SystemExit) as error:  # somebody else's module
        raise VoiceError(f"{key}: {name}: cannot be imported ({' '.join(str(error).split())})") from None


def package_folder(package: str, key: str) -> Path:
    """Where an installed Python package lies. Raises `VoiceError`, which begins with `key`."""
    try:
        spec = find_spec(package)  # imports what the package is in
    except (Exception, SystemExit):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise VoiceError(f"{key}: {package}: no such Python package is installed")
    return Path(spec.submodule_search_locations[0])


def read_array(path: Path, shape: tuple[int, ...] | None, key: str) -> np.ndarray:
    """The numbers in a .npy, or a .bin of float32 of this shape. Raises `VoiceError`, which begins with `key`."""
    kind = path.suffix.lower()
    if kind not in (".npy", ".bin"):
        raise VoiceError(f"{key}: {path}: should be a .npy file, or a .bin file of float32, little-endian")
    try:
        if kind == ".npy":
            found = np.load(path, allow_pickle=False)
            if shape not in (None, found.shape):
                raise VoiceError(f"{key}: {path}: numbers of shape {list(found.shape)}; leave 'shape' out")
            return found
        values = np.fromfile(path, dtype="<f4")
    except FileNotFoundError:
        raise VoiceError(f"{key}: {path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise VoiceError(f"{key}: {path}: cannot be read as numbers ({error}); give a .npy or a .bin") from None
    wanted = shape or (values.size,)
    if int(np.prod(wanted)) != values.size or path.stat().st_size % 4:
        size = path.stat().st_size
        raise VoiceError(f"{key}: {path}: {size} bytes are no float32 of shape {list(wanted)}; correct 'shape'")
    return values.reshape(wanted)
