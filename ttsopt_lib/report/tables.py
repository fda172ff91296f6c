"""The same tables from one step's records alone, for the notebooks of the steps."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ttsopt_lib.records import DeviceRecord, QualityRecord, VariantRecord
from ttsopt_lib.report import frames, profiles
from ttsopt_lib.report.schema import DeviceSummary, VariantSummary
from ttsopt_lib.report.summary import scored, variant_summary
from ttsopt_lib.report.timing_rows import summarize_device
from ttsopt_lib.study import ORIGINAL, Device


def sizes(records: Iterable[VariantRecord]) -> pd.DataFrame:
    """Files and parameters of the variants."""
    return frames.sizes(_variants(records))


def coverage(records: Iterable[VariantRecord]) -> pd.DataFrame:
    """What each step of each recipe reached."""
    return frames.coverage(_variants(records))


def latency(record: DeviceRecord) -> pd.DataFrame:
    """Every timing of a device; reductions within one runtime and number of threads."""
    return frames.devices(_device(record))


def length_classes(record: DeviceRecord) -> pd.DataFrame:
    """Median time and reduction per length of sentence."""
    return frames.length_classes(_device(record))


def stages(record: DeviceRecord) -> pd.DataFrame:
    """Where the time goes, stage by stage, before and after."""
    return profiles.stages(_device(record))


def amdahl(record: DeviceRecord) -> pd.DataFrame:
    """The measured reduction beside the most that the stages which became faster could give."""
    return profiles.amdahl(_device(record))


def operators(record: DeviceRecord) -> pd.DataFrame:
    """Where the time goes by operator type, before and after."""
    return profiles.operators(_device(record))


def quality(record: QualityRecord) -> pd.DataFrame:
    """Predicted MOS, word and character error rate and level above 8 kHz of every variant."""
    return frames.quality(scored(record, record.rows))


def anchors(record: QualityRecord) -> pd.DataFrame:
    """The same of the known-bad conditions."""
    return frames.quality(scored(record, record.anchors))


def mean_opinion_scores(record: QualityRecord) -> pd.DataFrame | str:
    """Listeners' ratings, or why there are none."""
    if not record.ratings:
        return f"not measured: {record.ratings_reason or 'no ratings were given'}"
    return pd.DataFrame([row.model_dump() for row in record.ratings])


def _variants(records: Iterable[VariantRecord]) -> list[VariantSummary]:
    known = list(records)
    original = next((record for record in known if record.name == ORIGINAL), known[0])
    return [variant_summary(record, original) for record in known]


def _device(record: DeviceRecord) -> list[DeviceSummary]:
    threads = tuple(dict.fromkeys(row.threads for row in record.rows)) or (1,)
    device = Device(name=record.device, label=record.label, kind=record.kind, threads=threads)  # type: ignore[arg-type]
    return [summarize_device(device, record)] if record.rows else []
