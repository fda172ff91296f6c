"""From a study to its variants: run each recipe and leave a deployable voice with a record of what was reached.

    voice -> load -> [prune_*, distill] -> export -> [quantize_*, fp16] -> variants/<name>/model.onnx

Steps on the network come before the export, steps on the graph after it, each in the order of the recipe. `original`
is not made but copied, byte for byte (of a Hugging Face voice, which is no file to copy, it is our plain export). A
variant's folder appears whole or not at all, and one that was made from the same by the same code is not made again.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from joblib import cpu_count, delayed
from tqdm.auto import tqdm

from ttsopt_lib.code_hash import code_digest, versions
from ttsopt_lib.errors import StudyError, TtsoptError
from ttsopt_lib.files import atomic_folder, content_key, file_sha256
from ttsopt_lib.optimize.calibration import calibration_texts
from ttsopt_lib.optimize.context import LIBRARIES, BuildContext, VariantError, speak
from ttsopt_lib.optimize.inventory import Inventory, take_inventory
from ttsopt_lib.optimize.steps.step import record_of, source_of, total_coverage, work_of
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import now, write_record
from ttsopt_lib.records.device import PLAUSIBLE_LENGTH
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import Coverage, StepRecord, VariantRecord, read_variant_if_current
from ttsopt_lib.step_settings import AnyStep, GraphStep, NetworkStep, any_model_steps
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.onnx_file import VoiceError, model_sha256, read_model, weight_files
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.voices.source import source_declaration, source_path
from ttsopt_lib.workers import local_workers

MAX_BUILDERS = 4  # processes that make variants side by side: each holds PyTorch and the voice, about 1 GB


# --- what there is to do ----------------------------------------------------------------------------------------


def build_original(study: Study, folder: StudyFolder) -> None:
    """Export a Hugging Face voice where that is missing, so that `source_model` can open it.

    A voice that is a Piper file needs nothing.

    Raises:
        VoiceError, VariantError: as `build_study`.
    """
    if study.voice.huggingface is not None:
        build_study(study, folder, only=[ORIGINAL])


def variant_key(study: Study, name: str) -> str:
    """Hash of everything a variant is made from: voice, recipe, sentences and students it uses, code and libraries.

    Raises:
        StudyError: the study has no variant of that name, or the recipe names a student that is not there.
    """
    return _key(study, name, _source_hashes(study))


def _key(study: Study, name: str, source: dict[str, str]) -> str:
    recipe = _recipe(study, name)
    calibrated = _calibrated(study, name)
    return content_key(
        "original" if name == ORIGINAL else "variant",
        source,
        study.voice.speaker,
        list(recipe),
        # Every variant speaks the first sentence, to count its multiply-accumulates and to show that it speaks.
        calibration_texts(study.sentences.calibration)[: None if calibrated else 1],
        [work_of(step).files(step) for step in recipe],
        code_digest(__name__, *(source_of(step) for step in recipe)),
        versions(LIBRARIES),
        [code_digest("ttsopt_lib.voices.stream"), _must_stream(study, name)] if _streams(study, name) else [],
        study.voice.as_float,
    )


def _streams(study: Study, name: str) -> bool:
    """Whether the variant's halves for streaming are asked for: as files, or to time the first sound."""
    return name in study.measure.first_sound or _must_stream(study, name)


def _must_stream(study: Study, name: str) -> bool:
    """Whether a variant that cannot be streamed is an error."""
    return name != ORIGINAL and study.variant(name).streaming


def stale_variants(
    study: Study, folder: StudyFolder, only: Sequence[str] | None = None, again: bool = False
) -> list[str]:
    """Names of the variants that `build_study` would make: those missing, changed or made from other inputs.

    Raises:
        StudyError: `only` names a variant that the study does not have.
    """
    keys = _keys(study, only)
    return [name for name, record in _current(keys, folder, again).items() if record is None]


def build_study(
    study: Study,
    folder: StudyFolder,
    only: Sequence[str] | None = None,
    again: bool = False,
    processes: int | None = None,
) -> list[VariantRecord]:
    """Make the variants of a study that are missing or no longer current.

    Args:
        study: what was asked.
        folder: where the study's files lie.
        only: names of the variants wanted; None for all, the original among them.
        again: make them even where they are current.
        processes: how many make variants side by side; None takes the machine's cores (4 at most), 1 works in this one.

    Returns:
        the records of the variants asked for, in the order of the study.

    Raises:
        StudyError: the study has no such variant, or a step of a recipe cannot be done or reached nothing.
        VariantError: a finished variant does not speak.
        VoiceError: the study's voice is not there or not sound, or a declared model does not speak.
        TextError: the sentence file cannot be used, or a sentence gives no phonemes.
    """
    keys = _keys(study, only)
    current = _current(keys, folder, again)
    stale = [name for name, record in current.items() if record is None]
    records = {name: record for name, record in current.items() if record is not None}
    check_recipes(study, stale)
    if stale:
        from ttsopt_lib.optimize.trial import try_declared  # no variant depends on it

        try_declared(study)
    trained = [name for name in stale if _trains(study, name)]  # these take hours, and both cores
    timed = [name for name in stale if name not in trained and _times(study, name)]  # nothing else at work
    rest = [name for name in stale if name not in (*trained, *timed)]
    rest.sort(key=lambda name: not _calibrated(study, name))  # what takes longest comes first
    with (
        tempfile.TemporaryDirectory(prefix="ttsopt-") as scratch,
        tqdm(total=len(stale), desc="variants", unit="variant", disable=not stale) as bar,
    ):
        context = BuildContext(study, Path(scratch), folder)
        for name in (*trained, *timed):
            bar.set_postfix_str(name)
            records[name] = _build(context, name, keys[name], folder)
            if name in trained and (new := variant_key(study, name)) != keys[name]:  # now there is a decoder
                records[name] = records[name].model_copy(update={"key": new})
                write_record(folder.variant(name) / "variant.json", records[name])
            bar.update()
        try:
            with local_workers(max(1, min(processes or cpu_count(), MAX_BUILDERS, len(rest)))) as parallel:
                made: Any = parallel(delayed(_build_shared)(study, folder, scratch, name, keys[name]) for name in rest)
                for name, record in zip(rest, made, strict=True):
                    bar.set_postfix_str(name)
                    records[name] = record
                    bar.update()
        finally:
            for name in rest:  # a process that an interrupt ends removes nothing itself
                for left in folder.variant(name).parent.glob(f".{name}.*.part"):
                    shutil.rmtree(left, ignore_errors=True)
    return [records[name] for name in keys]


def check_recipes(study: Study, names: Collection[str]) -> None:
    """Look at the students, decoders and widths that recipes of these variants name, before any is made.

    Of a Hugging Face voice only what they are, not whose: its file is made first.

    Raises:
        StudyError: one line with the variant, the file and the key.
    """
    voice = None if study.voice.huggingface else source_path(study)
    refuse_other_models(study, names)
    for name, step in _steps(study, names):
        try:
            work_of(step).check(step, voice)
        except TtsoptError as error:
            raise StudyError(f"variant {name!r}: {error}") from None


def refuse_other_models(study: Study, names: Collection[str] | None = None) -> None:
    """Where the voice is no VITS, refuse recipes of these variants (None: all) that need one. Raises `StudyError`."""
    declaration = source_declaration(study)
    for name, step in _steps(study, names):
        if declaration and not step.any_model:
            raise StudyError(
                f"variant {name!r}: step {step.step} needs a VITS voice, and this is {declaration.name}: "
                f"take it out of the recipe; steps for any model are {', '.join(any_model_steps())}"
            )


def _steps(study: Study, names: Collection[str] | None) -> list[tuple[str, AnyStep]]:
    """Every step of these variants (None: of all), each with its variant's name."""
    asked = [variant for variant in study.variants if names is None or variant.name in names]
    return [(variant.name, step) for variant in asked for step in variant.recipe]


_CONTEXTS: dict[str, BuildContext] = {}  # of this process, by scratch folder


def _build_shared(study: Study, folder: StudyFolder, scratch: str, name: str, key: str) -> VariantRecord:
    """Make one variant in a process that may make others of the same study before and after it."""
    if scratch not in _CONTEXTS:
        _CONTEXTS.clear()
        own = Path(tempfile.mkdtemp(dir=scratch))  # two processes may export the same network at once
        _CONTEXTS[scratch] = BuildContext(study, own, folder)
    return _build(_CONTEXTS[scratch], name, key, folder)


def _trains(study: Study, name: str) -> bool:
    """Whether the recipe trains a decoder on the way, because none is there."""
    return any(work_of(step).trains(step) for step in _recipe(study, name))


def _times(study: Study, name: str) -> bool:
    """Whether the recipe times graphs on this machine."""
    return any(work_of(step).times(step) for step in _recipe(study, name))


def _calibrated(study: Study, name: str) -> bool:
    return any(work_of(step).needs_sentences(step) for step in _recipe(study, name))


def _recipe(study: Study, name: str) -> Sequence[AnyStep]:
    return () if name == ORIGINAL else study.variant(name).recipe


def _keys(study: Study, only: Sequence[str] | None) -> dict[str, str]:
    """Key of each variant asked for, in the study's order. Raises `StudyError` for a name it does not have."""
    for name in only or ():
        if name != ORIGINAL:
            study.variant(name)
    source = _source_hashes(study)
    names = [name for name in study.variant_names if only is None or name in only]
    return {name: _key(study, name, source) for name in names}


def _current(keys: dict[str, str], folder: StudyFolder, again: bool) -> dict[str, VariantRecord | None]:
    """The record of each variant that is there and was made from the same; None for one to be made."""
    return {name: None if again else read_variant_if_current(folder.variant(name), key) for name, key in keys.items()}


def _source_hashes(study: Study) -> dict[str, str]:
    """File name -> hash, of everything that is the voice."""
    source = study.voice
    if source.huggingface is not None:
        root = resolve(source.huggingface)
        files = [path for path in sorted(root.iterdir()) if path.is_file()] if root.is_dir() else []
    else:
        declaration = source_declaration(study)
        if declaration is not None:
            assert declaration.model is not None
            return {
                declaration.model.name: model_sha256(declaration.model),
                "declaration": content_key(declaration.model_dump(mode="json", exclude={"model"})),
            }
        path = source_path(study)
        files = [path, Path(f"{path}.json")]
        if not all(file.is_file() for file in files):
            open_piper(path)  # says what is missing
        files += weight_files(path)
    return {file.name: file_sha256(file) for file in files}


# --- making one -------------------------------------------------------------------------------------------------


def _build(context: BuildContext, name: str, key: str, folder: StudyFolder) -> VariantRecord:
    """Make one variant and put its folder into place. Raises `VariantError` with a runtime's words."""
    try:
        return _build_checked(context, name, key, folder)
    except RuntimeFailure as error:
        raise VariantError(f"variant {name!r}: {error}; change its recipe, or leave it out of the study") from None


def _build_checked(context: BuildContext, name: str, key: str, folder: StudyFolder) -> VariantRecord:
    """Make one variant, check that it speaks, and put its folder into place."""
    started = time.perf_counter()
    recipe = _recipe(context.study, name)
    with atomic_folder(folder.variant(name)) as new:
        path = new / "model.onnx"
        if name == ORIGINAL:
            steps, finished = _copy_original(context, path)
        else:
            steps, finished = _run_recipe(context, name, recipe, path)
            if context.tells_durations:
                from piper.patch_voice_with_alignment import add_alignment_output

                graph = onnx.load(path)
                add_alignment_output(graph)
                path.write_bytes(graph.SerializeToString(deterministic=True))
        _check_speaks(name, path, context)
        files, not_streamed = ["model.onnx", "model.onnx.json"], ""
        if _streams(context.study, name):
            from ttsopt_lib.voices.stream import write_streaming

            called = f"variant {name!r}: streaming"
            try:
                write_streaming(open_model(path).vits(called), new / "streaming", called)
                files += [str(file.relative_to(new)) for file in sorted((new / "streaming").iterdir())]
            except (VoiceError, RuntimeFailure) as error:  # among them those that are no VITS
                if _must_stream(context.study, name):
                    raise
                not_streamed = str(error).removeprefix(f"{called}: ")
        content = path.read_bytes()
        record = VariantRecord(
            key=key,
            name=name,
            recipe=[step.model_dump(mode="json") for step in recipe],
            parent=None if name == ORIGINAL else ORIGINAL,
            source_sha256=context.voice.onnx_sha256,
            files={file: file_sha256(new / file) for file in files},
            size_bytes=len(content),
            compressed_bytes=len(zlib.compress(content, 6)),
            parameters_stored=finished.parameters_stored,
            parameters_nonzero=finished.parameters_nonzero,
            coverage=total_coverage(recipe, steps, finished),
            steps=steps,
            not_streamed=not_streamed,
            seconds=time.perf_counter() - started,
            created=now(),
        )
        write_record(new / "variant.json", record)
    return record


def _copy_original(context: BuildContext, path: Path) -> tuple[list[StepRecord], Inventory]:
    if weight_files(context.voice.path):  # a variant is one file
        path.write_bytes(read_model(context.voice.path).SerializeToString(deterministic=True))
    else:
        shutil.copyfile(context.voice.path, path)
    context.voice.write_config(path)
    finished = take_inventory(path, context.reference)
    if context.study.voice.as_float:
        note = "the voice came with integer arithmetic: this file is its float form, on the same weights"
    elif context.study.voice.huggingface is not None:
        note = "the voice came as a Hugging Face folder: this file is our plain export of it"
    else:
        return [], finished
    made = StepRecord(
        step="export",
        coverage=Coverage(parameters=0.0, macs=0.0),
        layers=0,
        note=note,
        label="the export",
        family="nothing optimized",
        kind="other",
        optimizes=False,
        changes_arithmetic=False,
    )
    return [made], finished


def _run_recipe(
    context: BuildContext, name: str, recipe: Sequence[AnyStep], path: Path
) -> tuple[list[StepRecord], Inventory]:
    """Run a recipe into `path`; returns what each step reached and what the finished voice holds."""
    exported, inventory = context.export([step for step in recipe if isinstance(step, NetworkStep)])
    shutil.copyfile(exported, path)
    shutil.copyfile(f"{exported}.json", f"{path}.json")
    context.variant = name
    records = []
    for step in recipe:
        before = context.inventory = inventory
        context.note = ""
        if work_of(step).kind == "removal":
            before = context.export([])[1]  # of the whole voice: what is gone is counted against it
        if isinstance(step, GraphStep):
            graph = work_of(step).apply(read_model(path), step, context)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            inventory = take_inventory(path, context.reference)
        record = record_of(step, inventory, before, context.note)
        if record.layers == 0 and step.reaches_nothing != "expected":
            raise StudyError(
                f"variant {name!r}: step {step.step} reached no layer of this voice; take it out of the recipe, "
                "or add 'reaches_nothing: expected' to it"
            )
        records.append(record)
    return records, inventory


# --- proof that it speaks ---------------------------------------------------------------------------------------


def _check_speaks(name: str, path: Path, context: BuildContext) -> None:
    """Raises `VariantError` where a finished voice does not load or makes no plausible audio."""
    try:
        audio = speak(path, context.reference, context.voice.outputs)
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = str(error).splitlines()[0]
        raise VariantError(f"variant {name!r}: ONNX Runtime cannot speak with it: {reason}") from None
    if not np.isfinite(audio).all():
        raise VariantError(f"variant {name!r}: its audio holds values that are not numbers; drop or change a step")
    expected_samples = context.reference_samples
    low, high = (math.floor(share * expected_samples) for share in PLAUSIBLE_LENGTH)
    if not low <= audio.size <= high:
        raise VariantError(
            f"variant {name!r}: it speaks a sentence in {audio.size} samples where the original takes "
            f"{expected_samples}; drop or change a step"
        )
