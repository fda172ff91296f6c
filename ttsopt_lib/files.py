"""Files that appear whole or not at all, and hashes of what they hold.

Nothing half-written ever stands under a final name: files are written beside it and moved into place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

# Least age of a file before its hash is cached: file-system clocks are too coarse to show a second write sooner.
SETTLED_NS = 3 * 10**9


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read once per process where nothing has written to the file since."""
    status = path.stat()
    written = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - written < SETTLED_NS:
        return _read_sha256(path)
    return _settled_sha256(path.absolute(), status.st_ino, status.st_size, written)


@lru_cache(maxsize=1024)
def _settled_sha256(path: Path, inode: int, size: int, written: int) -> str:
    return _read_sha256(path)


def _read_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(*parts: Any) -> str:
    """SHA-256 over anything that JSON or pydantic can say; the same parts give the same key."""

    def plain(part: Any) -> Any:
        return part.model_dump(mode="json") if isinstance(part, BaseModel) else str(part)

    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of a full disk name the file or folder that was written: of a failed write the system does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(path)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved into place when the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # keeps the ending, which some writers choose their format by
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that replaces `folder` when the block ends well: **all** that stood there is removed then.

    Where a person names the folder, look first whether what stands there may go. Of a link, the folder that it leads to
    is replaced.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    with replaced_together(folder.parent, [folder], f".{folder.name}.") as new:
        new(folder).mkdir()
        yield new(folder)


@contextmanager
def replaced_together(folder: Path, targets: Sequence[Path], prefix: str = ".new.") -> Iterator[Callable[[Path], Path]]:
    """Files and folders below `folder` that are of one run: they take their places together, or none does.

    Gives where to make what will be a target (their names differ). When the block ends well, those made take the places
    of earlier ones, and an earlier one that was not made again is removed; else all stays as it was. Until then
    they lie in a folder in `folder` whose name begins with `prefix`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=folder))
    made, earlier = temporary / "made", temporary / "earlier"
    made.mkdir()
    earlier.mkdir()
    try:
        with naming(folder):
            yield lambda target: made / target.name
        try:
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    os.replace(target, earlier / target.name)
                if (made / target.name).exists():
                    os.replace(made / target.name, target)
        except BaseException:
            for target in targets:
                if (earlier / target.name).exists():
                    if target.exists():
                        os.replace(target, made / target.name)
                    os.replace(earlier / target.name, target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
