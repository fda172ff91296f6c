"""Where the time goes, before and after, and how much any one stage could give at most (Amdahl's law)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from ttsopt_lib.records import ProfileRecord
from ttsopt_lib.report import columns, numbers
from ttsopt_lib.report.html import Column, escape, table
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Summary, TimingSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

KEPT_OPERATORS = 0.01  # of the original's or the variant's time: less is left out of the table
TOP_OPERATORS = 6  # in the page; tables/operators.csv has the others
GAINED = 0.05  # of the original's time: a stage that saved less of it does not count as faster


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
    names = "device variant stage before_ms after_ms share share_after gain bound"
    return pd.DataFrame(rows, columns=pd.Index(names.split()))


def amdahl(measured: Sequence[DeviceSummary]) -> pd.DataFrame:
    """One row per variant that made a stage faster: the measured reduction beside Amdahl's bound.

    A stage became faster where it saved ``GAINED`` of the original's time, and more than the original differs from
    itself on that device. ``bound`` is the reduction of the whole if those stages cost nothing and the others what
    they cost now. A variant without such a stage has no row.
    """
    rows = []
    for device in measured:
        least = max(GAINED, _noise(device.rows))
        for before, after, reduction in _pairs(device):
            total = sum(before.stages.values())
            faster = [s for s, seconds in before.stages.items() if seconds - after.stages.get(s, 0.0) >= least * total]
            if not faster:
                continue
            bound = 1 - sum(seconds for stage, seconds in after.stages.items() if stage not in faster) / total
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
    names = (
        "device variant threads faster_stages bound bound_speedup profiled_reduction measured measured_low "
        "measured_high"
    )
    return pd.DataFrame(rows, columns=pd.Index(names.split()))


def _noise(rows: Sequence[TimingSummary]) -> float:
    """How far the original may differ from itself: the farther end of the A/A row's interval, as a fraction."""
    found = (row.latency_reduction for row in rows if row.variant == ORIGINAL_COPY and row.runtime == "onnxruntime")
    ends = [end for one in found if one for end in (one.ci or (one.value,))]
    return max((abs(end) for end in ends), default=0.0)


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
    names = "device variant operator before_ms after_ms share share_after"
    return pd.DataFrame(rows, columns=pd.Index(names.split()))


# --- in the page ------------------------------------------------------------------------------------------------


def top_operators(summary: Summary) -> pd.DataFrame:
    """The operator types that take most of the original's or the optimized variant's time (or the closest one's).

    One row per type and device, then the others as one row; ms of one pass over the timing sentences.
    """
    rows = []
    chosen = {choice.device: choice.variant or choice.closest for choice in summary.choices}
    for device in summary.measured_devices:
        for before, after, _ in _pairs(device):
            if after.variant != chosen.get(device.device):
                continue
            totals = sum(before.operators.values()), sum(after.operators.values())
            times: dict[str, tuple[float, float]] = {
                name: (before.operators.get(name, 0.0), after.operators.get(name, 0.0))
                for name in before.operators | after.operators
            }
            largest = sorted(
                times, key=lambda name: -max(t / total for t, total in zip(times[name], totals, strict=True))
            )
            named = {f"`{name}`": times[name] for name in largest[:TOP_OPERATORS]}
            if others := largest[TOP_OPERATORS:]:
                named[f"{len(others)} others"] = (
                    sum(times[name][0] for name in others),
                    sum(times[name][1] for name in others),
                )
            rows += [
                {
                    "group": f"{device.label}: the original before, `{after.variant}` after",
                    "operator": name,
                    "before_ms": 1000 * first,
                    "share": first / totals[0],
                    "after_ms": 1000 * second,
                    "share_after": second / totals[1],
                }
                for name, (first, second) in named.items()
            ]
    return pd.DataFrame(rows)


def tables_of_profiles(summary: Summary, bounds: pd.DataFrame, devices_on_paper: int) -> list[str]:
    """The table of operators, on the screen alone, and that of Amdahl's ``bounds``, printed for the first devices."""
    printed = [
        Column("Operator", lambda row: escape(row.operator)),
        Column("Before, ms", lambda row: numbers.milliseconds(row.before_ms), True),
        Column("Share before", lambda row: numbers.percent(row.share), True),
        Column("After, ms", lambda row: numbers.milliseconds(row.after_ms), True),
        Column("Share after", lambda row: numbers.percent(row.share_after), True),
    ]
    return [
        '<div class="screen-only">',
        table(
            top_operators(summary),
            printed,
            "Which operators the time goes to, before and after: one pass over the timing sentences in ONNX Runtime's "
            "profile (every variant: `tables/operators.csv`)",
            "operators",
            group="group",
            missing="What was optimized has no profile beside the original's, so operators cannot be compared.",
        ),
        "</div>",
        table(
            bounds,
            columns.amdahl(),
            "What speeding up some stages can give at most (Amdahl's law), beside what was measured; variants in which "
            f"no stage saved {numbers.percent(GAINED)} of the original's time have no row",
            "amdahl",
            group="device",
            groups_on_paper=devices_on_paper,
            missing=f"No variant has a stage that saved {numbers.percent(GAINED)} of the original's time, so there is "
            "no bound to tell.",
        ),
    ]
