"""Read a voice's ONNX file: whole, or with its weights in files beside it (ONNX's external data).

PyTorch's newer exporter writes `voice.onnx` and `voice.onnx.data`. Runtimes take the two for one voice, and so do we:
what is read has all its weights, what is written is one file, and hashes are over all the files.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # pyright: ignore[reportAttributeAccessIssue]

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.voices.vits_graph import sort_nodes

_NO_VOICE = "a voice is an .onnx file with its config beside it as .onnx.json"
DOMAINS = ("", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")  # of operators that ONNX Runtime has
DECLARED = "ttsopt_model"  # the key by which `model.onnx.json` is known as a declaration


class VoiceError(TtsoptError, ValueError):
    """A voice that cannot be used; the message names the file and the key, and says what would be right."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model of an ONNX file with all its weights in it, its nodes in topological order.

    Raises:
        VoiceError: there is no such file, it is no whole ONNX model, or weights beside it are not there or not whole.
    """
    model = _parsed(path)
    for tensor in _beside(model):
        place = ExternalDataInfo(tensor)
        start, file = place.offset or 0, _data_file(path, place.location)
        with open(file, "rb") as data:
            data.seek(start)
            tensor.raw_data = data.read() if place.length is None else data.read(place.length)
        if place.length is not None and len(tensor.raw_data) < place.length:
            raise VoiceError(
                f"{file}: not whole: the weights {tensor.name} of {path.name} end too early; copy it again"
            )
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    sort_nodes(model.graph)
    return model


def check_operators(model: onnx.ModelProto, path: Path) -> None:
    """Raises `VoiceError` where a model of this file needs an operator that ONNX Runtime does not have."""
    own = {(one.domain, one.name) for one in model.functions}
    known = _known_operators()
    for node in all_nodes(model):
        operator = domain, name = "" if node.domain == "ai.onnx" else node.domain, node.op_type
        if operator not in own and (domain not in DOMAINS or known and operator not in known):
            raise VoiceError(
                f"{path}: needs the operator {name}{f' of {domain!r}' if domain else ''}, which ONNX Runtime does not "
                "have: export the model without operators of its own"
            )


def weight_files(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights; none where it holds them itself. Raises as `read_model`."""
    _check_there(path)
    return [_data_file(path, location) for location in _locations(path, file_sha256(path))]


def model_sha256(path: Path) -> str:
    """SHA-256 of an ONNX file and, where weights lie beside it, of their files after it, in hex.

    Raises as `read_model`."""
    beside = weight_files(path)
    if not beside:
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in (path, *beside):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _locations(path: Path, sha256: str) -> tuple[str, ...]:
    """Where the file says that its weights are; read once for a content."""
    return tuple(sorted({ExternalDataInfo(tensor).location for tensor in _beside(_parsed(path))}))


def _beside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The tensors whose values lie in other files."""
    attributes = [item for node in all_nodes(model) for item in node.attribute]
    graphs = (model.graph, *(inner for item in attributes for inner in (item.g, *item.graphs)))
    weights = (tensor for graph in graphs for tensor in graph.initializer)
    constants = (tensor for item in attributes for tensor in (item.t, *item.tensors))
    return [tensor for tensor in itertools.chain(weights, constants) if uses_external_data(tensor)]


def _data_file(path: Path, location: str) -> Path:
    """The file of weights. It may be a link, as in a hub's cache, but lies in the model's folder or below it."""
    asked = PurePosixPath(location)
    if not location or asked.is_absolute() or ".." in asked.parts or PureWindowsPath(location).anchor:
        raise VoiceError(f"{path}: its weights are to be read from {location!r}, which is not beside it")
    file = path.parent / asked
    if not file.is_file():
        raise VoiceError(f"{file}: no such file, and {path.name} has its weights there; copy both into one folder")
    return file


@cache
def _known_operators() -> frozenset[tuple[str, str]]:
    """Domain and name of each operator of ONNX Runtime; empty where it is built so that it does not tell."""
    tell = getattr(runtime, "get_all_operator_schema", list)
    return frozenset((one.domain, one.name) for one in tell())


def is_numbers(value: onnx.ValueInfoProto) -> bool:
    """Whether an input or output is a tensor of numbers."""
    return value.type.tensor_type.elem_type not in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)


def describe(value: onnx.ValueInfoProto) -> str:
    """A tensor's type and shape as messages name it: `float32 [1, 256]`; of what is none, what it is."""
    kind = value.type.tensor_type
    if not is_numbers(value):
        return "text" if kind.elem_type else f"no tensor ({value.type.WhichOneof('value') or 'of no type'})"
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim]
    return f"{onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name} [{', '.join(dims)}]"


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, with those of its branches and loops and of the functions that it brings along."""
    return _nodes(itertools.chain(model.graph.node, *(one.node for one in model.functions)))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes, and those of the branches and loops in them."""
    for node in nodes:
        yield node
        for item in node.attribute:
            for inner in (item.g, *item.graphs):
                yield from _nodes(inner.node)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise VoiceError(f"{path}: no such file; {_NO_VOICE}")
    if not path.is_file():
        raise VoiceError(f"{path}: cannot be read (it is not a file); {_NO_VOICE}")


def _parsed(path: Path) -> onnx.ModelProto:
    """The model as the file itself has it."""
    _check_there(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VoiceError(f"{path}: cannot be read ({error.strerror}); {_NO_VOICE}") from error
    if other := _what_else(content):
        raise VoiceError(f"{path}: {other}")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise VoiceError(f"{path}: not a whole ONNX file ({len(content)} bytes); copy or download it again") from None
    if not model.graph.node:
        raise VoiceError(f"{path}: not a whole ONNX file (it has no nodes); copy or download it again")
    return model


def _what_else(content: bytes) -> str | None:
    """What a file is that people have in place of a model, and what to do; None for what may be a model."""
    begin = content[:512].lstrip().lower()
    if not content:
        return "not a whole ONNX file (it is empty); copy or download it again"
    if begin.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the model itself; run 'git lfs pull' where it came from, or download the file"
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a model; download the file itself (on a hub: the link 'download', or 'resolve')"
    return None
