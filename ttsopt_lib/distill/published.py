"""Published students: the folder that ships, with weights as safetensors, sizes, record and a model card.

No pickle is among them. A folder holds a student of the decoder alone, or of the text encoder, the duration
predictor, the flow and the decoder.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ttsopt_lib.distill.decoder_speed import decoder_speed, macs_per_frame
from ttsopt_lib.distill.model_card import model_card
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_folder, file_sha256
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.networks.students import (
    DurationStudent,
    DurationStudentConfig,
    FlowStudent,
    FlowStudentConfig,
    TextEncoderStudent,
    TextEncoderStudentConfig,
)
from ttsopt_lib.text_files import read_json
from ttsopt_lib.voices.piper import load_piper, open_piper

WEIGHTS, SIZES, RECORD, CARD = "student.safetensors", "config.json", "record.json", "README.md"
COPY = "copy the student's folder again"
KINDS: dict[str, tuple[type, type]] = {
    "text_encoder": (TextEncoderStudent, TextEncoderStudentConfig),
    "duration_predictor": (DurationStudent, DurationStudentConfig),
    "flow": (FlowStudent, FlowStudentConfig),
    "decoder": (IstftDecoder, IstftDecoderConfig),
}
"""Stage of a `StagedVits` -> its student and what sizes it has."""


class DistillError(TtsoptError, ValueError):
    """A run or a student that cannot be used. The message is one line: which file, what would be right."""


def load_student(folder: Path) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Published students, ready to speak, by the stage they stand for, and their training record.

    Raises:
        DistillError: if a file is missing, or weights and sizes do not belong together.
    """
    folder = Path(folder)
    for name in (WEIGHTS, SIZES, RECORD):
        if not (folder / name).is_file():
            raise DistillError(
                f"{folder / name}: no such file; a student is a folder with {WEIGHTS}, {SIZES} and {RECORD}"
            )
    sizes, record = (read_json(folder / name, DistillError, remedy=COPY) for name in (SIZES, RECORD))
    students = nn.ModuleDict({stage: new_student(stage, of, folder / SIZES) for stage, of in sizes.items()})
    try:
        weights = load_file(folder / WEIGHTS)
        students.load_state_dict({name: value.float() for name, value in weights.items()})
    except (RuntimeError, SafetensorError) as error:
        raise DistillError(
            f"{folder / WEIGHTS}: is not whole, or not of the sizes in {SIZES} ({str(error).splitlines()[0]})"
        ) from error
    return dict(students.eval().requires_grad_(False).items()), record


def new_student(stage: str, sizes: dict[str, Any], source: Path) -> nn.Module:
    """A student of these sizes with fresh weights. Raises `DistillError`, which names the file and the key."""
    if stage not in KINDS:
        raise DistillError(f"{source}: {stage}: there are no students of that stage, only of {', '.join(KINDS)}")
    if not isinstance(sizes, dict):
        raise DistillError(f"{source}: {stage}: should hold sizes by their names, not {sizes!r:.40}")
    network, config = KINDS[stage]
    unknown = set(sizes) - {field.name for field in fields(config)}
    if unknown:
        raise DistillError(f"{source}: {stage}: unknown size {', '.join(sorted(unknown))}")
    try:
        return network(config(**sizes))
    except (TypeError, ValueError) as error:
        raise DistillError(f"{source}: {stage}: {error}") from error


def publish_student(
    voice_onnx: Path, run: Path, target: Path, measure_speed: bool = True, source_sha256: str | None = None
) -> dict[str, Any]:
    """Copy the best students of a run to where they ship, whole or not at all, and return their record.

    They are those of all stages, once flow and decoder were trained together, and the decoder's alone before that.
    Refuses to replace published students of the same stages and teacher data that validated better. `source_sha256` is
    the hash of what the voice's file was exported from.
    """
    whole = (run / "speech" / "best.json").is_file()
    main = "speech" if whole else "decoder"
    trainings = ["text_encoder", main] if whole else [main]
    records: dict[str, dict[str, Any]] = {}
    weights, sizes = {}, {}
    for training in trainings:
        for name in ("best.safetensors", "best.json", "record.json"):
            if not (run / training / name).is_file():
                raise DistillError(f"{run / training / name}: no such file; that training has not validated yet")
        record = json.loads((run / training / "record.json").read_text(encoding="utf-8"))
        record["best"] = json.loads((run / training / "best.json").read_text(encoding="utf-8"))
        records[training] = record
        best = load_file(run / training / "best.safetensors")
        weights |= best
        stages = sorted({name.partition(".")[0] for name in best}, key=list(KINDS).index)
        config = record["config"] | {"duration_predictor": record["config"].get("durations")}
        sizes |= {stage: config[stage] for stage in stages}
    record = records.pop(main)
    began_elsewhere = isinstance(record.get("started_from"), str)  # with published students, not with this run's
    for training in ("text_encoder", "flow", "decoder") if whole else ():
        if training not in records and not began_elsewhere and (run / training / "record.json").is_file():
            records[training] = json.loads((run / training / "record.json").read_text(encoding="utf-8"))
    minutes = sum(one["wall_minutes"] for one in (record, *records.values()))
    record |= {
        "students": list(sizes), "training": main, "trainings": records, "total_minutes": round(minutes, 1)
    }  # fmt: skip
    if source_sha256:
        record["source_sha256"] = source_sha256
    refuse_others(target)
    refuse_to_worsen(target, record)
    with atomic_folder(target) as folder:
        save_file(weights, folder / WEIGHTS)
        write_json(folder / SIZES, sizes)
        write_json(folder / RECORD, record)
        students, _ = load_student(folder)
        # What to expect of the speed, and (below) what came of it.
        teacher = load_piper(open_piper(voice_onnx)).decoder
        decoder = students["decoder"]
        assert isinstance(decoder, IstftDecoder)
        channels = decoder.config.latent_channels
        record["parameters"] = sum(parameter.numel() for one in students.values() for parameter in one.parameters())
        record["macs_per_frame"] = {
            "teacher": macs_per_frame(teacher, channels),
            "student": decoder.config.macs_per_frame,
        }
        if measure_speed:
            record["speed"] = decoder_speed(teacher, decoder, channels)
        record["weights_sha256"] = file_sha256(folder / WEIGHTS)
        write_json(folder / RECORD, record)
        (folder / CARD).write_text(model_card(record, students), encoding="utf-8")
    return record


def has_students(run: Path) -> bool:
    """Whether a run has come to students that can be published: those that make samples."""
    return any((run / training / "best.json").is_file() for training in ("decoder", "speech"))


def refuse_others(target: Path) -> None:
    """Raises `DistillError` where a folder holds something that is not of published students: publishing removes it."""
    if target.exists() and not target.is_dir():
        raise DistillError(f"{target}: is a file; name a folder, which publishing students makes")
    files = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    others = [name for name in files if name not in (WEIGHTS, SIZES, RECORD, CARD)]
    if others:
        raise DistillError(
            f"{target}: holds {others[0]}, which publishing students would remove; move it, or name another folder"
        )


def refuse_to_worsen(target: Path, record: dict[str, Any]) -> None:
    """Raises `DistillError` where better students of the same stages and teacher data are published already."""
    if not (target / RECORD).is_file():
        return
    shipped = read_json(target / RECORD, DistillError, remedy="remove the folder")
    same = all(shipped.get(key) == record[key] for key in ("teacher_data_sha256", "students"))
    same = same and shipped.get("training") != "voice"  # of an earlier version, and judged by how text is spoken
    if same and shipped["best"]["predicted_mos_change"] > record["best"]["predicted_mos_change"]:
        raise DistillError(
            f"{target}: holds a better student ({shipped['best']['predicted_mos_change']:+.3f} predicted MOS); "
            "delete it first"
        )


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
