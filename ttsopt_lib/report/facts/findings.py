"""What the numbers say: comparisons that titles, prose and tables share, and the titles of the figures."""

from __future__ import annotations

from collections.abc import Sequence

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts.verdict import candidates, worse_end
from ttsopt_lib.report.numbers import less, signed
from ttsopt_lib.report.schema import Choice, Decided, DeviceSummary, Estimate, TimingSummary, VariantSummary
from ttsopt_lib.statistics.stopping import LEVEL
from ttsopt_lib.study import ORIGINAL

NO_GAIN = 0.05  # of the time: what int8 arithmetic has to save to be worth its noise
SMALLER = 0.005  # a file has to shrink by half a per cent to be called smaller


def listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    names = list(names)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "none"


def of_variants(summary: Decided) -> list[VariantSummary]:
    """The variants, without the baseline."""
    return [summary.variant(name) for name in candidates(summary)]


def smallest(summary: Decided) -> VariantSummary | None:
    """The variant with the smallest file, if it is smaller than the original."""
    found = min(of_variants(summary), key=lambda variant: variant.size_bytes, default=None)
    return found if found and found.size_reduction > SMALLER else None


def chosen(summary: Decided) -> list[str]:
    """The optimized variants, each once."""
    return list(dict.fromkeys(name for name in summary.optimized.values() if name))


def chosen_or_closest(summary: Decided) -> list[str]:
    """The optimized variants; where there are none, what came closest on the first device."""
    return chosen(summary) or [choice.closest for choice in summary.choices if choice.closest][:1]


def choice_on(summary: Decided, device: DeviceSummary) -> Choice | None:
    """What the rule picked on a device; None where it was not applied."""
    return next((choice for choice in summary.choices if choice.device == device.device), None)


def shown_on(summary: Decided, device: DeviceSummary) -> str | None:
    """The variant that was chosen on a device, or that came closest there."""
    choice = choice_on(summary, device)
    return (choice.variant or choice.closest) if choice else None


def latency_of(summary: Decided, device: DeviceSummary, name: str) -> Estimate | None:
    """A variant's latency reduction where the targets look."""
    row = summary.timing_of(device, name)
    return row.latency_reduction if row else None


def heard_on_few(summary: Decided) -> dict[str, int]:
    """Variants of which a first look hears fewer sentences than of others -> how many; nothing of a complete report."""
    rows = [row for row in summary.quality if row.fewer and row.predicted_mos.level != LEVEL]
    return {row.variant: row.sentences for row in rows}


def over_all(summary: Decided) -> str:
    """On which sentences changes rest where no half of them chose."""
    few = min(heard_on_few(summary).values(), default=None)
    return "over all evaluation sentences" + (f" (the first {few} of variants with n = {few})" if few else "")


def change_of(summary: Decided, name: str) -> Estimate | None:
    """A variant's change of the predicted MOS over all evaluation sentences, by the primary predictor."""
    row = summary.quality_of(name)
    return row.predicted_mos.change if row else None


def fastest(summary: Decided, device: DeviceSummary) -> tuple[str, Estimate] | None:
    """The variant with the largest latency reduction on a device, if its interval lies above zero."""
    timed = [(name, latency_of(summary, device, name)) for name in candidates(summary)]
    faster = [(name, estimate) for name, estimate in timed if estimate and worse_end(estimate) > 0]
    return max(faster, key=lambda pair: pair[1].value, default=None)


def fastest_row(summary: Decided, device: DeviceSummary) -> tuple[TimingSummary, Estimate] | None:
    """The row with the largest reduction against the original where the targets look, whatever its runtime and mode.

    Of the original and the variants that keep their predicted MOS on the sentences that choose, with the first number
    of threads; None where no interval lies above zero.
    """
    limit, kept = summary.targets.predicted_mos_change, {ORIGINAL}
    for name in candidates(summary):
        quality = summary.quality_of(name)
        change = quality.predicted_mos.change_choosing if quality else None
        if change and worse_end(change) >= limit:
            kept.add(name)
    timed = [
        (row, row.reduction_across or row.latency_reduction)
        for row in device.rows
        if row.variant in kept and row.threads == device.threads
    ]
    faster = [(row, estimate) for row, estimate in timed if estimate and worse_end(estimate) > 0]
    return max(faster, key=lambda pair: pair[1].value, default=None)


def not_shown_faster(summary: Decided, device: DeviceSummary) -> list[str]:
    """Variants whose interval reaches zero or lies below it: that they are no faster is shown by `no_faster` alone."""
    timed = [(name, latency_of(summary, device, name)) for name in candidates(summary)]
    return [name for name, estimate in timed if estimate and worse_end(estimate) <= 0]


def no_faster(reduction: Estimate | None) -> bool:
    """Whether a reduction is shown to be none that counts: the interval's better end is below `NO_GAIN`."""
    return reduction is not None and reduction.ends[1] < NO_GAIN


def keeps_quality(summary: Decided) -> list[str]:
    """Variants whose change over all evaluation sentences stays within the target, at the interval's worse end."""
    target = summary.targets.predicted_mos_change
    changes = [(name, change_of(summary, name)) for name in candidates(summary)]
    return [name for name, estimate in changes if estimate and worse_end(estimate) >= target]


def meets_size(summary: Decided) -> list[str]:
    """Variants that are as small as asked."""
    target = summary.targets.size_reduction
    return [variant.name for variant in of_variants(summary) if variant.size_reduction >= target]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other one beats in both coordinates (more is better), from left to right."""

    def beaten(one: tuple[float, float]) -> bool:
        return any(o[0] >= one[0] and o[1] >= one[1] and o != one for o in points)

    return sorted((i for i, point in enumerate(points) if not beaten(point)), key=lambda i: points[i])


# --- titles -----------------------------------------------------------------------------------------------------


def size_title(summary: Decided) -> str:
    """What the figure of sizes shows."""
    found = smallest(summary)
    if found is None:
        return "No variant is smaller than the original"
    enough = "as asked" if found.name in meets_size(summary) else "short of the target"
    return f"Smallest file: {found.name}, {numbers.percent(found.size_reduction)} smaller than the original, {enough}"


def latency_title(summary: Decided) -> str:
    """What the figure of latencies shows."""
    devices = summary.measured_devices
    best = {device.label: fastest(summary, device) for device in devices}
    names = {found[0] for found in best.values() if found}
    if not names:
        return f"No variant is measurably faster than the original on {listed(list(best))}"
    if len(names) == 1 and all(best.values()):
        values = [found[1].value for found in best.values() if found]
        low, high = numbers.percent(min(values)), numbers.percent(max(values))
        span = low if low == high else f"{low} to {high}"
        where = devices[0].label if len(devices) == 1 else f"all {len(devices)} devices"
        return f"Fastest on {where}: {next(iter(names))}, {span} less time than the original"
    parts = [
        f"{found[0]} on {label} ({numbers.percent(found[1].value)})" if found else f"none on {label}"
        for label, found in best.items()
    ]
    return "Fastest: " + ", ".join(parts)


def quality_title(summary: Decided) -> str:
    """What the figure of quality shows."""
    names = [name for name in candidates(summary) if change_of(summary, name)]
    kept = keeps_quality(summary)
    many = f"{len(kept)} of {len(names)} variants keep their"
    if not kept:
        many = "No variant keeps its"
    elif len(kept) == len(names):
        many = "Every variant keeps its"
    target = numbers.CHANGE.exact(summary.targets.predicted_mos_change)
    counts = [row.sentences for name in names if (row := summary.quality_of(name))]
    most = "up to " if min(counts, default=0) < max(counts, default=0) else ""
    return f"{many} predicted MOS within {target} of the original ({most}{summary.evaluation_sentences} sentences)"


def tradeoff_title(summary: Decided, device: DeviceSummary) -> str:
    """What the picture of the trade-off shows."""
    name = summary.optimized.get(device.device)
    if name is None:
        choice = choice_on(summary, device)
        closest = f"; {choice.closest} came closest" if choice and choice.closest else ""
        return f"No variant qualifies on {device.label}{closest}"
    latency, change, row = latency_of(summary, device, name), change_of(summary, name), summary.quality_of(name)
    gain = less(latency.value, "less", "more") if latency else ""
    cost = f"{signed(change.value)} ({row.sentences} sentences)" if row and change else "not measured"
    return f"{name}: {gain} time on {device.label}, predicted MOS {cost}"


def bits_of(variant: VariantSummary) -> int:
    """Bits of most quantized weights of a variant."""
    quantized = [step for step in variant.steps if step.kind in ("int8 products", "stored weights")]
    largest = max(quantized, key=lambda step: step.coverage.parameters, default=None)
    return 8 if largest is None else largest.settings.get("bits", 8)


def with_students(summary: Decided) -> list[VariantSummary]:
    """The variants in which a student takes the place of stages."""
    return [variant for variant in summary.variants if any(step.kind == "student" for step in variant.steps)]


def code(names: list[str]) -> str:
    """Names in backticks, listed."""
    return listed([f"`{name}`" for name in names])
