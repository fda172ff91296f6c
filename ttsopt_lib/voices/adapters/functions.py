"""Import a function that a person names; a board that has nothing but ONNX Runtime can, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def function_of(name: str, folder: Path | None) -> Callable[..., Any]:
    """The function of `module:function`.

    A `folder`, if there is one, is where to look for the module before everything that is installed, and for what it
    imports later after that.

    Raises:
        ImportError, AttributeError: there is none; or whatever the module raises.
    """
    module, _, function = name.partition(":")
    if folder is None:
        return getattr(import_module(module), function)
    own, known = _own_file(module, folder), sys.modules.get(module)
    if own.is_file() and known is not None and getattr(known, "__file__", None) != str(own):
        del sys.modules[module]  # another folder's module of that name
    before = [path for path in sys.path if path != str(folder)]
    sys.path[:] = [str(folder), *before]
    try:
        return getattr(import_module(module), function)
    finally:
        sys.path[:] = [*before, str(folder)]


def file_of(name: str, folder: Path | None) -> Path | None:
    """The file that holds the module of `module:function`, which is not imported; None where there is none."""
    module = name.partition(":")[0]
    if folder is not None and _own_file(module, folder).is_file():
        return _own_file(module, folder)
    try:
        spec = find_spec(module)
    except (Exception, SystemExit):  # of the package that it is in
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _own_file(module: str, folder: Path) -> Path:
    return folder.joinpath(*module.split(".")).with_suffix(".py")
