"""Import a function that a person names; a board that has nothing but ONNX Runtime can, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def function_of(name: str, folder: Path | None) -> Callable[..., Any]:
    """The function of `module:function`.

    Args:
        name: of a module and a function in it.
        folder: where to look for the module before everything that is installed; None: nowhere else.

    Raises:
        ImportError, AttributeError: there is none; or whatever the module raises.
    """
    module, _, function = name.partition(":")
    before = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        return getattr(import_module(module), function)
    finally:
        sys.path[:] = before
