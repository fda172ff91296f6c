"""Sentences that explain a table: why dynamic int8 does little, why zeros shrink nothing, what to believe.

Each explains only what the numbers in this study show; where they show something else, it says that instead.
"""

from __future__ import annotations

from ttsopt_lib.report import numbers
from ttsopt_lib.report.findings import bits_of, change_of, latency_of, listed
from ttsopt_lib.report.schema import CoverageSummary, DeviceSummary, Summary, VariantSummary
from ttsopt_lib.report.verdict import Judged, candidates, change_beside, faster_not_chosen, judge, worse_end
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

LITTLE = 0.2  # of the parameters: a step that reaches less cannot change the size much
PASSED_OVER = 3  # faster variants of a device that are told apart; the others are only named
STUDENT_FRAMES = 300  # what ttsopt_lib.optimize.student_speed times, which needs PyTorch to be imported
RTF_FORMULA = "real-time factor (RTF) = wall time / audio time; below 1 is faster than real time"


def quantization_notes(summary: Summary) -> list[str]:
    """What each quantized variant's coverage explains."""
    notes = []
    for variant in summary.variants:
        reach = {step.step: step.coverage for step in variant.steps}
        size = f"the file is {numbers.less(variant.size_reduction, 'smaller', 'larger')}"
        if {"quantize_dynamic", "quantize_weights"} <= set(reach):
            products, stored = reach["quantize_dynamic"], reach["quantize_weights"]
            packed = f"; {_packed(variant, reach['pack'])}" if "pack" in reach else ""
            notes.append(f"`{variant.name}`: {_products_and_weights(products, stored)}{packed}; {size}.")
            continue
        for step in variant.steps:
            reached = f"{numbers.percent(step.coverage.parameters, 1)} of the parameters"
            work = f"{numbers.percent(step.coverage.macs, 1)} of the multiply-accumulates"
            if step.step == "quantize_dynamic" and step.coverage.parameters < LITTLE:
                notes.append(
                    f"Why dynamic quantization does little here: in `{variant.name}` it reaches {reached} and {work}. "
                    f"It quantizes linear layers only, and this voice is made of convolutions; {size}."
                )
            elif step.step in ("quantize_dynamic", "quantize_static", "quantize_mixed"):
                notes.append(f"`{variant.name}`: {_step_words(step.step)} reaches {reached} and {work}; {size}.")
            elif step.step == "quantize_weights":
                notes.append(
                    f"`{variant.name}` stores {reached} as integers of {bits_of(variant)} bits, one scale "
                    "per output channel, and computes in 32-bit floating point: that is meant to shrink the file, not "
                    f"to save time; {size}."
                )
            elif step.step == "pack":
                notes.append(f"`{variant.name}`: {_packed(variant, step.coverage)}; {size}.")
    return notes


def _packed(variant: VariantSummary, reached: CoverageSummary) -> str:
    """What packing made of the weights, and what it costs."""
    bits = bits_of(variant)
    most = f", most of them {bits} bits" if bits < 8 else ""
    return (
        f"packed, {numbers.percent(reached.parameters, 1)} of the parameters take fewer than 8 bits each in the file"
        f"{most}, and become 8-bit integers again while ONNX Runtime loads the voice, so that an utterance "
        "costs what it did"
    )


def _products_and_weights(products: CoverageSummary, stored: CoverageSummary) -> str:
    """Dynamic quantization of some layers, and weights of the others stored as integers: who computes, who is kept."""
    return (
        f"dynamic quantization computes {numbers.percent(products.macs, 1)} of the multiply-accumulates in 8-bit "
        f"integers, with {numbers.percent(products.parameters, 1)} of the parameters; another "
        f"{numbers.percent(stored.parameters, 1)} of the parameters are only stored as integers and computed "
        "with in 32-bit floating point"
    )


def pruning_notes(summary: Summary) -> list[str]:
    """What pruning did to the number of weights and to the file."""
    notes = []
    for variant in summary.variants:
        kinds = [step.step for step in variant.steps]
        notes += [f"`{variant.name}`: {step.note}." for step in variant.steps if step.step == "prune_structured"]
        if "prune_magnitude" not in kinds:
            continue
        zeros = f"In `{variant.name}` {numbers.percent(variant.zero_fraction)} of the stored parameters are zero"
        raw = numbers.less(variant.size_reduction, "smaller", "larger")
        packed = numbers.less(variant.compressed_reduction, "smaller", "larger")
        if len(kinds) == 1:
            notes.append(
                f"{zeros}, and yet the file is {raw} (compressed: {packed}): a zero takes as many bits as any other "
                "number, and a dense kernel multiplies by it all the same. Zeros save something only where whole "
                "channels go, or where the runtime has sparse kernels."
            )
        else:
            others = listed([_step_words(kind) for kind in kinds if kind != "prune_magnitude"])
            notes.append(
                f"{zeros}; that its file is {raw} (compressed: {packed}) is the doing of {others}, not of the zeros."
            )
    return notes


def distillation_notes(summary: Summary) -> list[str]:
    """What the students are, or that there is none."""
    students = [v for v in summary.variants if any(step.step == "distill" for step in v.steps)]
    if not students:
        return ["No variant of this study has a distilled student."]
    original = summary.variant(ORIGINAL)
    return [
        f"In `{variant.name}` trained students stand in place of the {_stages(variant)}: "
        f"{numbers.millions(variant.parameters)} million parameters against the original's "
        f"{numbers.millions(original.parameters)} million. " + _trained(summary, variant)
        for variant in students
    ]


def _trained(summary: Summary, variant: VariantSummary) -> str:
    """How long and on what the student of a variant was trained, and how fast its decoder was found to be then.

    Of that timing only the ratio is said: the two were timed in turn, on a machine that may have been busy.
    """
    student = next((one for one in summary.students if variant.name in one.variants), None)
    if student is None:
        folder = next((step.settings.get("student") for step in variant.steps if step.step == "distill"), None)
        return f"How it was trained stands beside it in `{folder or 'models'}`."
    alone = (
        f" When the student was published, its decoder took {numbers.percent(student.student_ms / student.teacher_ms)} "
        f"of the time of the teacher's; it was timed alone, on {STUDENT_FRAMES} frames, and that is no measurement of "
        "this report."
        if student.student_ms and student.teacher_ms
        else ""
    )
    return (
        f"It was trained for {numbers.number(student.minutes)} minutes on {student.cpu}, on "
        f"{numbers.number(student.teacher_hours, 1)} hours that the teacher spoke.{alone} The record stands in "
        f"`{student.student}`."
    )


def _stages(variant: VariantSummary) -> str:
    """The stages that students took the place of."""
    return listed([stage.replace("_", " ") for step in variant.steps for stage in step.stages])


STOPS = {
    "interval": "every interval was narrow enough",
    "budget": "the time budget was spent",
    "max_blocks": "the study asks for no more",
}


def timing_notes(summary: Summary) -> list[str]:
    """How far the timings can be believed: why sampling ended, and the original against itself."""
    notes = []
    for device in summary.measured_devices:
        if device.stops:
            ends = [
                f"{stop.blocks} blocks with {numbers.counted(stop.threads, 'thread')} ({STOPS[stop.stopped_by]})"
                for stop in device.stops
            ]
            notes.append(f"{device.label}: timed in {listed(ends)}.")
        copy = summary.timing_of(device, ORIGINAL_COPY)
        if copy and copy.latency_reduction and copy.latency_reduction.ci:
            low, high = copy.latency_reduction.ci
            differs = numbers.REDUCTION.figure(copy.latency_reduction)
            text = f"{device.label}: the original timed against itself differs by {differs}"
            if low <= 0 <= high:
                notes.append(f"{text}, as it should: zero lies inside the interval.")
            else:
                notes.append(
                    f"{text}. Zero lies outside the interval, so the machine was not steady: do not believe "
                    "differences as small as this one."
                )
    return notes


def first_audio_notes(summary: Summary) -> list[str]:
    """What the time to first audio is the time of."""
    found = {device.first_audio_sentence for device in summary.measured_devices if device.first_audio_sentence}
    return [
        "First audio: a text that is spoken sentence by sentence, as `piper` does, is heard when its first sentence is "
        f"made, however long the rest is. Here it begins with “{sentence}” (the timing sentence of median length)."
        for sentence in sorted(found)
    ]


def warnings(summary: Summary) -> list[str]:
    """The warnings that the measurement left, with the device they belong to."""
    return [f"{device.label}: {doubt.words}" for device in summary.devices for doubt in device.warnings]


def rule(summary: Summary) -> str:
    """The rule of the choice, with this study's targets."""
    smaller = numbers.percent(summary.targets.size_reduction)
    limit = numbers.signed(summary.targets.predicted_mos_change)
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
        f"Of {listed([f'`{name}`' for name in names])}, all evaluation sentences choose, and the verdict rests on "
        f"{summary.confirmation_sentences} further sentences, which had no part in the choice; of the other variants, "
        f"{halves}."
    )


def choice_notes(summary: Summary) -> list[str]:
    """How the optimized variant was chosen, and why no faster one was; devices of which the same is said together."""
    devices = {device.device: device for device in summary.devices}
    said: dict[str, list[tuple[str, str]]] = {}  # what holds of a device -> labels, and the same with its own figures
    for choice in summary.choices:
        device = devices[choice.device]
        notes = []
        if choice.variant:
            others = [name for name in choice.candidates if name != choice.variant]
            beside = f"; {listed([f'`{name}`' for name in others])} also qualified, but not as fast" if others else ""
            notes.append((f"`{choice.variant}`{beside}.",) * 2)
        elif choice.closest:
            notes.append((f"none. `{choice.closest}` came closest, but {listed(choice.failed)}.",) * 2)
        elif not choice.decided:
            notes.append(("the rule could not be applied, a figure it needs was not measured.",) * 2)
        faster = faster_not_chosen(summary, device, choice)
        for one in faster[:PASSED_OVER]:
            notes.append((_passed_over(summary, one), _passed_over(summary, one, device)))
        if rest := [f"`{one.name}`" for one in faster[PASSED_OVER:]]:
            are, do = ("is", "does") if len(rest) == 1 else ("are", "do")
            notes.append((f"{listed(rest)} {are} faster too, and {do} not qualify either.",) * 2)
        for shared, own in notes:
            said.setdefault(shared, []).append((device.label, own))
    told = [
        f"{places[0][0]}: {places[0][1]}" if len(places) == 1 else f"{listed([label for label, _ in places])}: {shared}"
        for shared, places in said.items()
    ]
    if not summary.choices:
        told.append(f"Nothing was timed, so none of the {len(candidates(summary))} variants was chosen.")
    return told


def corner_notes(summary: Summary) -> list[str]:
    """Why variants that lie in the picture's corner of met targets were not chosen.

    Those faster than the chosen one; where none qualifies, the one that came closest, then those faster than it. The
    picture is of the first device with timings and over all evaluation sentences; the rule judges by half of them.
    """
    targets, names = summary.targets, candidates(summary)
    timed = (device for device in summary.measured_devices if any(latency_of(summary, device, n) for n in names))
    device = next(timed, None)
    choice = next((choice for choice in summary.choices if device and choice.device == device.device), None)
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
    return f" Over all evaluation sentences the change is {change_beside(change, limit)}, {meets}."


def _step_words(step: str) -> str:
    return {
        "quantize_dynamic": "dynamic quantization",
        "quantize_static": "static quantization",
        "quantize_weights": "weight quantization",
        "quantize_mixed": "mixed-precision quantization",
        "rearrange_decoder": "the rearranged decoder",
        "prune_magnitude": "magnitude pruning",
        "prune_structured": "structured pruning",
        "fp16": "half precision",
        "pack": "packing",
        "distill": "distillation",
    }.get(step, step.replace("_", " "))


def recipe_words(variant: VariantSummary) -> str:
    """A recipe in words, for tables: 'distilled decoder, int8 weights'."""
    if variant.name == ORIGINAL:
        return "as it came"
    words = []
    for step in variant.recipe:
        bits = step.get("bits", 8)
        words.append(_step_words(step["step"]).removeprefix("the ") + (f" to {bits} bits" if bits < 8 else ""))
    return ", ".join(words) or "exported unchanged"


def limitations(summary: Summary) -> list[str]:
    """What this study cannot say, as far as it can be told from what was measured."""
    found = [
        "Latency is of one sentence at a time, from phoneme ids to audio; turning text into phonemes is not in it.",
        f"Timings come from {summary.timing_sentences} sentences and from the machines named above; another machine, "
        "another load or another runtime version gives other figures.",
        "A variant is chosen as the fastest of several: its own latency figure is a little flattered by that, while "
        "its predicted MOS is reported on sentences that had no part in the choice.",
    ]
    if summary.predictors:
        predictors = listed([predictor.label for predictor in summary.predictors])
        found.append(
            f"A predicted MOS is a model's guess, trained on other voices and other damage ({predictors}); "
            "it can miss what listeners mind, and mind what they do not hear."
        )
    if not any(row.human_mos for row in summary.quality):
        found.append("No listeners rated these voices, so nothing here is a mean opinion score.")
    found += [f"`{one.variant}` is not scored: {one.reason.rstrip('.')}." for one in summary.not_scored]
    absent = [device.label for device in summary.devices if device.status == "not_measured"]
    if absent:
        found.append(f"{listed(absent)}: not measured, and nothing follows for {'it' if len(absent) == 1 else 'them'}.")
    return found
