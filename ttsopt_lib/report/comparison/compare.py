"""Two reports side by side: what changed, and whether the change is more than chance.

The two were made apart, so nothing in them is paired. A difference's 95 % interval is made from the two intervals by
the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008, equation 2): it takes no
more than that each interval was right. A difference is called significant where its p-value stays below 5 % after
Holm's correction for all the differences of the comparison. Where both runs scored the same sentences this is
cautious: pairing them could find smaller changes. Word and character error rates are compared as they stand in each
report, not as changes against its original. What a report has as one value without an interval (memory, load time) is
shown with its difference and not tested. A significant change that prints as zero is called unchanged.

Latency is compared as time per second of audio, and only between runs on the same machine with the same runtime.
Reductions have their own run's baseline, which cancels day-to-day variation of the machine; they too are not compared
across machines, nor are memory, load time, time to first audio and energy.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

from ttsopt_lib.records.base import RecordError, read_record
from ttsopt_lib.report.comparison.figures import Figure, Group, Key, figures
from ttsopt_lib.report.schema import DeviceSummary, Estimate, Summary
from ttsopt_lib.statistics.significance import ALPHA, holm
from ttsopt_lib.study import ORIGINAL_COPY

Z95 = 1.959964
SMALL_SIZE = 0.001  # of the file: a header's worth of bytes is no change
Outcome = Literal["better", "worse", "same", "unclear", "not tested", "not compared"]
WORDS: dict[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "same": "unchanged",
    "unclear": "no measurable difference",
    "not tested": "not tested",
    "not compared": "not compared",
}


class Difference(NamedTuple):
    """One figure in both reports. `change` is B minus A, None where they cannot be compared."""

    group: Group
    what: str
    subject: str  # a variant or peer, with its device and threads where it has one
    before: str  # as printed
    after: str
    change: Estimate | None
    printed_change: str
    outcome: Outcome
    note: str = ""


class OneSided(NamedTuple):
    """A figure that one report has of something that both have."""

    group: Group
    what: str
    subject: str
    report: Literal["A", "B"]
    value: str  # as printed


class Comparison(NamedTuple):
    """Everything that two reports have in common, and what must be known to read it."""

    names: tuple[str, str]
    cautions: list[str]
    differences: list[Difference]
    one_sided: list[OneSided]
    only: tuple[list[str], list[str]]  # variants and peers of one report alone


class _Pair(NamedTuple):
    """A figure of both reports, before the correction for the number of differences."""

    key: Key
    before: Figure
    after: Figure
    change: Estimate  # of a ratio: of logarithms
    reason: str  # why it must not be compared


def open_summary(path: Path) -> Summary:
    """The summary of a report's folder, or of a summary.json. Raises `RecordError` where there is none."""
    file = path / "summary.json" if path.is_dir() else path
    if not file.is_file():
        raise RecordError(f"{path}: no report there; give a report's folder or its summary.json")
    return read_record(file, Summary, "report")


def compare(before: Summary, after: Summary) -> Comparison:
    """What changed from one report to the other."""
    ours, theirs = figures(before), figures(after)
    pairs, one_sided = [], []
    for key in _shared(before, after, [*ours, *theirs]):
        one, other = ours.get(key), theirs.get(key)
        if one and other:
            pairs.append(_Pair(key, one, other, _change(one, other), _reason(one, other)))
        elif found := one or other:
            value = found.unit.figure(found.estimate)
            one_sided.append(OneSided(key.group, key.what, found.subject, "A" if one else "B", value))
    names, names_after = _names(before), _names(after)
    return Comparison(
        names=(_title(before), _title(after)),
        cautions=_cautions(before, after),
        differences=_judged(pairs),
        one_sided=one_sided,
        only=(sorted(names - names_after), sorted(names_after - names)),
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


def _names(summary: Summary) -> set[str]:
    return {variant.name for variant in summary.variants} | {f"{peer.name} (peer)" for peer in summary.peers}


def _shared(before: Summary, after: Summary, keys: list[Key]) -> list[Key]:
    """The keys of variants, peers and devices that both reports have, those of one kind of figure together."""
    variants = {one.name for one in before.variants} & {one.name for one in after.variants} | {ORIGINAL_COPY}
    peers = {one.name for one in before.peers} & {one.name for one in after.peers}
    devices = {one.device for one in before.measured_devices} & {one.device for one in after.measured_devices}
    order = list(dict.fromkeys((key.group, key.what) for key in keys))
    found = [
        key
        for key in dict.fromkeys(keys)
        if key.name in (peers if key.group == "Peers" else variants) and (not key.place or key.place[0] in devices)
    ]
    return sorted(found, key=lambda key: order.index((key.group, key.what)))


def _change(before: Figure, after: Figure) -> Estimate:
    if before.unit.ratio:
        return difference(_logarithm(before.estimate), _logarithm(after.estimate))
    return difference(before.estimate, after.estimate)


def _logarithm(estimate: Estimate) -> Estimate:
    ci = estimate.ci
    ends = (math.log(ci[0]), math.log(ci[1])) if ci and ci[0] > 0 else None
    return Estimate(value=math.log(estimate.value), ci=ends)


def _reason(before: Figure, after: Figure) -> str:
    """Why two figures must not be compared; empty where they may. What one report does not say forbids nothing."""
    if before.device and after.device and (reason := not_comparable(before.device, after.device)):
        return reason
    pairs = zip(before.conditions, after.conditions, strict=True)
    return next((words for (words, value), (_, other) in pairs if value != other and None not in (value, other)), "")


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


# --- what it means ------------------------------------------------------------------------------------------------


def _judged(pairs: list[_Pair]) -> list[Difference]:
    tested = [i for i, one in enumerate(pairs) if not one.reason and not one.before.exact and one.change.ci]
    corrected = dict(zip(tested, holm([p_value(pairs[i].change) for i in tested]), strict=True))
    return [_difference(one, corrected.get(i)) for i, one in enumerate(pairs)]


def _difference(one: _Pair, p: float | None) -> Difference:
    unit, change = one.before.unit, one.change
    if unit.ratio:  # as a fraction of A
        ci = (math.expm1(change.ci[0]), math.expm1(change.ci[1])) if change.ci else None
        change = Estimate(value=math.expm1(change.value), ci=ci)
    outcome, note = _outcome(one, change, p)
    shown = None if one.reason else change
    return Difference(
        one.key.group,
        one.key.what,
        one.before.subject,
        unit.figure(one.before.estimate),
        one.after.unit.figure(one.after.estimate),
        shown,
        unit.difference(shown) if shown else "",
        outcome,
        note,
    )


def _outcome(one: _Pair, change: Estimate, p: float | None) -> tuple[Outcome, str]:
    """What a change means, and a note to it. `p`: corrected; None where nothing was tested."""
    improved: Outcome = "better" if (change.value > 0) == one.before.more_is_better else "worse"
    if one.reason:
        return "not compared", one.reason
    if one.before.exact:
        return ("same" if abs(change.value) < SMALL_SIZE else improved), ""
    if p is None:
        return ("same", "") if change.value == 0 else ("not tested", "no interval in the reports")
    if p >= ALPHA:
        return "unclear", ""
    return ("same" if one.before.unit.is_nothing(change) else improved), ""


def _title(summary: Summary) -> str:
    commit = f", commit {summary.commit[:10]}" if summary.commit else ""
    return f"{summary.study} ({summary.voice}, {summary.created[:16].replace('T', ' ')}{commit})"


def _cautions(before: Summary, after: Summary) -> list[str]:
    found = []
    if before.source_sha256 != after.source_sha256:
        found.append(f"Two voices: {before.voice} and {after.voice}. Variants of the same name are compared.")
    if before.dirty or after.dirty:
        found.append("One of the reports was made with uncommitted changes.")
    if any(row.predicted_mos.level != 0.95 for row in (*before.quality, *after.quality)):
        found.append(
            "Where the first sentences decided on a voice, its report gives a wider interval of the change of "
            "predicted MOS; here that is scaled to 95 %."
        )
    there = {peer.name: peer for peer in after.peers}
    for peer in before.peers:
        other = there.get(peer.name)
        if other and peer.versions and other.versions and peer.versions != other.versions:
            found.append(f"{peer.name} (peer): other software, {_other_versions(peer.versions, other.versions)}.")
    there = {device.device: device for device in after.measured_devices}
    for device in before.measured_devices:
        other = there.get(device.device)
        if other is None:
            found.append(f"{device.label}: measured in the first report only.")
        elif reason := not_comparable(device, other):
            found.append(f"{device.label}: {reason}, so no latency of it is compared.")
        elif device.system and other.system and device.system.packages != other.system.packages:
            words = _other_versions(device.system.packages, other.system.packages)
            found.append(f"{device.label}: other software, {words}.")
    mine = {device.device for device in before.measured_devices}
    found += [f"{d.label}: measured in the second report only." for d in after.measured_devices if d.device not in mine]
    pairs = [
        f"{device}: {before.optimized.get(device) or 'none'} and {after.optimized.get(device) or 'none'}"
        for device in dict.fromkeys([*before.optimized, *after.optimized])
        if before.optimized.get(device) != after.optimized.get(device)
    ]
    if pairs:
        found.append(f"Another optimized variant: {'; '.join(pairs)}.")
    return found


def _other_versions(before: dict[str, str], after: dict[str, str]) -> str:
    """'numpy 2.3 and 2.4, onnx none and 1.2'."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name, 'none')} and {after.get(name, 'none')}" for name in changed)
