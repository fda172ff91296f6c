"""Advice on the evidence: what makes figures doubtful, what more samples would settle, who has to listen."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.verdict import HELD_OUT, candidates
from ttsopt_lib.report.schema import Advice, Decided, Estimate
from ttsopt_lib.study import ORIGINAL_COPY

HISS_DB = 3.0  # a doubling of the power above 8 kHz, where predictors that work at 16 kHz hear nothing
EVEN = "have about an even chance of settling it"  # their interval is as wide as the target is far
PATIENCE = 25  # times the samples: the largest multiple that is worth advising


def as_figures(name: str, estimate: Estimate | None) -> dict[str, float]:
    """An estimate as plain figures, its interval's ends as `_low` and `_high`."""
    if estimate is None:
        return {}
    ends = {f"{name}_low": estimate.ci[0], f"{name}_high": estimate.ci[1]} if estimate.ci else {}
    return {name: estimate.value, **ends}


def not_measured(summary: Decided) -> Iterator[Advice]:
    """Without speed or quality there is nothing to decide on."""
    made = len(candidates(summary))
    if not summary.measured_devices:
        none = "no device timed all of them as they are now" if summary.timed_devices else "none was timed"
        yield Advice(
            rule="not_measured",
            text="Time the voices: run `ttsopt measure`, on this machine or on a device that ssh reaches.",
            because=f"{made} variants were made and {none}, so none can be chosen.",
            figures={"variants": made, "devices_measured": 0},
        )
    if not summary.predictors:
        yield Advice(
            rule="not_scored",
            text="Score the voices: run `ttsopt evaluate`.",
            because=f"{made} variants were made and none was scored, so none can be chosen.",
            figures={"variants": made, "predictors": 0},
        )


def unsteady(summary: Decided) -> Iterator[Advice]:
    """The original differs from itself: everything timed there is in doubt by as much."""
    for device in summary.measured_devices:
        copy = findings.latency_of(summary, device, ORIGINAL_COPY)
        if copy and copy.ci and not copy.ci[0] <= 0 <= copy.ci[1]:
            yield Advice(
                rule="unsteady",
                text=f"Time {device.label} again with nothing else running (`ttsopt measure --again`).",
                because=f"The original timed against itself differs by {numbers.REDUCTION.figure(copy)}, which should "
                "be nothing: smaller differences than this mean nothing there.",
                figures=as_figures("same_file", copy),
            )


def untrusted_predictors(summary: Decided) -> Iterator[Advice]:
    """A predictor that does not measurably mind known damage says nothing about unknown damage."""
    for predictor in summary.predictors:
        for row in summary.anchors:
            change = row.predicted_mos.change
            if row.predictor == predictor.name and row.variant in predictor.missed_anchors and change:
                yield Advice(
                    rule="untrusted_predictor",
                    text=f"Do not decide by {predictor.label} here: judge by another predictor, or by listeners.",
                    because=f"Known damage (`{row.variant}`) changes its score by {numbers.CHANGE.figure(change)} "
                    "only.",
                    figures=as_figures("anchor_change", change),
                )


def undecided(summary: Decided) -> Iterator[Advice]:
    """A target that lies inside the interval: more samples can settle it, and about how many."""
    labels = {device.device: device for device in summary.devices}
    for row in summary.verdict:
        if row.status != "fail" or row.measured is None or row.ci is None or not row.ci[0] < row.target <= row.ci[1]:
            continue
        device, available = labels.get(row.device or ""), None
        if row.claim == "latency_reduction" and device:
            what, count = "blocks", device.blocks
            where = f"raise `budget_seconds` ({device.label}: in its own file, or in the study's `measure`)"
        elif row.claim == "predicted_mos_change":
            # what was heard and missed can be no second test
            what, count = "sentences", _held_out(summary, row.variant or "")
            confirmed = any(one.variant == row.variant for one in summary.confirmation)
            todo = "move `sentences.confirmation` to others" if confirmed else "name it in `evaluate.confirmed`"
            where = f"{todo}{',' if confirmed else ', with `sentences.confirmation`'} which it has not spoken"
            available = _unspoken(summary, confirmed)
        elif row.claim == "mos_change":
            human = next((q.human_mos for q in summary.quality if q.variant == row.variant and q.human_mos), None)
            what, where, count = "raters", "ask more people (`ttsopt power`)", human.raters if human else 0
        else:
            continue
        unit = numbers.unit_of(row.claim)
        part = f" {HELD_OUT}" if row.claim == "predicted_mos_change" else ""
        measured = Estimate(value=row.measured, ci=row.ci)
        distance = abs(row.measured - row.target)
        side = row.measured - row.ci[0] if row.measured >= row.target else row.ci[1] - row.measured
        times = (side / distance) ** 2 if distance else math.inf
        needed = math.ceil(count * times) if times <= PATIENCE else None
        short = needed is not None and available is not None and needed > available
        enough = f"about {needed} in place of {count} {EVEN}" if needed else "no number of them will settle it"
        if needed and what == "sentences":
            enough += f", and {_in_file(available, short)}"
        if needed is None:
            text = f"Treat `{row.variant}` as exactly on the target: more {what} will not tell."
        elif short:
            text = (
                f"The study's files have too few sentences to tell whether `{row.variant}` meets the target: add some, "
                "or ask listeners (`ttsopt power` says how many it takes)."
            )
        else:
            text = f"More {what} are needed for `{row.variant}`: {where}."
        yield Advice(
            rule=f"more_{what}",
            text=text,
            because=f"The target of {unit.exact(row.target)} lies inside the interval of what was measured, "
            f"{unit.figure(measured)}{part}; {enough}.",
            figures=as_figures("measured", measured)
            | {"target": row.target, "have": count}
            | ({"needed": needed} if needed else {})
            | ({"available": available} if needed and available is not None else {}),
        )


def _held_out(summary: Decided, variant: str) -> int:
    """On how many sentences the verdict on a variant rests."""
    row = summary.quality_of(variant)
    return row.predicted_mos.sentences_held_out if row else 0


def _unspoken(summary: Decided, confirmed: bool) -> int | None:
    """How many further sentences a variant has not spoken; None where that is not known."""
    room = summary.confirmation_sentences_available
    return room - summary.confirmation_sentences if room is not None and confirmed else room


def _in_file(available: int | None, short: bool) -> str:
    """How many sentences there are for it without touching those that have another purpose."""
    if available is None:
        return "how many its files have is not known"
    return f"the study has {'only ' if short else ''}{available} for that in its files"


def listeners(summary: Decided) -> Iterator[Advice]:
    """A predictor is no listener: who has to hear what before it is shipped."""
    names = list(dict.fromkeys(name for name in summary.optimized.values() if name))
    primary = summary.primary_predictor
    for name in names:
        row = summary.quality_of(name)
        if row is None or primary is None:
            continue
        change, held_out, human = row.predicted_mos.change, row.predicted_mos.change_held_out, row.human_mos
        reach, margin = (human.detectable if human else None), abs(summary.targets.mos_change)
        if human is None:
            yield Advice(
                rule="ask_listeners",
                text=f"Let people hear `{name}` before it is shipped: `ttsopt listen` makes the test, `ttsopt power` "
                "says how many listeners it takes.",
                because=f"{primary.label} guesses a change of {numbers.CHANGE.figure(change)} over all evaluation "
                f"sentences, {numbers.CHANGE.figure(held_out)} {HELD_OUT}; nobody has heard it.",
                figures=as_figures("predicted_mos_change", change)
                | as_figures("predicted_mos_change_held_out", held_out),
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
                because=f"Its level there changes by {numbers.LEVEL_CHANGE.bare.figure(hiss)} dB.",
                figures=as_figures("level_above_8khz_change_db", hiss),
            )
