"""Where each number of the report's prose comes from: a figure of summary.json, of the kind that the words say.

The words beside a number say its kind: "smaller" is of files, "less time" of latencies (`PER_CENT`, `PLAIN`). A
number beside words that stand in neither table is of no kind and traced to nothing. A figure of a variant counts only
in a sentence that names this variant. What is counted, or computed from two figures, is in `derived` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.verdict import candidates, worse_end
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

BASELINES = {ORIGINAL, ORIGINAL_COPY, "original, other noise"}  # what the variants stand beside, named or not
CONSTANTS = r"95 % interval|\b1 to 5\b|\b(8|32)-bit|\b8 bits|\b(8|16) kHz|counted from 0|8 of 10 tests|300 frames"
CONSTANTS += r"|pieces of [.0-9]+ s|[.0-9]+ s pieces"
KINDS = {  # key of summary.json -> kind of its figure, and what it is multiplied by where it is printed
    "size_reduction": ("file", 100),
    "compressed_reduction": ("file", 100),
    "size_bytes": ("MB", 1e-6),
    "latency_reduction": ("time", 100),
    "saved": ("time", 100),
    "latency_ms": ("ms", 1),
    "first_ms": ("ms", 1),
    "ids_ms": ("ms", 1),
    "cost": ("pieces", 100),
    "macs": ("macs", 100),
    "zero_fraction": ("parameters", 100),
    "quantized_parameters": ("parameters", 100),
    "change": ("mos", 1),
    "change_choosing": ("mos", 1),
    "change_held_out": ("mos", 1),
    "mos_change": ("mos", 1),
    "predicted_mos_change": ("mos", 1),
    "detectable": ("mos", 1),
    "score": ("mos", 1),
    "level_above_8khz_change_db": ("dB", 1),
    "log_spectral_distance_db": ("dB", 1),
    "f0_error_cents": ("cents", 1),
    "speaker_similarity": ("similarity", 1),
    "minutes": ("minutes", 1),
    "earlier_minutes": ("minutes", 1),
    "teacher_hours": ("hours", 1),
    "threads": ("threads", 1),
    "blocks": ("blocks", 1),
    "raters": ("raters", 1),
    "screened_raters": ("raters", 1),
    "evaluation_sentences": ("sentences", 1),
    "evaluation_sentences_available": ("sentences", 1),
    "confirmation_sentences": ("sentences", 1),
    "confirmation_sentences_available": ("sentences", 1),
    "timing_sentences": ("sentences", 1),
    "have": ("samples", 1),
    "needed": ("samples", 1),
}
# what the prose never prints, some of it under the keys of other kinds
NOT_IN_PROSE = {"wer_figures", "cer_figures", "settings", "recipe", "peers", "length_classes", "runtime_changes"}
SAMPLES = {"samples", "sentences", "blocks", "raters"}
TIME_BEFORE = r"(differs by |target of |measured, |Fastest.*|between .*|\(reduction |the whole voice is )"
PER_CENT = (  # kind, what ends before the number, what begins after it; the first that fits
    ("pieces", "", r" with \B"),
    ("time", "", r" (less|more)\b| to \S+ less time"),
    ("file", "", r" (smaller|larger)\b"),
    ("parameters", "", r" of the (stored )?parameters| of the weights"),
    ("macs", "", r" of the multiply-accumulates"),
    ("share", "", r" of the time\b"),
    ("share", r"share is [^;]*", ""),
    ("file", r"smallest is .*, the target is ", ""),
    ("time", TIME_BEFORE, ""),
)
PLAIN = (
    ("ms", r" ms ", ""),  # an interval after its figure
    ("time", r"\(reduction ", ""),
    ("missed", r"missed by ", ""),
    ("threads", r"Threads beyond ", ""),
    ("samples", r"in place of ", ""),
    ("similarity", r"speaker similarity of |than the original with other noise is to itself .*", ""),
    ("samples", "", r" in place of "),
    ("sentences", "", r"( evaluation| further)? sentences\b| for that in its files"),
    ("variants", "", r"( of \d+)? variants?\b"),
    ("targets", "", r"( of \d+)? targets?\b| (is|are) missed| (was|were) not measured"),
    ("million", "", r" million\b"),
    ("bits", "", r" bits\b"),
    *((unit, "", rf" {unit}\b") for unit in ("MB", "ms", "dB", "cents", "minutes", "hours", "devices")),
    *((f"{noun}s", "", rf" {noun}s?\b") for noun in ("thread", "block", "rater")),
    ("mos", r"", ""),
)
DIGITS = rf"[{numbers.MINUS}+]?\d+(?:{numbers.NARROW}\d{{3}})*(?:\.\d+)?"
INTERVAL = rf"\[({DIGITS}), ({DIGITS})\]"
NUMBER = re.compile(rf"(?<![\w.])(?:({DIGITS})({numbers.NARROW}%)?(?: {INTERVAL})?|{INTERVAL})(?!\w)")


class Figure(NamedTuple):
    """A figure in the unit that the report prints, its interval, and the variant that it is of (None: of none)."""

    kind: str
    value: float
    ends: tuple[float, float] | None = None
    of: str | None = None


class Said(NamedTuple):
    """A number as a sentence prints it: value ("" where the interval stands alone), interval, and its sign in words."""

    kind: str
    value: str
    ends: tuple[str, ...]
    reversed: bool  # "3 % larger", of a reduction by -3 %


class Tracer:
    """Finds the numbers of sentences about one summary that are none of its figures."""

    def __init__(self, summary: Summary):
        self.summary = summary
        self.figures = [*figures(summary), *derived(summary)]
        self.chosen = {name for name in summary.optimized.values() if name}

    def untraced(self, sentence: str) -> list[Said]:
        """The numbers that no figure is printed as; a sentence that names no variant is about the optimized one."""
        of = (named(sentence, self.summary) or self.chosen) | BASELINES
        known = [one for one in self.figures if one.of is None or one.of in of]
        return [one for one in said(sentence, self.summary) if not any(_matches(one, figure) for figure in known)]


def named(sentence: str, summary: Summary) -> set[str]:
    """The variants and anchors that a sentence names."""
    known = {one.name for one in summary.variants} | {row.variant for row in summary.anchors}
    names = "|".join(re.escape(name) for name in sorted(known - BASELINES, key=len, reverse=True))
    return set(re.findall(rf"(?<![\w+-])(?:{names})(?![\w+-])", sentence))


def said(sentence: str, summary: Summary) -> list[Said]:
    """Every number of a sentence, without those in names, in constants and in texts that it quotes."""
    plain = sentence
    for text in sorted(_quoted(summary), key=len, reverse=True):
        plain = plain.replace(text, "")
    plain = re.sub(rf"`[^`]*`|{CONSTANTS}", "", plain)
    found = []
    for match in NUMBER.finditer(plain):
        value, percent, *ends = match.groups()
        before, after = plain[: match.start()], plain[match.end() :]
        rules = PER_CENT if percent else PLAIN
        kind = next((k for k, b, a in rules if re.search(f"(?:{b})$", before) and re.match(f"(?:{a})", after)), "none")
        kind = "none" if kind == "mos" and "." not in match.group() else kind  # no change is printed as a whole number
        reverse = kind in ("time", "file") and re.match(r" (more|larger)\b", after) is not None
        found.append(Said(kind, value or "", tuple(end for end in ends if end), reverse))
    return found


def _quoted(summary: Summary) -> set[str]:
    """Texts of the summary that sentences repeat as they are, if they hold a digit; names of variants among them."""
    texts = [summary.asr, summary.ratings_reason, summary.quality_reason, summary.speaker_reason, summary.pitch_reason]
    for device in summary.devices:
        texts += [device.label, device.reason, device.first_audio_sentence, *(doubt.words for doubt in device.warnings)]
    texts += [step.note for variant in summary.variants for step in variant.steps]
    texts += [predictor.label for predictor in summary.predictors]
    texts += [machine for student in summary.students for machine in (student.cpu, student.accelerator)]
    texts += [one.name for one in summary.variants] + [row.variant for row in summary.anchors]
    return {text.rstrip(".") for text in texts if text and re.search(r"\d", text)}


# --- what the summary has -------------------------------------------------------------------------------------------


def figures(summary: Summary) -> Iterator[Figure]:
    """Every figure of the summary that has a kind. The verdict and the choices only repeat others."""
    whole = summary.model_dump(mode="json")
    for key in ("verdict", "choices"):
        del whole[key]
    return _walk(whole, None)


def _walk(part: Any, of: str | None) -> Iterator[Figure]:
    if isinstance(part, list):
        for one in part:
            yield from _walk(one, of)
    if not isinstance(part, dict):
        return
    of = part.get("variant") or (part["name"] if "size_bytes" in part else of)
    for key, value in part.items():
        if key in NOT_IN_PROSE:
            continue
        kind, scale = _kind(key, value)
        if isinstance(value, dict) and kind and ("value" in value or "median" in value):
            middle = value["value"] if "value" in value else value["median"]
            ends = value["ci"] and (scale * value["ci"][0], scale * value["ci"][1])
            yield Figure(kind, scale * middle, ends, of)
        elif isinstance(value, int | float) and kind:
            yield Figure(kind, scale * value, None, of)
        else:
            yield from _walk(value, of)


def _kind(key: str, value: object) -> tuple[str, float]:
    if key == "parameters":  # their number, or which part of them
        return ("million", 1e-6) if isinstance(value, int) else ("parameters", 100)
    if key.startswith("weights_"):
        return "parameters", 100
    return ("share", 100) if key.startswith("share_") else KINDS.get(key, ("", 1))


def derived(summary: Summary) -> Iterator[Figure]:
    """What the prose counts, or computes from two figures of the summary."""
    count = len(candidates(summary))
    for few in (count, len(findings.meets_size(summary)), len(findings.keeps_quality(summary))):
        yield Figure("variants", few)
    yield Figure("variants", sum(findings.change_of(summary, name) is not None for name in candidates(summary)))
    yield Figure("devices", len(summary.measured_devices))
    yield Figure("targets", len(summary.verdict))
    for status in ("pass", "fail", "not_measured"):
        yield Figure("targets", sum(row.status == status for row in summary.verdict))
    yield Figure("mos", -summary.targets.predicted_mos_change)  # "within 0.10"
    yield Figure("mos", -summary.targets.mos_change)
    for student in summary.students:
        if student.student_ms and student.teacher_ms:
            share = 100 * student.student_ms / student.teacher_ms
            yield from (Figure("share", share, None, name) for name in student.variants)
    for variant in summary.variants:
        yield from (Figure("bits", step["bits"], None, variant.name) for step in variant.recipe if "bits" in step)
    for name in candidates(summary):
        row = summary.quality_of(name)
        change = row.predicted_mos.change_choosing if row else None
        if change:
            yield Figure("missed", summary.targets.predicted_mos_change - worse_end(change), None, name)
        size = summary.variant(name).size_reduction
        yield Figure("missed", 100 * (summary.targets.size_reduction - size), None, name)


# --- whether they are the same --------------------------------------------------------------------------------------


def _matches(one: Said, figure: Figure) -> bool:
    if figure.kind not in (SAMPLES if one.kind == "samples" else {one.kind}):
        return False
    if one.value and not _printed(one.value, -figure.value if one.reversed else figure.value):
        return False
    ends = figure.ends or ()
    return not one.ends or len(ends) == 2 and all(map(_printed, one.ends, ends))


def _printed(text: str, value: float) -> bool:
    """Whether the text is the value, to the digits that the text has."""
    return text.removeprefix("+") == numbers.number(value, len(text.partition(".")[2]))
