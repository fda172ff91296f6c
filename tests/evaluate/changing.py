"""Studies that differ in some keys."""

from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def changed(model: Model, **keys: Any) -> Model:
    """A copy with other keys; a dict holds the changes of a part."""
    values = {
        key: changed(getattr(model, key), **value) if isinstance(value, dict) else value for key, value in keys.items()
    }
    return model.model_copy(update=values)
