"""What all records share: pydantic models that refuse unknown keys, read from JSON and written whole.

A record carries `key`, the hash of everything it was made from (recipe, files, settings, the code of the step). A step
whose record is there with the right key, and whose files still have their hashes, is done and not repeated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_path


class RecordError(TtsoptError, RuntimeError):
    """A record that is missing, unreadable or of another schema. The message says which step makes it anew."""


class Record(BaseModel):
    """Base of all records. Unknown keys are refused, so that a record of an older schema is noticed."""

    model_config = ConfigDict(extra="forbid")


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, whole or not at all.

    Raises `RecordError` for one that could not be read back, as where a figure is not finite: JSON has null for that.
    """
    text = record.model_dump_json(by_alias=True, indent=1)
    try:
        type(record).model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: not written, it could not be read back: {where}: {first['msg']}") from None
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path, model: type[AnyRecord], step: str) -> AnyRecord:
    """A record from its file. Raises `RecordError`, which names the `step` that makes it."""
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: not there yet; run 'ttsopt {step}' first") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise RecordError(f"{path}: not a {model.__name__} ({first}); run 'ttsopt {step}' again") from None


def read_if_current(path: Path, model: type[AnyRecord], key: str) -> AnyRecord | None:
    """The record at `path` if it was made from exactly the inputs that `key` stands for, else None."""
    try:
        record = read_record(path, model, "")
    except RecordError:
        return None
    return record if getattr(record, "key", None) == key else None
