"""Python's search for garbage cycles, put off where it finds nothing: it takes a second of the seven of a PDF."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles inside the block: for seconds that make much and throw little away, imports and pages."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
