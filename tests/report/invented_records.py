"""Random-seeded records of studies that never ran: inputs of the report's tests, never results of anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import TypeAdapter

from ttsopt_lib.optimize.steps.step import words_of
from ttsopt_lib.params import read_device, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.device import (
    DeviceRecord,
    Doubt,
    FirstSoundRecord,
    ProfileRecord,
    StreamedRow,
    StreamedText,
    SystemRecord,
    TimedSentence,
    TimingRow,
)
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import (
    ComparisonRow,
    PairedScores,
    PredictorRecord,
    QualityRecord,
    QualityRow,
    RatingsRow,
)
from ttsopt_lib.records.variant import Coverage, StepRecord, VariantRecord
from ttsopt_lib.step_settings import AnyStep
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device, Study

CREATED = "2026-01-01T00:00:00Z"
SENTENCES = 40
FURTHER = 30  # that confirmed variants speak too
SIZE = 63_201_294
PARAMETERS = 15_650_000
SECONDS = [0.021, 0.046, 0.095, 0.31]  # one word, short, medium, long
AUDIO = [0.5, 1.1, 2.3, 7.4]
STEPS: dict[str, dict[str, Any]] = {
    "dynamic": {"step": "quantize_dynamic", "operators": ["MatMul"]},
    "conv": {"step": "quantize_dynamic", "operators": ["MatMul", "Conv"]},
    "weights": {"step": "quantize_weights"},
    "static": {"step": "quantize_static", "operators": ["Conv"]},
    "some static": {"step": "quantize_static", "operators": ["Conv"], "exclude": ["/dec/"]},
    "prune": {"step": "prune_magnitude", "amount": 0.3},
    "distill": {"step": "distill", "student": "models/joe-istft"},
}


@dataclass
class Made:
    """What an invented variant is like, relative to the original."""

    name: str
    steps: tuple[str, ...] = ()
    size: float = 1.0  # times the original's
    time: float = 1.0
    change: float = 0.0  # of the predicted MOS
    coverage: tuple[float, float] = (0.0, 0.0)
    level: float = 0.0  # dB above 8 kHz
    wer: float = 0.107
    pytorch: bool = False
    nonzero: float = 1.0
    streamed: bool = False


GOOD = [
    Made("fp32", time=1.01),
    Made("int8-dynamic", ("dynamic",), 1.0, 1.0, 0.0, (0.012, 0.008), pytorch=True),
    Made("int8-weights", ("weights",), 0.262, 1.005, 0.005, (0.98, 0.99)),
    Made("int8-static", ("static",), 0.31, 0.53, -0.98, (0.93, 0.97), 9.0, 0.16),
    Made("pruned-30", ("prune",), 1.0, 1.0, -0.06, (1.0, 1.0), nonzero=0.7),
    Made("distilled-int8", ("distill", "weights"), 0.22, 0.36, -0.03, (0.94, 0.96), -0.2, streamed=True),
]
BAD = [
    Made("fp32", time=1.06, size=1.02),
    Made("int8-dynamic", ("dynamic",), 1.01, 1.12, -0.3, (0.012, 0.008), pytorch=True),
    Made("int8-weights", ("weights",), 0.4, 1.2, -0.45, (0.98, 0.99), streamed=True),
    Made("int8-static", ("static",), 0.5, 0.9, -1.4, (0.93, 0.97), 12.0, 0.4),
    Made("pruned-30", ("prune",), 1.0, 1.03, -0.6, (1.0, 1.0), nonzero=0.7),
]
MANY = [
    Made("fp32"),
    Made("int8-dynamic", ("dynamic",), 1.0, 0.998, 0.0, (0.012, 0.008), pytorch=True),
    Made("int8-dynamic-conv", ("conv",), 0.3, 0.85, -0.44, (0.95, 0.97), 3.0),
    Made("int8-weights", ("weights",), 0.262, 1.003, 0.005, (0.98, 0.99)),
    Made("int8-static", ("static",), 0.31, 0.53, -0.98, (0.93, 0.97), 9.0, 0.16),
    Made("int8-static-mixed", ("some static",), 0.35, 0.68, -0.10, (0.83, 0.7), 2.0),
    Made("int8-static-encoder", ("some static",), 0.36, 0.8, -0.02, (0.8, 0.4)),
    Made("pruned-30", ("prune",), 1.0, 1.001, -0.04, (1.0, 1.0), nonzero=0.7),
    Made("pruned-50", ("prune",), 1.0, 0.999, -0.35, (1.0, 1.0), nonzero=0.5),
    Made("distilled", ("distill",), 0.9, 0.38, -0.03, (0.14, 0.85)),
    Made("distilled-int8-weights", ("distill", "weights"), 0.24, 0.385, -0.035, (0.99, 0.99)),
    Made("distilled-int8-static", ("distill", "static"), 0.25, 0.3, -0.2, (0.95, 0.95), 1.5),
]


def study_of(made: list[Made], name: str, confirmed: tuple[str, ...] = ()) -> Study:
    """The default study with other variants and fewer sentences."""
    values = _joe().model_dump(mode="json")
    values["name"] = name
    values["variants"] = [
        {"name": one.name, "recipe": [STEPS[step] for step in one.steps], "note": f"an invented {one.name}"}
        for one in made
    ]
    values["sentences"]["evaluation"]["count"] = SENTENCES
    values["sentences"]["listening"] = values["sentences"]["listening"][:2]
    values["measure"]["pytorch"] = [ORIGINAL, *(one.name for one in made if one.pytorch)]
    values["measure"]["more_threads"] = None
    values["measure"]["first_sound"] = [ORIGINAL, *(one.name for one in made if one.streamed)]
    values["evaluate"]["wer_sentences"] = 20
    values["evaluate"]["confirmed"] = list(confirmed)
    if confirmed:
        values["sentences"]["confirmation"]["count"] = FURTHER
    else:
        del values["sentences"]["confirmation"]
    return Study.model_validate(values)


@cache
def _joe() -> Study:
    return read_study(resolve(Path("params/joe.yaml")))


def default_devices() -> list[Device]:
    """The CPU, GPU and Raspberry Pi of params/."""
    return [read_device(resolve(Path(f"params/{name}.yaml"))) for name in ("cpu", "gpu", "raspberry_pi")]


def write_variants(folder: StudyFolder, made: list[Made]) -> None:
    """variant.json and listening examples of the original and of each variant."""
    for one in [Made(ORIGINAL), *made]:
        size = round(SIZE * one.size)
        record = VariantRecord(
            key=f"key-{one.name}",
            name=one.name,
            recipe=[STEPS[step] for step in one.steps],
            parent=None if one.name == ORIGINAL else ORIGINAL,
            source_sha256="5" * 64,
            files={"model.onnx": f"{abs(hash(one.name)) % 16**8:08x}" * 8, "model.onnx.json": "0" * 64},
            size_bytes=size,
            compressed_bytes=round(size * (0.92 if one.nonzero == 1.0 else 0.7)),
            parameters_stored=PARAMETERS,
            parameters_nonzero=round(PARAMETERS * one.nonzero),
            coverage=Coverage(parameters=one.coverage[0], macs=one.coverage[1]),
            steps=[
                StepRecord(
                    step=STEPS[step]["step"],
                    **words_of(TypeAdapter(AnyStep).validate_python(STEPS[step])),
                    coverage=Coverage(parameters=one.coverage[0], macs=one.coverage[1]),
                    layers=max(1, round(120 * one.coverage[0])),
                    note="matrix products only, and the rest are convolutions"
                    if step == "dynamic"
                    else f"{one.coverage[0]:.1%} of the weights"
                    if one.coverage[0]
                    else "",
                    stages=["decoder"] if step == "distill" else [],
                )
                for step in one.steps
            ],
            seconds=12.0,
            created=CREATED,
        )
        write_record(folder.variant_record(one.name), record)
        write_audio(folder, one.name)


def write_audio(folder: StudyFolder, name: str) -> None:
    """Chirps in place of speech."""
    time = np.arange(round(22050 * 0.3)) / 22050
    folder.audio(name).mkdir(parents=True, exist_ok=True)
    for index in range(2):
        wave = 0.3 * np.sin(2 * np.pi * (200 + 80 * index + 150 * time) * time)
        soundfile.write(folder.audio(name) / f"{index}.wav", wave, 22050, subtype="PCM_16")


def system(board: str | None = None) -> SystemRecord:
    """A machine that is nowhere."""
    return SystemRecord(
        hostname_hash="0123456789ab",
        machine="aarch64" if board else "x86_64",
        cpu="Cortex-A76" if board else "Example CPU @ 2.50GHz",
        board=board,
        logical_cores=4,
        memory_mb=8192,
        os="Debian GNU/Linux 12",
        kernel="6.1.0",
        governor="performance",
        instruction_sets=["avx2", "avx512f", "avx512_vnni"],
        accelerator=None,
        python="3.11.9",
        packages={"onnxruntime": "1.31.0", "numpy": "2.4.0", "torch": "2.13.0"},
    )


def write_device(
    folder: StudyFolder, device: Device, made: list[Made], seed: int = 0, speed: float = 1.0, blocks: int = 12
) -> None:
    """Timings of every variant, the A/A copy and the PyTorch rows, with noise of some per cent."""
    rng = np.random.default_rng(seed)
    known = [Made(ORIGINAL, pytorch=True), Made(ORIGINAL_COPY), *made]
    rows = [
        _row(rng, one, "onnxruntime", threads, speed / threads**0.7, blocks)
        for threads in device.threads
        for one in known
    ]
    rows += [_row(rng, one, "pytorch", device.threads[0], 1.36 * speed, blocks) for one in known if one.pytorch]
    write_device_record(
        folder,
        device,
        status="measured",
        reason=None,
        system=system("Raspberry Pi 5" if device.kind == "raspberry_pi" else None),
        sentences=[
            TimedSentence(length_class=name, text=text, phonemes=5 * 3**index)
            for index, (name, (text,)) in enumerate(_joe().sentences.timing.items())
        ],
        scales=[0.667, 1.0, 0.8],
        rows=rows,
        stopped_by="budget",
        elapsed_seconds=238.0,
        profiles=[_profile(one, device.threads[0], speed) for one in known if one.name != ORIGINAL_COPY],
        first_sound=_first_sound(rng, device.threads[0], known, speed, blocks),
        warnings=[Doubt(text="load average was 1.9 when the timing began: other programs were running")],
    )


def write_device_record(folder: StudyFolder, device: Device, **values: Any) -> None:
    """The record of a device with these values."""
    values |= {"key": f"key-{device.name}", "device": device.name, "label": device.label, "kind": device.kind}
    write_record(folder.device_record(device.name), DeviceRecord(created=CREATED, **values))


def _profile(one: Made, threads: int, speed: float) -> ProfileRecord:
    """The decoder is where a variant saves its time."""
    stages = {"text encoder": 0.02, "durations": 0.02, "flow": 0.05, "decoder": 0.2 * one.time, "other": 0.003}
    stages = {stage: seconds * speed for stage, seconds in stages.items()}
    whole = sum(stages.values())
    return ProfileRecord(
        variant=one.name, threads=threads, stages=stages, operators={"Conv": 0.9 * whole, "Add": 0.1 * whole}
    )


def _first_sound(
    rng: np.random.Generator, threads: int, known: list[Made], speed: float, blocks: int
) -> FirstSoundRecord | None:
    """The first piece takes a fifth of the whole; where a voice is slow, the last piece comes too late."""
    streamed = [one for one in known if one.streamed]
    if not streamed:
        return None
    names = ("one_word", "short", "medium", "long", "paragraph")
    whole = np.array([*SECONDS, sum(SECONDS)])
    rows = []
    for one in (known[0], *streamed):
        for seconds, texts in ((None, [0, 1, 2, 3, 4]), (0.5, [3])):
            took = one.time * speed * whole[texts] * rng.normal(1, 0.03, (blocks, len(texts)))
            alone = [text for text in texts if text < 4]
            rows.append(
                StreamedRow(
                    variant=one.name,
                    piece_seconds=seconds,
                    texts=texts,
                    first_seconds=(0.2 * took).tolist(),
                    streamed_seconds=(1.2 * took).tolist(),
                    lead_seconds=[
                        [None if text == 0 else 0.1 - 0.02 * one.time**3 * speed * text for text in texts]
                        for _ in range(blocks)
                    ],
                    whole_texts=alone,
                    whole_seconds=(took[:, : len(alone)] * rng.normal(1, 0.01, (blocks, len(alone)))).tolist(),
                )
            )
    return FirstSoundRecord(
        threads=threads,
        texts=[
            StreamedText(length_class=name, text="...", phonemes=5 * 3**index, sentences=4 if index == 4 else 1)
            for index, name in enumerate(names)
        ],
        ids_seconds=rng.normal(0.002, 0.0001, (blocks, 5)).tolist() if speed <= 1 else [],
        rows=rows,
    )


def _row(
    rng: np.random.Generator,
    one: Made,
    runtime: Literal["onnxruntime", "pytorch"],
    threads: int,
    speed: float,
    blocks: int,
) -> TimingRow:
    seconds = np.array(SECONDS) * one.time * speed * np.exp(rng.normal(0, 0.04, (blocks, len(SECONDS))))
    audio = np.array(AUDIO) * np.exp(rng.normal(0, 0.01, (blocks, len(AUDIO))))
    return TimingRow(
        variant=one.name,
        runtime=runtime,
        threads=threads,
        load_seconds=list(rng.normal(0.4, 0.02, 3)),
        peak_memory_mb=float(180 + 60 * one.size + (400 if runtime == "pytorch" else 0)),
        idle_memory_mb=60.0,
        seconds=seconds.tolist(),
        audio_seconds=audio.tolist(),
    )


def write_not_measured(folder: StudyFolder, device: Device, reason: str) -> None:
    """A device that was asked for and not there."""
    write_device_record(folder, device, status="not_measured", reason=reason, system=None)


def write_quality(
    folder: StudyFolder, made: list[Made], ratings: bool = False, wer: bool = True, confirmed: tuple[str, ...] = ()
) -> None:
    """Scores of every variant and of two anchors, sentence by sentence, with or without listeners' ratings."""
    rng = np.random.default_rng(0)

    def scores_of_original(count: int) -> dict[str, Any]:
        return {"distillmos": rng.normal(4.0, 0.25, count), "dnsmos_p808": rng.normal(3.9, 0.2, count)}

    base = scores_of_original(SENTENCES)
    anchors = [Made("lowpass-3500", change=-1.1, wer=0.14), Made("noise-10db", change=-2.0, wer=0.3, level=25.0)]

    def row(one: Made, base: dict[str, Any] = base, count: int = SENTENCES, heard: int = 20) -> QualityRow:
        noise = 0.0 if one.name == ORIGINAL else 0.08
        scores = {
            name: (values + one.change * (1.0 if name == "distillmos" else 0.7) + rng.normal(0, noise, count))
            for name, values in base.items()
        }
        return QualityRow(
            variant=one.name,
            key=f"key-{one.name}",
            scores={name: values.tolist() for name, values in scores.items()},
            audio_seconds=rng.normal(2.4, 0.3, count).tolist(),
            level_above_8khz_db=(rng.normal(-52, 1.0, count) + one.level).tolist(),
            hypotheses=["words"] * heard if wer else None,
            wer=one.wer if wer else None,
            word_errors=rng.binomial(8, one.wer, heard).tolist() if wer else None,
            paired=None if one.name == ORIGINAL else paired(one, count),
        )

    def paired(one: Made, count: int) -> PairedScores:
        far = 0.02 + abs(one.change)
        return PairedScores(
            speaker_similarity=(1 - 0.1 * far * rng.uniform(0.5, 1.5, count)).tolist(),
            log_spectral_distance_db=(10 * far**0.3 * rng.uniform(0.8, 1.2, count)).tolist(),
            log_spectral_distance_above_8khz_db=(8 * far**0.3 * rng.uniform(0.8, 1.2, count)).tolist(),
            f0_error_cents=[None, *(40 * far * rng.exponential(1.0, count - 1))],
            voicing_disagreement=(0.1 * far * rng.uniform(0, 1, count)).tolist(),
        )

    def rated(one: Made) -> RatingsRow:
        change, ci = one.change, (4.3 + one.change, 4.5 + one.change)
        changed: dict[str, Any] = {"change": change, "change_ci": (change - 0.05, change + 0.05)}
        changed |= {"change_error": 0.025, "change_dof": 60.0}
        if one.name == ORIGINAL:
            changed = dict.fromkeys(changed)
        return RatingsRow(variant=one.name, mean=4.4 + change, ci=ci, raters=12, ratings=144, **changed)

    record = QualityRecord(
        key="key-quality",
        created=CREATED,
        sentences=[f"Sentence {index}." for index in range(SENTENCES)],
        predictors=[
            PredictorRecord(name="distillmos", label="DistillMOS", version="1.0", weights_sha256="1" * 64),
            PredictorRecord(name="dnsmos_p808", label="DNSMOS P.808", version="1.0", weights_sha256="2" * 64),
        ],
        asr="faster-whisper tiny.en" if wer else None,
        asr_reason=None if wer else "the recognizer's model is not there",
        rows=[row(one) for one in [Made(ORIGINAL), *made]],
        anchors=[row(one) for one in anchors],
        ratings=[rated(one) for one in [Made(ORIGINAL), *made]] if ratings else None,
        ratings_reason=None if ratings else "no ratings file was given (evaluate.ratings)",
        comparisons=[comparison(made[-1].name, "ccr", -0.3), comparison(made[-1].name, "mushra", 78.0)]
        if ratings
        else [],
        other_noise=row(Made("original, other noise")),
        words=[8] * 20 if wer else [],
        speaker_encoder=PredictorRecord(
            name="resemblyzer", label="Resemblyzer", version="0.1.4", weights_sha256="3" * 64
        ),
    )
    if confirmed:
        further = scores_of_original(FURTHER)
        speaking = [Made(ORIGINAL), *(one for one in made if one.name in confirmed)]
        record.confirmation = [row(one, further, FURTHER, FURTHER) for one in speaking]
        record.confirmation_sentences = [f"Further sentence {index}." for index in range(FURTHER)]
        record.confirmation_words = [8] * FURTHER if wer else []
    write_record(folder.quality_record, record)


def comparison(variant: str, test: Literal["ccr", "mushra"], mean: float) -> ComparisonRow:
    """What invented listeners said in a comparison."""
    ci = (mean - 0.2, mean + 0.2)
    counts = {"raters": 12, "sentences": 10, "ratings": 120}
    return ComparisonRow(test=test, variant=variant, mean=mean, ci=ci, error=0.1, dof=20.0, **counts)


# --- whole studies ----------------------------------------------------------------------------------------------

Case = tuple[Study, list[Device], StudyFolder]


def good(reports: Path) -> Case:
    """One device measured, one variant that meets every target, and is confirmed."""
    confirmed = ("distilled-int8",)
    study, devices = study_of(GOOD, "good", confirmed=confirmed), default_devices()
    folder = StudyFolder(study, reports)
    write_variants(folder, GOOD)
    write_device(folder, devices[0], GOOD)
    write_not_measured(folder, devices[1], "this machine has no CUDA device")
    write_not_measured(folder, devices[2], "this machine is no Raspberry Pi")
    write_quality(folder, GOOD, confirmed=confirmed)
    return study, devices, folder


def bad(reports: Path) -> Case:
    """Everything slower, some larger, nothing that keeps the quality."""
    study, devices = study_of(BAD, "bad"), default_devices()
    folder = StudyFolder(study, reports)
    write_variants(folder, BAD)
    write_device(folder, devices[0], BAD)
    write_not_measured(folder, devices[1], "this machine has no CUDA device")
    write_quality(folder, BAD, wer=False)
    return study, devices, folder


def unmeasured(reports: Path) -> Case:
    """Variants were made, nothing was timed or scored, and there is no audio."""
    study, devices = study_of(GOOD, "unmeasured"), default_devices()
    folder = StudyFolder(study, reports)
    write_variants(folder, GOOD)
    for one in [ORIGINAL, *(one.name for one in GOOD)]:
        for file in folder.audio(one).iterdir():
            file.unlink()
    write_not_measured(folder, devices[1], "this machine has no CUDA device")
    return study, devices, folder


def many(reports: Path) -> Case:
    """Twelve variants on four measured devices."""
    study = study_of(MANY, "many")
    devices = [*default_devices(), Device(name="laptop", label="Laptop", kind="cpu", threads=(1,))]
    folder = StudyFolder(study, reports)
    write_variants(folder, MANY)
    for index, device in enumerate(devices):
        write_device(folder, device, MANY, seed=index, speed=(1.0, 0.4, 6.0, 1.3)[index], blocks=10)
    write_quality(folder, MANY, ratings=True)
    return study, devices, folder


CASES = {"good": good, "bad": bad, "unmeasured": unmeasured, "many": many}
