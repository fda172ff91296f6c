"""The report's tables as plain frames: numbers in base units, intervals as ``_low`` and ``_high`` columns.

They are what the CSV files hold. How a frame is printed is said in :mod:`~ttsopt_lib.report.columns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttsopt_lib.report import energy, peer_tables, profiles, published
from ttsopt_lib.report.explanations import recipe_words
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Interval, QualitySummary, Summary, VariantSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY


def all_tables(summary: Summary) -> dict[str, pd.DataFrame]:
    """Every table of the report by the name of its CSV file. A table without rows still has its columns."""
    return {
        "verdict": verdict(summary),
        "sizes": sizes(summary.variants),
        "coverage": coverage(summary.variants),
        "sensitivity": sensitivity(summary),
        "improvement": improvement(summary),
        "devices": devices(summary.measured_devices),
        "runtime_change": runtime_change(summary),
        "length_classes": length_classes(summary.measured_devices),
        "energy": energy.frame(summary.measured_devices),
        "amdahl": profiles.amdahl(summary.measured_devices),
        "stages": profiles.stages(summary.measured_devices),
        "operators": profiles.operators(summary.measured_devices),
        "peers": peer_tables.peers(summary),
        "other_voices": peer_tables.other_voices(summary),
        "published": published.raspberry_pi_4(),
        "quality": quality(summary.quality),
        "anchors": quality(summary.anchors),
        "mos": mos(summary),
        "comparisons": comparisons(summary),
        "machines": machines(summary),
        "files": files(summary),
    }


def estimate(name: str, figure: Estimate | None) -> dict[str, float | None]:
    """A figure as three columns: its value, and its interval's ends as ``_low`` and ``_high``."""
    return {name: figure.value if figure else None, **_interval(name, figure.ci if figure else None)}


def _interval(name: str, ci: Interval | None) -> dict[str, float | None]:
    return {f"{name}_low": ci[0] if ci else None, f"{name}_high": ci[1] if ci else None}


def _frame(rows: list[dict[str, Any]], columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=pd.Index(columns.split()))


def verdict(summary: Summary) -> pd.DataFrame:
    """One row per claim and device; rows that differ by the device alone are one."""
    labels: dict[str | None, str] = {device.device: device.label for device in summary.devices}
    closest: dict[str | None, str | None] = {choice.device: choice.closest for choice in summary.choices}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in summary.verdict:
        where = row.device if row.claim == "latency_reduction" else None
        label = labels.get(row.device, "")
        found = rows.setdefault(
            (row.claim, where, row.variant, row.measured, row.status, row.reason),
            {
                "claim": row.claim,
                "device": label,
                "variant": row.variant,
                "target": row.target,
                "measured": row.measured,
                **_interval("measured", row.ci),
                "status": row.status,
                "reason": row.reason,
                "closest": closest.get(row.device) if row.measured is None and row.status == "fail" else None,
            },
        )
        if label not in found["device"].split(", "):
            found["device"] = ", ".join([found["device"], label])
    everywhere = ", ".join(device.label for device in summary.measured_devices)
    for row in rows.values():
        if row["device"] == everywhere and len(summary.measured_devices) > 1:
            row["device"] = "every measured device"
    columns = "claim device variant target measured measured_low measured_high status reason closest"
    return _frame(list(rows.values()), columns)


def sizes(variants: Sequence[VariantSummary]) -> pd.DataFrame:
    """Files and parameters of the original and every variant."""
    rows = [
        {
            "variant": v.name,
            "made_by": recipe_words(v),
            "note": v.note,
            "size_bytes": v.size_bytes,
            "size_reduction": v.size_reduction,
            "compressed_bytes": v.compressed_bytes,
            "parameters": v.parameters,
            "parameters_nonzero": v.parameters_nonzero,
            "coverage_parameters": v.coverage.parameters if v.recipe else None,
            "coverage_macs": v.coverage.macs if v.recipe else None,
        }
        for v in variants
    ]
    columns = (
        "variant made_by note size_bytes size_reduction compressed_bytes parameters parameters_nonzero "
        "coverage_parameters coverage_macs"
    )
    return _frame(rows, columns)


def coverage(variants: Sequence[VariantSummary]) -> pd.DataFrame:
    """What each step of each recipe really reached."""
    rows = [
        {
            "variant": v.name,
            "step": step.step,
            "settings": ", ".join(f"{key}={_plain(value)}" for key, value in step.settings.items()),
            "layers": step.layers,
            "parameters": step.coverage.parameters,
            "macs": step.coverage.macs,
            "note": step.note,
        }
        for v in variants
        for step in v.steps
    ]
    return _frame(rows, "variant step settings layers parameters macs note")


def sensitivity(summary: Summary) -> pd.DataFrame:
    """What int8 arithmetic in each group of layers alone does, the most sensitive first."""
    rows = sorted(summary.sensitivity, key=lambda row: (row.variant, -row.level_error_db))
    return _frame(
        [row.model_dump(exclude={"group"}) for row in rows],
        "variant label layers parameters time level_error_db spectral_distance_db level_above_8khz_db int8",
    )


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def improvement(summary: Summary) -> pd.DataFrame:
    """Before and after of the optimized variant (or the one that came closest), one row per device."""
    choices = {choice.device: choice for choice in summary.choices}
    rows = []
    for device in summary.devices:
        choice = choices.get(device.device)
        name = (choice.variant or choice.closest) if choice else None
        before = summary.timing_of(device, ORIGINAL)
        after = summary.timing_of(device, name) if name else None
        rows.append(
            {
                "device": device.label,
                "status": device.status,
                "variant": name,
                "optimized": bool(choice and choice.variant),
                "before_ms": before.latency_ms.median if before else None,
                "after_ms": after.latency_ms.median if after else None,
                **estimate("improvement", after.latency_reduction if after else None),
                "reason": device.reason or ("" if choice and choice.variant else "no variant qualifies"),
            }
        )
    columns = "device status variant optimized before_ms after_ms improvement improvement_low improvement_high reason"
    return _frame(rows, columns)


def devices(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """Every timing; a reduction is always against the original in the same runtime with the same threads."""
    rows = []
    for device in measured:
        for row in device.rows:
            rows.append(
                {
                    "device": device.label,
                    "runtime": row.runtime,
                    "mode": row.mode,
                    "threads": row.threads,
                    "variant": row.variant,
                    "samples": row.samples,
                    "median_ms": row.latency_ms.median,
                    **_interval("median_ms", row.latency_ms.ci),
                    "p95_ms": row.latency_ms.p95,
                    "rtf": row.rtf,
                    **estimate("latency_reduction", row.latency_reduction),
                    "peak_memory_mb": row.peak_memory_mb,
                    "load_ms": row.load_ms,
                    "first_audio_ms": row.first_audio_ms.median if row.first_audio_ms else None,
                    **_interval("first_audio_ms", row.first_audio_ms.ci if row.first_audio_ms else None),
                }
            )
    columns = (
        "device runtime mode threads variant samples median_ms median_ms_low median_ms_high p95_ms rtf "
        "latency_reduction latency_reduction_low latency_reduction_high peak_memory_mb load_ms first_audio_ms "
        "first_audio_ms_low first_audio_ms_high"
    )
    return _frame(rows, columns)


def runtime_change(summary: Summary) -> pd.DataFrame:
    """PyTorch to ONNX Runtime, the same variant with the same threads."""
    rows = [
        {
            "device": device.label,
            "variant": change.variant,
            "threads": change.threads,
            "before": change.before,
            "after": change.after,
            "before_ms": change.before_ms,
            "after_ms": change.after_ms,
            **estimate("latency_reduction", change.latency_reduction),
        }
        for device in summary.measured_devices
        for change in device.runtime_changes
    ]
    columns = (
        "device variant threads before after before_ms after_ms latency_reduction latency_reduction_low "
        "latency_reduction_high"
    )
    return _frame(rows, columns)


def length_classes(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """Median time and reduction per length of sentence, where the targets look."""
    rows = []
    for device in measured:
        for row in device.rows:
            if (
                row.runtime != device.runtime
                or row.mode != "fp32"
                or row.threads != device.threads
                or row.variant == ORIGINAL_COPY
            ):
                continue
            for part in row.length_classes:
                rows.append(
                    {
                        "device": device.label,
                        "variant": row.variant,
                        "length_class": part.length_class,
                        "median_ms": part.median_ms,
                        **estimate("latency_reduction", part.latency_reduction),
                    }
                )
    columns = "device variant length_class median_ms latency_reduction latency_reduction_low latency_reduction_high"
    return _frame(rows, columns)


def quality(scored: list[QualitySummary]) -> pd.DataFrame:
    """Predicted MOS of every variant (or anchor) by every predictor, and what was heard besides."""
    rows = [
        {
            "variant": row.variant,
            "predictor": row.predictor,
            "sentences": row.sentences,
            "predicted_mos": row.predicted_mos.value,
            **_interval("predicted_mos", row.predicted_mos.ci),
            **estimate("change", row.predicted_mos.change),
            **estimate("change_held_out", row.predicted_mos.change_held_out),
            "sentences_held_out": row.predicted_mos.sentences_held_out,
            "change_level": row.predicted_mos.level,
            "wer": row.wer,
            **_interval("wer", row.wer_figures.ci if row.wer_figures else None),
            "cer": row.cer,
            **_interval("cer", row.cer_figures.ci if row.cer_figures else None),
            "level_above_8khz_db": row.level_above_8khz_db.value,
            **estimate("level_above_8khz_change_db", row.level_above_8khz_change_db),
        }
        for row in scored
    ]
    columns = (
        "variant predictor sentences predicted_mos predicted_mos_low predicted_mos_high change change_low change_high "
        "change_held_out change_held_out_low change_held_out_high sentences_held_out change_level wer wer_low "
        "wer_high cer cer_low cer_high level_above_8khz_db level_above_8khz_change_db level_above_8khz_change_db_low "
        "level_above_8khz_change_db_high"
    )
    return _frame(rows, columns)


def mos(summary: Summary) -> pd.DataFrame:
    """People's ratings of the original and the optimized voice (all rated voices where none was chosen)."""
    chosen = list(dict.fromkeys(name for name in summary.optimized.values() if name))
    closest = [choice.closest for choice in summary.choices if choice.closest]
    rated = [row.variant for row in summary.quality if row.human_mos]
    names = list(dict.fromkeys([ORIGINAL, *(chosen or closest[:1]), *rated]))
    rows = []
    for name in names:
        row = summary.quality_of(name)
        human = row.human_mos if row else None
        rows.append(
            {
                "variant": name,
                "condition": _condition(name, chosen),
                "mos": human.value if human else None,
                **_interval("mos", human.ci if human else None),
                "raters": human.raters if human else None,
                "ratings": human.ratings if human else None,
                **estimate("mos_change", human.change if human else None),
                "detectable": human.detectable if human else None,
                "equivalence_p": human.equivalence_p if human else None,
                **estimate("predicted_mos_change", row.predicted_mos.change if row else None),
            }
        )
    columns = (
        "variant condition mos mos_low mos_high raters ratings mos_change mos_change_low mos_change_high "
        "detectable equivalence_p predicted_mos_change predicted_mos_change_low predicted_mos_change_high"
    )
    return _frame(rows, columns)


def comparisons(summary: Summary) -> pd.DataFrame:
    """What listeners said in comparisons: CCR and MUSHRA."""
    rows = [
        {
            "test": row.test,
            "variant": row.variant,
            **estimate("score", row.score),
            "raters": row.raters,
            "sentences": row.sentences,
            "ratings": row.ratings,
            "detectable": row.detectable,
        }
        for row in summary.comparisons
    ]
    return _frame(rows, "test variant score score_low score_high raters sentences ratings detectable")


def _condition(name: str, chosen: list[str]) -> str:
    return "before optimization" if name == ORIGINAL else "after optimization" if name in chosen else "another variant"


def machines(summary: Summary) -> pd.DataFrame:
    """The machines that measured."""
    rows = []
    for device in summary.devices:
        system = device.system
        if device.status == "measured" and system:
            rows.append(
                {
                    "device": device.label,
                    "machine": system.board or system.machine,
                    "cpu": system.cpu,
                    "logical_cores": system.logical_cores,
                    "memory_mb": system.memory_mb,
                    "instruction_sets": " ".join(system.instruction_sets),
                    "accelerator": system.gpu[1].words if system.gpu[1] else system.accelerator,
                    "os": f"{system.os}, {system.kernel}",
                    "temperature_before_c": system.temperature_c[0],
                    "temperature_after_c": system.temperature_c[1],
                    "throttling_before": _said(system.throttling[0]),
                    "throttling_after": _said(system.throttling[1]),
                    "python": system.python,
                    "packages": ", ".join(f"{name} {version}" for name, version in system.packages.items()),
                    "measured": device.created,
                    "seconds": device.elapsed_seconds,
                }
            )
    columns = (
        "device machine cpu logical_cores memory_mb instruction_sets accelerator os temperature_before_c "
        "temperature_after_c throttling_before throttling_after python packages measured seconds"
    )
    return _frame(rows, columns)


def _said(throttling: list[str] | None) -> str | None:
    """What a Raspberry Pi's firmware reports; None where the machine does not tell."""
    return None if throttling is None else ", ".join(throttling) or "none"


def files(summary: Summary) -> pd.DataFrame:
    """SHA-256 of the files of every variant."""
    rows = [
        {"variant": variant.name, "file": name, "sha256": digest}
        for variant in summary.variants
        for name, digest in variant.files.items()
    ]
    return _frame(rows, "variant file sha256")
