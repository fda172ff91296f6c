"""A task that opens something large on its second call in a process, as scoring opens its models."""

import os
import time

OPENED: list[bytearray] = []
CALLS: list[int] = []


def grow(number: int) -> int:
    """The process that did it, 400 MB larger from its second call on."""
    CALLS.append(number)
    if len(CALLS) == 2:
        OPENED.append(bytearray(b"x" * 400_000_000))
    time.sleep(1.1)  # joblib looks at the memory once a second
    return os.getpid()
