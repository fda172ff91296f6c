"""A device's raw samples as the rows of the summary: medians, real-time factors and reductions with intervals."""

from __future__ import annotations

from statistics import mean, median

from ttsopt_lib.files import content_key
from ttsopt_lib.records.device import DeviceRecord, Runtime, TimingRow
from ttsopt_lib.report.device_schema import ClassSummary, DeviceSummary, LatencyMs, RuntimeChange, TimingSummary
from ttsopt_lib.report.estimates import ZERO, Estimate
from ttsopt_lib.report.facts.batches import summarize_batches
from ttsopt_lib.statistics import intervals
from ttsopt_lib.study import ORIGINAL, Device


def summarize_device(device: Device, record: DeviceRecord | None) -> DeviceSummary:
    """A device's timings; without a record, "not measured" with what to do about it."""
    record = record or _not_run(device)
    rows = record.rows if record.status == "measured" else []
    first, energy = record.first_audio_sentence, record.energy
    return DeviceSummary(
        device=device.name,
        status="measured" if rows else "not_measured",
        reason=None if rows else record.reason or "nothing was timed",
        system=record.system,
        rows=[_timing(row, rows, record) for row in rows],
        label=device.label,
        kind=device.kind,
        threads=device.threads[0],
        created=record.created or None,
        commit=record.commit,
        blocks=min((len(row.seconds) for row in rows), default=0),
        scales=record.scales,
        sentences_sha256=content_key([one.text for one in record.sentences]) if record.sentences else None,
        stopped_by=record.stopped_by,
        elapsed_seconds=record.elapsed_seconds,
        runtime_changes=_runtime_changes(rows),
        warnings=record.warnings,
        profiles=record.profiles,
        first_audio_sentence=None if first is None else record.sentences[first].text,
        stops=record.stops,
        sittings=record.sittings,
        energy_source=energy.source if energy else None,
        energy_reason=energy.reason if energy else None,
        batches=summarize_batches(record.batches),
    )


def device_of(record: DeviceRecord) -> Device:
    """The device that a record is of, with the numbers of threads that were timed there."""
    threads = tuple(dict.fromkeys(row.threads for row in record.rows)) or (1,)
    about = {"name": record.device, "label": record.label, "kind": record.kind, "threads": threads}
    return Device.model_validate(about)


def _not_run(device: Device) -> DeviceRecord:
    """What stands for the record of a device that was never measured."""
    reason = f"not run yet (ttsopt measure --device {device.name})"
    return DeviceRecord(
        key="", device=device.name, label=device.label, kind=device.kind, status="not_measured", reason=reason,
        created="", system=None,
    )  # fmt: skip


def summarize_peer(row: TimingRow, record: DeviceRecord) -> TimingSummary:
    """A peer's samples; its baseline is the original in ONNX Runtime, whatever its own runtime is."""
    # across runtimes, and the table says so: intervals.reduction refuses it unless the names agree
    summary = _timing(row.model_copy(update={"runtime": "onnxruntime"}), record.rows, record)
    return summary.model_copy(update={"runtime": row.runtime, **_energy(row, record, "onnxruntime")})


def _timing(row: TimingRow, rows: list[TimingRow], record: DeviceRecord) -> TimingSummary:
    baseline = _find(rows, ORIGINAL, row.runtime, row.threads)
    speed, first = intervals.rtf(row), record.first_audio_sentence
    return TimingSummary(
        variant=row.variant,
        runtime=row.runtime,
        threads=row.threads,
        samples=sum(len(block) for block in row.seconds),
        blocks=len(row.seconds),
        latency_ms=_latency(row),
        rtf=speed.value,
        rtf_ci=speed.ci,
        peak_memory_mb=row.peak_memory_mb,
        latency_reduction=_reduction(row, baseline),
        reduction_across=_across(row, rows),
        mode=row.mode,
        clock=row.clock,
        device_memory_mb=row.device_memory_mb,
        **_energy(row, record),
        load_ms=1000 * median(row.load_seconds) if row.load_seconds else None,
        length_classes=[
            _class(name, row, baseline, numbers) for name, numbers in intervals.length_classes(record.sentences).items()
        ],
        first_audio_ms=None if first is None else _latency(row, [first]),
    )


def _latency(row: TimingRow, sentences: list[int] | None = None) -> LatencyMs:
    return LatencyMs(**intervals.latency_summary(row, sentences)._asdict())


def _class(name: str, row: TimingRow, baseline: TimingRow | None, numbers: list[int]) -> ClassSummary:
    """The row on the sentences of one length class, given by their numbers."""
    latency = _latency(row, numbers)
    return ClassSummary(
        length_class=name,
        median_ms=latency.median,
        p95_ms=latency.p95,
        latency_reduction=_reduction(row, baseline, numbers),
        first_ms=_mean_ms(row.first_seconds, numbers),
        new_length_ms=_mean_ms(row.new_length_seconds, numbers),
    )


def _mean_ms(seconds: list[float | None], numbers: list[int]) -> float | None:
    """The mean over the sentences of these numbers that have a figure, ms; None where none has."""
    known = [one for number in numbers if seconds and (one := seconds[number]) is not None]
    return 1000 * mean(known) if known else None


def _reduction(row: TimingRow, baseline: TimingRow | None, sentences: list[int] | None = None) -> Estimate | None:
    """The reduction against `baseline`, which has the same runtime and threads; None where it was not timed."""
    if baseline is None:
        return None
    if row is baseline:
        return ZERO
    return Estimate(**intervals.reduction(row, baseline, sentences)._asdict())


def _across(row: TimingRow, rows: list[TimingRow]) -> Estimate | None:
    """A PyTorch row's reduction against the original in ONNX Runtime, where both were timed in the same blocks."""
    there = _find(rows, ORIGINAL, "onnxruntime", row.threads)
    if row.runtime != "pytorch" or there is None or len(there.seconds) != len(row.seconds):
        return None
    return Estimate(**intervals.reduction(row.model_copy(update={"runtime": there.runtime}), there)._asdict())


def _energy(row: TimingRow, record: DeviceRecord, against: Runtime | None = None) -> dict[str, Estimate | None]:
    """Joules per second of audio, and how much less that is than the original's; nothing where it was not measured.

    The original's runtime is `against` (default: the row's own).
    """
    rows = record.energy.rows if record.energy else []
    place = (row.variant, row.runtime, row.threads, row.mode)
    own = next((e for e in rows if (e.variant, e.runtime, e.threads, e.mode) == place), None)
    if own is None:
        return {}
    wanted = (ORIGINAL, against or row.runtime, row.threads)
    baseline = next(e for e in rows if (e.variant, e.runtime, e.threads) == wanted)
    spent = Estimate(**intervals.joules_per_audio_second(own)._asdict())
    less = ZERO if own is baseline else Estimate(**intervals.energy_reduction(own, baseline)._asdict())
    return {"energy_j_per_audio_second": spent, "energy_reduction": less}


def _runtime_changes(rows: list[TimingRow]) -> list[RuntimeChange]:
    """PyTorch to ONNX Runtime, the same variant and threads."""
    changes = []
    for after in rows:
        before = _find(rows, after.variant, "pytorch", after.threads)
        if (
            after.runtime == "pytorch"
            or after.mode != "fp32"
            or before is None
            or len(before.seconds) != len(after.seconds)
        ):
            continue
        # the one comparison across runtimes, and called so: intervals.reduction refuses it unless the names agree
        reduction = intervals.reduction(after, before.model_copy(update={"runtime": after.runtime}))
        changes.append(
            RuntimeChange(
                variant=after.variant,
                threads=after.threads,
                before=before.runtime,
                after=after.runtime,
                before_ms=_latency(before).median,
                after_ms=_latency(after).median,
                latency_reduction=Estimate(**reduction._asdict()),
            )
        )
    return changes


def _find(rows: list[TimingRow], variant: str, runtime: str, threads: int) -> TimingRow | None:
    wanted = (variant, runtime, threads)
    return next((row for row in rows if (row.variant, row.runtime, row.threads) == wanted), None)
