"""Stand-ins for packages that a network's package imports and that scoring does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stand_in(name: str, **members: object) -> Iterator[None]:
    """A module `name` with these members for the time of one import; what was there before is there again after."""
    before = sys.modules.get(name)
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module
    try:
        yield
    finally:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
