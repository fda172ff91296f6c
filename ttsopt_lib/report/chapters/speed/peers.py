"""The tables of peers, and figures that others have published.

Peers have two tables, because two things can be compared: the same voice by other means, and another voice. Published
figures are a reference beside a device that was, or was not, measured; never a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ttsopt_lib.report.chapters.speed.timings import LESS
from ttsopt_lib.report.error_rates import WORDS, Rates, rate_of, rates_of
from ttsopt_lib.report.estimates import estimate
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.numbers import CHANGE, COUNT, FILE_SIZE, JOULES, MS, PERCENT, REDUCTION, RTF, SCORE
from ttsopt_lib.report.printing.html import bullets, on_paper, paragraphs
from ttsopt_lib.report.printing.table import BASELINE, NONE, Column, Table, name_of, reason
from ttsopt_lib.report.schema import DeviceSummary, PeerSummary, Summary
from ttsopt_lib.study import ORIGINAL


def peers(summary: Summary) -> Table:
    """The original and the chosen variant, then the same voice by other means, device by device."""
    return _table(summary, another_voice=False)


def other_voices(summary: Summary) -> Table:
    """Other voices beside the original, and beside the original through piper-tts, which takes text as they do."""
    return _table(summary, another_voice=True)


def _table(summary: Summary, another_voice: bool) -> Table:
    """Quality of the same voice is shown as a change against the original, that of another voice as it is."""
    predictor = summary.primary_predictor
    by = f"; predicted MOS by {predictor.label}" if predictor else ""
    rows = _rows(summary, another_voice)
    joules = any(row.timing and row.timing.energy_j_per_audio_second for row in rows)
    per_second = "timing.energy_j_per_audio_second"
    if another_voice:
        name, caption = "other_voices", f"ANOTHER VOICE: absolute figures, not comparable in quality{by}"
        voice, score, change = "Voice", "Predicted MOS", ""
    else:
        name, caption = "peers", f"The same voice by other means, timed in the same blocks{by}"
        voice, score, change = "What", "", "Predicted MOS change"
    return Table(
        name,
        caption,
        [
            Column("device", of="device.device"),
            Column("kind"),
            Column("variant", voice, cell=_name),
            Column("label"),
            Column("versions"),
            Column("compared"),
            Column("reason"),
            Column("size_bytes", "Size, MB", FILE_SIZE.bare),
            Column("size_reduction"),
            Column("runtime", of="timing.runtime"),
            Column("threads", of="timing.threads"),
            Column("samples", of="timing.samples"),
            Column("median_ms", of="timing.latency_ms.estimate", interval=True),
            Column(
                "rtf", "RTF", RTF, lambda row: row.timing and estimate(row.timing.rtf, row.timing.rtf_ci), interval=True
            ),
            Column("latency_reduction", LESS, REDUCTION, "timing.latency_reduction", interval=True),
            Column("peak_memory_mb", "Peak memory, MB", COUNT, "timing.peak_memory_mb"),
            Column("load_ms", "Load, ms", MS.bare, "timing.load_ms"),
            Column("first_audio_ms", of="timing.first_audio_ms.estimate", interval=True),
            Column("energy_j_per_audio_second", of=per_second, interval=True),
            Column("energy_reduction", of="timing.energy_reduction", interval=True),
            Column("predictor", of="quality.predictor"),
            Column("sentences", of="quality.sentences"),
            Column("predicted_mos", score, SCORE, "quality.predicted_mos", interval=True),
            Column("change", change, CHANGE, "quality.predicted_mos.change", interval=True),
            *_error_rates(rates_of(summary)),
            Column("", "Joules per second of audio" if joules else "", JOULES.bare._replace(digits=3), per_second),
        ],
        rows,
        group=lambda row: row.device.label if row.device else "",
        groups_on_paper=on_paper(summary.measured_devices),
    )


def section(summary: Summary) -> list[str]:
    """Both tables, or how to get them."""
    if not summary.peers:
        return [paragraphs(["Not measured: nobody asked for it. `ttsopt run --peers` adds it to this report."])]
    return [*(table.html for table in (peers(summary), other_voices(summary)) if table.rows), bullets(notes(summary))]


def notes(summary: Summary) -> list[str]:
    """What the rows hold and what they do not."""
    found = [
        "Less time is against the `original` in ONNX Runtime with the same number of threads, per second of audio, in "
        "the same blocks. It holds the change of runtime as well as what was done to the voice.",
        "“Text to audio” includes turning text into phonemes, “phonemes to audio” does not. Sizes are of the model's "
        "files; nobody's phonemizer data is in them. Peers are made with their tools' own defaults and are never "
        "candidates for the optimized variant.",
    ]
    same_voice = [peer for peer in summary.peers if peer.quality and not peer.another_voice]
    if alone := ", ".join(f"`{peer.name}`" for peer in same_voice if not peer.same_noise):
        found.append(
            f"Scored with noise of their own, where the variants share theirs: {alone}. Their changes are paired by "
            "sentence alone."
        )
    return found


# --- rows ---------------------------------------------------------------------------------------------------------


def _rows(summary: Summary, another_voice: bool) -> list[SimpleNamespace]:
    wanted = [peer for peer in summary.peers if peer.another_voice == another_voice]
    if not wanted:
        return []
    if not summary.measured_devices:
        return [_peer(summary, None, peer) for peer in wanted]
    # beside another voice, which takes text: the original as something that takes text
    takes_text = [peer for peer in summary.peers if not peer.another_voice and peer.compared == "text to audio"]
    same_input = takes_text if another_voice else []
    rows = []
    for device in summary.measured_devices:
        ours = [ORIGINAL] if another_voice else [ORIGINAL, findings.shown_on(summary, device)]
        rows += [_ours(summary, device, name) for name in ours if name]
        rows += [_peer(summary, device, peer) for peer in [*same_input, *wanted]]
    return rows


def _ours(summary: Summary, device: DeviceSummary, name: str) -> SimpleNamespace:
    variant = summary.variant(name)
    return SimpleNamespace(
        device=device,
        kind="ours",
        variant=name,
        label="",
        versions="",
        compared="phonemes to audio",
        reason="",
        size_bytes=variant.size_bytes,
        size_reduction=variant.size_reduction,
        timing=summary.timing_of(device, name),
        quality=summary.quality_of(name),
    )


def _peer(summary: Summary, device: DeviceSummary | None, peer: PeerSummary) -> SimpleNamespace:
    timing = next((one for one in peer.timings if device and one.device == device.device), None)
    primary = summary.primary_predictor
    return SimpleNamespace(
        device=device,
        kind="another voice" if peer.another_voice else "peer",
        variant=peer.name,
        label=peer.label,
        versions=", ".join(f"{name} {version}" for name, version in peer.versions.items()),
        compared=peer.compared,
        reason=peer.reason or (timing.reason if timing else None) or "",
        size_bytes=peer.size_bytes,
        size_reduction=peer.size_reduction,
        timing=timing.row if timing else None,
        quality=next((row for row in peer.quality if primary and row.predictor == primary.name), None),
    )


# --- cells --------------------------------------------------------------------------------------------------------


def _name(row: Any) -> str:
    small = f"{row.compared}; not measured: {row.reason}" if row.reason else row.compared
    if row.quality and row.quality.fewer:  # a first look hears more of the original
        small += f"; n = {row.quality.sentences}"
    return f"{name_of(row)}<br>{reason(small)}"


def _error_rates(rates: Rates) -> list[Column]:
    """Columns of the error rates; '7.7 % / 3.1 %', of words and of characters, in a cell whose heading names both."""

    def rate(name: str) -> Callable[[Any], float | None]:
        return lambda row: found.value if row.quality and (found := rate_of(row.quality, name)) else None

    def cell(row: Any) -> str:
        if rates.relative and row.variant == ORIGINAL:
            return BASELINE
        shown = [column.value(row) for column in (columns if rates is WORDS else columns[:1])]
        return " / ".join(PERCENT.value(one) for one in shown if one is not None) or NONE

    names = [rates.main, rates.fine] if rates.fine else [rates.main]
    columns = [Column(name, "", PERCENT, rate(name)) for name in names]
    columns[0] = replace(columns[0], heading=rates.heading, cell=cell)
    return columns


# --- figures that others have published: a reference, never a result --------------------------------------------------

SOURCE = "https://k2-fsa.github.io/sherpa/onnx/tts/pretrained_models/rtf.html"
BOARD = "Raspberry Pi 4 Model B Rev 1.5"
VOICE = "vits-piper-en_US-lessac-medium"
RTF_BY_THREADS = {1: 0.774, 2: 0.482, 3: 0.390, 4: 0.357}


def raspberry_pi_4() -> Table:
    """sherpa-onnx's real-time factors of a Piper medium voice, float32, 61 MB; published without intervals."""
    return Table(
        "published",
        "Reference, published by others and not measured here: a Piper medium voice on a Raspberry Pi 4",
        [
            Column("board", "Board", of=lambda row: BOARD),
            Column("runtime", "Runtime", of=lambda row: "sherpa-onnx"),
            Column("voice", "Voice", of=lambda row: VOICE, cell=lambda row: f"<code>{VOICE}</code>"),
            Column("threads", "Threads", COUNT),
            Column("rtf", "RTF", RTF),
            Column("source", of=lambda row: SOURCE),
        ],
        [SimpleNamespace(threads=threads, rtf=rtf) for threads, rtf in RTF_BY_THREADS.items()],
    )


def published_section(summary: Summary) -> list[str]:
    """The table and its source, where the report has a Raspberry Pi in it: for reference, never as a result."""
    if not any(device.kind == "raspberry_pi" for device in summary.devices):
        return []
    source = f'<p class="small">Source: <a href="{SOURCE}">{SOURCE}</a>. Published without intervals.</p>'
    return [raspberry_pi_4().html + source]
