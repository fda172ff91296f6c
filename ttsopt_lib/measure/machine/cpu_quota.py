"""A limit on processor time, as a container has it: how many cores it amounts to, and how often it held us back.

Linux keeps both in the folders of control groups: a process is held by its own group and by every group above it.
Version 2 has one tree of them, version 1 one for each kind of limit. Another system tells of no limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


class Quota(NamedTuple):
    """The tightest limit on this process."""

    cores: float
    held_back: int  # times, since the group was made
    seconds: float  # for so long in all, summed over threads


def find_quota(groups: Path = GROUPS, own: Path = OWN_GROUP) -> Quota | None:
    """The tightest limit of this process's group and those above it; None where there is none, or none is told.

    Args:
        groups: folder of all control groups.
        own: file that says which of them this process is in.
    """
    found = [quota for folder in _folders(groups, own) if (quota := _quota_of(folder))]
    return min(found, default=None)


def _folders(groups: Path, own: Path) -> list[Path]:
    """The folders of this process's groups that may limit processor time, and of those above them."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if kinds == "" or "cpu" in kinds.split(","):
            tree = groups / "cpu" if kinds else groups
            group = tree / path.lstrip("/")
            found += [folder for folder in (group, *group.parents) if folder.is_relative_to(tree)]
    return found


def _quota_of(folder: Path) -> Quota | None:
    """The limit in one folder; None where it has none, or is no group's, or of a form that nobody has seen yet."""
    try:
        if (folder / "cpu.max").is_file():
            allowed, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            allowed, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        if allowed in ("max", "-1"):
            return None
        stat = dict(line.split() for line in (folder / "cpu.stat").read_text(encoding="utf-8").splitlines())
        seconds = int(stat.get("throttled_usec", 0)) / 1e6 + int(stat.get("throttled_time", 0)) / 1e9
        return Quota(int(allowed) / int(period), int(stat.get("nr_throttled", 0)), seconds)
    except (OSError, ValueError, ZeroDivisionError):
        return None
