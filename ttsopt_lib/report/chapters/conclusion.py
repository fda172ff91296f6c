"""Whether the optimization succeeded, what to ship, what stays open, and what this study cannot say."""

from __future__ import annotations

from ttsopt_lib.report.chapters import quality_words
from ttsopt_lib.report.chapters.first_page import claim_words, closest_words, reason_words
from ttsopt_lib.report.facts.findings import chosen, code, listed
from ttsopt_lib.report.schema import Summary


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


def conclusion(summary: Summary) -> list[str]:
    """Whether the optimization succeeded, what to ship, and what stays open."""
    failed = [row for row in summary.verdict if row.status == "fail"]
    names = chosen(summary)
    sentences = []
    if not summary.measured_devices or not summary.predictors:
        missing = "speed" if summary.predictors else "quality" if summary.measured_devices else "speed and quality"
        sentences.append(
            f"No conclusion can be drawn yet: {missing} {'were' if ' ' in missing else 'was'} not measured."
        )
    elif not any(choice.decided for choice in summary.choices):
        sentences.append(f"No conclusion can be drawn yet: {closest_words(summary)}.")
    elif not names:
        sentences.append(f"The optimization did not reach its targets: {closest_words(summary)}.")
    elif failed:
        missed = listed([claim_words(summary, row.claim, row.device) for row in failed])
        sentences.append(f"The optimization succeeded in part: {code(names)} qualifies, but misses {missed}.")
    else:
        sentences.append(f"The optimization reached every target that was measured, with {code(names)}.")
    for name in names:
        sentences.append(
            f"To use it, deploy `variants/{name}/model.onnx` with the `model.onnx.json` beside it: "
            + ("it is fed as the original is." if summary.model else "it is a drop-in Piper voice.")
        )
        if claim := quality_words.unheard(summary, name):
            sentences.append(claim)
    return [*sentences, *_open_questions(summary)]


def _open_questions(summary: Summary) -> list[str]:
    found = []
    absent = [device for device in summary.devices if device.status == "not_measured"]
    if absent:
        reasons = listed([f"{device.label} ({reason_words(device.reason)})" for device in absent])
        found.append(f"Not measured: {reasons}. Nothing is claimed about {'it' if len(absent) == 1 else 'them'}.")
    if not any(row.human_mos for row in summary.quality):
        found.append(
            "No people rated these voices: a predicted MOS is a model's guess, and a small predicted change still has "
            "to be heard by listeners."
        )
    return found
