"""Where the time goes, before and after, and how much any one stage could give at most (Amdahl's law)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from ttsopt_lib.records import ProfileRecord
from ttsopt_lib.report.schema import DeviceSummary, Estimate, TimingSummary
from ttsopt_lib.study import ORIGINAL

KEPT_OPERATORS = 0.01  # of the original's or the variant's time: less is left out of the table
UNTOUCHED = 0.10  # a stage whose time changed by less than this of itself counts as left alone


def _pairs(device: DeviceSummary) -> Iterator[tuple[ProfileRecord, ProfileRecord, Estimate | None]]:
    """The original's profile, each variant's, and the variant's measured reduction."""
    before = next((profile for profile in device.profiles if profile.variant == ORIGINAL), None)
    if before is None:
        return
    for after in device.profiles:
        if after is not before:
            yield before, after, _measured(device.rows, after)


def _measured(rows: Sequence[TimingSummary], profile: ProfileRecord) -> Estimate | None:
    wanted = (profile.variant, "onnxruntime", profile.threads)
    found = next((row for row in rows if (row.variant, row.runtime, row.threads) == wanted), None)
    return found.latency_reduction if found else None


def stages(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """Stage by stage: time before and after, share of the original's time, and what the stage gave of the whole.

    ``bound`` is Amdahl's: the reduction of the whole if that stage cost nothing, which is its share.
    """
    rows = [
        {
            "device": device.label,
            "variant": after.variant,
            "stage": stage,
            "before_ms": 1000 * seconds,
            "after_ms": 1000 * after.stages.get(stage, 0.0),
            "share": seconds / sum(before.stages.values()),
            "share_after": after.stages.get(stage, 0.0) / sum(after.stages.values()),
            "gain": (seconds - after.stages.get(stage, 0.0)) / sum(before.stages.values()),
            "bound": seconds / sum(before.stages.values()),
        }
        for device in measured
        for before, after, _ in _pairs(device)
        for stage, seconds in before.stages.items()
    ]
    columns = "device variant stage before_ms after_ms share share_after gain bound"
    return pd.DataFrame(rows, columns=pd.Index(columns.split()))


def amdahl(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """One row per variant: the measured reduction beside the bound, the share of the stages that it made faster."""
    rows = []
    for device in measured:
        for before, after, reduction in _pairs(device):
            total = sum(before.stages.values())
            faster = [
                stage
                for stage, seconds in before.stages.items()
                if after.stages.get(stage, 0.0) < (1 - UNTOUCHED) * seconds
            ]
            bound = sum(before.stages[stage] for stage in faster) / total
            rows.append(
                {
                    "device": device.label,
                    "variant": after.variant,
                    "threads": after.threads,
                    "faster_stages": ", ".join(faster),
                    "bound": bound,
                    "bound_speedup": 1 / (1 - bound) if bound < 1 else None,
                    "profiled_reduction": 1 - sum(after.stages.values()) / total,
                    "measured": reduction.value if reduction else None,
                    "measured_low": reduction.ci[0] if reduction and reduction.ci else None,
                    "measured_high": reduction.ci[1] if reduction and reduction.ci else None,
                }
            )
    columns = (
        "device variant threads faster_stages bound bound_speedup profiled_reduction measured measured_low "
        "measured_high"
    )
    return pd.DataFrame(rows, columns=pd.Index(columns.split()))


def operators(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """Time by operator type, before and after; those below one per cent of both are left out."""
    rows = []
    for device in measured:
        for before, after, _ in _pairs(device):
            totals = sum(before.operators.values()), sum(after.operators.values())
            for name in dict.fromkeys([*before.operators, *after.operators]):
                times = before.operators.get(name, 0.0), after.operators.get(name, 0.0)
                if all(time < KEPT_OPERATORS * total for time, total in zip(times, totals, strict=True)):
                    continue
                rows.append(
                    {
                        "device": device.label,
                        "variant": after.variant,
                        "operator": name,
                        "before_ms": 1000 * times[0],
                        "after_ms": 1000 * times[1],
                        "share": times[0] / totals[0],
                        "share_after": times[1] / totals[1],
                    }
                )
    columns = "device variant operator before_ms after_ms share share_after"
    return pd.DataFrame(rows, columns=pd.Index(columns.split()))
