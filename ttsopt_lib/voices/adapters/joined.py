"""A model in several ONNX files as one graph: an acoustic model and its vocoder, say.

Each file is fed with what those before it give, so that recipes, timing and scores are of the whole, and a variant is
one file. Names of nodes and weights get the name of their file in front: a search of `quantize_mixed` then has groups
of each file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner, version_converter
from pydantic import Field

from ttsopt_lib.files import atomic_path, content_key
from ttsopt_lib.step_settings import Strict
from ttsopt_lib.voices.onnx_file import VoiceError, check_operators, model_sha256, read_model

NATIVE = ("", "ai.onnx")  # names of ONNX's own domain


class Further(Strict):
    """A further file of a model."""

    model: Path = Field(description="the .onnx file; relative to the declaration's")
    inputs: dict[str, str] = Field(
        default={}, description="an input of it -> the output before it that it gets, where the names do not say that"
    )


@dataclass
class _Stage:
    """One file: its graph, and where each of its inputs comes from."""

    path: Path
    model: ModelProto
    prefix: str  # of its names
    wired: dict[str, str] = field(default_factory=dict)  # input -> value in the joined graph; others stay inputs

    @property
    def inputs(self) -> dict[str, ValueInfoProto]:
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return {value.name: value for value in self.model.graph.input if value.name not in weights}

    @property
    def outputs(self) -> dict[str, ValueInfoProto]:
        return {value.name: value for value in self.model.graph.output}

    def name_of(self, value: str) -> str:
        """What a value of its graph is called in the joined one."""
        return self.wired.get(value) or (value if not value or value in self.inputs else self.prefix + value)


def join(
    first: Path, further: Sequence[Further], fed: Collection[str], audio: Collection[str], cache: Path, origin: str
) -> Path:
    """The file of the joined graph, which is made once for a content.

    An input of a further file gets the output that `inputs` names, else the nearest one before it of the same name. It
    stays an input where `fed` has it. One input that is still left gets the one output of the file before that is.

    Args:
        first: the `.onnx` file that is run first.
        further: those after it, in their order.
        fed: names of the inputs that the declaration feeds.
        audio: names of outputs that the joined graph has to have. The last file's are there in any case.
        cache: folder for joined files.
        origin: where the declaration stands, for messages.

    Raises:
        VoiceError: a file is missing or no model, or they do not fit one another; one line says what to write.
    """
    paths = [first, *(one.model for one in further)]
    said = [(one.model.name, one.inputs) for one in further]
    key = content_key([model_sha256(path) for path in paths], said, sorted(fed), sorted(audio), onnx.__version__)
    made = cache / f"{'+'.join(path.stem for path in paths)[:60]}-{key[:12]}.onnx"
    if made.is_file():
        return made
    stages = [_stage(path) for path in paths]
    for number, stage in enumerate(stages):
        if any(one.path.stem == stage.path.stem for one in stages if one is not stage):
            stage.prefix = f"/{stage.path.stem}.{number}/"
    _to_one_operator_set(stages, origin)
    for number, (stage, one) in enumerate(zip(stages[1:], further, strict=True)):
        _wire(stage, stages[: number + 1], one.inputs, fed, f"{origin}: key then.{number}")
    model = _joined(stages, audio)
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(made) as new:
        try:
            new.write_bytes(model.SerializeToString(deterministic=True))
        except (ValueError, EncodeError):
            names = " and ".join(path.name for path in paths)
            raise VoiceError(f"{origin}: key then: {names} are larger than one ONNX file can be (2 GB)") from None
    return made


def _stage(path: Path) -> _Stage:
    model = read_model(path)
    check_operators(model, path)
    if model.functions:
        model = inliner.inline_local_functions(model)
    return _Stage(path, model, f"/{path.stem}/")


def _to_one_operator_set(stages: Sequence[_Stage], origin: str) -> None:
    """Convert every graph to the highest operator set among them; those of other domains have to be the same."""
    versions = {"": 1}
    for stage in stages:
        for opset in stage.model.opset_import:
            domain = "" if opset.domain in NATIVE else opset.domain
            versions[domain] = max(opset.version, versions.get(domain, 0))
    for stage in stages:
        own = next((one.version for one in stage.model.opset_import if one.domain in NATIVE), versions[""])
        if own == versions[""]:
            continue
        try:
            stage.model = version_converter.convert_version(stage.model, versions[""])
        except Exception as error:  # of whatever kind its C++ raises
            raise VoiceError(
                f"{origin}: key then: {stage.path.name} has operator set {own}, another file {versions['']}, and "
                f"cannot be converted ({' '.join(str(error).split())[:120]}): export all with the same opset_version"
            ) from None
    for stage in stages:
        del stage.model.opset_import[:]
        stage.model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


def _wire(stage: _Stage, before: Sequence[_Stage], said: dict[str, str], fed: Collection[str], key: str) -> None:
    """Find where each input of a stage comes from. Raises `VoiceError`, whose message begins with `key`."""
    given = {name: (one, value) for one in before for name, value in one.outputs.items()}
    there = ", ".join(given)
    for name, output in said.items():
        if name not in stage.inputs:
            raise VoiceError(f"{key}: {stage.path.name} has no input {name!r} (it has: {', '.join(stage.inputs)})")
        if output not in given:
            raise VoiceError(f"{key}.inputs.{name}: no file before gives {output!r} (they give: {there})")
    from_name = {name: said.get(name, name) for name in stage.inputs if name in said or name in given}
    left = [name for name in stage.inputs if name not in from_name and name not in fed]
    unused = [name for name in before[-1].outputs if name not in from_name.values()]
    if len(left) == 1 and len(unused) == 1:
        from_name[left.pop()] = unused[0]
    if left:
        raise VoiceError(
            f"{key}: {stage.path.name} takes {', '.join(left)}, and no file before it gives an output of that name: "
            f"write {{model: {stage.path.name}, inputs: {{{left[0]}: ...}}}} with one of {there}, or feed it by a key "
            "of inputs"
        )
    if not from_name:
        raise VoiceError(f"{key}: {stage.path.name} takes nothing of what is before it ({there})")
    for name, output in from_name.items():
        one, value = given[output]
        if types := _unlike(value, stage.inputs[name]):
            raise VoiceError(
                f"{key}: {stage.path.name} takes {name} as {types[1]}, and {one.path.name} gives {output} as "
                f"{types[0]}: export both in the same precision"
            )
        stage.wired[name] = one.name_of(output)
    for name, value in stage.inputs.items():
        for one in before if name not in stage.wired else ():
            if name in one.inputs and name not in one.wired and (types := _unlike(one.inputs[name], value)):
                raise VoiceError(
                    f"{key}: {stage.path.name} takes {name} as {types[1]}, and {one.path.name} takes it as {types[0]}: "
                    "export one of them with another name for it"
                )


def _unlike(one: ValueInfoProto, other: ValueInfoProto) -> list[str]:
    """Names of the types of two values where they differ, else nothing."""
    types = [value.type.tensor_type.elem_type for value in (one, other)]
    if TensorProto.UNDEFINED in types or types[0] == types[1]:
        return []
    return [helper.tensor_dtype_to_np_dtype(kind).name for kind in types]


def _joined(stages: Sequence[_Stage], audio: Collection[str]) -> ModelProto:
    """One model of all stages, whose outputs are those of the last, and what `audio` names of the others."""
    last = stages[-1]
    made = ModelProto(ir_version=max(4, *(stage.model.ir_version for stage in stages)))  # 4: weights are no inputs
    made.opset_import.extend(last.model.opset_import)
    made.metadata_props.extend(stages[0].model.metadata_props)
    graph = made.graph
    graph.name = " and ".join(stage.path.stem for stage in stages)
    sources = {name: stage for stage in stages for name in stage.outputs if stage is last or name in audio}
    for name, stage in sources.items():
        output = ValueInfoProto.FromString(stage.outputs[name].SerializeToString())
        _own_axes(output, stage.prefix)
        graph.output.append(output)
    ends = {name: stage.name_of(name) for name, stage in sources.items()}
    for stage in stages:
        there = {value.name for value in graph.input}
        own = [value for name, value in stage.inputs.items() if name not in stage.wired and name not in there]
        _rename(stage.model.graph, {name: stage.name_of(name) for name in _names(stage.model.graph)}, stage.prefix)
        for value in own if stage is not stages[0] else ():
            _own_axes(value, stage.prefix)
        graph.input.extend(own)
        graph.node.extend(stage.model.graph.node)
        graph.initializer.extend(stage.model.graph.initializer)
        graph.sparse_initializer.extend(stage.model.graph.sparse_initializer)
    graph.node.extend(helper.make_node("Identity", [value], [name], name=f"/{name}") for name, value in ends.items())
    return made


def _own_axes(value: ValueInfoProto, prefix: str) -> None:
    """Give the named axes of a value other names than another file's: its `time` may be another length."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param:
            dim.dim_param = prefix + dim.dim_param


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs of a node's branches or loop."""
    for item in node.attribute:
        yield from item.graphs
        if item.HasField("g"):
            yield item.g


def _names(graph: GraphProto) -> set[str]:
    """Every name of a value in a graph, and in those of its nodes."""
    values = (*graph.input, *graph.output, *graph.initializer, *(one.values for one in graph.sparse_initializer))
    found = {value.name for value in values}
    for node in graph.node:
        found.update(node.input, node.output, *(_names(inner) for inner in _inner(node)))
    return found


def _rename(graph: GraphProto, names: dict[str, str], prefix: str) -> None:
    """Give every value of a graph, and of those in its nodes, its new name, and every node the prefix."""
    for value in (*graph.input, *graph.output, *graph.initializer, *(one.values for one in graph.sparse_initializer)):
        value.name = names[value.name]
    for node in graph.node:
        node.name = node.name and prefix + node.name.lstrip("/")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        for inner in _inner(node):
            _rename(inner, names, prefix)
    del graph.value_info[:], graph.quantization_annotation[:]
