"""Published students: the folder that ships, with weights as safetensors, sizes, record and a model card.

No pickle is among them. A folder holds a student of the decoder alone, or of the text encoder, the duration
predictor, the flow and the decoder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.networks.decoder_students import (
    DecoderStudent,
    KeptStageConfig,
    KeptStageDecoder,
    SourceFilterConfig,
    SourceFilterDecoder,
)
from ttsopt_lib.networks.hifigan import HifiGanConfig
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.networks.students import (
    DurationStudent,
    DurationStudentConfig,
    FlowStudent,
    FlowStudentConfig,
    TextEncoderStudent,
    TextEncoderStudentConfig,
)
from ttsopt_lib.optimize.student_card import model_card
from ttsopt_lib.optimize.student_speed import decoder_speed, macs_per_frame
from ttsopt_lib.records import atomic_folder, file_sha256
from ttsopt_lib.voices.piper import load_piper, open_piper

WEIGHTS, SIZES, RECORD, CARD = "student.safetensors", "config.json", "record.json", "README.md"
KINDS: dict[str, tuple[type, type]] = {
    "text_encoder": (TextEncoderStudent, TextEncoderStudentConfig),
    "duration_predictor": (DurationStudent, DurationStudentConfig),
    "flow": (FlowStudent, FlowStudentConfig),
    "decoder": (IstftDecoder, IstftDecoderConfig),
}
"""Stage of a `StagedVits` -> its student and what sizes it has."""
DECODERS: dict[str, tuple[type, type]] = {
    "kept_stage": (KeptStageDecoder, KeptStageConfig),
    "source_filter": (SourceFilterDecoder, SourceFilterConfig),
}
"""`road` of a decoder's sizes -> the same; sizes that name none are an `IstftDecoder`'s."""
PUBLISHED: dict[str, tuple[str, ...]] = {
    "voice": ("text_encoder", "flow", "decoder", "speech"),
    "speech": ("text_encoder", "flow", "decoder"),
    "decoder": (),
}
"""Training whose students are published, the last first -> those before it, which its record tells of."""
RUN_FILES = ("best.safetensors", "best.json", "record.json")


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
    sizes, record = (_read_json(folder / name) for name in (SIZES, RECORD))
    students = nn.ModuleDict({stage: new_student(stage, of, folder / SIZES) for stage, of in sizes.items()})
    try:
        weights = load_file(folder / WEIGHTS)
        students.load_state_dict({name: value.float() for name, value in weights.items()})
    except (RuntimeError, SafetensorError) as error:
        raise DistillError(
            f"{folder / WEIGHTS}: is not whole, or not of the sizes in {SIZES} ({str(error).splitlines()[0]})"
        ) from error
    return dict(students.eval().requires_grad_(False).items()), record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DistillError(f"{path}: not valid JSON ({error}); copy the student's folder again") from None
    if not isinstance(found, dict):
        raise DistillError(f"{path}: should hold one JSON object, not a {type(found).__name__}")
    return found


def new_student(stage: str, sizes: dict[str, Any], source: Path) -> nn.Module:
    """A student of these sizes with fresh weights. Raises :class:`DistillError`, which names the file and the key."""
    if stage not in KINDS:
        raise DistillError(f"{source}: {stage}: there are no students of that stage, only of {', '.join(KINDS)}")
    network, config = KINDS[stage]
    if stage == "decoder" and "road" in sizes:
        if sizes["road"] not in DECODERS:
            raise DistillError(f"{source}: decoder: unknown road {sizes['road']!r}: use one of {', '.join(DECODERS)}")
        network, config = DECODERS[sizes["road"]]
    unknown = set(sizes) - {field.name for field in fields(config)}
    if unknown:
        raise DistillError(f"{source}: {stage}: unknown size {', '.join(sorted(unknown))}")
    try:
        if isinstance(sizes.get("stage"), dict):
            sizes = sizes | {"stage": HifiGanConfig.from_lists(**sizes["stage"])}
        return network(config(**sizes))
    except (TypeError, ValueError) as error:
        raise DistillError(f"{source}: {stage}: {error}") from error


def publish_student(
    voice_onnx: Path, run: Path, target: Path, measure_speed: bool = True, decoder_only: bool = False
) -> dict[str, Any]:
    """Copy the best students of a run to where they ship, whole or not at all, and return their record.

    Those of all stages, once flow and decoder (or all of them) were trained together; the decoder's alone before that,
    or where asked. Refuses to replace published students of the same stages and teacher data that validated better.
    """
    main = "decoder" if decoder_only else last_training(run)
    trainings = ["text_encoder", main] if main == "speech" else [main]
    records: dict[str, dict[str, Any]] = {}
    weights, sizes = {}, {}
    for training in trainings:
        for name in RUN_FILES:
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
    for training in PUBLISHED[main]:
        if training not in records and not began_elsewhere and (run / training / "record.json").is_file():
            records[training] = json.loads((run / training / "record.json").read_text(encoding="utf-8"))
    minutes = sum(one["wall_minutes"] for one in (record, *records.values()))
    record |= {
        "students": list(sizes), "training": main, "trainings": records, "total_minutes": round(minutes, 1)
    }  # fmt: skip
    refuse_to_worsen(target, record)
    with atomic_folder(target) as folder:
        save_file(weights, folder / WEIGHTS)
        write_json(folder / SIZES, sizes)
        write_json(folder / RECORD, record)
        students, _ = load_student(folder)
        # What to expect of the speed, and (below) what came of it.
        teacher = load_piper(open_piper(voice_onnx)).decoder
        decoder = students["decoder"]
        assert isinstance(decoder, DecoderStudent)
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


def last_training(run: Path) -> str:
    """The last of a run's trainings that make samples and have made something better than what they began with."""
    for name in PUBLISHED:
        best = run / name / "best.json"
        if best.is_file() and json.loads(best.read_text(encoding="utf-8"))["step"] > 0:
            return name
    return "decoder"


def refuse_to_worsen(target: Path, record: dict[str, Any]) -> None:
    """Raises :class:`DistillError` where better students of the same stages and teacher data are published already.

    Students of different trainings are judged by different figures (given latents, or text) and are not compared.
    """
    if not (target / RECORD).is_file():
        return
    shipped = json.loads((target / RECORD).read_text(encoding="utf-8"))
    if "training" not in shipped:  # published by an earlier version, which had no `voice`
        shipped["training"] = "speech" if "flow" in shipped["students"] else "decoder"
    same = all(shipped.get(key) == record[key] for key in ("teacher_data_sha256", "students", "training"))
    if same and shipped["best"]["predicted_mos_change"] > record["best"]["predicted_mos_change"]:
        raise DistillError(
            f"{target}: holds a better student ({shipped['best']['predicted_mos_change']:+.3f} predicted MOS); "
            "delete it first"
        )


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sizes_of(students: dict[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """What `config.json` says of them."""
    return {stage: asdict(student.config) for stage, student in students.items()}  # type: ignore[arg-type]
