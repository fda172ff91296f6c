"""What to do next: rules over the measurements, each with the figures that triggered it.

A rule is a function from the summary to pieces of advice, none where its figures do not call for any. It says one
thing to do and the measurement that says so; it never repeats what the verdict says already. Most urgent first: what
makes other figures doubtful, then what stands between the study and its targets, then what could be left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ttsopt_lib.report import findings, numbers
from ttsopt_lib.report.findings import listed
from ttsopt_lib.report.schema import Advice, DeviceSummary, Estimate, Summary, TimingSummary, VariantSummary
from ttsopt_lib.report.verdict import candidates, worse_end
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

LARGE_SHARE = 0.5  # of the time: a stage that takes more decides how fast the voice can become
LITTLE_GAIN = 0.15  # of the time: threads that save less are better given to another sentence
NO_GAIN = 0.05  # of the time: what int8 arithmetic has to save to be worth its noise
REACHES = 0.2  # of the multiply-accumulates: a step that computes less in int8 cannot be blamed
NEAR = 0.15  # points of predicted MOS: a variant that misses by less is worth another attempt
NOTICED = 0.1  # points: a predictor whose score moves less than this on known damage is deaf to it
HISS_DB = 3.0  # a doubling of the power above 8 kHz, where predictors that work at 16 kHz hear nothing
PATIENCE = 25  # times the samples: beyond this, the interval will not get narrow enough on any day
DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}  # what makes int8 faster than float32
INT8_STEPS = {"quantize_static", "quantize_mixed", "quantize_dynamic"}
STAGE_REMEDIES = {
    "decoder": "distil it (`distill_decoder`)",
    "flow": "compute it in int8 (`quantize_mixed`), or train a shallower one",
    "text encoder": "compute it in int8 (`quantize_mixed`), or train a smaller one",
    "durations": "a deterministic duration predictor costs a fraction of a stochastic one",
}


def advice(summary: Summary) -> list[Advice]:
    """All that the measurements advise, the most urgent first; nothing where no rule is triggered."""
    return [one for rule in RULES for one in rule(summary)]


# --- can the figures be believed? ---------------------------------------------------------------------------------


def not_measured(summary: Summary) -> Iterator[Advice]:
    """Without speed or quality there is nothing to decide on."""
    made = len(candidates(summary))
    if not summary.measured_devices:
        yield Advice(
            rule="not_measured",
            text="Time the voices: run `ttsopt measure`, on this machine or on a device that ssh reaches.",
            because=f"{made} variants were made and none was timed, so none can be chosen.",
            figures={"variants": made, "devices_measured": 0},
        )
    if not summary.predictors:
        yield Advice(
            rule="not_scored",
            text="Score the voices: run `ttsopt evaluate`.",
            because=f"{made} variants were made and none was scored, so none can be chosen.",
            figures={"variants": made, "predictors": 0},
        )


def unsteady(summary: Summary) -> Iterator[Advice]:
    """The original differs from itself: everything timed there is in doubt by as much."""
    for device in summary.measured_devices:
        copy = findings.latency_of(summary, device, ORIGINAL_COPY)
        if copy and copy.ci and not copy.ci[0] <= 0 <= copy.ci[1]:
            yield Advice(
                rule="unsteady",
                text=f"Time {device.label} again with nothing else running (`ttsopt measure --again`).",
                because=f"The original timed against itself differs by {numbers.reduction(copy)}, which should be "
                "nothing: smaller differences than this mean nothing there.",
                figures=_figures("same_file", copy),
            )


def untrusted_predictors(summary: Summary) -> Iterator[Advice]:
    """A predictor that does not mind known damage says nothing about unknown damage."""
    for predictor in summary.predictors:
        for row in summary.anchors:
            change = row.predicted_mos.change
            if row.predictor == predictor.name and change and (change.ci or (0, change.value))[1] > -NOTICED:
                yield Advice(
                    rule="untrusted_predictor",
                    text=f"Do not decide by {predictor.label} here: judge by another predictor, or by listeners.",
                    because=f"Known damage (`{row.variant}`) changes its score by {numbers.change(change)} only.",
                    figures=_figures("anchor_change", change),
                )


def undecided(summary: Summary) -> Iterator[Advice]:
    """A target that lies inside the interval: more samples can settle it, and about how many."""
    labels = {device.device: device for device in summary.devices}
    for row in summary.verdict:
        if row.status != "fail" or row.measured is None or row.ci is None or not row.ci[0] < row.target <= row.ci[1]:
            continue
        device = labels.get(row.device or "")
        if row.claim == "latency_reduction" and device:
            what, where, count = "blocks", f"raise `measure.budget_seconds` ({device.label})", device.blocks
        elif row.claim == "predicted_mos_change":
            what, where, count = "sentences", "raise `sentences.evaluation.count`", summary.evaluation_sentences
        elif row.claim == "mos_change":
            human = next((q.human_mos for q in summary.quality if q.variant == row.variant and q.human_mos), None)
            what, where, count = "raters", "ask more people (`ttsopt power`)", human.raters if human else 0
        else:
            continue
        show = numbers.change if row.claim.endswith("change") else numbers.reduction
        goal = numbers.signed(row.target) if row.claim.endswith("change") else numbers.percent(row.target)
        distance = abs(row.measured - row.target)
        side = row.measured - row.ci[0] if row.measured >= row.target else row.ci[1] - row.measured
        times = (side / distance) ** 2 if distance else math.inf
        needed = math.ceil(count * times) if times <= PATIENCE else None
        enough = f"about {needed} in place of {count} would settle it" if needed else "no number of them will settle it"
        yield Advice(
            rule=f"more_{what}",
            text=f"More {what} are needed for `{row.variant}`: {where}."
            if needed
            else f"Treat `{row.variant}` as exactly on the target: more {what} will not tell.",
            because=f"The target of {goal} lies inside the interval of what was measured, "
            f"{show(Estimate(value=row.measured, ci=row.ci))}; {enough}.",
            figures=_figures("measured", Estimate(value=row.measured, ci=row.ci))
            | {"target": row.target, "have": count}
            | ({"needed": needed} if needed else {}),
        )


# --- what stands between the study and its targets -----------------------------------------------------------------


def near_misses(summary: Summary) -> Iterator[Advice]:
    """Small and fast enough, and nearly good enough: the variant to work on."""
    chosen = set(summary.optimized.values())
    for variant in findings.of_variants(summary):
        row = summary.quality_of(variant.name)
        change = row.predicted_mos.change_choosing if row else None
        where = [d for d in summary.measured_devices if _fast_enough(summary, d, variant.name)]
        if variant.name in chosen or not where or change is None:
            continue
        missing = summary.targets.predicted_mos_change - worse_end(change)
        if variant.size_reduction < summary.targets.size_reduction or not 0 < missing <= NEAR:
            continue
        saved = findings.latency_of(summary, where[0], variant.name)
        yield Advice(
            rule="near_miss",
            text=f"Work on `{variant.name}` first: {_remedy(variant)}.",
            because=f"It is {numbers.percent(variant.size_reduction)} smaller and takes {numbers.reduction(saved)} "
            f"less time on {where[0].label}, both as asked; only its predicted MOS, {numbers.change(change)} on the "
            f"sentences that choose, misses {numbers.signed(summary.targets.predicted_mos_change)} at its lower end.",
            figures={"size_reduction": variant.size_reduction}
            | _figures("latency_reduction", saved)
            | _figures("predicted_mos_change_choosing", change),
        )


def largest_stages(summary: Summary) -> Iterator[Advice]:
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
    students = [v.name for v in summary.variants if any(s.step == "distill_decoder" for s in v.steps)]
    for (stage, name), where in stages.items():
        remedy = STAGE_REMEDIES[stage]
        if stage == "decoder" and students:
            remedy = f"bring its student ({listed([f'`{student}`' for student in students])}) to the quality asked for"
        shares = listed([f"{numbers.percent(share)} on {device.label}" for device, share in where])
        yield Advice(
            rule="largest_stage",
            text=f"The {stage} takes most of the time of `{name}`: {remedy}.",
            because=f"Its share is {shares}, the most that a {stage} without cost could save; the target for the whole "
            f"voice is {numbers.percent(summary.targets.latency_reduction)}.",
            figures={f"share_{device.device}": share for device, share in where},
        )


def int8_without_gain(summary: Summary) -> Iterator[Advice]:
    """Int8 arithmetic that saves no time on a processor, and whether the processor has what it takes."""
    computing = [v for v in findings.of_variants(summary) if _computes_in_int8(v)]
    for device in summary.measured_devices:
        timed = [(v, e) for v in computing if (e := findings.latency_of(summary, device, v.name))]
        if device.kind == "gpu" or device.system is None or not timed:
            continue
        best, gain = max(timed, key=lambda pair: pair[1].value)
        if gain.value >= NO_GAIN:
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
            because=f"The fastest that computes in int8 there, `{best.name}`, takes {numbers.reduction(gain)} less "
            f"time on that processor, {why}.",
            figures=_figures("latency_reduction", gain) | {"dot_product_instruction_sets": len(has)},
        )


def missing_size(summary: Summary) -> Iterator[Advice]:
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
    remedy = (
        "store every weight in 8 bits (`quantize_weights`)"
        if stored < 0.9
        else "8 bits are used up, so take weights away: a smaller student in place of the largest stage"
    )
    size = small.size_reduction if small else 0.0
    yield Advice(
        rule="missing_size",
        text=f"No file is as small as asked: {remedy}.",
        because=f"The smallest is {numbers.percent(size)} smaller, the target is "
        f"{numbers.percent(summary.targets.size_reduction)}; at most {numbers.percent(stored)} of the parameters are "
        f"quantized in any variant.{lives}",
        figures={"size_reduction": size, "quantized_parameters": stored}
        | {f"weights_{stage.replace(' ', '_')}": held[stage] for stage in largest},
    )


def threads(summary: Summary) -> Iterator[Advice]:
    """Whether more threads are worth their cores, for the voice that would be shipped."""
    for device in summary.measured_devices:
        name = summary.optimized.get(device.device) or ORIGINAL
        rows = sorted(
            (r for r in device.rows if r.variant == name and r.runtime == "onnxruntime"), key=lambda row: row.threads
        )
        for few, many in zip(rows, rows[1:], strict=False):
            saved = 1 - many.rtf / few.rtf
            figures = {f"ms_{row.threads}_threads": row.latency_ms.median for row in (few, many)} | {"saved": saved}
            spent = f"`{name}` takes {_took(few)} and {_took(many)}"
            if saved < LITTLE_GAIN:
                yield Advice(
                    rule="threads",
                    text=f"Threads beyond {few.threads} bring {'nothing' if saved <= 0 else 'little'} on "
                    f"{device.label}: give the other cores to other sentences.",
                    because=f"{spent}, {numbers.less(saved, 'less', 'more')} time per second of audio.",
                    figures=figures,
                )
                break
            if many is rows[-1] and _apart(few, many):
                yield Advice(
                    rule="threads",
                    text=f"Where cores are free, {many.threads} threads pay on {device.label}.",
                    because=f"{spent}, {numbers.less(saved, 'less', 'more')} time per second of audio.",
                    figures=figures,
                )


# --- who has to listen, and what to leave out -----------------------------------------------------------------------


def listeners(summary: Summary) -> Iterator[Advice]:
    """A predictor is no listener: who has to hear what before it is shipped."""
    names = list(dict.fromkeys(name for name in summary.optimized.values() if name))
    primary = summary.primary_predictor
    for name in names:
        row = summary.quality_of(name)
        if row is None or primary is None:
            continue
        change, human = row.predicted_mos.change, row.human_mos
        reach, margin = (human.detectable if human else None), abs(summary.targets.mos_change)
        if human is None:
            yield Advice(
                rule="ask_listeners",
                text=f"Let people hear `{name}` before it is shipped: `ttsopt listen` makes the test, `ttsopt power` "
                "says how many listeners it takes.",
                because=f"{primary.label} guesses a change of {numbers.change(change)}; nobody has heard it.",
                figures=_figures("predicted_mos_change", change),
            )
        elif reach is not None and reach > margin and (human.equivalence_p or 0.0) >= 0.05:
            needed = math.ceil(human.raters * (reach / margin) ** 2)
            yield Advice(
                rule="more_raters",
                text=f"More raters are needed for `{name}`: about {needed} in place of {human.raters}.",
                because=f"Ratings like these find a change of {numbers.number(reach, 2)} points; the target is "
                f"{numbers.number(margin, 2)}.",
                figures={"detectable": reach, "target": margin, "raters": human.raters, "needed": needed},
            )
        hiss = row.level_above_8khz_change_db
        if human is None and hiss and abs(hiss.value) >= HISS_DB:
            yield Advice(
                rule="hiss",
                text=f"Listen to `{name}` above 8 kHz: predictors that work at 16 kHz cannot.",
                because=f"Its level there changes by {numbers.change(hiss, 1)} dB.",
                figures=_figures("level_above_8khz_change_db", hiss),
            )


def useless(summary: Summary) -> Iterator[Advice]:
    """Variants that cost quality and give nothing back."""
    for variant in findings.of_variants(summary):
        change = findings.change_of(summary, variant.name)
        if change is None or change.ci is None or change.ci[1] >= summary.targets.predicted_mos_change:
            continue
        saved = [findings.latency_of(summary, device, variant.name) for device in summary.measured_devices]
        known = [one for one in saved if one]
        if not known or variant.size_reduction >= NO_GAIN or any(worse_end(one) >= NO_GAIN for one in known):
            continue
        best = max(known, key=lambda one: one.value)
        yield Advice(
            rule="useless",
            text=f"Leave `{variant.name}` out: it costs quality and gives nothing back.",
            because=f"Its predicted MOS changes by {numbers.change(change)}, its file is "
            f"{numbers.less(variant.size_reduction, 'smaller', 'larger')}, and at best it takes "
            f"{numbers.less(best.value, 'less', 'more')} time{_interval(best)}.",
            figures=_figures("predicted_mos_change", change)
            | {"size_reduction": variant.size_reduction}
            | _figures("latency_reduction", best),
        )


RULES: tuple[Callable[[Summary], Iterator[Advice]], ...] = (
    not_measured, unsteady, untrusted_predictors, near_misses, undecided, largest_stages, int8_without_gain,
    missing_size, listeners, threads, useless,
)  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------------------------


def _figures(name: str, estimate: Estimate | None) -> dict[str, float]:
    """An estimate as plain figures, its interval's ends as ``_low`` and ``_high``."""
    if estimate is None:
        return {}
    ends = {f"{name}_low": estimate.ci[0], f"{name}_high": estimate.ci[1]} if estimate.ci else {}
    return {name: estimate.value, **ends}


def _interval(estimate: Estimate) -> str:
    return f" (reduction {numbers.percent_interval(estimate.ci)})" if estimate.ci else ""


def _fast_enough(summary: Summary, device: DeviceSummary, name: str) -> bool:
    latency = findings.latency_of(summary, device, name)
    return latency is not None and worse_end(latency) >= summary.targets.latency_reduction


def _computes_in_int8(variant: VariantSummary) -> bool:
    return any(step.step in INT8_STEPS and step.coverage.macs >= REACHES for step in variant.steps)


def _remedy(variant: VariantSummary) -> str:
    steps = [step.step for step in variant.steps]
    if "distill_decoder" in steps:
        return "train its student longer (docs/distillation.md)"
    if "prune_magnitude" in steps:
        return "prune less of it"
    if "quantize_static" in steps or "quantize_dynamic" in steps:
        return "let a search choose the layers that compute in int8 (`quantize_mixed`)"
    if "quantize_mixed" in steps:
        return "lower its `budget_db`"
    return "its quality is all that is missing"


def _stage(group: str) -> str:
    scope = group.split("/")[0]
    return {"enc_p": "text encoder", "dec": "decoder", "dp": "duration predictor"}.get(scope, scope)


def _took(row: TimingSummary) -> str:
    median, ci = row.latency_ms.median, row.latency_ms.ci
    interval = f" [{numbers.milliseconds(ci[0])}, {numbers.milliseconds(ci[1])}]" if ci else ""
    return f"{numbers.milliseconds(median)}{interval} ms with {row.threads} thread{'s' if row.threads > 1 else ''}"


def _apart(few: TimingSummary, many: TimingSummary) -> bool:
    """Whether the intervals of two rows' times per second of audio do not touch."""
    return few.rtf_ci is not None and many.rtf_ci is not None and many.rtf_ci[1] < few.rtf_ci[0]
