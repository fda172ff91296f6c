"""A device record that was measured elsewhere becomes one of this study: checked, and marked as imported.

It stands where this machine's own record of that device would stand, and stays there until the device is measured here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ttsopt_lib.measure.browser import with_figures
from ttsopt_lib.records.base import RecordError, now, read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, ImportRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Device, Name, Study

WANTED = "give records/devices/<device>.json of the machine that measured, or what a study's web page saved"
LARGEST = 500_000_000  # bytes of a file
SCHEMA = DeviceRecord.model_fields["schema_version"].default


def import_record(
    study: Study,
    folder: StudyFolder,
    file: Path,
    device: Device | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> DeviceRecord:
    """Take over a device record from its file; nothing is written where it is the one on file already.

    Args:
        file: a device record, or what the study's web page saved.
        device: whose record it becomes. None: the device that it names itself.
        note: gets what a person should know besides.

    Raises:
        RecordError: it is no device record of this study, or one that was measured here would be lost.
        OSError: the file cannot be read.
    """
    record = _read(file, study)
    _check(record, study, file)
    if device and device.kind != record.kind and "browser" in (device.kind, record.kind):
        raise RecordError(f"{file}: measured on a {record.kind}; write kind: {record.kind} for {device.name} as well")
    name = device.name if device else _name_in(record, file)
    path = folder.device_record(name)
    present = record_on_file(path)
    if present and present.status == "measured" and present.imported is None:
        raise RecordError(
            f"{file}: {path} was measured here and would be lost; to have both, write a device file with another name "
            f"and 'record: {file}'"
        )
    record.imported = ImportRecord(when=now(), file=file.name)
    record.device, record.label = name, device.label if device else record.label
    if present and present.imported and _content(present) == _content(record):
        return present
    if present and present.imported and present.created != record.created:
        note(
            f"it takes the place of what {present.label} measured on {present.created}; if that was another device, "
            f"give each a device file with a name of its own and 'record:'"
        )
    write_record(path, record)
    return record


def is_of_a_page(file: Path) -> bool:
    """Whether a file says that a study's web page saved it. Raises OSError."""
    from ttsopt_lib.web.records import is_page_record

    try:
        return file.stat().st_size <= LARGEST and is_page_record(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        return False


def _read(file: Path, study: Study) -> DeviceRecord:
    from ttsopt_lib.web.records import device_record, is_page_record, read_page_record

    if file.stat().st_size > LARGEST:
        raise RecordError(f"{file}: larger than {LARGEST / 1e6:.0f} MB, which no record is; {WANTED}")
    try:
        values: Any = json.loads(content := file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise RecordError(f"{file}: not JSON; {WANTED}") from None
    if is_page_record(values):
        return with_figures(device_record(read_page_record(content, file)), study.measure)
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
    of_another_study = record.study not in (None, study.name)
    if of_another_study or (known and not known & others):
        whose = f"of study {record.study!r}" if of_another_study else "without any of its variants"
        raise RecordError(f"{file}: a device record {whose}, not of {study.name!r}; {WANTED} in the same study")
    blocks = {row.threads: len(row.seconds) for row in reversed(record.rows)}  # of the first with so many
    for row in record.rows:
        timings = row.seconds + row.audio_seconds
        # rows with the same number of threads are timed together
        has_all_blocks = len(row.seconds) == len(row.audio_seconds) == blocks[row.threads]
        has_all_sentences = {len(block) for block in timings} == {len(record.sentences)}
        are_times = all(0 < one < float("inf") for block in timings for one in block)
        if not (has_all_blocks and has_all_sentences and are_times):
            raise RecordError(f"{file}: the timings of {row.name} ({row.runtime}) are not whole; copy the file again")
        if not any(
            (one.variant, one.runtime, one.threads) == (ORIGINAL, row.runtime, row.threads) for one in record.rows
        ):
            raise RecordError(f"{file}: {row.name} ({row.runtime}) has no {ORIGINAL} to be compared with")


def _name_in(record: DeviceRecord, file: Path) -> str:
    """The name of its device, which becomes that of a file."""
    try:
        return TypeAdapter(Name).validate_python(record.device)
    except ValidationError:
        raise RecordError(
            f"{file}: {record.device!r} is no name of a device; write a device file with record:"
        ) from None


def record_on_file(path: Path) -> DeviceRecord | None:
    """A device's record; None where there is none that can be read."""
    try:
        return read_record(path, DeviceRecord, "measure")
    except RecordError:
        return None


def _content(record: DeviceRecord) -> dict[str, Any]:
    """Everything but when it was imported."""
    return record.model_dump(exclude={"imported": {"when"}})
