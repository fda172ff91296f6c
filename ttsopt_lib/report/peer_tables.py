"""The tables of peers: frames for the CSV files, columns and captions for the page.

Two tables, because two things can be compared: the same voice by other means, and another voice.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ttsopt_lib.report import columns, numbers
from ttsopt_lib.report.html import FEW, Column, bullets, escape, paragraphs, table
from ttsopt_lib.report.schema import DeviceSummary, Estimate, PeerSummary, QualitySummary, Summary, TimingSummary
from ttsopt_lib.study import ORIGINAL

FIELDS = (
    "device kind variant label versions compared reason size_bytes size_reduction runtime threads samples median_ms "
    "median_ms_low median_ms_high rtf rtf_low rtf_high latency_reduction latency_reduction_low latency_reduction_high "
    "peak_memory_mb load_ms first_audio_ms first_audio_ms_low first_audio_ms_high energy_j_per_audio_second "
    "energy_j_per_audio_second_low energy_j_per_audio_second_high energy_reduction energy_reduction_low "
    "energy_reduction_high predictor sentences predicted_mos predicted_mos_low predicted_mos_high change change_low "
    "change_high wer cer"
)


def peers(summary: Summary) -> pd.DataFrame:
    """The original and the chosen variant, then the same voice by other means, device by device."""
    return _frame(summary, another_voice=False)


def other_voices(summary: Summary) -> pd.DataFrame:
    """Other voices beside the original, and beside the original through piper-tts, which takes text as they do."""
    return _frame(summary, another_voice=True)


def section(summary: Summary, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Both tables, or how to get them."""
    if not summary.peers:
        return [paragraphs(["Not measured: nobody asked for it. `ttsopt run --peers` adds it to this report."])]
    names = {device.device: device.label for device in summary.devices}
    predictor = summary.primary_predictor
    by = f"; predicted MOS by {predictor.label}" if predictor else ""
    parts = [
        ("peers", peer_columns(), f"The same voice by other means, timed in the same blocks{by}"),
        ("other_voices", other_voice_columns(), f"ANOTHER VOICE: absolute figures, not comparable in quality{by}"),
    ]
    found = []
    for name, shown, caption in parts:
        if not tables[name].empty:
            frame = tables[name].assign(group=tables[name]["device"].map(lambda device: names.get(device, "")))
            if any(columns.given(value) for value in frame["energy_j_per_audio_second"]):
                joules = Column(
                    "Joules per second of audio", lambda row: _three(row, "energy_j_per_audio_second"), True
                )
                shown = [*shown, joules]
            printed = FEW if len(summary.measured_devices) <= FEW else 1
            found.append(table(frame, shown, caption, name.replace("_", "-"), group="group", groups_on_paper=printed))
    return [*found, bullets(notes(summary))]


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
    alone = [f"`{peer.name}`" for peer in same_voice if not peer.same_noise]
    if alone:
        found.append(
            f"Scored with noise of their own, where the variants share theirs: {', '.join(alone)}. Their changes are "
            "paired by sentence alone."
        )
    return found


# --- rows ---------------------------------------------------------------------------------------------------------


def _frame(summary: Summary, another_voice: bool) -> pd.DataFrame:
    wanted = [peer for peer in summary.peers if peer.another_voice == another_voice]
    rows: list[dict[str, Any]] = []
    if wanted:
        measured = [device for device in summary.devices if device.status == "measured"]
        for device in measured:
            rows += [_ours(summary, device, name) for name in _beside(summary, device, another_voice)]
            rows += [_peer(summary, device, peer) for peer in _same_input(summary, another_voice)]
            rows += [_peer(summary, device, peer) for peer in wanted]
        if not measured:
            rows = [_peer(summary, None, peer) for peer in wanted]
    return pd.DataFrame(rows, columns=pd.Index(FIELDS.split()))


def _beside(summary: Summary, device: DeviceSummary, another_voice: bool) -> list[str]:
    """Our rows to compare with: the baseline, and what was chosen (or came closest)."""
    choice = next((choice for choice in summary.choices if choice.device == device.device), None)
    chosen = (choice.variant or choice.closest) if choice else None
    return [ORIGINAL, chosen] if chosen and not another_voice else [ORIGINAL]


def _same_input(summary: Summary, another_voice: bool) -> list[PeerSummary]:
    """The original as something that takes text: what another voice that takes text is to be held against."""
    found = [peer for peer in summary.peers if not peer.another_voice and peer.compared == "text to audio"]
    return found if another_voice else []


def _ours(summary: Summary, device: DeviceSummary, name: str) -> dict[str, Any]:
    variant = summary.variant(name)
    return {
        "device": device.device,
        "kind": "ours",
        "variant": name,
        "label": "",
        "versions": "",
        "compared": "phonemes to audio",
        "reason": "",
        "size_bytes": variant.size_bytes,
        "size_reduction": variant.size_reduction,
        **_timed(summary.timing_of(device, name)),
        **_heard(summary.quality_of(name)),
    }


def _peer(summary: Summary, device: DeviceSummary | None, peer: PeerSummary) -> dict[str, Any]:
    timing = next((one for one in peer.timings if device and one.device == device.device), None)
    primary = summary.primary_predictor
    heard = next((row for row in peer.quality if primary and row.predictor == primary.name), None)
    return {
        "device": device.device if device else "",
        "kind": "another voice" if peer.another_voice else "peer",
        "variant": peer.name,
        "label": peer.label,
        "versions": ", ".join(f"{name} {version}" for name, version in peer.versions.items()),
        "compared": peer.compared,
        "reason": peer.reason or (timing.reason if timing else None) or "",
        "size_bytes": peer.size_bytes,
        "size_reduction": peer.size_reduction,
        **_timed(timing.row if timing else None),
        **_heard(heard),
    }


def _timed(row: TimingSummary | None) -> dict[str, Any]:
    if row is None:
        return {}
    first = row.first_audio_ms
    return {
        "runtime": row.runtime,
        "threads": row.threads,
        "samples": row.samples,
        **_estimate("median_ms", Estimate(value=row.latency_ms.median, ci=row.latency_ms.ci)),
        **_estimate("rtf", Estimate(value=row.rtf, ci=row.rtf_ci)),
        **_estimate("latency_reduction", row.latency_reduction),
        "peak_memory_mb": row.peak_memory_mb,
        "load_ms": row.load_ms,
        **_estimate("first_audio_ms", Estimate(value=first.median, ci=first.ci) if first else None),
        **_estimate("energy_j_per_audio_second", row.energy_j_per_audio_second),
        **_estimate("energy_reduction", row.energy_reduction),
    }


def _heard(row: QualitySummary | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {
        "predictor": row.predictor,
        "sentences": row.sentences,
        **_estimate("predicted_mos", Estimate(value=row.predicted_mos.value, ci=row.predicted_mos.ci)),
        **_estimate("change", row.predicted_mos.change),
        "wer": row.wer,
        "cer": row.cer,
    }


def _estimate(name: str, figure: Estimate | None) -> dict[str, float | None]:
    low, high = (figure.ci or (None, None)) if figure else (None, None)
    return {name: figure.value if figure else None, f"{name}_low": low, f"{name}_high": high}


# --- how they are printed -----------------------------------------------------------------------------------------


def _name(row: Any) -> str:
    small = f"{row.compared}; not measured: {row.reason}" if row.reason else row.compared
    return f'{columns.name_of(row)}<br><span class="reason">{escape(small)}</span>'


def _size(row: Any) -> str:
    return columns.plain_cell(row.size_bytes, numbers.megabytes)


def _speed() -> list[Column]:
    return [
        Column("Size, MB", _size, True),
        Column("RTF", lambda row: _three(row, "rtf"), True),
        Column("Less time per second of audio", lambda row: columns.reduction_cell(row, "latency_reduction"), True),
        Column("Peak memory, MB", lambda row: columns.plain_cell(row.peak_memory_mb, numbers.number), True),
        Column("Load, ms", lambda row: columns.plain_cell(row.load_ms, numbers.milliseconds), True),
    ]


def _three(row: Any, name: str) -> str:
    """'0.042 [0.041, 0.043]'."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    if not columns.given(value):
        return columns.NONE
    interval = f"[{numbers.number(low, 3)}, {numbers.number(high, 3)}]" if columns.given(low) else ""
    return f'<span class="figure">{numbers.number(value, 3)}</span> <span class="interval">{interval}</span>'


def _error_rates(row: Any) -> str:
    """'7.7 % / 3.1 %', of words and of characters."""
    known = [numbers.percent(value, 1) for value in (row.wer, row.cer) if columns.given(value)]
    return " / ".join(known) or columns.NONE


def peer_columns() -> list[Column]:
    """The same voice: quality as a change against the original."""
    return [
        Column("What", _name),
        *_speed(),
        Column("Predicted MOS change", lambda row: columns.change_cell(row, "change"), True),
        Column("WER / CER", _error_rates, True),
    ]


def other_voice_columns() -> list[Column]:
    """Another voice: absolute figures."""
    return [
        Column("Voice", _name),
        *_speed(),
        Column("Predicted MOS", lambda row: columns.score_cell(row, "predicted_mos"), True),
        Column("WER / CER", _error_rates, True),
    ]
