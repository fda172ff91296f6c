"""How the optimized variant was chosen, and why no faster one was."""

from __future__ import annotations

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters.speed.timings import RUNTIMES, conditions
from ttsopt_lib.report.facts.findings import change_of, choice_on, code, fastest_row, latency_of, listed, over_all
from ttsopt_lib.report.facts.verdict import (
    Judged,
    candidates,
    change_beside,
    faster_not_chosen,
    judge,
    why_undecided,
    worse_end,
)
from ttsopt_lib.report.schema import DeviceSummary, Summary, TimingSummary
from ttsopt_lib.study import ORIGINAL

# Of integer products its CUDA provider has signed times signed matrices only; ranges found anew are unsigned.
NO_KERNELS = "ONNX Runtime has no kernels for them on a GPU and computes them in floating point, or on the processor"
PASSED_OVER = 3  # faster variants of a device that are told apart; the others are only named


def rule(summary: Summary) -> str:
    """The rule of the choice, with this study's targets."""
    smaller = numbers.REDUCTION.exact(summary.targets.size_reduction)
    limit = numbers.CHANGE.exact(summary.targets.predicted_mos_change)
    return (
        "The optimized variant of a device is chosen by rule, not by hand: it is the fastest one whose file is at "
        f"least {smaller} smaller and whose predicted MOS changes by no worse than {limit} at the lower end of its "
        f"95 % interval. {_sentences_of_the_rule(summary)}"
    )


def _sentences_of_the_rule(summary: Summary) -> str:
    """Which sentences choose, and which others the verdict rests on."""
    halves = (
        "the even-numbered evaluation sentences (counted from 0) choose, and the verdict rests on the odd-numbered ones"
    )
    names = list(dict.fromkeys(row.variant for row in summary.confirmation if row.variant != ORIGINAL))
    if not names:
        return f"Of its sentences, {halves}, which had no part in the choice."
    return (
        f"Of {code(names)}, all evaluation sentences choose, and the verdict rests on "
        f"{summary.confirmation_sentences} further sentences, which had no part in the choice; of the other variants, "
        f"{halves}."
    )


def choice_notes(summary: Summary) -> list[str]:
    """How the optimized variant was chosen, and why no faster one was; devices of which the same is said together."""
    devices = {device.device: device for device in summary.devices}
    where: dict[str, list[str]] = {}  # a note -> labels of the devices
    alone: dict[str, str] = {}  # a note -> the same with figures, where it is of one device alone
    for choice in summary.choices:
        device = devices[choice.device]
        notes = []
        if choice.variant:
            others = [name for name in choice.candidates if name != choice.variant]
            beside = f"; {code(others)} also qualified, but not as fast" if others else ""
            notes.append(f"`{choice.variant}`{beside}.")
        elif choice.closest:
            notes.append(f"none. `{choice.closest}` came closest, but {listed(choice.failed)}.")
        elif not choice.decided:
            notes.append(f"the rule could not be applied: {why_undecided(summary, device)}.")
        faster = faster_not_chosen(summary, device, choice)
        for one in faster[:PASSED_OVER]:
            notes.append(_passed_over(summary, one))
            alone[notes[-1]] = _passed_over(summary, one, device)
        if rest := [one.name for one in faster[PASSED_OVER:]]:
            are, do = ("is", "does") if len(rest) == 1 else ("are", "do")
            notes.append(f"{code(rest)} {are} faster too, and {do} not qualify either.")
        for note in notes:
            where.setdefault(note, []).append(device.label)
    told = [
        f"{listed(labels)}: {alone.get(note, note) if len(labels) == 1 else note}" for note, labels in where.items()
    ]
    if not summary.choices:
        told.append(f"Nothing was timed, so none of the {len(candidates(summary))} variants was chosen.")
    return told


def fastest_notes(summary: Summary) -> list[str]:
    """The fastest row of each device within the study's limit of quality, in whatever runtime and mode, and why."""
    notes = []
    for device in summary.measured_devices:
        found = fastest_row(summary, device)
        if found is None:
            notes.append(f"{device.label}: no row within the limit of quality is measurably faster than the original.")
            continue
        row, saved = found
        reasons = _why_fast(summary, device, row)
        why = f": {listed(reasons)}" if reasons else ""
        where = conditions(row, "" if row.mode == "fp32" else row.mode)
        slow = _slow_products(summary, device) if device.kind == "gpu" else ""
        beside = f" Int8 products are not measurably faster there ({slow}): {NO_KERNELS}." if slow else ""
        notes.append(
            f"{device.label}: the fastest row within the limit of quality is `{row.variant}` in {where}, with "
            f"{numbers.REDUCTION.figure(saved)} less time per second of audio than the original in "
            f"{RUNTIMES[device.runtime]}{why}.{beside}"
        )
    return notes


def _why_fast(summary: Summary, device: DeviceSummary, row: TimingSummary) -> list[str]:
    """What of a row makes it fast, as its steps and its mode say."""
    steps, why = summary.variant(row.variant).steps, []
    if stages := [stage.replace("_", " ") for step in steps for stage in step.stages]:
        why.append(f"students in place of {listed(stages)}")
    kinds = {step.kind for step in steps}
    why += ["fewer channels"] if "removal" in kinds else []
    if row.runtime != "pytorch":
        why += ["int8 products"] if "int8 products" in kinds and device.kind != "gpu" else []
        why += ["the same work in another order"] if "order" in kinds else []
    why += ["half precision in flow and decoder"] if "fp16" in row.mode else []
    why += ["a decoder that is replayed from graphs"] if "graphs" in row.mode else []
    why += ["a compiled decoder"] if "compiled" in row.mode else []
    return why or (["another runtime"] if row.reduction_across else [])


def _slow_products(summary: Summary, device: DeviceSummary) -> str:
    """The variants with int8 products that are not shown to take less time, with their figures; empty: none."""
    names = [one.name for one in summary.variants if any(step.kind == "int8 products" for step in one.steps)]
    timed = [(name, one) for name in names if (one := latency_of(summary, device, name)) and worse_end(one) <= 0]
    return listed([f"`{name}`: {numbers.REDUCTION.figure(one)} less time" for name, one in timed]) if timed else ""


def corner_notes(summary: Summary) -> list[str]:
    """Why variants that lie in the picture's corner of met targets were not chosen.

    Those faster than the chosen one; where none qualifies, the one that came closest, then those faster than it. The
    picture is of the first device with timings and over all evaluation sentences; the rule judges by half of them.
    """
    targets, names = summary.targets, candidates(summary)
    timed = (device for device in summary.measured_devices if any(latency_of(summary, device, n) for n in names))
    device = next(timed, None)
    choice = choice_on(summary, device) if device else None
    if device is None or choice is None:
        return []

    def in_corner(name: str) -> bool:
        latency, change = latency_of(summary, device, name), change_of(summary, name)
        fast = latency is not None and latency.value >= targets.latency_reduction
        return fast and change is not None and change.value >= targets.predicted_mos_change

    closest = [choice.closest] if choice.closest and in_corner(choice.closest) else []
    faster = [one for one in faster_not_chosen(summary, device, choice) if in_corner(one.name)]
    notes = [_came_closest(summary, device, name) for name in closest]
    notes += [_passed_over(summary, one, device) for one in faster]
    return [f"{device.label}: {text}" for text in notes[:PASSED_OVER]]


def _came_closest(summary: Summary, device: DeviceSummary, name: str) -> str:
    """Which target the variant misses that came closest where none qualifies, and by how much."""
    one, saved = judge(summary, name), numbers.REDUCTION.figure(latency_of(summary, device, name))
    text = f"`{name}` came closest ({saved} less time), but {listed(one.failed)}."
    return text + _over_all_sentences(summary, name)


def _passed_over(summary: Summary, one: Judged, device: DeviceSummary | None = None) -> str:
    """Which conditions a faster variant missed, and what the whole picture says where it shows them on target.

    With a device: how much faster it is there."""
    saved = f" ({numbers.REDUCTION.figure(latency_of(summary, device, one.name))} less time)" if device else ""
    reasons = [*one.failed, *(["its predicted MOS was not measured"] if one.unknown else [])]
    return f"`{one.name}` is faster{saved}, but {listed(reasons)}." + _over_all_sentences(summary, one.name)


def _over_all_sentences(summary: Summary, name: str) -> str:
    """The change over all evaluation sentences, where half of them chose and missed, and the mean of all meets it."""
    row, limit = summary.quality_of(name), summary.targets.predicted_mos_change
    choosing, change = (row.predicted_mos.change_choosing, row.predicted_mos.change) if row else (None, None)
    if not (choosing and change and worse_end(choosing) < limit <= change.value) or choosing == change:
        return ""
    meets = "which meets the target" if worse_end(change) >= limit else "whose lower end misses the target too"
    return f" {over_all(summary).capitalize()} the change is {change_beside(change, limit)}, {meets}."
