"""A folder as a person has it: a voice, a study, sentences, and a report of an earlier run. Cases damage it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import yaml

EARLIER = ("report.html", "report.pdf", "summary.json")
SENTENCES = ["The birch canoe slid.", "Rice is often served.", "Glue the sheet.", "These days are rare."]


@dataclass
class Project:
    """The folder of one case, and what a case changes in it."""

    path: Path

    @property
    def voice(self) -> Path:
        return self.path / "voice.onnx"

    @property
    def config(self) -> Path:
        return self.path / "voice.onnx.json"

    @property
    def reports(self) -> Path:
        return self.path / "reports/tiny"

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the project, in UTF-8."""
        (self.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def set_config(self, **keys: Any) -> None:
        """Keys of the voice's config; `...` removes one."""
        config = json.loads(self.config.read_text(encoding="utf-8")) | keys
        config = {key: value for key, value in config.items() if value is not ...}
        self.config.write_text(json.dumps(config), encoding="utf-8")

    def set_study(self, **keys: Any) -> None:
        """Keys of the study."""
        path = self.path / "study.yaml"
        study = yaml.safe_load(path.read_text(encoding="utf-8"))["study"] if path.exists() else {}
        path.write_text(yaml.safe_dump({"study": study | keys}), encoding="utf-8")

    def change_model(self, change: Callable[[onnx.ModelProto], None]) -> None:
        """The voice's graph."""
        model = onnx.load(self.voice)
        change(model)
        onnx.save(model, self.voice)

    def put_weights_beside(self) -> Path:
        """The voice as PyTorch's newer exporter writes it; returns the file of weights."""
        model = onnx.load(self.voice)
        onnx.save(model, self.voice, save_as_external_data=True, location="voice.onnx.data", size_threshold=0)
        return self.path / "voice.onnx.data"


def make_project(folder: Path, voice: Path) -> Project:
    """A sound project: no case fails before it has damaged something."""
    project = Project(folder)
    shutil.copy(voice, project.voice)
    shutil.copy(f"{voice}.json", project.config)
    project.write("sentences.txt", "\n".join(SENTENCES) + "\n")
    project.set_study(
        name="tiny",
        voice={"path": "voice.onnx"},
        variants=[],
        sentences={
            "evaluation": {"file": "sentences.txt", "start": 0, "count": 2},
            "calibration": {"file": "sentences.txt", "start": 2, "count": 2},
            "timing": {"short": ["Yes."]},
            "listening": ["Yes."],
        },
        evaluate={"wer_sentences": 0},
    )
    project.reports.mkdir(parents=True)
    for name in EARLIER:
        (project.reports / name).write_text("earlier", encoding="utf-8")
    return project
