"""A device record that was measured elsewhere becomes one of this study: checked, and marked as imported.

It stands where this machine's own record of that device would stand, and stays there until the device is measured here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ttsopt_lib.records.base import RecordError, now, read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, ImportRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Device, Name, Study

WANTED = "give records/devices/<device>.json of the machine that measured"
SCHEMA = DeviceRecord.model_fields["schema_version"].default


def import_record(study: Study, folder: StudyFolder, file: Path, device: Device | None = None) -> DeviceRecord:
    """Take over a device record from its file; nothing is written where it is the one on file already.

    Args:
        device: whose record it becomes. None: the device that it names itself.

    Raises:
        RecordError: it is no device record of this study, or one that was measured here would be lost.
        OSError: the file cannot be read.
    """
    record = _read(file)
    _check(record, study, file)
    name = device.name if device else _name_in(record, file)
    path = folder.device_record(name)
    present = _present(path)
    if present and present.status == "measured" and present.imported is None:
        raise RecordError(
            f"{file}: {path} was measured here and would be lost; to have both, write a device file with another name "
            f"and 'record: {file}'"
        )
    record.imported = ImportRecord(when=now(), file=file.name)
    record.device, record.label = name, device.label if device else record.label
    if present and present.imported and _content(present) == _content(record):
        return present
    write_record(path, record)
    return record


def _read(file: Path) -> DeviceRecord:
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise RecordError(f"{file}: not JSON; {WANTED}") from None
    if not isinstance(values, dict) or not {"device", "status", "rows"} <= values.keys():
        raise RecordError(f"{file}: not a device record; {WANTED}")
    if values.get("schema_version") != SCHEMA:
        raise RecordError(
            f"{file}: a device record of schema {values.get('schema_version')!r}, and this version reads {SCHEMA}; "
            "measure there again with this version"
        )
    try:
        return DeviceRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"{file}: not a device record that this version reads ({where}: {first['msg']})") from None


def _check(record: DeviceRecord, study: Study, file: Path) -> None:
    """Refuse a record that says nothing about this study. Raises RecordError."""
    if record.status != "measured" or not record.rows:
        raise RecordError(f"{file}: nothing was measured on {record.label}: {record.reason or 'it has no timings'}")
    known = set(study.variant_names) - {ORIGINAL}
    others = {row.variant for row in record.rows} - {ORIGINAL}
    if record.study not in (None, study.name) or (known and not known & others):
        whose = f"of study {record.study!r}" if record.study else "without any of its variants"
        raise RecordError(f"{file}: a device record {whose}, not of {study.name!r}; {WANTED} in the same study")
    shape = np.shape(record.rows[0].seconds)
    for row in record.rows:
        whole = _shape(row.seconds) == _shape(row.audio_seconds) == shape and len(shape) == 2
        if not whole or shape[1] != len(record.sentences) or not _times(row.seconds + row.audio_seconds):
            raise RecordError(f"{file}: the timings of {row.name} ({row.runtime}) are not whole; copy the file again")
        if not any(
            (one.variant, one.runtime, one.threads) == (ORIGINAL, row.runtime, row.threads) for one in record.rows
        ):
            raise RecordError(f"{file}: {row.name} ({row.runtime}) has no {ORIGINAL} to be compared with")


def _shape(values: list[list[float]]) -> tuple[int, ...]:
    """Blocks and sentences; nothing where the blocks differ in length."""
    lengths = {len(block) for block in values}
    return (len(values), *lengths) if len(lengths) == 1 else ()


def _times(values: list[list[float]]) -> bool:
    """Whether these can be seconds."""
    return all(0 < one < float("inf") for block in values for one in block)


def _name_in(record: DeviceRecord, file: Path) -> str:
    """The name of its device, which becomes that of a file."""
    try:
        return TypeAdapter(Name).validate_python(record.device)
    except ValidationError:
        raise RecordError(
            f"{file}: {record.device!r} is no name of a device; write a device file with record:"
        ) from None


def _present(path: Path) -> DeviceRecord | None:
    try:
        return read_record(path, DeviceRecord, "measure")
    except RecordError:
        return None


def _content(record: DeviceRecord) -> dict[str, Any]:
    """Everything but when it was imported."""
    return record.model_dump(exclude={"imported": {"when"}})
