"""Errors that tell a person what to do, in one line."""

from __future__ import annotations

import errno
import re


class TtsoptError(Exception):
    """An error whose one-line message tells a person what to do: the command line shows it without a traceback."""


def system_words(error: OSError) -> str:
    """An error of the system in one line: which file (or from which to which), and what is wrong with it."""
    said = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        said += "; make room there and run the same command again"
    files = [str(name) for name in (error.filename, error.filename2) if name]
    return f"{' -> '.join(files)}: {said}" if files else said


def runtime_words(error: Exception) -> str:
    """What a runtime says of an error, in one line of at most 300 characters, without lines of its own source."""
    return plain_words(str(error)) or type(error).__name__


def plain_words(said: str) -> str:
    """The same of what it printed; of a GPU without the name of this machine, which ONNX Runtime adds."""
    words = re.sub(r"/onnxruntime_src/\S+ .*?\) (?:.*? was false\. )?", "", " ".join(said.split()))
    return re.sub(r" ; GPU=.*", "", words)[:300]


class StudyError(TtsoptError, ValueError):
    """Parameters that cannot be used. The message is one line: file, key, what would be right."""
