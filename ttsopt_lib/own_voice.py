"""A study on a voice of your own (`--voice`), and its name. Its folder, and that of its students, belong to one file.

Another voice file of the same name gets a name with a hash of its path; a voice that was copied or moved, and one that
was trained further and lies where it was, keep what they have.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.params import check
from ttsopt_lib.paths import project_root, resolve
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VoiceRecord
from ttsopt_lib.study import ORIGINAL, Study, Variant, VoiceSource
from ttsopt_lib.voices.adapters.declaration import is_declaration, read_declaration
from ttsopt_lib.voices.onnx_file import model_sha256

LONGEST_NAME = 61  # of a study, in characters
DIGITS = 6  # of a hash in a name


class OwnVoice(NamedTuple):
    """A study on another voice."""

    study: Study
    left_out: list[str]  # variants whose students were trained for another voice
    of_vits: list[str]  # variants that need a VITS, which the voice is not
    shortened: dict[str, list[str]]  # variants without steps that need one and change no arithmetic -> these steps
    namesake: str | None  # the study that another voice file of this name has


def study_on(voice: Path, study: Study, origin: Path) -> OwnVoice:
    """The same study on another voice, with students of that voice where some were trained.

    Args:
        voice: a Piper voice's `.onnx`, a local folder with a Hugging Face VITS model, or a YAML file that declares
            another model.
        study: what was asked of another voice.
        origin: the file that the study was read from, for messages.

    Raises:
        StudyError: there is no such voice, or the study does not fit it.
        VoiceError: the voice's file cannot be read.
    """
    if not voice.exists():
        raise StudyError(
            f"--voice {voice}: no such file; give a Piper voice's .onnx, a folder with a Hugging Face VITS model, or a "
            ".yaml that declares a model"
        )
    if voice.is_dir() and not (voice / "config.json").is_file():
        raise StudyError(
            f"--voice {voice}: a folder is a Hugging Face VITS model with its config.json, and this has none; of a "
            "Piper voice give the .onnx file"
        )
    declared = is_declaration(voice)
    source = "declared" if declared else "huggingface" if voice.is_dir() else "path"
    name = study_name(voice)
    student, sha256 = students_of(name), _sha256(voice)
    variants, left_out, of_vits, shortened = [], [], [], {}
    for variant in study.variants:
        trained = {step.needs_trained for step in variant.recipe} - {None}
        if declared:
            fitting = _as_far_as_it_fits(variant)
            if fitting is None:
                of_vits.append(variant.name)
                continue
            variants.append(fitting)
            if without := [step.step for step in variant.recipe if not step.any_model]:
                shortened[variant.name] = without
        elif not trained:
            variants.append(variant)
        elif study.training and trained == {study.training.student} and _are_of(name, voice, sha256):
            recipe = tuple(step.with_student(student) for step in variant.recipe)
            variants.append(variant.model_copy(update={"recipe": recipe}))
        else:
            left_out.append(variant.name)
    there = {ORIGINAL, *(variant.name for variant in variants)}
    only_vits = set() if declared else there  # no other model is timed in PyTorch, or spoken piece by piece
    measure = {
        key: tuple(name for name in asked if name in names)
        for key, names in {"pytorch": only_vits, "first_sound": only_vits, "more_threads": there}.items()
        if (asked := getattr(study.measure, key)) is not None
    }
    confirmed = tuple(variant for variant in study.evaluate.confirmed if variant in there)
    heard = study.listening_test.variants
    heard = None if heard is None else tuple(name for name in heard if name in there)
    further = study.sentences.confirmation if confirmed else None
    changes = {
        "name": name,
        "voice": VoiceSource.model_validate({source: os.path.abspath(voice)}),
        "variants": tuple(variants),
        "training": study.training and study.training.model_copy(update={"student": student}),
        "measure": study.measure.model_copy(update=measure),
        "listening_test": study.listening_test.model_copy(update={"variants": heard}),
        "evaluate": study.evaluate.model_copy(update={"confirmed": confirmed}),
        "sentences": study.sentences.model_copy(update={"confirmation": further}),
    }
    other = None if name == plain_name(voice) else plain_name(voice)
    found = check(Study, {**dict(study), **changes}, f"{origin} on {voice}")
    return OwnVoice(found, left_out, of_vits, shortened, other)


def study_name(voice: Path) -> str:
    """The name of the study of a voice file: valid, and that of no other voice's folder.

    Raises:
        VoiceError: the file, or one with its weights, cannot be read.
    """
    name = plain_name(voice)
    other = _with_hash(name, os.path.abspath(voice))
    mine = (project_root() / "reports" / other, resolve(students_of(other)))
    return other if any(path.exists() for path in mine) or _is_of_another(name, voice) else name


def students_of(name: str) -> Path:
    """Folder of the students that are trained for the study of a voice file, as a path of a study."""
    return Path("models") / name / "student"


def teachers_of(student: Path) -> set[str]:
    """Hashes of the voice that the students in a folder learned from: of its file, and of what that was exported from.

    Empty where there are none, or nothing says so.
    """
    said = _said(resolve(student) / "record.json")
    return {said[key] for key in ("voice_sha256", "source_sha256") if key in said}


def claim(folder: StudyFolder, voice: Path) -> None:
    """Write down whose folder it is."""
    write_record(folder.voice_record, VoiceRecord(path=os.path.abspath(voice), sha256=_sha256(voice)))


def plain_name(voice: Path) -> str:
    """The name of the file or folder, where that can be a study's; else what is left of it, and a hash."""
    given = Path(os.path.abspath(voice)).name if voice.is_dir() else voice.stem
    plain = re.sub(r"[^a-z0-9+._-]+", "-", given.lower()).strip("-._+")
    return plain if plain == given.lower() and len(plain) <= LONGEST_NAME else _with_hash(plain or "voice", given)


def _are_of(name: str, voice: Path, sha256: str) -> bool:
    """Whether the students under a study's name learned from a voice.

    An older version wrote down of a Hugging Face voice what it was exported as; its reports say of which voice that is.
    """
    teachers, reports = teachers_of(students_of(name)), project_root() / "reports" / name
    if sha256 in teachers or not voice.is_dir() or len(teachers) != 1:
        return sha256 in teachers
    exported = _said(reports / "variants/original/variant.json").get("source_sha256")
    return exported in teachers and _said(reports / "voice.json").get("sha256") == sha256


def _as_far_as_it_fits(variant: Variant) -> Variant | None:
    """A variant for a model that is no VITS, whose steps may find nothing to do; None where it needs a VITS.

    It does not where the steps that do change no arithmetic, and others are left.
    """
    recipe = [step.model_copy(update={"reaches_nothing": "expected"}) for step in variant.recipe if step.any_model]
    needs = any(not step.any_model and step.changes_arithmetic for step in variant.recipe)
    return None if needs or variant.recipe and not recipe else variant.model_copy(update={"recipe": tuple(recipe)})


def _sha256(voice: Path) -> str:
    """Hash of a model, by its own file, its folder's weights or the file that declares it. Raises `VoiceError`."""
    if voice.is_dir():
        from ttsopt_lib.voices.huggingface import weights_of  # imports PyTorch

        return file_sha256(weights_of(voice))
    model = read_declaration(voice).model if is_declaration(voice) else voice
    assert model is not None
    return model_sha256(model)


def _with_hash(name: str, what: str) -> str:
    digest = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{name[: LONGEST_NAME - 1 - DIGITS]}-{digest[:DIGITS]}"


def _is_of_another(name: str, voice: Path) -> bool:
    """Whether what lies under a study's name was made of other voices, and nothing of it of this one."""
    folder = project_root() / "reports" / name
    named, original = _said(folder / "voice.json"), _said(folder / "variants/original/variant.json")
    known = {*teachers_of(students_of(name)), named.get("sha256"), original.get("source_sha256")} - {None}
    return bool(known) and named.get("path") != os.path.abspath(voice) and _sha256(voice) not in known


def _said(record: Path) -> dict[str, Any]:
    """What a record says, of whatever schema; nothing where there is none, or no JSON object."""
    with suppress(OSError, ValueError):
        said = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(said, dict):
            return said
    return {}
