"""A model in several ONNX files as one graph: an acoustic model and its vocoder, say.

Each file is fed with what those before it give, so that recipes, timing and scores are of the whole, and a variant is
one file. Names of nodes and weights get the name of their file in front: a search of `quantize_mixed` then has groups
of each file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner, version_converter
from pydantic import Field

from ttsopt_lib.code_hash import code_digest
from ttsopt_lib.files import atomic_path, content_key
from ttsopt_lib.step_settings import Strict
from ttsopt_lib.voices.onnx_file import VoiceError, all_nodes, check_operators, describe, model_sha256, read_model
from ttsopt_lib.voices.session import RuntimeFailure, open_session
from ttsopt_lib.voices.vits_graph import attribute

NATIVE = ("", "ai.onnx")  # names of ONNX's own domain
SAYS_COORDINATES = 11  # from this operator set on a Resize says where samples lie; onnx's converter leaves out that


class Further(Strict):
    """A further file of a model."""

    model: Path = Field(description="the .onnx file; relative to the declaration's")
    inputs: dict[str, str] = Field(
        default={}, description="an input of it -> the output before it that it gets, where the names do not say that"
    )


@dataclass
class _Stage:
    """One file: its graph, and where each of its inputs comes from. Nothing is asked of it before it is converted."""

    path: Path
    model: ModelProto
    prefix: str  # of its names
    operator_set: int  # that the file has
    wired: dict[str, str] = field(default_factory=dict)  # input -> value in the joined graph; others stay inputs

    @cached_property
    def inputs(self) -> dict[str, ValueInfoProto]:
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return {value.name: value for value in self.model.graph.input if value.name not in weights}

    @cached_property
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
    stays an input where `fed` has it. A file that gets nothing so, and has one input left, gets the one output of the
    file before.

    Args:
        first: the `.onnx` file that is run first.
        further: those after it, in their order.
        fed: names of the inputs that the declaration feeds.
        audio: names of the outputs to keep, of any file; none: all of the last one's. In the joined graph they are
            called as `output_name` says.
        cache: folder for joined files.
        origin: where the declaration stands, for messages.

    Raises:
        VoiceError: a file is missing or no model, or they do not fit one another; one line says what to write.
    """
    paths = [first, *(one.model for one in further)]
    said = [[(one.model.name, one.inputs) for one in further], sorted(fed), list(audio)]
    made_by = [onnx.__version__, code_digest(__name__)]
    key = content_key([model_sha256(path) for path in paths], said, made_by)
    made = cache / f"{'+'.join(path.stem for path in paths)[:60]}-{key[:12]}.onnx"
    if made.is_file():
        return made
    stages = [_stage(path, f"/{number}.{path.stem}/", origin) for number, path in enumerate(paths, 1)]
    _to_one_operator_set(stages, origin)
    for number, (stage, one) in enumerate(zip(stages[1:], further, strict=True)):
        _wire(stage, stages[: number + 1], one.inputs, fed, f"{origin}: key then.{number}")
    model = _joined(stages, fed, audio)
    names = " and ".join(path.name for path in paths)
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(made) as new:
        try:
            new.write_bytes(model.SerializeToString(deterministic=True))
        except (ValueError, EncodeError):
            raise VoiceError(f"{origin}: key then: {names} are larger than one ONNX file can be (2 GB)") from None
        try:
            open_session(new)
        except RuntimeFailure as error:
            sets = " and ".join(str(stage.operator_set) for stage in stages)
            why = str(error).removeprefix(f"{new}: ")
            raise VoiceError(
                f"{origin}: key then: {names} (operator sets {sets}), joined into one graph: {why}"
            ) from None
    return made


def output_name(name: str, fed: Collection[str]) -> str:
    """What an output is called in the joined graph: another name where an input has its own."""
    return f"{name}.out" if name in fed else name


def _stage(path: Path, prefix: str, origin: str) -> _Stage:
    model = read_model(path)
    check_operators(model, path)
    if model.functions:
        model = inliner.inline_local_functions(model)
        if model.functions:  # it leaves those of another operator set
            raise VoiceError(
                f"{origin}: key then: {path.name} has functions of another operator set than its own: export it with "
                "one opset_version"
            )
    return _Stage(path, model, prefix, _operator_set(model))


def _operator_set(model: ModelProto) -> int:
    return next((one.version for one in model.opset_import if one.domain in NATIVE), 1)


def _to_one_operator_set(stages: Sequence[_Stage], origin: str) -> None:
    """Convert every graph to the highest operator set among them; of other domains the highest is taken."""
    versions = {"": 1}
    for stage in stages:
        for opset in stage.model.opset_import:
            domain = "" if opset.domain in NATIVE else opset.domain
            versions[domain] = max(opset.version, versions.get(domain, 0))
    for stage in stages:
        own = stage.operator_set
        if own == versions[""]:
            continue
        try:
            stage.model = version_converter.convert_version(stage.model, versions[""])
        except Exception as error:  # of whatever kind its C++ raises
            raise VoiceError(
                f"{origin}: key then: {stage.path.name} has operator set {own}, another file {versions['']}, and "
                f"cannot be converted ({' '.join(str(error).split())[:120]}): export all with the same opset_version"
            ) from None
        if own < SAYS_COORDINATES:
            for node in all_nodes(stage.model):
                if node.op_type == "Resize" and attribute(node, "coordinate_transformation_mode", None) is None:
                    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
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
    if not from_name and len(left) == 1 and len(unused) == 1:
        from_name[left.pop()] = unused[0]

    def write(name: str) -> str:
        return f"write {{model: {stage.path.name}, inputs: {{{name}: ...}}}} with one of {there}"

    if left:
        raise VoiceError(
            f"{key}: {stage.path.name} takes {', '.join(left)}, and no file before it gives an output of that name: "
            f"{write(left[0])}, or feed it by a key of inputs"
        )
    if not from_name:
        name = next(iter(stage.inputs), "its input")
        raise VoiceError(f"{key}: {stage.path.name} takes nothing of what is before it: {write(name)}")
    for name, output in from_name.items():
        one, value = given[output]
        if unlike := _unlike(value, stage.inputs[name]):
            raise VoiceError(
                f"{key}: {stage.path.name} takes {name} as {unlike[1]}, and {one.path.name} gives {output} as "
                f"{unlike[0]}: export both alike, and without fixed lengths"
            )
        stage.wired[name] = one.name_of(output)
    for name, value in stage.inputs.items():
        for one in before if name not in stage.wired else ():
            if name in one.inputs and name not in one.wired and (unlike := _unlike(one.inputs[name], value)):
                raise VoiceError(
                    f"{key}: {stage.path.name} takes {name} as {unlike[1]}, and {one.path.name} takes it as "
                    f"{unlike[0]}: {write(name)}, or export one of them with another name for it"
                )


def _unlike(gives: ValueInfoProto, takes: ValueInfoProto) -> tuple[str, str] | None:
    """How two values that are to be one are described, where they cannot be; None where they can.

    What takes one length alone cannot be given another: its axes but the first are all fixed, and the other's are not.
    """
    one, other = gives.type.tensor_type, takes.type.tensor_type
    said = describe(gives), describe(takes)
    if TensorProto.UNDEFINED not in (one.elem_type, other.elem_type) and one.elem_type != other.elem_type:
        return said
    if not (one.HasField("shape") and other.HasField("shape")):
        return None
    pairs = list(zip(one.shape.dim, other.shape.dim, strict=False))
    fixed = [(a.HasField("dim_value"), b.HasField("dim_value")) for a, b in pairs]
    sizes = [(a.dim_value, b.dim_value) for (a, b), both in zip(pairs, fixed, strict=True) if all(both)]
    one_length = len(pairs) > 2 and all(b for _, b in fixed[1:]) and not all(a for a, _ in fixed[1:])
    if len(one.shape.dim) != len(other.shape.dim) or any(a != b for a, b in sizes) or one_length:
        return said
    return None


def _joined(stages: Sequence[_Stage], fed: Collection[str], audio: Collection[str]) -> ModelProto:
    """One model of all stages; `fed` and `audio` as in `join`."""
    made = ModelProto(ir_version=max(4, *(stage.model.ir_version for stage in stages)))  # 4: weights are no inputs
    made.opset_import.extend(stages[-1].model.opset_import)
    made.metadata_props.extend(stages[0].model.metadata_props)
    graph = made.graph
    graph.name = " and ".join(stage.path.stem for stage in stages)
    nearest = {name: stage for stage in stages for name in stage.outputs}
    last = [name for name in stages[-1].outputs if stages[-1].name_of(name) not in fed]  # what is passed on is no sound
    ends = {}
    for name in [name for name in audio if name in nearest] or last:
        output = ValueInfoProto.FromString(nearest[name].outputs[name].SerializeToString())
        _own_axes(output, nearest[name].prefix)
        output.name = output_name(name, fed)
        graph.output.append(output)
        ends[output.name] = nearest[name].name_of(name)
    for number, stage in enumerate(stages):
        there = {value.name for value in graph.input}
        own = [value for name, value in stage.inputs.items() if name not in stage.wired and name not in there]
        names = {name: stage.name_of(name) for name in _names(stage.model.graph)}
        _rename(stage.model.graph, names, stage.prefix, inner=False)
        for value in own if number else ():
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
        found.update(node.input, node.output, *(_names(one) for one in _inner(node)))
    return found


def _rename(graph: GraphProto, names: dict[str, str], prefix: str, inner: bool = True) -> None:
    """Give every value of a graph, and of those in its nodes, its new name, and every node the prefix.

    Axes of an inner graph get names of their own: ONNX Runtime takes equal names for equal lengths.
    """
    for value in (*graph.input, *graph.output) if inner else ():
        _own_axes(value, prefix)
    for value in (*graph.input, *graph.output, *graph.initializer, *(one.values for one in graph.sparse_initializer)):
        value.name = names[value.name]
    for node in graph.node:
        node.name = node.name and prefix + node.name.lstrip("/")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        for one in _inner(node):
            _rename(one, names, prefix)
    del graph.value_info[:], graph.quantization_annotation[:]
