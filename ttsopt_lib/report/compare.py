"""Two reports side by side: what changed, and whether the change is more than chance.

The two were made apart, so nothing in them is paired. A difference's 95 % interval is made from the two intervals by
the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008, equation 2): it takes no
more than that each interval was right. A difference is called significant where its p-value stays below 5 % after
Holm's correction for all the differences of the comparison. Where both runs scored the same sentences this is
cautious: pairing them could find smaller changes. Word error rates are compared as they stand in each report, not as
changes against its original.

Latency is compared as time per second of audio, and only between runs on the same machine with the same runtime.
Reductions have their own run's baseline, which takes the machine's day out; they too are not compared across machines.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

from ttsopt_lib.evaluate.crossed import holm
from ttsopt_lib.records import RecordError, read_record
from ttsopt_lib.report import numbers
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Interval, QualitySummary, Summary, TimingSummary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

SIGNIFICANT = 0.05
Z95 = 1.959964
SMALL_SIZE = 0.001  # of the file: a header's worth of bytes is no change
Outcome = Literal["better", "worse", "same", "unclear", "not compared"]
WORDS: dict[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "same": "unchanged",
    "unclear": "no measurable difference",
    "not compared": "not compared",
}


class Difference(NamedTuple):
    """One figure in both reports. ``change`` is B minus A, None where they cannot be compared."""

    what: str
    subject: str  # a variant, with its device and threads where it has one
    before: str  # as printed
    after: str
    change: Estimate | None
    printed_change: str
    outcome: Outcome
    note: str = ""


class Comparison(NamedTuple):
    """Everything that two reports have in common, and what must be known to read it."""

    names: tuple[str, str]
    cautions: list[str]
    differences: list[Difference]
    only: tuple[list[str], list[str]]  # variants of one report alone


class _Raw(NamedTuple):
    """A difference before the correction for the number of differences."""

    what: str
    subject: str
    kind: Literal["fraction", "points", "ratio"]
    before: Estimate
    after: Estimate
    more_is_better: bool
    reason: str = ""  # why it must not be compared
    exact: bool = False


def open_summary(path: Path) -> Summary:
    """The summary of a report's folder, or of a summary.json. Raises :class:`RecordError` where there is none."""
    file = path / "summary.json" if path.is_dir() else path
    if not file.is_file():
        raise RecordError(f"{path}: no report there; give a report's folder or its summary.json")
    return read_record(file, Summary, "report")


def compare(before: Summary, after: Summary) -> Comparison:
    """What changed from one report to the other."""
    theirs = {variant.name for variant in after.variants}
    shared = [variant.name for variant in before.variants if variant.name in theirs]
    raw = [*_sizes(before, after, shared), *_latencies(before, after, shared), *_quality(before, after, shared)]
    names = {variant.name for variant in before.variants}
    return Comparison(
        names=(_title(before), _title(after)),
        cautions=_cautions(before, after),
        differences=_judged(raw),
        only=(sorted(names - theirs), sorted(theirs - names)),
    )


def difference(before: Estimate, after: Estimate) -> Estimate:
    """B minus A of two independent estimates, with the interval recovered from theirs; none without both."""
    value = after.value - before.value
    if before.ci is None or after.ci is None:
        return Estimate(value=value, ci=None)
    below = math.hypot(after.value - after.ci[0], before.ci[1] - before.value)
    above = math.hypot(after.ci[1] - after.value, before.value - before.ci[0])
    return Estimate(value=value, ci=(value - below, value + above))


def p_value(change: Estimate) -> float:
    """Two-sided p-value of "no change", from the side of the 95 % interval that faces zero (normal)."""
    if change.ci is None:
        return 1.0
    half = change.value - change.ci[0] if change.value > 0 else change.ci[1] - change.value
    if half <= 0:
        return 1.0 if change.value == 0 else 0.0
    return math.erfc(abs(change.value) / half * Z95 / math.sqrt(2))


# --- what both have ---------------------------------------------------------------------------------------------


def _sizes(before: Summary, after: Summary, shared: list[str]) -> list[_Raw]:
    rows = []
    for name in shared:
        sizes = [Estimate(value=math.log(one.variant(name).size_bytes), ci=None) for one in (before, after)]
        rows.append(_Raw("size", name, "ratio", sizes[0], sizes[1], more_is_better=False, exact=True))
    return rows


def _latencies(before: Summary, after: Summary, shared: list[str]) -> list[_Raw]:
    rows = []
    there = {device.device: device for device in after.measured_devices}
    for device in before.measured_devices:
        other = there.get(device.device)
        if other is None:
            continue
        reason = not_comparable(device, other)
        for row in device.rows:
            twin = _twin(row, other)
            if twin is None or row.variant not in (*shared, ORIGINAL_COPY):
                continue
            threads = f"{row.threads} thread" + ("s" if row.threads > 1 else "")
            where = f"{row.variant}, {device.label}, {_runtime_words(row, device)}, {threads}"
            rows.append(
                _Raw("time per second of audio", where, "ratio", _logarithm(row), _logarithm(twin), False, reason)
            )
            if row.latency_reduction and twin.latency_reduction and row.variant not in (ORIGINAL, ORIGINAL_COPY):
                ours, theirs = row.latency_reduction, twin.latency_reduction
                rows.append(_Raw("latency reduction", where, "fraction", ours, theirs, True, reason))
    return rows


def _quality(before: Summary, after: Summary, shared: list[str]) -> list[_Raw]:
    rows = []
    versions = {predictor.name: predictor.weights_sha256 for predictor in after.predictors}
    for predictor in before.predictors:
        if predictor.name not in versions:
            continue
        reason = "" if versions[predictor.name] == predictor.weights_sha256 else "another version of the predictor"
        if before.evaluation_sentences != after.evaluation_sentences:
            reason = reason or "another number of sentences"
        for name in shared:
            ours, theirs = before.quality_of(name, predictor.name), after.quality_of(name, predictor.name)
            if ours is None or theirs is None:
                continue
            one, other = (Estimate(value=q.predicted_mos.value, ci=q.predicted_mos.ci) for q in (ours, theirs))
            rows.append(_Raw(f"predicted MOS ({predictor.label})", name, "points", one, other, True, reason))
            if ours.predicted_mos.change and theirs.predicted_mos.change and name != ORIGINAL:
                one, other = ours.predicted_mos.change, theirs.predicted_mos.change
                what = f"predicted MOS change ({predictor.label})"
                rows.append(_Raw(what, name, "points", one, other, True, reason))
    for name in shared:
        ours, theirs = before.quality_of(name), after.quality_of(name)
        if ours and theirs and ours.human_mos and theirs.human_mos:
            one, other = (Estimate(value=q.value, ci=q.ci) for q in (ours.human_mos, theirs.human_mos))
            rows.append(_Raw("MOS (listeners)", name, "points", one, other, True))
        errors, errors_after = _error_rate(ours), _error_rate(theirs)
        if errors and errors_after:
            rows.append(
                _Raw("word error rate", name, "fraction", errors, errors_after, False, _recognized(before, after))
            )
    return rows


def _error_rate(row: QualitySummary | None) -> Estimate | None:
    """A voice's own word error rate, not its change against the original, with the bootstrap's interval.

    Where all sentences have the same number of errors the bootstrap gives an interval without width. That is no
    certainty, so it counts as no interval. So does the rate of a report that was not scored sentence by sentence.
    """
    if row is None or row.wer is None:
        return None
    found = row.wer_figures
    if found is None:
        return Estimate(value=row.wer, ci=None)
    return Estimate(value=found.value, ci=found.ci if found.ci and found.ci[0] < found.ci[1] else None)


def _recognized(before: Summary, after: Summary) -> str:
    """Why word errors of two runs must not be compared; empty where they may."""
    if before.asr != after.asr:
        return "another recognizer"
    return "" if before.wer_sentences == after.wer_sentences else "another number of sentences"


def not_comparable(one: DeviceSummary, other: DeviceSummary) -> str:
    """Why latencies of two runs must not be compared; empty where they may."""
    if one.system is None or other.system is None:
        return "the machine is not known"
    for field, what in (
        ("hostname_hash", "another machine"),
        ("cpu", "another processor"),
        ("logical_cores", "another number of cores"),
        ("governor", "another frequency governor"),
    ):
        if getattr(one.system, field) != getattr(other.system, field):
            return what
    return ""


def _twin(row: TimingSummary, device: DeviceSummary) -> TimingSummary | None:
    """The same variant in the same runtime, mode and number of threads; None where it was not timed."""
    wanted = (row.variant, row.runtime, row.mode, row.threads)
    return next((one for one in device.rows if (one.variant, one.runtime, one.mode, one.threads) == wanted), None)


def _runtime_words(row: TimingSummary, device: DeviceSummary) -> str:
    """'onnxruntime', 'pytorch fp16': the mode is said where a runtime has several."""
    several = len({one.mode for one in device.rows if one.runtime == row.runtime}) > 1
    return f"{row.runtime} {row.mode}" if several or row.mode != "fp32" else row.runtime


def _logarithm(row: TimingSummary) -> Estimate:
    ci = (math.log(row.rtf_ci[0]), math.log(row.rtf_ci[1])) if row.rtf_ci and row.rtf_ci[0] > 0 else None
    return Estimate(value=math.log(row.rtf), ci=ci)


# --- what it means ------------------------------------------------------------------------------------------------


def _judged(raw: list[_Raw]) -> list[Difference]:
    changes = [difference(one.before, one.after) for one in raw]
    tested = [i for i, one in enumerate(raw) if not one.reason and changes[i].ci is not None]
    corrected = dict(zip(tested, holm([p_value(changes[i]) for i in tested]), strict=True))
    return [_difference(one, changes[i], corrected.get(i)) for i, one in enumerate(raw)]


def _difference(one: _Raw, change: Estimate, p: float | None) -> Difference:
    if one.kind == "ratio":  # of logarithms: as a fraction of A
        ci = (math.expm1(change.ci[0]), math.expm1(change.ci[1])) if change.ci else None
        change = Estimate(value=math.expm1(change.value), ci=ci)
    shown: Estimate | None = change
    improved = (change.value > 0) == one.more_is_better
    note = ""
    if one.reason:
        outcome, shown, note = "not compared", None, one.reason
    elif one.exact:
        outcome = "same" if abs(change.value) < SMALL_SIZE else "better" if improved else "worse"
    elif p is None:
        outcome, note = ("same", "") if change.value == 0 else ("not compared", "no interval in the reports")
    elif p < SIGNIFICANT:
        outcome = "better" if improved else "worse"
    else:
        outcome = "unclear"
    before, after = (_printed(one, estimate) for estimate in (one.before, one.after))
    return Difference(
        one.what, one.subject, before, after, shown, _printed_change(one, shown) if shown else "", outcome, note
    )


def _printed(one: _Raw, estimate: Estimate) -> str:
    if one.exact:
        return numbers.megabytes(math.exp(estimate.value)) + " MB"
    if one.kind == "ratio":
        ends = [numbers.number(1000 * math.exp(end), 1) for end in estimate.ci or ()]
        return f"{numbers.number(1000 * math.exp(estimate.value), 1)} ms" + (f" [{', '.join(ends)}]" if ends else "")
    if one.kind == "fraction":
        return f"{numbers.percent(estimate.value, 1)} {_percent_ends(estimate.ci)}".strip()
    if "change" in one.what:
        return numbers.change(estimate)
    return numbers.score(estimate.value, estimate.ci)


def _printed_change(one: _Raw, change: Estimate) -> str:
    if one.kind == "points":
        return numbers.change(change)
    unit = "%" if one.kind == "ratio" else "percentage points"
    ends = ", ".join(numbers.signed(100 * end, 1) for end in change.ci or ())
    return f"{numbers.signed(100 * change.value, 1)} {unit}" + (f" [{ends}]" if ends else "")


def _percent_ends(ci: Interval | None) -> str:
    return f"[{numbers.number(100 * ci[0], 1)}, {numbers.number(100 * ci[1], 1)}]" if ci else ""


def _title(summary: Summary) -> str:
    commit = f", commit {summary.commit[:10]}" if summary.commit else ""
    return f"{summary.study} ({summary.voice}, {summary.created[:16].replace('T', ' ')}{commit})"


def _cautions(before: Summary, after: Summary) -> list[str]:
    found = []
    if before.source_sha256 != after.source_sha256:
        found.append(f"Two voices: {before.voice} and {after.voice}. Variants of the same name are compared.")
    if before.dirty or after.dirty:
        found.append("One of the reports was made with uncommitted changes.")
    there = {device.device: device for device in after.measured_devices}
    for device in before.measured_devices:
        other = there.get(device.device)
        if other is None:
            found.append(f"{device.label}: measured in the first report only.")
        elif reason := not_comparable(device, other):
            found.append(f"{device.label}: {reason}, so no latency of it is compared.")
        elif device.system and other.system and device.system.packages != other.system.packages:
            packages = {**device.system.packages, **other.system.packages}
            changed = [p for p in packages if device.system.packages.get(p) != other.system.packages.get(p)]
            pairs = [
                f"{p} {device.system.packages.get(p, 'none')} and {other.system.packages.get(p, 'none')}"
                for p in changed
            ]
            found.append(f"{device.label}: other software, {', '.join(pairs)}.")
    mine = {device.device for device in before.measured_devices}
    found += [f"{d.label}: measured in the second report only." for d in after.measured_devices if d.device not in mine]
    if before.optimized != after.optimized:
        pairs = [
            f"{device}: {before.optimized.get(device) or 'none'} and {after.optimized.get(device) or 'none'}"
            for device in dict.fromkeys([*before.optimized, *after.optimized])
            if before.optimized.get(device) != after.optimized.get(device)
        ]
        found.append(f"Another optimized variant: {'; '.join(pairs)}.")
    return found
