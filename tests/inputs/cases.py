"""What people bring, and what they are told: one line a case. To add one, add a line.

`REFUSED` holds a change of a sound project, and words of the one line that it is refused with (exit 2).
`TAKEN` holds changes that are no mistake: the voice is taken, and its variants are single files that `piper` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import onnx
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


def ids_without(mark: str) -> Change:
    """A phoneme map without one of its marks."""

    def change(project: Project) -> None:
        ids = json.loads(project.config.read_text(encoding="utf-8"))["phoneme_id_map"]
        project.set_config(phoneme_id_map={phoneme: one for phoneme, one in ids.items() if phoneme != mark})

    return change


def config_with(**keys: Any) -> Change:
    """The voice's config with these keys."""
    return lambda project: project.set_config(**keys)


def with_step(**step: object) -> Change:
    """One variant, of one step."""
    return lambda project: project.set_study(variants=[{"name": "mine", "recipe": [step]}])


def hop_of_512(model: onnx.ModelProto) -> None:
    """The decoder's last upsampling by 8 in place of 4."""
    *_, last = (node for node in model.graph.node if node.op_type == "ConvTranspose")
    next(item for item in last.attribute if item.name == "strides").ints[:] = [8]


def links(project: Project) -> None:
    """The voice as a hub's cache keeps it: links to blobs, side by side."""
    project.put_weights_beside()
    blobs = project.path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(project.path.glob("voice.onnx*"))):
        file.rename(blobs / str(number))
        file.symlink_to(f"blobs/{number}")


REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    # --- the voice's file
    "no voice": (lambda p: p.voice.unlink(), ("voice.onnx: no such file",)),
    "voice is a folder": (lambda p: (p.voice.unlink(), p.voice.mkdir()), ("voice.onnx: cannot be read",)),
    "voice empty": (lambda p: p.write("voice.onnx", ""), ("voice.onnx: not a whole ONNX file (it is empty)",)),
    "voice cut": (cut("voice.onnx", 0.5), ("voice.onnx: not a whole ONNX file",)),
    "voice a web page": (lambda p: p.write("voice.onnx", PAGE), ("voice.onnx: a web page",)),
    "voice an LFS pointer": (lambda p: p.write("voice.onnx", POINTER), ("voice.onnx: a pointer of Git LFS",)),
    "voice is text": (lambda p: p.write("voice.onnx", "hello"), ("voice.onnx: not a whole ONNX file",)),
    # --- recipes for another voice
    "students of another": (
        with_step(step="distill", student="models/en_US-joe-medium/students"),
        ("variant 'mine'", "students/record.json: key voice_sha256", "'en_US-joe-medium'", "ttsopt distill"),
    ),
    "decoder of another": (
        with_step(step="prune_structured", trained="models/en_US-joe-medium/pruned-48x24"),
        ("variant 'mine'", "pruned-48x24/record.json: key voice_sha256", "a new folder in 'trained'"),
    ),
    "widths of another": (
        with_step(step="prune_structured", decoder_widths=[256, 128, 48, 24]),
        ("variant 'mine'", "decoder_widths: give 4 numbers of at most [32, 16, 8, 4]"),
    ),
    # --- ratings
    "ratings of a spreadsheet": (
        lambda p: p.write("ratings.csv", "test;sentence;variant;reference;rater;score;seconds;trap\n"),
        ("ratings.csv:1: columns are separated by ';'", "commas"),
    ),
    # --- texts
    "calibration without speech": (
        lambda p: p.write("sentences.txt", "# mine\nOne.\nTwo.\nThree.\n...\n"),
        ("sentences.txt: sentences.calibration: sentence 2 (line 5)", "gives no phonemes"),
    ),
    "evaluation without speech": (
        lambda p: p.write("sentences.txt", "One.\n...\nThree.\nFour.\n"),
        ("sentences.txt: sentences.evaluation: sentence 2 (line 2)",),
    ),
    "a book on one line": (
        lambda p: p.write("sentences.txt", f"One.\n{'The birch canoe slid. ' * 1250}\nThree.\nFour.\n"),
        ("sentences.txt: sentences.evaluation: sentence 2 (line 2)", "GB of memory", "a line of its own"),
    ),
    # --- weights and config
    "weights missing": (
        beside(lambda p: (p.path / "voice.onnx.data").unlink()),
        ("voice.onnx.data: no such file", "voice.onnx has its weights there"),
    ),
    "weights cut": (beside(cut("voice.onnx.data", 0.5)), ("voice.onnx.data: not whole",)),
    "config missing": (lambda p: p.config.unlink(), ("voice.onnx.json: no such file",)),
    "config a web page": (lambda p: p.write("voice.onnx.json", PAGE), ("voice.onnx.json: not valid JSON",)),
    "config a list": (lambda p: p.write("voice.onnx.json", "[]"), ("voice.onnx.json: should hold one JSON object",)),
    "map without begin": (ids_without("^"), ("voice.onnx.json: key phoneme_id_map", "has no ^")),
    "map without end": (ids_without("$"), ("voice.onnx.json: key phoneme_id_map", "has no $")),
    "map without pad": (ids_without("_"), ("voice.onnx.json: key phoneme_id_map", "has no _")),
    "map of numbers": (config_with(phoneme_id_map={"_": 0}), ("voice.onnx.json: key phoneme_id_map._",)),
    "espeak says nothing": (config_with(espeak={"voice": None}), ("voice.onnx.json: key espeak.voice",)),
    "espeak voice unknown": (config_with(espeak={"voice": "xx-none"}), ("voice.onnx.json", "espeak.voice")),
    "phonemizer unknown": (config_with(phoneme_type="kirshenbaum"), ("voice.onnx.json: key phoneme_type",)),
    "rate in kHz": (config_with(audio={"sample_rate": 22.05}), ("voice.onnx.json: key audio.sample_rate",)),
    "speaker it has not": (
        lambda p: p.set_study(voice={"path": "voice.onnx", "speaker": 7}),
        ("voice.speaker: 7", "one speaker"),
    ),
}
COMMANDS = {  # of cases that are not `RUN`
    "decoder of another": ("optimize", "study.yaml"),
    "ratings of a spreadsheet": ("ratings", "ratings.csv", "--study", "study.yaml"),
}

TAKEN: dict[str, Change] = {
    "as it is": lambda p: None,
    "weights beside": beside(),
    "links of a hub's cache": links,
    "speaker map null": config_with(speaker_id_map=None, default_speaker_id=None),
    "language a code": config_with(language="en"),
    "language null": config_with(language=None),
    "hop null": config_with(hop_length=None),
    "hop 512, not said": lambda p: p.change_model(hop_of_512),
    "espeak null of letters": config_with(phoneme_type="text", espeak={"voice": None}),
    "no speakers": config_with(num_speakers=0),
    "96 kHz": config_with(audio={"sample_rate": 96000}),
}
