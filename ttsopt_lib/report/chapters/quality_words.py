"""What the tests of quality say, in words: findings, what is shown to be small, whether a predictor is to be believed.

Only ratings can support the claim that listeners do not hear a change. For a predicted MOS the same test says no more
than that the prediction stays within the margin.
"""

from __future__ import annotations

from ttsopt_lib.report import numbers
from ttsopt_lib.report.error_rates import Rates
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import code, listed
from ttsopt_lib.report.facts.verdict import candidates
from ttsopt_lib.report.schema import Estimate, PredictedMos, QualitySummary, Summary, WerSummary
from ttsopt_lib.statistics.significance import ALPHA
from ttsopt_lib.statistics.stopping import LEVEL, LOOK
from ttsopt_lib.study import ORIGINAL


def p_words(p: float | None) -> str:
    """'0.032', '< 0.001'; 'not tested' where there is none."""
    if p is None:
        return "not tested"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def mos_finding(mos: PredictedMos, margin: float) -> str:
    """What the two tests say about a predicted MOS: whether it changed, and whether the change is shown to be small."""
    if mos.finding is None or mos.equivalence_p is None:
        return "not tested"
    limit = numbers.SCORE.exact(margin)
    small = mos.equivalence_p < ALPHA
    if mos.finding != "no_difference":
        side = "lower" if mos.finding == "worse" else "higher"
        return f"{side}, and shown to be by less than {limit}" if small else side
    shown = f"shown to be less than {limit}" if small else f"{limit} is not ruled out"
    return f"no measurable difference{_once_corrected(mos.change)}; {shown}"


def rate_finding(figures: WerSummary | None, rates: Rates) -> str:
    """What the test says about an error rate."""
    if figures is None:
        return "not measured"
    if figures.finding is None:
        return "not tested"
    if figures.finding == "no_difference":
        return "no measurable difference" + _once_corrected(figures.change)
    if rates.relative:
        return "more than other noise" if figures.finding == "worse" else "less than other noise"
    return "more errors" if figures.finding == "worse" else "fewer errors"


def _once_corrected(change: Estimate | None) -> str:
    """What a reader has to know who sees an interval without zero beside "no measurable difference"."""
    excludes_zero = change and change.ci and not change.ci[0] <= 0 <= change.ci[1]
    return " once corrected for the number of tests" if excludes_zero else ""


def distrusted(summary: Summary) -> list[str]:
    """A sentence for every predictor that does not put the anchors below the original."""
    return [
        f"{predictor.label} does not put {code(predictor.missed_anchors)} measurably below "
        "the original, although the damage is known: what it says about the variants is not to be trusted."
        for predictor in summary.predictors
        if predictor.orders_anchors is False
    ]


def trusted(summary: Summary) -> list[str]:
    """What the anchors and the other noise say about each predictor that sees the damage."""
    found = []
    for predictor in summary.predictors:
        if not predictor.orders_anchors:
            continue
        anchors = [
            f"`{row.variant}` {numbers.CHANGE.figure(row.predicted_mos.change)}"
            for row in summary.anchors
            if row.predictor == predictor.name
        ]
        noise = next((row for row in summary.other_noise if row.predictor == predictor.name), None)
        beside = f"; the original with other noise {numbers.CHANGE.figure(noise.predicted_mos.change)}" if noise else ""
        found.append(f"{predictor.label} puts every anchor below the original ({listed(anchors)}){beside}.")
    return found


def _decided(summary: Summary) -> list[str]:
    """Names of the voices that were scored on the first sentences only, because those decided."""
    rows = [row for row in (*summary.quality, *summary.anchors) if row.predicted_mos.level == LEVEL]
    return list(dict.fromkeys(row.variant for row in rows))


def intervals(summary: Summary) -> str:
    """What the intervals of changes of predicted MOS are: '95 % intervals', and wider ones where those decided."""
    wider = f" ({numbers.percent(LEVEL, 1)} where the first sentences decided)" if _decided(summary) else ""
    return f"95 % intervals{wider}"


def decided(summary: Summary) -> list[str]:
    """Which voices were scored on the first sentences only, because those decided, or in a first look."""
    found = []
    if few := findings.heard_on_few(summary):
        count = min(few.values())
        found.append(
            f"The first look hears {code([*few])} on the first {count} sentences only (n = {count}); the complete "
            "report hears them on all."
        )
    if not (names := _decided(summary)):
        return found
    return [
        *found,
        f"{code(names)}: the first {LOOK} sentences decided, so no others were scored (n = {LOOK}). The intervals of "
        f"their changes of predicted MOS hold {numbers.percent(LEVEL, 1)} in place of 95 %, because of this early "
        "look.",
    ]


def unavailable(summary: Summary) -> list[str]:
    """Predictors that the study asks for and that are not here."""
    return [f"{one.label}: not measured: {one.reason.rstrip('.')}." for one in summary.unavailable_predictors]


def what_same_means(summary: Summary) -> list[str]:
    """How to read the figures beside the original."""
    found = []
    same = summary.other_noise[0].paired if summary.other_noise else None
    if same and same.log_spectral_distance_db:
        parts = []
        if same.speaker_similarity:
            parts.append(f"a speaker similarity of {numbers.number(same.speaker_similarity.value, 3)}")
        parts.append(f"{numbers.number(same.log_spectral_distance_db.value, 1)} dB")
        if same.f0_error_cents:
            parts.append(f"{numbers.number(same.f0_error_cents.value)} cents of F0")
        found.append(
            f"What “the same” means: the original against itself, with other random noise, differs by {listed(parts)}. "
            "A variant that differs no more than this differs no more than two utterances of the same voice do."
        )
    if summary.speaker_reason and summary.predictors:
        found.append(f"Speaker similarity was not measured: {summary.speaker_reason}.")
    if summary.pitch_reason and summary.predictors:
        found.append(f"F0 was not measured: {summary.pitch_reason}.")
    return found


def worse_than_noise(summary: Summary) -> list[str]:
    """Variants whose speaker is farther from the original's than other noise makes it, whatever the predictor says."""
    noise = summary.other_noise[0].paired if summary.other_noise else None
    same = noise.speaker_similarity if noise else None
    if same is None or same.ci is None:
        return []
    far = []
    for name in candidates(summary):
        row = summary.quality_of(name)
        found = row.paired.speaker_similarity if row and row.paired else None
        if found and found.ci and found.ci[1] < same.ci[0]:
            far.append(f"`{name}` ({numbers.number(found.value, 3)})")
    if not far:
        return []
    return [
        f"Less like the same speaker than the original with other noise is to itself "
        f"({numbers.number(same.value, 3)}): {listed(far)}. No predictor of MOS listens for that."
    ]


def unheard(summary: Summary, name: str) -> str:
    """Whether the claim "listeners will not hear it" is supported for a variant: by people, or by a prediction only."""
    row: QualitySummary | None = summary.quality_of(name)
    human = row.human_mos if row and name != ORIGINAL else None
    test = "(two one-sided tests)"
    if human and human.equivalence_p is not None:
        margin = numbers.SCORE.exact(abs(summary.targets.mos_change))
        if human.equivalence_p < ALPHA:
            return f"Listeners' ratings support that `{name}` is heard as good within {margin} MOS {test}."
        return f"Listeners' ratings do not show that `{name}` is as good within {margin} MOS {test}."
    mos = row.predicted_mos if row else None
    if mos is None or mos.equivalence_p_held_out is None:
        return ""
    margin = numbers.SCORE.exact(abs(summary.targets.predicted_mos_change))
    why = "its ratings allow no test" if human else "nobody rated it"
    shown = "is shown to stay" if mos.equivalence_p_held_out < ALPHA else "is not shown to stay"
    return (
        f"That listeners will not hear `{name}` is not shown: {why}. Its predicted MOS {shown} within "
        f"{margin} on the sentences that had no part in the choice {test}."
    )
