"""Parameters from YAML files and from papermill, checked: what is wrong is one line that names the file and the key."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ttsopt_lib.errors import StudyError
from ttsopt_lib.paths import params_file, params_names, resolve
from ttsopt_lib.step_settings import STEPS, Step
from ttsopt_lib.study import Device, Study

Model = TypeVar("Model", bound=BaseModel)
DEFAULT_DEVICES = ("cpu", "gpu", "raspberry_pi")  # by the names of their files in params/


def check(model: type[Model], values: Any, origin: str) -> Model:
    """`values` as a `model`; raises a one-line `StudyError` that names `origin` and the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key" + _known_keys(model, first["loc"], values)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise StudyError(f"{origin}: {key}: {message}{more}") from None


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...], values: Any) -> str:
    """The keys that would have been right, where they can be told from the model."""
    known: type[BaseModel] | None = model
    for part in location[:-1]:
        values = _inside(values, part)
        if known is not None and isinstance(part, str):
            field = known.model_fields.get(part)
            known = _first_model(field.annotation) if field else known
        if known is Step and isinstance(values, dict):
            known = STEPS.get(values.get("step", ""), Step)
    return f"; known here: {', '.join(known.model_fields)}" if known else ""


def _inside(values: Any, part: int | str) -> Any:
    """What lies there in the values; None where nothing does, as where pydantic names one of several types."""
    try:
        return values[part]
    except (KeyError, IndexError, TypeError):
        return None


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _first_model(part)
        if found:
            return found
    return None


def read_params(path: Path, key: Literal["study", "device"]) -> Any:
    """The value below the only top-level key of a params file. Raises `StudyError`."""
    from ttsopt_lib.text_files import parsed_yaml  # here, because a device that only times has no yaml

    path = Path(path)
    try:
        text = params_file(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        there = ", ".join(f"params/{name}.yaml" for name in params_names(key)) or "none"
        raise StudyError(f"{path}: no such file; {key} files that are there: {there}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        values = parsed_yaml(text)
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    if not isinstance(values, dict) or list(values) != [key]:
        found = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise StudyError(f"{path}: expected the one top-level key '{key}:', found: {found}")
    return values[key]


def read_study(path: Path) -> Study:
    """A study from its YAML file. Raises `StudyError` with one line that names file and key."""
    return check(Study, read_params(path, "study"), f"{path}: study")


def read_device(path: Path) -> Device:
    """A device from its YAML file. Raises `StudyError` with one line that names file and key."""
    return check(Device, read_params(path, "device"), f"{path}: device")


def read_devices(names: Sequence[str] | None) -> list[Device]:
    """Devices by the names of their files in params/, or by paths; the three of params/ where none are given.

    Raises:
        StudyError: a file is not there, or is no device's.
    """
    devices = []
    for name in names or DEFAULT_DEVICES:
        path = params_file(Path(name if name.endswith((".yaml", ".yml")) else f"params/{name}.yaml"))
        if not path.is_file():
            there = ", ".join(params_names("device")) or "none"
            raise StudyError(f"--device {name}: {path} is not there; device files in params/: {there}")
        devices.append(read_device(path))
    return devices


def notebook_parameters(namespace: dict[str, Any], **models: Any) -> tuple[Any, ...]:
    """The parameters that papermill put into a notebook, checked; call it first, with `globals()`.

    Papermill only warns about a parameter that a notebook does not have; here it is an error. `models` names
    each parameter and what it must be: a model (`study=Study`), a list of them (`devices=list[Device]`) or a
    plain type (`reports=str | None`). A model may also be given as the path of a params file, which is handier by
    hand. Raises `StudyError`.
    """

    def parameter(value: Any, model: type[Model], origin: str) -> Model:
        if isinstance(value, str):
            return check(model, read_params(resolve(Path(value)), model.__name__.lower()), value)  # type: ignore[arg-type]
        return value if isinstance(value, model) else check(model, value, origin)

    ignored = {"In", "Out", "exit", "quit", "open", "get_ipython"}
    if shell := namespace.get("get_ipython"):  # what a user's start-up files define was there before the first cell
        ignored |= set(shell().user_ns_hidden)
    unknown = [
        name
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ignored
        and name not in models
        and not inspect.ismodule(value)
        and not callable(value)
    ]
    if unknown:
        raise StudyError(f"unknown notebook parameter: {', '.join(unknown)}; this notebook takes {', '.join(models)}")
    values = []
    for name, model in models.items():
        value, origin = namespace.get(name), f"parameter {name}"
        if get_origin(model) is list:
            if not isinstance(value, list | tuple):
                raise StudyError(f"{origin}: expected a list, found: {type(value).__name__}")
            of = get_args(model)[0]
            values.append([parameter(one, of, f"{origin}[{index}]") for index, one in enumerate(value)])
        elif inspect.isclass(model) and issubclass(model, BaseModel):
            values.append(parameter(value, model, origin))
        elif isinstance(value, model):
            values.append(value)
        else:
            raise StudyError(f"{origin}: expected {model}, found: {value!r}")
    return tuple(values)
