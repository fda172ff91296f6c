"""The model card of a published student: what it is, what it was made from, on which terms, how near it came."""

from __future__ import annotations

from typing import Any

from torch import nn

from ttsopt_lib.networks.istft import IstftDecoder

LICENCES = {
    "en_US-joe-medium": (
        "The teacher, `en_US-joe-medium` (rhasspy/piper-voices), was trained on a CC0 recording and fine-tuned "
        "from `en_US-lessac-medium`, whose corpus (Blizzard Challenge 2013, Lessac Technologies) restricts "
        "commercial use. A student is made from its teacher and inherits that chain: check it before you ship "
        "this voice or anything made from it."
    )
}
FLATTERED = """The weights kept are those with the best predicted MOS on these same
utterances, which flatters its change."""
UNKNOWN_LICENCE = "A student is made from its teacher: whatever terms the teacher voice has hold for this student too."


def model_card(record: dict[str, Any], students: dict[str, nn.Module]) -> str:
    """Markdown for the README.md beside the students' weights."""
    best = record["best"]
    table = "\n".join(f"| {name} | {value} |" for name, value in results(record))
    whole = "flow" in students
    stages = listed([stage.replace("_", " ") for stage in students])
    config = record["config"]
    trained, given = {
        "decoder": ("the decoder", "latents"),
        "speech": ("flow and decoder", "samples of the prior"),
    }[record["training"]]
    return f"""# Student{"s" if whole else ""} for {record["voice"]}: {stages}

{"Replace those stages" if whole else "Replaces the decoder"} of the Piper voice `{record["voice"]}`.
{record["parameters"] / 1e6:.2f} M parameters, stored as float16.

| stage | parameters | what it is |
|---|---|---|
{chr(10).join(stage_row(stage, student) for stage, student in students.items())}

## Data

{heard(record)}, at its
natural noise scales: no recording was used. Hashes of voice, corpus and data are in `record.json`.

## Training

{best["step"]} steps of {trained}, {best["minutes"]:.0f} minutes of wall time
on {machine_words(record["machine"])}. Spectral regression that hears phase; from step
{config["regression_steps"]} on three complex-spectrum discriminators of {config["discriminator_channels"]} channels as
well. The weights are a moving average, validated as they are stored.
Steps skipped for a non-finite gradient: {"not kept" if best["skipped"] is None else best["skipped"]}.
{earlier(record)}{notes(record)}
## Results

On {record["held_out_utterances"]} utterances that were held out; teacher and student were given the same {given},
noise and durations. {FLATTERED}

| | |
|---|---|
{table}

A predicted MOS is what a network guesses listeners would say; no listener rated this student. DistillMOS
hears nothing above 8 kHz.

## Licence

{LICENCES.get(record["voice"], UNKNOWN_LICENCE)}
"""


def results(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of results."""
    best = record["best"]
    rows = []
    if best["teacher_predicted_mos"] is not None:
        rows.append(("predicted MOS of the teacher (DistillMOS)", f"{best['teacher_predicted_mos']:.2f}"))
    for name, key in (("predicted MOS", "predicted_mos_change"), ("DNSMOS P.808", "p808_change")):
        if key in best:
            rows.append((f"change of {name}", change_words(record, key)))
    rows.append(("log-spectral distance", f"{best['log_spectral_distance_db']:.1f} dB"))
    if "log_spectral_distance_above_8khz_db" in best:
        rows.append(("log-spectral distance above 8 kHz", f"{best['log_spectral_distance_above_8khz_db']:.1f} dB"))
        rows.append(("level above 8 kHz against the teacher", f"{best['level_above_8khz_change_db']:+.1f} dB"))
    if "f0_error_cents" in best:
        rows.append(("error of F0, median of an utterance", f"{best['f0_error_cents']:.0f} cents"))
    text = record.get("trainings", {}).get("text_encoder", {}).get("best")
    if text and "frames_off_per_phoneme" in text:
        rows.append(("frames a phoneme's duration is off, mean", f"{text['frames_off_per_phoneme']:.2f}"))
        rows.append(("change of length with durations of its own", f"{100 * text['length_change']:+.1f} %"))
    macs = record["macs_per_frame"]
    fewer = macs["teacher"] / macs["student"]
    rows.append(
        (
            "multiply-accumulates of the decoder for one latent frame",
            f"{macs['student'] / 1e6:.2f} M, teacher {macs['teacher'] / 1e6:.2f} M: {fewer:.1f} times fewer",
        )
    )
    if "speed" in record:
        speed = record["speed"]
        rows.append(
            (
                f"decoder alone, {speed['frames']} frames, {speed['runtime']}",
                f"{speed['student_ms']:.1f} ms, teacher {speed['teacher_ms']:.1f} ms: {speed['speedup']:.1f}x",
            )
        )
    return rows


def change_words(record: dict[str, Any], key: str) -> str:
    """'-0.030 (standard error 0.023)'; one utterance has none."""
    error = record["best"].get(f"{key}_standard_error")
    known = f"standard error {error:.3f}" if error is not None else "standard error not kept"
    return f"{record['best'][key]:+.3f} ({'of one utterance' if record['held_out_utterances'] == 1 else known})"


def stage_row(stage: str, student: nn.Module) -> str:
    """What a student is, as a row of a table."""
    millions = sum(parameter.numel() for parameter in student.parameters()) / 1e6
    sizes: Any = student.config
    if isinstance(student, IstftDecoder):
        words = (
            f"{sizes.blocks} ConvNeXt blocks of {sizes.channels} channels (inner {sizes.inner_channels}) at frame "
            f"rate and one inverse short-time Fourier transform ({sizes.n_fft} points, hop {sizes.hop})"
        )
    elif stage == "text_encoder":
        convolutions, attentions = (sizes.layers.count(kind) for kind in "ca")
        words = (
            f"{convolutions} ConvNeXt blocks of {sizes.channels} channels (inner {sizes.inner_channels}) and "
            f"{attentions} layers of attention"
        )
    else:
        words = f"{sizes.blocks} ConvNeXt blocks of {sizes.channels} channels (inner {sizes.inner_channels})"
    return f"| {stage.replace('_', ' ')} | {millions:.2f} M | {words} |"


def earlier(record: dict[str, Any]) -> str:
    """The trainings before the last, in words."""
    words = {
        "text_encoder": "text encoder and duration predictor",
        "flow": "the flow alone, by regression",
        "decoder": "the decoder alone, with the teacher's inner activations as hints",
    }
    rows = [
        f"- {words[name]}: {training['steps']} steps, {training['wall_minutes']:.0f} minutes"
        for name, training in record.get("trainings", {}).items()
    ]
    for name, training in (*record.get("trainings", {}).items(), (record.get("training"), record)):
        if began := training.get("began_with"):
            rows.append(
                f"- {name}: began with the students of `{began['voice']}` ({began['minutes']:.0f} minutes), where they "
                f"have its sizes ({100 * began['share']:.0f} % of the weights)"
            )
    if "started_from_minutes" in record:
        rows.append(
            f"- the published students that these began with (weights `{record['started_from'][:12]}`): "
            f"{record['started_from_minutes']:.0f} minutes"
        )
    return "\nBeside and before that:\n\n" + "\n".join(rows) + "\n" if rows else ""


def heard(record: dict[str, Any]) -> str:
    """How much the teacher spoke, as far as the record says."""
    if record["teacher_hours"] is None:
        return "Speech of the teacher itself, of an amount that the record does not say"
    return (
        f"{record['teacher_hours']:.2f} hours that the teacher itself spoke ({record['teacher_utterances']} utterances)"
    )


def machine_words(machine: dict[str, Any]) -> str:
    """What trained: the accelerator, if there was one, and the processor."""
    named = [name for name in (machine.get("accelerator"), machine["cpu"]) if name]
    return f"{' with '.join(named)} ({machine['logical_cores']} cores)"


def notes(record: dict[str, Any]) -> str:
    """What else is to be said of a record, such as what was not kept."""
    return "".join(f"\n{note}\n" for note in record.get("notes", []))


def listed(words: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
