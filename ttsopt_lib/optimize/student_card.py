"""The model card of a published student: what it is, what it was made from, on which terms, how near it came."""

from __future__ import annotations

from typing import Any

from ttsopt_lib.networks.istft import IstftDecoder

LICENCES = {
    "en_US-joe-medium": (
        "The teacher, `en_US-joe-medium` (rhasspy/piper-voices), was trained on a CC0 recording and fine-tuned "
        "from `en_US-lessac-medium`, whose corpus (Blizzard Challenge 2013, Lessac Technologies) restricts "
        "commercial use. A student is made from its teacher and inherits that chain: check it before you ship "
        "this voice or anything made from it."
    )
}
UNKNOWN_LICENCE = "A student is made from its teacher: whatever terms the teacher voice has hold for this student too."


def model_card(record: dict[str, Any], student: IstftDecoder) -> str:
    """Markdown for the README.md beside a student's weights."""
    best, sizes = record["best"], student.config
    error = best.get("predicted_mos_change_standard_error", 0.0)
    results = [
        ("predicted MOS of the teacher (DistillMOS)", f"{best['teacher_predicted_mos']:.2f}"),
        ("change of predicted MOS", f"{best['predicted_mos_change']:+.3f} (standard error {error:.3f})"),
        ("log-spectral distance", f"{best['log_spectral_distance_db']:.1f} dB"),
    ]
    if "log_spectral_distance_above_8khz_db" in best:
        results.append(("log-spectral distance above 8 kHz", f"{best['log_spectral_distance_above_8khz_db']:.1f} dB"))
        results.append(("level above 8 kHz against the teacher", f"{best['level_above_8khz_change_db']:+.1f} dB"))
    macs = record["macs_per_frame"]
    fewer = macs["teacher"] / macs["student"]
    results.append(
        (
            "multiply-accumulates for one latent frame",
            f"{macs['student'] / 1e6:.2f} M, teacher {macs['teacher'] / 1e6:.2f} M: {fewer:.1f} times fewer",
        )
    )
    if "speed" in record:
        speed = record["speed"]
        results.append(
            (
                f"decoder alone, {speed['frames']} frames, {speed['runtime']}",
                f"{speed['student_ms']:.1f} ms, teacher {speed['teacher_ms']:.1f} ms: {speed['speedup']:.1f}x",
            )
        )
    table = "\n".join(f"| {name} | {value} |" for name, value in results)
    config, machine = record["config"], record["machine"]
    return f"""# Student decoder for {record["voice"]}

Replaces the HiFi-GAN decoder of the Piper voice `{record["voice"]}`: {sizes.blocks} ConvNeXt blocks of
{sizes.channels} channels (inner {sizes.inner_channels}) at frame rate and one inverse short-time Fourier
transform ({sizes.n_fft} points, hop {sizes.hop}). {record["parameters"] / 1e6:.2f} M parameters, stored as float16.

## Data

{record["teacher_hours"]:.2f} hours that the teacher itself spoke ({record["teacher_utterances"]} utterances, at its
natural noise scales): no recording was used. Hashes of voice, corpus and data are in `record.json`.

## Training

{best["step"]} steps, {best["minutes"]:.0f} minutes of wall time on {machine["cpu"]} ({machine["logical_cores"]} cores).
Spectral regression that hears phase, with the teacher's inner activations as hints; from step
{config["regression_steps"]} on three small complex-spectrum discriminators as well. The weights are a moving average,
validated as they are stored. Steps skipped for a non-finite gradient: {best["skipped"]}.

## Results

On {record["held_out_utterances"]} utterances that were held out; both decoders were given the same latents.

| | |
|---|---|
{table}

A predicted MOS is what a network guesses listeners would say; no listener rated this student. DistillMOS
hears nothing above 8 kHz.

## Licence

{LICENCES.get(record["voice"], UNKNOWN_LICENCE)}
"""
