"""From a study to its variants: run each recipe and leave a deployable voice with a record of what was reached.

    voice -> load -> [prune_*, distill] -> export -> [quantize_*, fp16] -> variants/<name>/model.onnx

Steps on the network come before the export, steps on the graph after it, each in the order of the recipe. `original`
is not made but copied, byte for byte (of a Hugging Face voice, which is no file to copy, it is our plain export). A
variant's folder appears whole or not at all, and one that was made from the same by the same code is not made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from joblib import cpu_count, delayed
from tqdm.auto import tqdm

from ttsopt_lib.errors import StudyError, TtsoptError
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.calibration import Feed, sentence_feeds
from ttsopt_lib.optimize.coverage import Inventory, step_record, take_inventory, total_coverage
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.optimize.half import half_precision
from ttsopt_lib.optimize.layout import rearrange_decoder
from ttsopt_lib.optimize.mixed import quantize_mixed
from ttsopt_lib.optimize.pack import pack
from ttsopt_lib.optimize.prune import prune_magnitude
from ttsopt_lib.optimize.quantize import quantize_dynamic, quantize_static, quantize_weights
from ttsopt_lib.paths import resolve
from ttsopt_lib.records import (
    PLAUSIBLE_LENGTH,
    Coverage,
    SensitivityRecord,
    StepRecord,
    StudyFolder,
    VariantRecord,
    atomic_folder,
    code_digest,
    content_key,
    file_sha256,
    now,
    read_if_current,
    read_variant_if_current,
    write_record,
)
from ttsopt_lib.study import (
    ORIGINAL,
    AnyStep,
    Distill,
    Fp16,
    GraphStep,
    NetworkStep,
    Pack,
    PruneMagnitude,
    PruneStructured,
    QuantizeDynamic,
    QuantizeMixed,
    QuantizeStatic,
    QuantizeWeights,
    RearrangeDecoder,
    SentenceRange,
    Study,
)
from ttsopt_lib.voices.huggingface import load_huggingface, piper_config_for
from ttsopt_lib.voices.onnx_file import read_model, weight_files
from ttsopt_lib.voices.piper import PiperVoice, VoiceConfig, load_piper, open_piper, packaged_voice, speaker_of
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.text import read_sentences
from ttsopt_lib.workers import local_workers

SEARCH_CODE = ("layout", "mixed", "qdq", "ranges", "sensitivity")
# The code that decides what is in a variant. Training is not among it: a student counts by the hash of its weights.
RECIPE_CODE = (
    *(f"optimize/{name}.py" for name in SEARCH_CODE),
    *(
        f"optimize/{name}.py"
        for name in [
            "calibration",
            "coverage",
            "export",
            "half",
            "low_bits",
            "pack",
            "prune",
            "quantize",
            "recipe",
            "refit",
            "structured",
            "weights",
        ]
    ),
    "voices",
    "networks",
)
LIBRARIES = ("torch", "onnx", "onnxruntime", "transformers")  # a change of these may change the bytes of a variant
MAX_BUILDERS = 4  # processes that make variants side by side: each holds PyTorch and the voice, about 1 GB
NOTHING = Coverage(parameters=0.0, macs=0.0)


class VariantError(TtsoptError, RuntimeError):
    """A variant that was built but is no voice: it does not load, or does not speak. Nothing of it is kept."""


# --- what there is to do ----------------------------------------------------------------------------------------


def source_voice(study: Study, folder: StudyFolder | None = None) -> PiperVoice:
    """The voice that a study names, opened and checked.

    A Hugging Face voice is no Piper file: what is opened is its export, the variant `original`, built where missing.

    Raises:
        VoiceError: the voice is not there, not sound, or has no such speaker as the study asks for.
    """
    source = study.voice
    if source.package is not None:
        voice = open_piper(packaged_voice(source.package))
    elif source.path is not None:
        voice = open_piper(resolve(source.path))
    else:
        folder = folder or StudyFolder(study)
        build_study(study, folder, only=[ORIGINAL])
        voice = open_piper(folder.model(ORIGINAL))
    speaker_of(voice.config, source.speaker)
    return voice


def source_config(study: Study) -> VoiceConfig:
    """What the config of the voice that a study names says; that of a Hugging Face folder before its export.

    Raises:
        VoiceError: as `source_voice`.
    """
    if study.voice.huggingface is None:
        return source_voice(study).config
    config = piper_config_for(resolve(study.voice.huggingface))
    speaker_of(config, study.voice.speaker)
    return config


def variant_key(study: Study, name: str) -> str:
    """Hash of everything a variant is made from: voice, recipe, sentences and students it uses, code and libraries.

    Raises:
        StudyError: the study has no variant of that name, or the recipe names a student that is not there.
    """
    return _key(study, name, _source_hashes(study))


def _key(study: Study, name: str, source: dict[str, str]) -> str:
    recipe = () if name == ORIGINAL else study.variant(name).recipe
    calibrated = _calibrated(study, name)
    return content_key(
        "original" if name == ORIGINAL else "variant",
        source,
        study.voice.speaker,
        list(recipe),
        # Every variant speaks the first sentence, to count its multiply-accumulates and to show that it speaks.
        calibration_texts(study.sentences.calibration)[: None if calibrated else 1],
        [_student_hashes(step.student) for step in recipe if isinstance(step, Distill)],
        [_trained_hashes(step) for step in recipe if isinstance(step, PruneStructured)],
        code_digest(*RECIPE_CODE),
        {library: version(library) for library in LIBRARIES},
    )


def _is_calibrated(step: AnyStep) -> bool:
    """Whether what a step makes depends on the calibration sentences."""
    if isinstance(step, QuantizeDynamic | QuantizeWeights):
        return step.bits < 8
    return isinstance(step, QuantizeStatic | QuantizeMixed) or (
        isinstance(step, PruneStructured) and step.trained is None
    )


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
        VoiceError: the study's voice is not there or not sound.
        TextError: the sentence file cannot be used, or a sentence gives no phonemes.
    """
    keys = _keys(study, only)
    current = _current(keys, folder, again)
    stale = [name for name, record in current.items() if record is None]
    records = {name: record for name, record in current.items() if record is not None}
    trained_first = [name for name in stale if _trains(study, name)]  # they take hours, and both cores
    with (
        tempfile.TemporaryDirectory(prefix="ttsopt-") as scratch,
        tqdm(total=len(stale), desc="variants", unit="variant", disable=not stale) as bar,
    ):
        bench = _Bench(study, Path(scratch), folder)
        for name in trained_first:
            bar.set_postfix_str(name)
            records[name] = _build(bench, name, keys[name], folder)
            if (new := _key(study, name, _source_hashes(study))) != keys[name]:  # a decoder was trained on the way
                records[name] = records[name].model_copy(update={"key": new})
                write_record(folder.variant(name) / "variant.json", records[name])
            bar.update()
        rest = [name for name in stale if name not in trained_first]
        rest.sort(key=lambda name: not _calibrated(study, name))  # what takes longest comes first
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


_BENCHES: dict[str, _Bench] = {}  # of this process, by scratch folder


def _build_shared(study: Study, folder: StudyFolder, scratch: str, name: str, key: str) -> VariantRecord:
    """Make one variant in a process that may make others of the same study before and after it."""
    if scratch not in _BENCHES:
        _BENCHES.clear()
        own = Path(tempfile.mkdtemp(dir=scratch))  # two processes may export the same network at once
        _BENCHES[scratch] = _Bench(study, own, folder)
    return _build(_BENCHES[scratch], name, key, folder)


def _trains(study: Study, name: str) -> bool:
    """Whether the recipe trains a decoder on the way, because none is there."""
    recipe = () if name == ORIGINAL else study.variant(name).recipe
    return any(isinstance(step, PruneStructured) and not _trained_hashes(step) for step in recipe)


def _calibrated(study: Study, name: str) -> bool:
    return name != ORIGINAL and any(map(_is_calibrated, study.variant(name).recipe))


def _keys(study: Study, only: Sequence[str] | None) -> dict[str, str]:
    """Key of each variant asked for, in the study's order. Raises :class:`StudyError` for a name it does not have."""
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
        path = packaged_voice(source.package) if source.package else resolve(source.path or Path())
        files = [path, Path(f"{path}.json")]
        if not all(file.is_file() for file in files):
            open_piper(path)  # says what is missing
        files += weight_files(path)
    return {file.name: file_sha256(file) for file in files}


def _student_hashes(student: Path) -> dict[str, str]:
    """File name -> hash, of a trained student's weights and record (its model card may be edited freely)."""
    root = resolve(student)
    files = sorted(path for path in root.glob("*") if path.suffix in (".safetensors", ".json"))
    if not files:
        raise StudyError(
            f"distill: student: {root} holds no trained student (a folder with .safetensors and .json files)"
        )
    return {file.name: file_sha256(file) for file in files}


def _trained_hashes(step: PruneStructured) -> dict[str, str]:
    """File name -> hash, of a fine-tuned decoder; nothing where it has yet to be trained."""
    root = None if step.trained is None else resolve(step.trained)
    files = sorted(root.glob("*.safetensors")) if root else []
    return {file.name: file_sha256(file) for file in files}


def calibration_texts(wanted: SentenceRange) -> list[str]:
    """The sentences of a range. Raises :class:`StudyError` where the file ends before it begins."""
    found = read_sentences(resolve(wanted.file))[wanted.start : wanted.start + wanted.count]
    if not found:
        raise StudyError(
            f"{wanted.file}: sentences.calibration: the file has no line {wanted.start} to begin with; lower 'start'"
        )
    return found


# --- making one -------------------------------------------------------------------------------------------------


class _Bench:
    """What the variants of one study share: each is made when first needed, and gone when the study is built."""

    def __init__(self, study: Study, scratch: Path, folder: StudyFolder):
        self.study = study
        self.scratch = scratch
        self.folder = folder
        self._exports: dict[str, tuple[Path, Inventory]] = {}

    @cached_property
    def voice(self) -> PiperVoice:
        """The original, as a Piper file."""
        source = self.study.voice.huggingface
        if source is None:
            return source_voice(self.study)
        folder = resolve(source)
        model, config = load_huggingface(folder), piper_config_for(folder)
        return open_piper(export_piper(model, config, self.scratch / "original.onnx"))

    def network(self) -> StagedVits:
        """A fresh copy of the original in PyTorch, free to be changed."""
        source = self.study.voice.huggingface
        return load_piper(self.voice) if source is None else load_huggingface(resolve(source))

    @cached_property
    def calibration(self) -> list[Feed]:
        """The calibration sentences as model inputs, with the voice's own noise."""
        texts = calibration_texts(self.study.sentences.calibration)
        return sentence_feeds(self.voice.config, texts, self.study.voice.speaker)

    @cached_property
    def reference(self) -> Feed:
        """One sentence without noise: what every variant speaks to be counted and checked."""
        first = calibration_texts(self.study.sentences.calibration)[:1]
        return sentence_feeds(self.voice.config, first, self.study.voice.speaker, noise=False)[0]

    @cached_property
    def tells_durations(self) -> bool:
        """Whether the original has a second output, the frames of each phoneme, as piper's own tool adds it."""
        graph = read_model(self.voice.path).graph
        ceils = {output for node in graph.node if node.op_type == "Ceil" for output in node.output}
        return any(output.name in ceils for output in graph.output)

    @cached_property
    def reference_samples(self) -> int:
        """How long the original speaks it."""
        return speak(self.voice.path, self.reference).size

    def export(self, steps: Sequence[NetworkStep]) -> tuple[Path, Inventory]:
        """The voice after these steps on its network, as an ONNX file. Variants with the same steps share it."""
        name = content_key(list(steps))
        if name not in self._exports:
            model = self.network()
            apply_network_steps(model, steps, self)
            path = export_piper(model, self.voice.config, self.scratch / f"{name}.onnx")
            self._exports[name] = path, take_inventory(path, self.reference)
        return self._exports[name]


def _build(bench: _Bench, name: str, key: str, folder: StudyFolder) -> VariantRecord:
    """Make one variant, check that it speaks, and put its folder into place."""
    started = time.perf_counter()
    recipe = () if name == ORIGINAL else bench.study.variant(name).recipe
    with atomic_folder(folder.variant(name)) as new:
        path = new / "model.onnx"
        if name == ORIGINAL:
            steps, finished = _copy_original(bench, path)
        else:
            steps, finished = _run_recipe(bench, name, recipe, path)
            if bench.tells_durations:
                from piper.patch_voice_with_alignment import add_alignment_output

                graph = onnx.load(path)
                add_alignment_output(graph)
                path.write_bytes(graph.SerializeToString(deterministic=True))
        _check_speaks(name, path, bench.reference, bench.reference_samples)
        content = path.read_bytes()
        record = VariantRecord(
            key=key,
            name=name,
            recipe=[step.model_dump(mode="json") for step in recipe],
            parent=None if name == ORIGINAL else ORIGINAL,
            source_sha256=bench.voice.onnx_sha256,
            files={file: file_sha256(new / file) for file in ("model.onnx", "model.onnx.json")},
            size_bytes=len(content),
            compressed_bytes=len(zlib.compress(content, 6)),
            parameters_stored=finished.parameters_stored,
            parameters_nonzero=finished.parameters_nonzero,
            coverage=_coverage(recipe, steps, finished),
            steps=steps,
            seconds=time.perf_counter() - started,
            created=now(),
        )
        write_record(new / "variant.json", record)
    return record


def _coverage(recipe: Sequence[AnyStep], steps: Sequence[StepRecord], finished: Inventory) -> Coverage:
    """What any step reached. Channels that are gone are not in the finished voice: their step's record has them."""
    gone = [one.coverage for one in steps if one.step == "prune_structured"]
    reached = [total_coverage([step.step for step in recipe], finished, student_stages(recipe)), *gone]
    return Coverage(parameters=max(one.parameters for one in reached), macs=max(one.macs for one in reached))


def _copy_original(bench: _Bench, path: Path) -> tuple[list[StepRecord], Inventory]:
    if weight_files(bench.voice.path):  # a variant is one file
        path.write_bytes(read_model(bench.voice.path).SerializeToString(deterministic=True))
    else:
        shutil.copyfile(bench.voice.path, path)
    shutil.copyfile(bench.voice.config_path, f"{path}.json")
    steps = []
    if bench.study.voice.huggingface is not None:
        note = "the voice came as a Hugging Face folder: this file is our plain export of it"
        steps.append(StepRecord(step="export", coverage=NOTHING, layers=0, note=note))
    return steps, take_inventory(path, bench.reference)


def _run_recipe(bench: _Bench, name: str, recipe: Sequence[AnyStep], path: Path) -> tuple[list[StepRecord], Inventory]:
    """Run a recipe into `path`; returns what each step reached and what the finished voice holds."""
    on_network = [step for step in recipe if isinstance(step, NetworkStep)]
    exported, inventory = bench.export(on_network)
    shutil.copyfile(exported, path)
    shutil.copyfile(f"{exported}.json", f"{path}.json")
    records = []
    for step in recipe:
        before, note = inventory, ""
        if isinstance(step, PruneStructured):
            before = bench.export([])[1]  # of the whole voice: what is gone is counted against it
        if isinstance(step, QuantizeMixed):
            graph, note = _search(bench, name, onnx.load(path), step, inventory)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            inventory = take_inventory(path, bench.reference)
        elif isinstance(step, GraphStep):
            graph = apply_graph_step(onnx.load(path), step, bench)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            inventory = take_inventory(path, bench.reference)
        bits = step.bits if isinstance(step, QuantizeDynamic | QuantizeWeights) else 8
        record = step_record(step.step, inventory, before, note, student_stages([step]), bits)
        if record.layers == 0 and step.reaches_nothing != "expected":
            raise StudyError(
                f"variant {name!r}: step {step.step} reached no layer of this voice; take it out of the recipe, "
                "or add 'reaches_nothing: expected' to it"
            )
        records.append(record)
    return records, inventory


def apply_network_steps(model: StagedVits, recipe: Sequence[AnyStep], bench: _Bench | None = None) -> None:
    """Do the steps of a recipe that change the PyTorch network, in place. Raises :class:`StudyError`.

    Without a bench there are no sentences: only a pruned decoder that is trained already can be put in."""
    for step in recipe:
        if isinstance(step, PruneMagnitude):
            prune_magnitude(model, step.amount)
        elif isinstance(step, PruneStructured):
            from ttsopt_lib.optimize.finetune import Workshop, prune_and_train

            shop = None if bench is None else Workshop(bench.voice.path, bench.calibration, bench.folder.path)
            prune_and_train(model, step, shop)
        elif isinstance(step, Distill):
            _replace_stages(model, step.student)


def apply_graph_step(model: onnx.ModelProto, step: GraphStep, bench: _Bench) -> onnx.ModelProto:
    """Do a step of a recipe that changes the ONNX graph; the graph handed in is left alone."""
    feeds = bench.calibration if _is_calibrated(step) else ()
    if isinstance(step, RearrangeDecoder):
        return rearrange_decoder(model)
    if isinstance(step, Fp16):
        return half_precision(model, step)
    if isinstance(step, QuantizeDynamic):
        return quantize_dynamic(model, step, feeds)
    if isinstance(step, QuantizeWeights):
        return quantize_weights(model, step, feeds)
    if isinstance(step, Pack):
        return pack(model)
    assert isinstance(step, QuantizeStatic)
    return quantize_static(model, step, feeds)


def _search(
    bench: _Bench, variant: str, model: onnx.ModelProto, step: QuantizeMixed, inventory: Inventory
) -> tuple[onnx.ModelProto, str]:
    """Mixed precision by search, and what it chose. The sensitivities it needs are kept: another budget reuses them."""
    path = bench.folder.sensitivity_record(variant)
    key = content_key(
        hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        [{name: value.tolist() for name, value in feed.items()} for feed in bench.calibration],
        [step.calibration_sentences, step.judged_sentences],
        code_digest(*(f"optimize/{name}.py" for name in SEARCH_CODE), "voices"),
        {library: version(library) for library in LIBRARIES},
    )
    mixed = quantize_mixed(
        model,
        step,
        bench.calibration,
        {layer.node: layer.macs for layer in inventory.layers},
        bench.voice.config.sample_rate,
        known=lambda: read_if_current(path, SensitivityRecord, key),
        key=key,
        variant=variant,
    )
    write_record(path, mixed.record)
    return mixed.model, mixed.note


def _replace_stages(model: StagedVits, student: Path) -> None:
    """Put trained students in their teachers' places. Raises :class:`StudyError` where they are of another voice."""
    from ttsopt_lib.optimize.student_files import load_student

    students, _ = load_student(resolve(student))
    before = model.hop_length, model.text_encoder.proj.out_channels, model.text_encoder.emb.num_embeddings
    for stage, network in students.items():
        setattr(model, stage, network)
    encoder = model.text_encoder
    if (encoder.proj.out_channels, encoder.emb.num_embeddings) != before[1:]:
        raise StudyError(
            f"distill: student {student} is for other phonemes or latents: it was trained for another voice"
        )
    speaker = model.speaker_embedding
    g = None if speaker is None else torch.zeros(1, speaker.embedding_dim, 1)
    z_p, frames = torch.zeros(1, before[1] // 2, 16), 16  # mean and log standard deviation
    try:
        with torch.no_grad():
            samples = model.decode(model.flow_inverse(z_p, torch.ones(1, 1, frames), g), g).shape[-1]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(f"distill: student {student} does not fit this voice: {reason}") from None
    if samples != frames * model.hop_length:
        raise StudyError(
            f"distill: student {student} makes {samples // frames} samples a frame, "
            f"the voice {model.hop_length}: it was trained for another voice"
        )


def student_stages(recipe: Sequence[AnyStep]) -> list[str]:
    """The stages that students of a recipe take the place of.

    Raises:
        StudyError: a student's folder is not whole.
    """
    stages: list[str] = []
    for step in recipe:
        if isinstance(step, Distill):
            sizes = resolve(step.student) / "config.json"
            if not sizes.is_file():
                raise StudyError(f"{sizes}: no such file; a student's folder says there what sizes it has")
            stages += json.loads(sizes.read_text(encoding="utf-8"))
    return stages


# --- proof that it speaks ---------------------------------------------------------------------------------------


def speak(path: Path, feed: Feed) -> np.ndarray:
    """Audio of one utterance, float32 [samples], as any ONNX Runtime would make it from the file."""
    output: Any = open_session(path).run(None, dict(feed))[0]
    return output.reshape(-1)


def _check_speaks(name: str, path: Path, feed: Feed, expected_samples: int) -> None:
    """Raises :class:`VariantError` where a finished voice does not load or makes no plausible audio."""
    try:
        audio = speak(path, feed)
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = str(error).splitlines()[0]
        raise VariantError(f"variant {name!r}: ONNX Runtime cannot speak with it: {reason}") from None
    if not np.isfinite(audio).all():
        raise VariantError(f"variant {name!r}: its audio holds values that are not numbers; drop or change a step")
    low, high = (math.floor(share * expected_samples) for share in PLAUSIBLE_LENGTH)
    if not low <= audio.size <= high:
        raise VariantError(
            f"variant {name!r}: it speaks a sentence in {audio.size} samples where the original takes "
            f"{expected_samples}; drop or change a step"
        )


# --- the same recipe in PyTorch ---------------------------------------------------------------------------------


def build_torch(recipe: Sequence[AnyStep], voice_path: Path) -> StagedVits:
    """A recipe's voice in PyTorch, for timing it there.

    Args:
        recipe: steps on the network, and `quantize_dynamic` of MatMul alone: what PyTorch itself offers.
        voice_path: the original `.onnx` with its config beside it.

    Raises:
        StudyError: PyTorch has no equal of a step.
        VoiceError: the voice is not sound.
    """
    model = load_piper(open_piper(voice_path)).eval()
    apply_network_steps(model, recipe)
    for step in recipe:
        if isinstance(step, QuantizeDynamic) and step.operators == ("MatMul",) and step.bits == 8:
            _quantize_linear(model)
        elif isinstance(step, GraphStep):
            raise StudyError(
                f"measure.pytorch: {step.step} has no equal in PyTorch; name only variants whose recipe has "
                "prune_magnitude, prune_structured, distill, or quantize_dynamic with operators: [MatMul] and 8 bits"
            )
    return model


def _quantize_linear(model: StagedVits) -> None:
    """PyTorch's dynamic int8 on every `nn.Linear`, in place."""
    with warnings.catch_warnings():
        # Deprecated, and still the quantization that PyTorch's name stands for: its two warnings say only that.
        warnings.filterwarnings("ignore", message="(?s).*torch.ao.quantization is deprecated")
        warnings.filterwarnings("ignore", message="(?s).*quantized tensor creation functions.*deprecated")
        torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
