"""The rule that picks the optimized variant, and the verdict on it.

On each measured device, among the ONNX Runtime rows with the device's first number of threads (PyTorch's in float32
where that alone reaches the device; in a browser onnxruntime-web's), the optimized variant is the fastest one that
meets the size target and whose predicted-MOS change stays within its target. The figure in the verdict is not the one
that won the choice: a confirmed variant is judged on the evaluation sentences and reported on the further ones, any
other judged on the even-numbered evaluation sentences (numbered from 0) and reported on the odd-numbered ones.

Wherever a figure has an interval, the interval's worse end must meet the target, not its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts.first_sound import slowest
from ttsopt_lib.report.schema import (
    Choice,
    Claim,
    DeviceSummary,
    Estimate,
    Facts,
    HumanMos,
    QualitySummary,
    Status,
    VerdictRow,
)
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

NOT_STREAMED = ("gpu", "browser")  # kinds of devices on which no first sound is timed
CHOOSING = "on the sentences that choose"  # the even-numbered ones; of a confirmed variant, all that are evaluated
SAME_RATINGS = "all ratings say the same, which gives no interval"
HELD_OUT = "on the sentences that did not choose"  # the odd-numbered ones; of a confirmed variant, the further ones


class Judged(NamedTuple):
    """A variant against the two conditions of the rule.

    `gap` is how far it missed, 0 when it met both: the missing fraction of the size plus the missing points of
    predicted MOS. By the number of misses alone, a voice with which nothing was done would often come closest.
    """

    name: str
    failed: list[str]
    gap: float
    unknown: bool  # no quality figure: can neither pass nor fail that condition


def worse_end(estimate: Estimate) -> float:
    """The lower end of the interval: for reductions and changes of a score, less is worse."""
    return estimate.ci[0] if estimate.ci else estimate.value


def meets(claim: Claim, measured: Estimate, target: float) -> bool:
    """Whether the worse end of a figure's interval meets its target."""
    if claim == "first_sound_ms":  # more is worse
        return (measured.ci[1] if measured.ci else measured.value) <= target
    return worse_end(measured) >= target


def change_beside(change: Estimate, target: float) -> str:
    """A change of the predicted MOS whose lower end has more digits where two cannot tell it from the target."""
    return " ".join(numbers.CHANGE.beside(change, target)).rstrip()


def _missed(amount: float, digits: int) -> str:
    """An amount above zero, with more digits where these would print it as zero."""
    shown = next((d for d in range(digits, 6) if numbers.signed(amount, d).startswith("+")), 6)
    return numbers.number(amount, shown)


def held_out_words(facts: Facts, row: QualitySummary | None) -> str:
    """Which sentences the verdict on a variant rests on: '50 odd-numbered', or '150 further'."""
    count = row.predicted_mos.sentences_held_out if row else 0
    further = row is not None and any(one.variant == row.variant for one in facts.confirmation)
    return f"{count} further" if further else f"{count} odd-numbered"


def candidates(facts: Facts) -> list[str]:
    """The variants that may be chosen: everything but the baseline and its copy."""
    return [v.name for v in facts.variants if v.name not in (ORIGINAL, ORIGINAL_COPY)]


def judge(facts: Facts, name: str) -> Judged:
    """Whether a variant meets the size target and, on the sentences that choose, the predicted-MOS target."""
    targets, failed, gap = facts.targets, [], 0.0
    size = facts.variant(name).size_reduction
    if size < targets.size_reduction:
        gap += targets.size_reduction - size
        digits = numbers.REDUCTION.digits_beside(size, targets.size_reduction)
        smaller = f"{numbers.percent(size, digits)} smaller" if digits else numbers.less(size, "smaller", "larger")
        missing = _missed(100 * (targets.size_reduction - size), digits)
        failed.append(
            f"its file is {smaller} (target: {numbers.REDUCTION.exact(targets.size_reduction)} smaller, missed by "
            f"{missing} percentage point{'' if missing == '1' else 's'})"
        )
    quality = facts.quality_of(name)
    change = quality.predicted_mos.change_choosing if quality else None
    if change is None:
        return Judged(name, failed, gap, unknown=True)
    if worse_end(change) < targets.predicted_mos_change:
        gap += targets.predicted_mos_change - worse_end(change)
        limit, low = targets.predicted_mos_change, worse_end(change)
        missing = _missed(limit - low, numbers.CHANGE.digits_beside(low, limit))
        failed.append(
            f"its predicted MOS changes by {change_beside(change, limit)} {CHOOSING} (target: no worse than "
            f"{numbers.CHANGE.exact(limit)} at the interval's lower end, missed by {missing})"
        )
    return Judged(name, failed, gap, unknown=False)


def choose(facts: Facts, device: DeviceSummary) -> Choice:
    """Apply the rule on one measured device."""
    reductions = _reductions(facts, device)
    judged = [judge(facts, name) for name in reductions]
    passed = [one.name for one in judged if not one.failed and not one.unknown]
    if passed:
        fastest = max(passed, key=lambda name: reductions[name])
        return Choice(device=device.device, variant=fastest, candidates=passed, closest=None, failed=[], decided=True)
    undecided = [one for one in judged if not one.failed and one.unknown]
    nearest = min(judged, key=lambda one: (one.gap, -reductions[one.name]), default=None)
    return Choice(
        device=device.device,
        variant=None,
        candidates=[],
        closest=nearest.name if nearest and not undecided else None,
        failed=nearest.failed if nearest and not undecided else [],
        decided=not undecided and bool(judged),
    )


def faster_not_chosen(facts: Facts, device: DeviceSummary, choice: Choice) -> list[Judged]:
    """Variants that are faster than the chosen one and yet were left out, by the number of conditions missed.

    Where none qualifies, those that are faster than the one that came closest. Equals stand by speed, fastest first.
    """
    reductions = _reductions(facts, device)
    reference = choice.variant or choice.closest
    if reference not in reductions:
        return []
    faster = [judge(facts, name) for name, value in reductions.items() if value > reductions[reference]]
    return sorted(faster, key=lambda one: (len(one.failed) + one.unknown, -reductions[one.name]))


def _reductions(facts: Facts, device: DeviceSummary) -> dict[str, float]:
    """The latency reduction of every candidate that was timed where the targets look."""
    timed = {name: facts.timing_of(device, name) for name in candidates(facts)}
    return {name: row.latency_reduction.value for name, row in timed.items() if row and row.latency_reduction}


def not_judged(device: DeviceSummary) -> str:
    """Why a device's timings are shown alone; empty where they are judged, or nothing was timed."""
    where = "measured elsewhere, " if device.imported else ""
    return f"{where}shown and not judged: {'; '.join(device.doubts)}" if device.doubts else ""


def verdict(facts: Facts, choices: Sequence[Choice]) -> list[VerdictRow]:
    """Every claim against its target: all for a measured device, the latency alone for one that was not."""
    rows: list[VerdictRow] = []
    chosen = {choice.device: choice for choice in choices}
    for device in facts.devices:
        if device.judged:
            rows += _measured_claims(facts, device, chosen[device.device])
        else:
            reason = not_judged(device) or device.reason or ""
            rows.append(_row(facts, "latency_reduction", device.device, None, None, reason))
    if not facts.measured_devices:
        timed = any(device.status == "measured" for device in facts.devices)
        reason = f"no device was measured{' with these voices' if timed else ''}, so no variant could be chosen"
        rows += [  # each device has its row of the latency already
            _row(facts, claim, None, None, None, reason) for claim in _asked(facts) if claim != "latency_reduction"
        ]
    return sorted(rows, key=lambda row: _ORDER.index(row.claim))


_ORDER: list[Claim] = ["size_reduction", "latency_reduction", "first_sound_ms", "predicted_mos_change", "mos_change"]


def _asked(facts: Facts, device: DeviceSummary | None = None) -> list[Claim]:
    """The claims about a device: those whose target the study sets, and that can be measured there."""
    impossible = {"first_sound_ms"} if device and device.kind in NOT_STREAMED else set()
    return [claim for claim in _ORDER if claim not in impossible and getattr(facts.targets, claim) is not None]


def _measured_claims(facts: Facts, device: DeviceSummary, choice: Choice) -> list[VerdictRow]:
    name = device.device
    if choice.variant is None:
        return [
            _row(facts, claim, name, None, None, _why_none(facts, device, choice, claim), decided=choice.decided)
            for claim in _asked(facts, device)
        ]
    variant, timing = facts.variant(choice.variant), facts.timing_of(device, choice.variant)
    quality = facts.quality_of(choice.variant)
    size = Estimate(value=variant.size_reduction, ci=None)
    held_out = quality.predicted_mos.change_held_out if quality else None
    human = quality.human_mos if quality else None
    untested = no_interval(human) if human else _no_ratings(facts)
    first = slowest(device.first_sound, variant.name)
    figures: dict[Claim, tuple[Estimate | None, str]] = {
        "size_reduction": (size, "exact: sizes of the files"),
        "latency_reduction": (timing and timing.latency_reduction, ""),
        "first_sound_ms": (first, "" if first else _no_first_sound(facts, device, variant.name)),
        "predicted_mos_change": (held_out, f"{HELD_OUT} ({held_out_words(facts, quality)})"),
        "mos_change": (None, untested) if untested else (human and human.change, ""),
    }
    return [_row(facts, claim, name, variant.name, *figures[claim]) for claim in _asked(facts, device)]


def no_interval(human: HumanMos) -> str:
    """Why the change of a voice's ratings has no interval, and so no test; empty where it has one."""
    if human.change is None:
        return "too few of its ratings can be compared with the original's"
    return "" if human.change.ci else SAME_RATINGS


def _no_first_sound(facts: Facts, device: DeviceSummary, name: str) -> str:
    if facts.stage == "first_look":
        return "a first look times no first sound"
    streamed = device.first_sound
    if streamed and name in streamed.not_streamed:
        return streamed.not_streamed[name]
    return f"its first sound was not timed (measure.first_sound: {name})"


def _row(
    facts: Facts,
    claim: Claim,
    device: str | None,
    variant: str | None,
    measured: Estimate | None,
    reason: str,
    decided: bool = False,
) -> VerdictRow:
    """A verdict row; without a figure it is a failure if the rule was `decided` (none qualified), else open."""
    target = getattr(facts.targets, claim)
    status: Status
    if measured is None:
        # people's ratings that nobody gave are missing, whatever became of the choice
        rated = claim != "mos_change" or any(row.human_mos for row in facts.quality)
        status = "fail" if decided and rated else "not_measured"
    else:
        status = "pass" if meets(claim, measured, target) else "fail"
    return VerdictRow(
        claim=claim,
        device=device,
        target=target,
        measured=measured.value if measured else None,
        status=status,
        ci=measured.ci if measured else None,
        variant=variant,
        reason=reason,
    )


def why_undecided(facts: Facts, device: DeviceSummary) -> str:
    """Why the rule could be applied to no variant on a device."""
    if not candidates(facts):
        return "the study has no variant to choose"
    if not _reductions(facts, device):
        return f"no variant was timed beside the original with {numbers.counted(device.threads, 'thread')}"
    return (facts.quality_reason or "predicted MOS was not measured").rstrip(".")


def _why_none(facts: Facts, device: DeviceSummary, choice: Choice, claim: Claim) -> str:
    if claim == "mos_change" and not any(row.human_mos for row in facts.quality):
        return _no_ratings(facts)
    if not choice.decided:
        return f"no variant could be chosen: {why_undecided(facts, device)}"
    return f"no variant qualifies; {choice.closest} came closest, but {' and '.join(choice.failed)}"


def _no_ratings(facts: Facts) -> str:
    return facts.ratings_reason or facts.quality_reason or "no ratings by listeners were given"
