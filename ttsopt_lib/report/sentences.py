"""The report's prose, made from the numbers: the summary for a manager, the trade-off analysis, the conclusion.

Every function returns plain sentences (names in backticks); every number in them comes from the summary, printed by
:mod:`~ttsopt_lib.report.numbers`. They must read well for good results, for bad ones, and where nothing was measured.
"""

from __future__ import annotations

from ttsopt_lib.report import findings, numbers, quality_words
from ttsopt_lib.report.findings import bits_of, listed
from ttsopt_lib.report.schema import Choice, DeviceSummary, Summary
from ttsopt_lib.report.verdict import HELD_OUT, candidates, worse_end
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

MUCH_SMALLER = 0.3  # of the file: from here on one would expect it to be faster


def code(names: list[str]) -> str:
    """Names in backticks, listed."""
    return listed([f"`{name}`" for name in names])


# --- first page -------------------------------------------------------------------------------------------------


def stage_note(summary: Summary) -> str | None:
    """That this is a first look, and on how much it stands; None for a complete report."""
    if summary.stage == "complete":
        return None
    blocks = min((device.blocks for device in summary.measured_devices), default=0)
    return (
        f"First look: {blocks} blocks, {summary.evaluation_sentences} sentences; still measuring, unless the run was "
        "stopped or asked for no more (`--quick`). Every interval is as wide as so few make it; the complete report "
        "takes the place of this page."
    )


def manager_summary(summary: Summary) -> list[str]:
    """What was won, what it costs, what of the targets is met; and whether the predictor is to be believed at all."""
    primary = summary.primary_predictor
    doubt = quality_words.distrusted(summary) if primary and primary.orders_anchors is False else []
    return [_won(summary), _cost(summary), *doubt[:1], _met(summary)]


def _won(summary: Summary) -> str:
    if not summary.measured_devices:
        return f"{_variants_made(summary)}, but nothing was timed yet, so none of them is called the optimized voice."
    groups = _devices_by_choice(summary)
    won = [_won_with(summary, name, labels) for name, labels in groups.items() if name is not None]
    none = groups.get(None, [])
    if not won:
        return f"No variant qualifies as the optimized voice on {listed(none)}: {_closest(summary)}."
    rest = f"; on {listed(none)} no variant qualifies: {_closest(summary)}" if none else ""
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
    names = list(dict.fromkeys(name for name in summary.optimized.values() if name))
    heard = _heard(summary, names)
    if not summary.predictors:
        return f"What it does to the sound was not measured: {_reason(summary.quality_reason)}."
    if names:
        parts = []
        for name in names:
            row = summary.quality_of(name)
            change = row.predicted_mos.change_held_out if row else None
            parts.append(
                f"that of `{name}` by {numbers.CHANGE.figure(change)}"
                if len(names) > 1
                else numbers.CHANGE.figure(change)
            )
        body = "changes by " + parts[0] if len(parts) == 1 else "changes: " + listed(parts)
        return f"Its predicted quality (a model's guess at the mean opinion score, 1 to 5) {body} {HELD_OUT}; {heard}."
    kept = findings.keeps_quality(summary)
    target = numbers.signed(summary.targets.predicted_mos_change)
    if kept:
        would = f"Of all variants, {code(kept)} would keep the predicted quality"
        return f"{would} within {target} over all evaluation sentences; {heard}."
    of_original = f"within {target} of the original over all evaluation sentences"
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
    if any(row.claim == "mos_change" for row in open_rows):
        missing.append("listeners' ratings")
    parts = [f"{counts['pass']} of {total} targets {'is' if counts['pass'] == 1 else 'are'} met"]
    if counts["fail"]:
        parts.append(f"{counts['fail']} {'is' if counts['fail'] == 1 else 'are'} missed")
    if open_rows:
        parts.append(f"{len(open_rows)} {'was' if len(open_rows) == 1 else 'were'} not measured ({listed(missing)})")
    return listed(parts) + "."


# --- trade-off analysis -----------------------------------------------------------------------------------------


def tradeoff(summary: Summary) -> list[str]:
    """What each gain costs: size against quality, speed, size against speed, and who beats whom."""
    sentences = [_size_against_quality(summary)]
    for device in summary.measured_devices:
        sentences.append(_speed(summary, device))
    sentences += _small_but_not_fast(summary)
    sentences += _front(summary)
    if not summary.measured_devices:
        sentences.append("What a smaller file buys in speed cannot be said: no device was measured.")
    return sentences


def _size_against_quality(summary: Summary) -> str:
    small, total = findings.meets_size(summary), len(candidates(summary))
    target = numbers.percent(summary.targets.size_reduction)
    verb = "is" if len(small) == 1 else "are"
    size = (
        f"{len(small)} of {total} variants {verb} at least {target} smaller ({code(small)})"
        if small
        else f"None of the {total} variants is at least {target} smaller; {_smallest(summary)}"
    )
    if not summary.predictors:
        return f"{size}. What that costs in quality was not measured."
    kept = findings.keeps_quality(summary)
    both = [name for name in small if name in kept]
    limit = f"{numbers.signed(summary.targets.predicted_mos_change)} over all evaluation sentences"
    if both:
        return (
            f"{size}; {code(both)} also {'keeps its' if len(both) == 1 else 'keep their'} predicted MOS within {limit}."
        )
    if not small:
        verb = "keeps its" if len(kept) == 1 else "keep their"
        quality = f"{code(kept)} {verb} predicted MOS" if kept else "None keeps its predicted MOS"
        return f"{size}. {quality} within {limit}."
    losses = [
        f"`{name}` changes by {numbers.CHANGE.figure(change)}"
        for name in small
        if (change := findings.change_of(summary, name))
    ]
    return f"{size}, but none of them keeps its predicted MOS within {limit}: {listed(losses)}."


def _smallest(summary: Summary) -> str:
    found = findings.smallest(summary)
    if found is None:
        return "none is smaller than the original at all"
    return f"the smallest, `{found.name}`, is {numbers.percent(found.size_reduction)} smaller"


def _speed(summary: Summary, device: DeviceSummary) -> str:
    best = findings.fastest(summary, device)
    slow = findings.no_faster(summary, device)
    copy = findings.latency_of(summary, device, ORIGINAL_COPY)
    same = f" (the original timed against itself differs by {numbers.REDUCTION.figure(copy)})" if copy else ""
    if best is None:
        return f"On {device.label} no variant is faster than the original beyond its interval{same}."
    target = numbers.percent(summary.targets.latency_reduction)
    enough = "which meets" if worse_end(best[1]) >= summary.targets.latency_reduction else "which misses"
    text = (
        f"On {device.label} the fastest is `{best[0]}` with {numbers.REDUCTION.figure(best[1])} less time per "
        f"second of audio, {enough} the target of {target}"
    )
    if slow:
        text += f"; {code(slow)} {'is' if len(slow) == 1 else 'are'} not faster than the original{same}"
    return text + "."


def _small_but_not_fast(summary: Summary) -> list[str]:
    """Size is not speed: variants that are much smaller and yet no faster."""
    sentences = []
    for variant in findings.of_variants(summary):
        where = [d.label for d in summary.measured_devices if variant.name in findings.no_faster(summary, d)]
        if not where or variant.size_reduction < MUCH_SMALLER:
            continue
        why = ""
        if {step["step"] for step in variant.recipe} - {"pack"} == {"quantize_weights"}:
            bits = bits_of(variant)
            why = (
                f": its weights are stored in {bits} bits but every product is still computed in 32-bit floating point"
            )
        smaller = numbers.percent(variant.size_reduction)
        sentences.append(
            f"Size is not speed: `{variant.name}` is {smaller} smaller and no faster on {listed(where)}{why}."
        )
    return sentences


def _front(summary: Summary) -> list[str]:
    """The variants that no other one beats in both latency and predicted MOS, devices with the same ones together."""
    where: dict[str, list[str]] = {}
    for device in summary.measured_devices:
        points = {
            variant.name: (latency.value, change.value)
            for variant in summary.variants
            if (latency := findings.latency_of(summary, device, variant.name))
            and (change := findings.change_of(summary, variant.name))
        }
        names = list(points)
        if len(names) > 2:
            front = [names[i] for i in findings.pareto_front(list(points.values()))]
            verb = "is" if len(front) == 1 else "are"
            text = f"{code(front)} {verb} not beaten in both latency and predicted MOS by any other"
            where.setdefault(text, []).append(device.label)
    return [f"On {listed(labels)} {text}." for text, labels in where.items()]


# --- conclusion -------------------------------------------------------------------------------------------------


def conclusion(summary: Summary) -> list[str]:
    """Whether the optimization succeeded, what to ship, and what stays open."""
    failed = [row for row in summary.verdict if row.status == "fail"]
    chosen = list(dict.fromkeys(name for name in summary.optimized.values() if name))
    sentences = []
    if not summary.measured_devices or not summary.predictors:
        missing = "speed" if summary.predictors else "quality" if summary.measured_devices else "speed and quality"
        sentences.append(
            f"No conclusion can be drawn yet: {missing} {'were' if ' ' in missing else 'was'} not measured."
        )
    elif not chosen:
        sentences.append(f"The optimization did not reach its targets: {_closest(summary)}.")
    elif failed:
        missed = listed([_claim_words(summary, row.claim, row.device) for row in failed])
        sentences.append(f"The optimization succeeded in part: {code(chosen)} qualifies, but misses {missed}.")
    else:
        sentences.append(f"The optimization reached every target that was measured, with {code(chosen)}.")
    for name in chosen:
        sentences.append(
            f"To use it, deploy `variants/{name}/model.onnx` with the `model.onnx.json` beside it: it is a drop-in "
            "Piper voice."
        )
        sentences += [claim] if (claim := quality_words.unheard(summary, name)) else []
    sentences += _open_questions(summary)
    return sentences


def _open_questions(summary: Summary) -> list[str]:
    found = []
    absent = [device for device in summary.devices if device.status == "not_measured"]
    if absent:
        reasons = listed([f"{device.label} ({_reason(device.reason)})" for device in absent])
        found.append(f"Not measured: {reasons}. Nothing is claimed about {'it' if len(absent) == 1 else 'them'}.")
    if not any(row.human_mos for row in summary.quality):
        found.append(
            "No people rated these voices: a predicted MOS is a model's guess, and a small predicted change still has "
            "to be heard by listeners."
        )
    return found


# --- parts ------------------------------------------------------------------------------------------------------


def _devices_by_choice(summary: Summary) -> dict[str | None, list[str]]:
    """The measured devices' labels, by the variant that was chosen there."""
    groups: dict[str | None, list[str]] = {}
    for device in summary.measured_devices:
        groups.setdefault(summary.optimized[device.device], []).append(device.label)
    return groups


def _closest(summary: Summary) -> str:
    """What came closest and why it failed, on the first device where nothing qualified."""
    choice: Choice | None = next((choice for choice in summary.choices if choice.variant is None), None)
    if choice is None or (choice.closest is None and choice.decided):
        return "there is no variant to choose from"
    if choice.closest is None:
        return f"the choice needs a predicted MOS, and {_reason(summary.quality_reason)}"
    return f"`{choice.closest}` came closest, but {listed(choice.failed)}"


def _variants_made(summary: Summary) -> str:
    count, found = len(candidates(summary)), findings.smallest(summary)
    made = f"{count} {'variant was' if count == 1 else 'variants were'} made"
    return f"{made}, the smallest (`{found.name}`) {numbers.percent(found.size_reduction)} smaller" if found else made


def _claim_words(summary: Summary, claim: str, device: str | None) -> str:
    labels = {one.device: one.label for one in summary.devices}
    words = {
        "size_reduction": "the size target",
        "latency_reduction": "the latency target",
        "predicted_mos_change": "the predicted-MOS target",
        "mos_change": "the MOS target",
    }
    where = f" on {labels[device]}" if device and len(summary.measured_devices) > 1 else ""
    return words[claim] + where


def _reason(text: str | None) -> str:
    return (text or "it was not measured").rstrip(".")


# --- listeners


def what_ratings_could_show(summary: Summary) -> list[str]:
    """For every rated variant: what listeners heard, or what they could have missed."""
    found = []
    margin = abs(summary.targets.mos_change)
    rated = {row.variant: row.human_mos for row in summary.quality if row.human_mos}
    for name, human in rated.items():
        if human.change is None or human.change.ci is None or human.detectable is None:
            continue
        reach = (
            f"ratings like these find a true change of {numbers.number(human.detectable, 2)} points in 8 of 10 tests"
        )
        if human.change.ci[1] < 0:
            heard = "listeners heard that it is worse"
        elif human.change.ci[0] > 0:
            heard = "listeners rated it higher than the original"
        elif human.equivalence_p is not None and human.equivalence_p < 0.05:
            heard = f"no measurable difference, and none as large as {numbers.number(margin, 2)} points"
        else:
            heard = (
                "no measurable difference, but too few ratings to rule out one as large as "
                f"{numbers.number(margin, 2)} points"
            )
        found.append(f"`{name}`: {numbers.CHANGE.figure(human.change)}: {heard}; {reach}.")
    if summary.screened_raters:
        one = summary.screened_raters == 1
        found.append(
            f"{summary.screened_raters} {'rater was' if one else 'raters were'} screened out: "
            + "; ".join(rater.words for rater in summary.screened)
            + "."
        )
    return found
