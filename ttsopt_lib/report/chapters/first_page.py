"""The first page: the summary for a manager, and the table of what was asked, what was measured, and the verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import quality_words
from ttsopt_lib.report.chapters.speed import first_sound
from ttsopt_lib.report.estimates import Estimate, estimate
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import code, listed
from ttsopt_lib.report.facts.verdict import HELD_OUT, candidates, meets, why_undecided
from ttsopt_lib.report.printing.html import escape, mark
from ttsopt_lib.report.printing.table import Column, Table, figure_cell, name_of, reason
from ttsopt_lib.report.schema import DeviceSummary, Summary
from ttsopt_lib.study import ORIGINAL

CLAIMS = {
    "size_reduction": "Size reduction",
    "latency_reduction": "Latency reduction",
    "first_sound_ms": "First sound",
    "predicted_mos_change": "Predicted MOS change",
    "mos_change": "MOS change (listeners)",
}
PER_DEVICE = ("latency_reduction", "first_sound_ms")


def verdict(summary: Summary) -> Table:
    """One row per claim and device; rows that differ only in the device are merged."""
    return Table(
        "verdict",
        "Verdict: what was asked and what was measured",
        [
            Column("claim", "Claim", cell=lambda row: escape(CLAIMS[row.claim])),
            Column("device", "Device", cell=lambda row: escape(row.device or "any")),
            Column("variant"),
            Column("target", "Target", cell=_target),
            Column("measured", "Measured [95 % interval]", cell=_measured, interval=True),
            Column("status", "Verdict", cell=lambda row: mark(row.status)),
            Column("reason"),
            Column("closest"),
        ],
        _claims(summary),
        kind="stack verdict",
    )


def _claims(summary: Summary) -> list[SimpleNamespace]:
    labels: dict[str | None, str] = {device.device: device.label for device in summary.devices}
    closest: dict[str | None, str | None] = {choice.device: choice.closest for choice in summary.choices}
    rows: dict[tuple[Any, ...], SimpleNamespace] = {}
    for row in summary.verdict:
        where = row.device if row.claim in PER_DEVICE else None
        label = labels.get(row.device, "")
        merged = rows.setdefault(
            (row.claim, where, row.variant, row.measured, row.status, row.reason),
            SimpleNamespace(
                claim=row.claim,
                labels=[],
                variant=row.variant,
                target=row.target,
                measured=estimate(row.measured, row.ci),
                status=row.status,
                reason=row.reason,
                closest=closest.get(row.device) if row.measured is None and row.status == "fail" else None,
            ),
        )
        if label not in merged.labels:
            merged.labels.append(label)
    everywhere = [device.label for device in summary.measured_devices]
    for row in rows.values():
        row.device = ", ".join(row.labels)
        if row.labels == everywhere and len(everywhere) > 1:
            row.device = "every measured device"
    return list(rows.values())


def _target(row: Any) -> str:
    limit = "no worse than" if row.claim.endswith("change") else "at least"
    words = "at most" if row.claim == "first_sound_ms" else limit
    return f'<span class="figure-text">{words} {numbers.unit_of(row.claim).exact(row.target)}</span>'


def _measured(row: Any) -> str:
    if row.measured is None:  # the lead says why
        return reason(f"no variant qualifies; `{row.closest}` came closest" if row.closest else row.reason)
    near = row.status == "fail" and meets(row.claim, Estimate(value=row.measured.value, ci=None), row.target)
    why = "<br>" + reason("the interval's worse end misses the target") if near else ""
    figure = numbers.unit_of(row.claim).beside(row.measured, row.target, low=row.claim != "first_sound_ms")
    return f"{figure_cell(*figure)} {name_of(row)}{why}"


def stage_note(summary: Summary) -> str | None:
    """That this is a first look, and on how much it stands; None for a complete report."""
    if summary.stage == "complete":
        return None
    blocks = min((device.blocks for device in summary.measured_devices), default=0)
    few = findings.heard_on_few(summary)
    others = f" ({min(few.values())} of {numbers.counted(len(few), 'variant')})" if few else ""
    return (
        f"First look: {blocks} blocks, {summary.evaluation_sentences} sentences{others}; still measuring, unless the "
        "run was stopped or asked for no more (`--quick`). Every interval is as wide as so few make it; the complete "
        "report takes the place of this page."
    )


def manager_summary(summary: Summary) -> list[str]:
    """What was won, what it costs, what of the targets is met; and whether the predictor is to be believed at all."""
    primary = summary.primary_predictor
    doubt = quality_words.distrusted(summary) if primary and primary.orders_anchors is False else []
    heard = first_sound.lead(summary)
    return [" ".join(filter(None, (_won(summary), heard))), _cost(summary), *doubt[:1], _met(summary)]


def _won(summary: Summary) -> str:
    if not summary.measured_devices:
        return f"{_variants_made(summary)}, but nothing was timed yet, so none of them is called the optimized voice."
    groups: dict[str | None, list[str]] = {}  # the variant that was chosen -> labels of the devices
    for device in summary.measured_devices:
        groups.setdefault(summary.optimized[device.device], []).append(device.label)
    won = [_won_with(summary, name, labels) for name, labels in groups.items() if name is not None]
    none = groups.get(None, [])
    if not won:
        return f"No variant qualifies as the optimized voice on {listed(none)}: {closest_words(summary)}."
    rest = f"; on {listed(none)} no variant qualifies: {closest_words(summary)}" if none else ""
    return "; ".join([won[0], *(one[0].lower() + one[1:] for one in won[1:])]) + rest + "."


def _won_with(summary: Summary, name: str, labels: list[str]) -> str:
    variant = summary.variant(name)
    size = f"is {numbers.less(variant.size_reduction, 'smaller', 'larger')} than the original"
    original = summary.variant(ORIGINAL)
    sizes = f"({numbers.megabytes(original.size_bytes)} MB to {numbers.megabytes(variant.size_bytes)} MB)"
    devices = [device for device in summary.measured_devices if device.label in labels]
    return f"The optimized voice (`{name}`) {size} {sizes} and needs {_saved(summary, devices, name)}"


def _saved(summary: Summary, devices: list[DeviceSummary], name: str) -> str:
    """'64 % less time on CPU', a range for several devices."""
    values = [(device.label, one.value) for device in devices if (one := findings.latency_of(summary, device, name))]
    words = [numbers.less(value, "less", "more") for _, value in values]
    if len(values) > 2:
        low, high = (pick(values, key=lambda pair: pair[1]) for pick in (min, max))
        if low[1] > 0 and words[0] and numbers.percent(low[1]) != numbers.percent(high[1]):
            return (
                f"between {numbers.percent(low[1])} ({low[0]}) and {numbers.percent(high[1])} ({high[0]}) less time "
                f"per second of speech on {len(values)} devices"
            )
    labels = [label for label, _ in values]
    if len(set(words)) == 1:
        return f"{words[0]} time per second of speech on {listed(labels)}"
    return listed([f"{word} time per second of speech on {label}" for word, label in zip(words, labels, strict=True)])


def _cost(summary: Summary) -> str:
    names = findings.chosen(summary)
    heard = _heard(summary, names)
    if not summary.predictors:
        return f"What it does to the sound was not measured: {reason_words(summary.quality_reason)}."
    if names:
        changes = {}
        for name in names:
            row = summary.quality_of(name)
            changes[name] = numbers.CHANGE.figure(row.predicted_mos.change_held_out if row else None)
        body = f"changes by {changes[names[0]]}"
        if len(names) > 1:
            body = "changes: " + listed([f"that of `{name}` by {change}" for name, change in changes.items()])
        return f"Its predicted quality (a model's guess at the mean opinion score, 1 to 5) {body} {HELD_OUT}; {heard}."
    kept = findings.keeps_quality(summary)
    target = numbers.CHANGE.exact(summary.targets.predicted_mos_change)
    if kept:
        would = f"Of all variants, {code(kept)} would keep the predicted quality"
        return f"{would} within {target} {findings.over_all(summary)}; {heard}."
    of_original = f"within {target} of the original {findings.over_all(summary)}"
    return f"No variant keeps the predicted quality {of_original}; {heard}."


def _heard(summary: Summary, names: list[str]) -> str:
    rated = {
        name: numbers.CHANGE.figure(row.human_mos.change)
        for name in names
        if (row := summary.quality_of(name)) and row.human_mos and row.human_mos.change
    }
    if rated and len(names) == 1:
        return f"people who listened rated it {rated[names[0]]} against the original"
    if rated:
        return "people who listened rated " + listed([f"`{name}` {change}" for name, change in rated.items()])
    if any(row.human_mos for row in summary.quality):
        return "people rated other variants only" if names else "what people rated stands in the evaluation"
    return "no people were asked to listen"


def _met(summary: Summary) -> str:
    counts = {status: sum(row.status == status for row in summary.verdict) for status in ("pass", "fail")}
    total = len(summary.verdict)
    if counts["pass"] == total:
        return f"All {total} targets are met."
    open_rows = [row for row in summary.verdict if row.status == "not_measured"]
    labels = {device.device: device.label for device in summary.devices}
    missing = [labels[r.device] for r in open_rows if r.claim == "latency_reduction" and r.device]
    missing += [f"first sound on {labels[r.device]}" for r in open_rows if r.claim == "first_sound_ms" and r.device]
    if any(row.claim == "mos_change" for row in open_rows):
        missing.append("listeners' ratings")
    parts = [f"{counts['pass']} of {total} targets {'is' if counts['pass'] == 1 else 'are'} met"]
    if counts["fail"]:
        parts.append(f"{counts['fail']} {'is' if counts['fail'] == 1 else 'are'} missed")
    if open_rows:
        parts.append(f"{len(open_rows)} {'was' if len(open_rows) == 1 else 'were'} not measured ({listed(missing)})")
    return listed(parts) + "."


def closest_words(summary: Summary) -> str:
    """What came closest and why it failed, on the first device where nothing qualified."""
    device = next(device for device in summary.measured_devices if summary.optimized[device.device] is None)
    choice = findings.choice_on(summary, device)
    if choice is None or choice.closest is None:
        return why_undecided(summary, device)
    return f"`{choice.closest}` came closest, but {listed(choice.failed)}"


def _variants_made(summary: Summary) -> str:
    count, found = len(candidates(summary)), findings.smallest(summary)
    made = f"{count} {'variant was' if count == 1 else 'variants were'} made"
    return f"{made}, the smallest (`{found.name}`) {numbers.percent(found.size_reduction)} smaller" if found else made


def claim_words(summary: Summary, claim: str, device: str | None) -> str:
    labels = {one.device: one.label for one in summary.devices}
    words = {
        "size_reduction": "the size target",
        "latency_reduction": "the latency target",
        "first_sound_ms": "the target of the first sound",
        "predicted_mos_change": "the predicted-MOS target",
        "mos_change": "the MOS target",
    }
    where = f" on {labels[device]}" if device and len(summary.measured_devices) > 1 else ""
    return words[claim] + where


def reason_words(text: str | None) -> str:
    return (text or "it was not measured").rstrip(".")
