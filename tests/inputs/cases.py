"""What people bring, and what they are told: one line a case. To add one, add a line.

`REFUSED` holds a change of a sound project, the command, and words of the one line that it is refused with (exit 2).
`TAKEN` holds changes that are no mistake: the voice is taken, and its variants are single files that `piper` reads.
"""

from __future__ import annotations

from collections.abc import Callable

from project import Project

Change = Callable[[Project], object]
RUN = ("run", "study.yaml")

PAGE = "<!DOCTYPE html>\n<html><head><title>Hugging Face</title></head></html>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 63201294\n"


def cut(name: str, share: float) -> Change:
    """Only the beginning of a file."""

    def change(project: Project) -> None:
        content = (project.path / name).read_bytes()
        project.write(name, content[: int(share * len(content))])

    return change


def beside(then: Change = lambda project: None) -> Change:
    """The weights in a file of their own, and what happens to it."""

    def change(project: Project) -> None:
        project.put_weights_beside()
        then(project)

    return change


def links(project: Project) -> None:
    """The voice as a hub's cache keeps it: links to blobs, side by side."""
    project.put_weights_beside()
    blobs = project.path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(project.path.glob("voice.onnx*"))):
        file.rename(blobs / str(number))
        file.symlink_to(f"blobs/{number}")


REFUSED: dict[str, tuple[Change, tuple[str, ...], tuple[str, ...]]] = {
    # --- the voice's file
    "no voice": (lambda p: p.voice.unlink(), RUN, ("voice.onnx: no such file",)),
    "voice is a folder": (lambda p: (p.voice.unlink(), p.voice.mkdir()), RUN, ("voice.onnx: cannot be read",)),
    "voice empty": (lambda p: p.write("voice.onnx", ""), RUN, ("voice.onnx: not a whole ONNX file (it is empty)",)),
    "voice cut": (cut("voice.onnx", 0.5), RUN, ("voice.onnx: not a whole ONNX file",)),
    "voice a web page": (lambda p: p.write("voice.onnx", PAGE), RUN, ("voice.onnx: a web page",)),
    "voice an LFS pointer": (lambda p: p.write("voice.onnx", POINTER), RUN, ("voice.onnx: a pointer of Git LFS",)),
    "voice is text": (lambda p: p.write("voice.onnx", "hello"), RUN, ("voice.onnx: not a whole ONNX file",)),
    "weights missing": (
        beside(lambda p: (p.path / "voice.onnx.data").unlink()),
        RUN,
        ("voice.onnx.data: no such file", "voice.onnx has its weights there"),
    ),
    "weights cut": (beside(cut("voice.onnx.data", 0.5)), RUN, ("voice.onnx.data: not whole",)),
}

TAKEN: dict[str, Change] = {
    "as it is": lambda p: None,
    "weights beside": beside(),
    "links of a hub's cache": links,
}
