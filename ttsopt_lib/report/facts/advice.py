"""What to do next: rules over the measurements, each with the figures that triggered it.

A rule is a function from the summary to pieces of advice, none where its figures do not call for any. It says one
thing to do and the measurement that says so; it never repeats what the verdict says already. Most urgent first: what
makes other figures doubtful, then what stands between the study and its targets, then what could be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.advice_evidence import (
    as_figures,
    listeners,
    not_measured,
    undecided,
    unsteady,
    untrusted_predictors,
)
from ttsopt_lib.report.facts.browsers import browsers, computes_in_int8, lost_in, processor_beside
from ttsopt_lib.report.facts.findings import NO_GAIN, bits_of, listed, no_faster
from ttsopt_lib.report.facts.verdict import CHOOSING, change_beside, worse_end
from ttsopt_lib.report.schema import Advice, Decided, DeviceSummary, Estimate, TimingSummary, VariantSummary
from ttsopt_lib.study import ORIGINAL

LARGE_SHARE = 0.5  # of the time: a stage that takes more decides how fast the voice can become
LITTLE_GAIN = 0.15  # of the time: threads that save less are better given to another sentence
NEAR = 0.15  # points of predicted MOS: a variant that misses by less is worth another attempt
DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}  # what makes int8 faster than float32
STAGE_REMEDIES = {
    "decoder": "distil it (`distill`)",
    "flow": "compute it in int8 (`quantize_mixed`), or train a shallower one",
    "text encoder": "compute it in int8 (`quantize_mixed`), or train a smaller one",
    "durations": "a deterministic duration predictor costs a fraction of a stochastic one",
}


def advice(summary: Decided) -> list[Advice]:
    """All that the measurements advise, the most urgent first; nothing where no rule is triggered.

    What several devices call for in the same words stands once.
    """
    found = [one for rule in RULES for one in rule(summary)]
    return list({(one.text, one.because): one for one in found}.values())


# --- what stands between the study and its targets -----------------------------------------------------------------


class NearMiss(NamedTuple):
    """A variant that lacks a little quality, with its figures where it is first fast enough."""

    variant: VariantSummary
    change: Estimate
    saved: Estimate
    device: DeviceSummary
    too_slow: int  # devices on which it misses the latency target as well


def near_misses(summary: Decided) -> Iterator[Advice]:
    """Small and fast enough, and nearly good enough: the variant to work on first, and those that come next."""
    found = sorted(_near_misses(summary), key=lambda one: (one.too_slow, -one.saved.value))
    if not found:
        return
    first, rest = found[0], found[1:]
    limit = summary.targets.predicted_mos_change
    others = listed([f"`{one.variant.name}` ({_near_words(one, limit)})" for one in rest])
    yield Advice(
        rule="near_miss",
        text=f"Work on `{first.variant.name}` first: {_remedy(first.variant)}.",
        because=f"It is {numbers.percent(first.variant.size_reduction)} smaller and takes "
        f"{numbers.REDUCTION.figure(first.saved)} less time on {first.device.label}, both as asked; only its predicted "
        f"MOS, {change_beside(first.change, limit)} {CHOOSING}, misses {numbers.CHANGE.exact(limit)} at its lower end."
        + (f" Next, on the same sentences: {others}." if rest else ""),
        figures={"size_reduction": first.variant.size_reduction}
        | as_figures("latency_reduction", first.saved)
        | as_figures("predicted_mos_change_choosing", first.change),
    )


def _near_words(one: NearMiss, limit: float) -> str:
    size, saved = numbers.percent(one.variant.size_reduction), numbers.REDUCTION.figure(one.saved)
    return f"{size} smaller, {saved} less time on {one.device.label}, predicted MOS {change_beside(one.change, limit)}"


def _near_misses(summary: Decided) -> Iterator[NearMiss]:
    """Those that are on a device no optimized variant yet, and would be faster or smaller than the one that is."""
    for variant in findings.of_variants(summary):
        row = summary.quality_of(variant.name)
        change = row.predicted_mos.change_choosing if row else None
        where = [d for d in summary.measured_devices if _fast_enough(summary, d, variant.name)]
        gains = [device for device in where if not _is_beaten(summary, device, variant)]
        if not gains or change is None:
            continue
        missing = summary.targets.predicted_mos_change - worse_end(change)
        if variant.size_reduction < summary.targets.size_reduction or not 0 < missing <= NEAR:
            continue
        if saved := findings.latency_of(summary, gains[0], variant.name):
            yield NearMiss(variant, change, saved, gains[0], len(summary.measured_devices) - len(where))


def _is_beaten(summary: Decided, device: DeviceSummary, variant: VariantSummary) -> bool:
    """Whether a device's optimized variant saves as much of the time and of the size, or is this very one."""
    name = summary.optimized.get(device.device)
    if not name:
        return False
    chosen, own = (findings.latency_of(summary, device, one) for one in (name, variant.name))
    as_fast = chosen is not None and (own is None or chosen.value >= own.value)
    return as_fast and summary.variant(name).size_reduction >= variant.size_reduction


def largest_stages(summary: Decided) -> Iterator[Advice]:
    """Where one stage takes most of the time and the latency target is missed, that stage is the one to change."""
    stages: dict[tuple[str, str], list[tuple[DeviceSummary, float]]] = {}
    for device in summary.measured_devices:
        name = summary.optimized.get(device.device) or ORIGINAL
        profile = next((profile for profile in device.profiles if profile.variant == name), None)
        if profile is None or _fast_enough(summary, device, name):
            continue
        stage, seconds = max(profile.stages.items(), key=lambda item: item[1])
        share = seconds / sum(profile.stages.values())
        if share >= LARGE_SHARE and stage in STAGE_REMEDIES:
            stages.setdefault((stage, name), []).append((device, share))
    students = [variant.name for variant in findings.with_students(summary)]
    for (stage, name), where in stages.items():
        remedy = STAGE_REMEDIES[stage]
        if stage == "decoder" and students:
            remedy = f"bring its student ({listed([f'`{student}`' for student in students])}) to the quality asked for"
        shares = listed([f"{numbers.percent(share)} on {device.label}" for device, share in where])
        yield Advice(
            rule="largest_stage",
            text=f"The {stage} takes most of the time of `{name}`: {remedy}.",
            because=f"Its share is {shares}, the most that a {stage} without cost could save; the target for the whole "
            f"voice is {numbers.REDUCTION.exact(summary.targets.latency_reduction)}.",
            figures={f"share_{device.device}": share for device, share in where},
        )


def int8_without_gain(summary: Decided) -> Iterator[Advice]:
    """Int8 arithmetic that saves no time on a processor, and whether the processor has what it takes."""
    computing = [v for v in findings.of_variants(summary) if computes_in_int8(v)]
    for device in summary.measured_devices:
        timed = [(v, e) for v in computing if (e := findings.latency_of(summary, device, v.name))]
        if device.kind in ("gpu", "browser") or device.system is None or not timed:
            continue
        best, gain = max(timed, key=lambda pair: pair[1].value)
        if not no_faster(gain):
            continue
        has = sorted(DOT_PRODUCTS & set(device.system.instruction_sets))
        why = (
            f"although it has {listed(has)}; look at `tables/operators.csv` for what the time goes to"
            if has
            else "and it has no VNNI (x86) or dot-product (Arm) instructions, which int8 kernels live on"
        )
        yield Advice(
            rule="int8_without_gain",
            text=f"Int8 arithmetic brings nothing on {device.label}: store weights in 8 bits and compute in float32 "
            "(`quantize_weights`).",
            because=f"The fastest that computes in int8 there, `{best.name}`, takes {numbers.REDUCTION.figure(gain)} "
            f"less time on that processor, {why}.",
            figures=as_figures("latency_reduction", gain) | {"dot_product_instruction_sets": len(has)},
        )


def int8_in_a_browser(summary: Decided) -> Iterator[Advice]:
    """Int8 arithmetic that a processor is fast at and WebAssembly is not."""
    for browser in browsers(summary):
        processor = processor_beside(summary, browser)
        lost = lost_in(summary, browser, processor) if processor else []
        if processor is None or not lost:
            continue
        chosen = summary.optimized.get(browser.device)
        other = (
            f"ship `{chosen}` there"
            if chosen and chosen not in [one.variant for one in lost]
            else ("store weights in 8 bits and compute in float32 there (`quantize_weights`), or distil (`distill`)")
        )
        figures = [
            f"`{one.variant}` takes {numbers.REDUCTION.figure(one.there)} less time there and "
            f"{numbers.REDUCTION.figure(one.here)} on {processor.label}"
            for one in lost
        ]
        yield Advice(
            rule="int8_in_a_browser",
            text=f"Do not count on int8 arithmetic in {browser.label}: {other}.",
            because=f"Against the original in the same place, {listed(figures)}.",
            figures={
                f"{place}_{one.variant}": value.value
                for one in lost
                for place, value in (("browser", one.there), ("processor", one.here))
            },
        )


def missing_size(summary: Decided) -> Iterator[Advice]:
    """No file is small enough: where the weights are, and how many of them are stored in 8 bits."""
    small = findings.smallest(summary)
    if findings.meets_size(summary) or not findings.of_variants(summary):
        return
    stored = max((s.coverage.parameters for v in summary.variants for s in v.steps if "quantize" in s.step), default=0)
    held: dict[str, float] = {}
    first = summary.sensitivity[0].variant if summary.sensitivity else None
    for row in summary.sensitivity:
        if row.variant == first:
            held[_stage(row.group)] = held.get(_stage(row.group), 0.0) + row.parameters
    largest = sorted(held, key=lambda stage: -held[stage])[:2]
    where = listed([f"the {stage} ({numbers.percent(held[stage])} of the weights)" for stage in largest])
    lives = f" Size lives in {where}." if largest else ""
    # A voice whose decoder computes samples loses by it (docs/optimizing.md).
    students = findings.with_students(summary)
    whole = bool(students) and all(bits_of(variant) == 8 for variant in students)
    remedy = (
        "store every weight in 8 bits (`quantize_weights`)"
        if stored < 0.9
        else "store the students' weights in fewer than 8 bits (`bits: 4`, and `pack` as the last step)"
        if whole
        else "8 bits are used up, so take weights away: a smaller student in place of the largest stage"
    )
    size, target = small.size_reduction if small else 0.0, summary.targets.size_reduction
    smaller, _ = numbers.REDUCTION.beside(Estimate(value=size, ci=None), target)
    yield Advice(
        rule="missing_size",
        text=f"No file is as small as asked: {remedy}.",
        because=f"The smallest is {smaller} smaller, the target is {numbers.REDUCTION.exact(target)}; at most "
        f"{numbers.percent(stored)} of the parameters are quantized in any variant.{lives}",
        figures={"size_reduction": size, "quantized_parameters": stored}
        | {f"weights_{stage.replace(' ', '_')}": held[stage] for stage in largest},
    )


def threads(summary: Decided) -> Iterator[Advice]:
    """Whether more threads are worth their cores, for the voice that would be shipped."""
    for device in summary.measured_devices:
        name = summary.optimized.get(device.device) or ORIGINAL
        rows = sorted(
            (r for r in device.rows if (r.variant, r.mode) == (name, "fp32") and r.runtime.startswith("onnxruntime")),
            key=lambda row: row.threads,
        )
        for few, many in pairwise(rows):
            saved = 1 - many.rtf / few.rtf
            if saved < LITTLE_GAIN:
                much = "nothing" if saved <= 0 else "little"
                instead = "give the other cores to other sentences"
                text = f"Threads beyond {few.threads} bring {much} on {device.label}: {instead}."
            elif many is rows[-1] and _apart(few, many):
                text = f"Where cores are free, {many.threads} threads pay on {device.label}."
            else:
                continue
            yield Advice(
                rule="threads",
                text=text,
                because=f"`{name}` takes {_took(few)} and {_took(many)}, {numbers.less(saved, 'less', 'more')} time "
                "per second of audio.",
                figures={f"ms_{row.threads}_threads": row.latency_ms.median for row in (few, many)} | {"saved": saved},
            )
            if saved < LITTLE_GAIN:
                break


# --- what to leave out -----------------------------------------------------------------------


def useless(summary: Decided) -> Iterator[Advice]:
    """Variants that cost quality and give nothing back."""
    for variant in findings.of_variants(summary):
        change = findings.change_of(summary, variant.name)
        if change is None or change.ci is None or change.ci[1] >= summary.targets.predicted_mos_change:
            continue
        saved = [findings.latency_of(summary, device, variant.name) for device in summary.measured_devices]
        known = [one for one in saved if one]
        if not known or variant.size_reduction >= NO_GAIN or not all(no_faster(one) for one in known):
            continue
        best = max(known, key=lambda one: one.value)
        yield Advice(
            rule="useless",
            text=f"Leave `{variant.name}` out: it costs quality and gives nothing back.",
            because=f"Its predicted MOS changes by {numbers.CHANGE.figure(change)} {findings.over_all(summary)}, "
            f"its file is {numbers.less(variant.size_reduction, 'smaller', 'larger')}, and at best it takes "
            f"{numbers.less(best.value, 'less', 'more')} time{_interval(best)}.",
            figures=as_figures("predicted_mos_change", change)
            | {"size_reduction": variant.size_reduction}
            | as_figures("latency_reduction", best),
        )


RULES: tuple[Callable[[Decided], Iterator[Advice]], ...] = (
    not_measured, unsteady, untrusted_predictors, near_misses, undecided, largest_stages, int8_without_gain,
    int8_in_a_browser, missing_size, listeners, threads, useless,
)  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------------------------


def _interval(estimate: Estimate) -> str:
    return f" (reduction {numbers.REDUCTION.interval(estimate.ci)})" if estimate.ci else ""


def _fast_enough(summary: Decided, device: DeviceSummary, name: str) -> bool:
    latency = findings.latency_of(summary, device, name)
    return latency is not None and worse_end(latency) >= summary.targets.latency_reduction


def _remedy(variant: VariantSummary) -> str:
    """What the first step that knows a remedy says."""
    remedies = [step.remedy for step in variant.steps if step.remedy]
    if bits_of(variant) < 8:
        remedies = ["give its weights more `bits`", *remedies[:1]]
        return ", or ".join(remedies)
    return remedies[0] if remedies else "its quality is all that is missing"


def _stage(group: str) -> str:
    scope = group.split("/")[0]
    return {"enc_p": "text encoder", "dec": "decoder", "dp": "duration predictor"}.get(scope, scope)


def _took(row: TimingSummary) -> str:
    return f"{numbers.MS.bare.figure(row.latency_ms.estimate)} ms with {numbers.counted(row.threads, 'thread')}"


def _apart(few: TimingSummary, many: TimingSummary) -> bool:
    """Whether the intervals of two rows' times per second of audio do not touch."""
    return few.rtf_ci is not None and many.rtf_ci is not None and many.rtf_ci[1] < few.rtf_ci[0]
