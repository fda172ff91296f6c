"""The same tables from one step's records alone, for the notebooks of the steps."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.report.chapters import quality as quality_chapter
from ttsopt_lib.report.chapters import sizes as reach
from ttsopt_lib.report.chapters.speed import batches as batches_chapter
from ttsopt_lib.report.chapters.speed import profiles, timings
from ttsopt_lib.report.error_rates import rates_of
from ttsopt_lib.report.facts.summary import confirmed, known_damage, ratings_reason, scored, variant_summary
from ttsopt_lib.report.facts.timing_rows import device_of, summarize_device
from ttsopt_lib.report.schema import DeviceSummary, VariantSummary
from ttsopt_lib.study import ORIGINAL, Study


def sizes(records: Iterable[VariantRecord]) -> pd.DataFrame:
    """Files and parameters of the variants."""
    return reach.sizes(_variants(records)).frame


def coverage(records: Iterable[VariantRecord]) -> pd.DataFrame:
    """What each step of each recipe reached."""
    return reach.coverage(_variants(records)).frame


def latency(record: DeviceRecord) -> pd.DataFrame:
    """Every timing of a device; reductions within one runtime and number of threads."""
    return timings.timings(_device(record)).frame


def length_classes(record: DeviceRecord) -> pd.DataFrame:
    """Median time and reduction per length of sentence."""
    return timings.length_classes(_device(record)).frame


def batches(record: DeviceRecord) -> pd.DataFrame:
    """Several sentences at once: seconds of audio made in a second, by batch size."""
    return batches_chapter.batches(_device(record)).frame


def stages(record: DeviceRecord) -> pd.DataFrame:
    """Where the time goes, stage by stage, before and after."""
    return profiles.stages(_device(record)).frame


def amdahl(record: DeviceRecord) -> pd.DataFrame:
    """The measured reduction beside the most that the stages which became faster could give."""
    return profiles.amdahl(_device(record)).frame


def operators(record: DeviceRecord) -> pd.DataFrame:
    """Where the time goes by operator type, before and after."""
    return profiles.operators(_device(record)).frame


def quality(record: QualityRecord) -> pd.DataFrame:
    """Predicted MOS, word and character error rate and level above 8 kHz of every variant."""
    return quality_chapter.quality(scored(record, record.rows), rates=rates_of(record)).frame


def anchors(study: Study, record: QualityRecord) -> pd.DataFrame:
    """The same of the known-bad conditions, naive static int8 among them."""
    return quality_chapter.quality(known_damage(study, record), rates=rates_of(record)).frame


def confirmed_voices(record: QualityRecord) -> pd.DataFrame | str:
    """What the further sentences say; why there are none, where no variant spoke any."""
    if not record.confirmation:
        return "no variant is confirmed on further sentences (evaluate.confirmed)"
    return quality_chapter.confirmation(confirmed(record), rates=rates_of(record)).frame


def mean_opinion_scores(record: QualityRecord) -> pd.DataFrame | str:
    """Listeners' ratings, or why there are none."""
    if not record.ratings:
        return f"not measured: {ratings_reason(record) or 'no ratings were given'}"
    return pd.DataFrame([row.model_dump() for row in record.ratings])


def _variants(records: Iterable[VariantRecord]) -> list[VariantSummary]:
    known = list(records)
    original = next((record for record in known if record.name == ORIGINAL), known[0])
    return [variant_summary(record, original) for record in known]


def _device(record: DeviceRecord) -> list[DeviceSummary]:
    return [summarize_device(device_of(record), record)] if record.rows else []
