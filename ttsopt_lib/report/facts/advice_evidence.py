"""Advice on the evidence: what makes figures doubtful, what more samples would settle, who has to listen."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.verdict import HELD_OUT, candidates, no_interval
from ttsopt_lib.report.schema import Advice, Decided, Estimate, HumanMos
from ttsopt_lib.statistics.crossed import Components
from ttsopt_lib.statistics.power import raters_needed
from ttsopt_lib.study import ORIGINAL_COPY

HISS_DB = 3.0  # a doubling of the power above 8 kHz, where predictors that work at 16 kHz hear nothing
ASK_MORE = "ask more people (`ttsopt power`)"
IN_MOST_TESTS = "settle it in 8 of 10 tests"
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
    """A target that lies inside the interval: more samples can settle it, and about how many.

    Of a first look nothing but raters: the complete report has more blocks and sentences.
    """
    labels = {device.device: device for device in summary.devices}
    for row in summary.verdict:
        if row.status != "fail" or row.measured is None or row.ci is None or not row.ci[0] < row.target <= row.ci[1]:
            continue
        if summary.stage == "first_look" and row.claim != "mos_change":
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
        elif row.claim == "mos_change" and (human := _human(summary, row.variant or "")):
            what, where, count = "raters", ASK_MORE, human.raters
        else:
            continue
        unit = numbers.unit_of(row.claim)
        part = f" {HELD_OUT}" if row.claim == "predicted_mos_change" else ""
        measured = Estimate(value=row.measured, ci=row.ci)
        distance = abs(row.measured - row.target)
        side = row.measured - row.ci[0] if row.measured >= row.target else row.ci[1] - row.measured
        times = (side / distance) ** 2 if distance else math.inf
        on_target, sentences = times > PATIENCE, None
        needed = None if on_target else math.ceil(count * times)
        if what == "raters" and not on_target:
            needed, sentences = _raters(summary, row.variant or "", distance)
        short = needed is not None and available is not None and needed > available
        enough = "no number of them will settle it" if on_target else "how many would settle it is not known"
        if needed:
            enough = f"about {needed} in place of {count} {IN_MOST_TESTS if what == 'raters' else EVEN}"
        elif sentences:
            what, where, count = "sentences", "raise `listening_test.sentences` (`ttsopt power`)", sentences
            enough = f"with {sentences} sentences no number of raters will settle it"
        if needed and what == "sentences":
            enough += f", and {_in_file(available, short)}"
        if on_target:
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


def _human(summary: Decided, variant: str) -> HumanMos | None:
    row = summary.quality_of(variant)
    return row.human_mos if row else None


def _raters(summary: Decided, variant: str, effect: float) -> tuple[int | None, int | None]:
    """How many raters find such a change of a variant's MOS in 8 of 10 tests, and the sentences that are too few.

    The first is None where no number is known, or none is enough; the second where it is not the sentences that limit.
    """
    human, spread = _human(summary, variant), summary.ratings_spread
    if human is None or not human.sentences or spread is None:
        return None, None
    needed = raters_needed(effect, human.sentences, Components(**spread.model_dump()))
    if needed is None:
        return None, human.sentences
    return (needed if needed > human.raters else None), None


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
                because=f"{primary.label} guesses a change of {numbers.CHANGE.figure(change)} "
                f"{findings.over_all(summary)}, {numbers.CHANGE.figure(held_out)} {HELD_OUT}; nobody has heard it.",
                figures=as_figures("predicted_mos_change", change)
                | as_figures("predicted_mos_change_held_out", held_out),
            )
        elif why := no_interval(human):
            yield Advice(
                rule="more_raters",
                text=f"More raters are needed for `{name}`: {ASK_MORE}.",
                because=f"Nothing could be tested: {why}.",
                figures={"raters": human.raters},
            )
        elif reach is not None and reach > margin > 0 and (human.equivalence_p or 0.0) >= 0.05:
            needed, sentences = _raters(summary, name, margin)
            how = f"about {needed} in place of {human.raters}" if needed else ASK_MORE
            text = f"More raters are needed for `{name}`: {how}."
            if sentences:
                text = f"More sentences are needed for `{name}`: with {sentences} no number of raters is enough."
            figures: dict[str, float] = {"detectable": reach, "target": margin, "raters": human.raters}
            yield Advice(
                rule="more_sentences" if sentences else "more_raters",
                text=text,
                because=f"Ratings like these find a change of {numbers.number(reach, 2)} points; the target is "
                f"{numbers.number(margin, 2)}.",
                figures=figures
                | ({"needed": needed} if needed else {})
                | ({"sentences": sentences} if sentences else {}),
            )
        hiss = row.level_above_8khz_change_db
        if human is None and hiss and abs(hiss.value) >= HISS_DB:
            yield Advice(
                rule="hiss",
                text=f"Listen to `{name}` above 8 kHz: predictors that work at 16 kHz cannot.",
                because=f"Its level there changes by {numbers.LEVEL_CHANGE.bare.figure(hiss)} dB.",
                figures=as_figures("level_above_8khz_change_db", hiss),
            )
