"""Figures that others have published: a reference beside a device that was, or was not, measured; never a result."""

from __future__ import annotations

from types import SimpleNamespace

from ttsopt_lib.report.numbers import COUNT, RTF
from ttsopt_lib.report.printing.table import Column, Table
from ttsopt_lib.report.schema import Summary

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


def section(summary: Summary) -> list[str]:
    """The table and its source, where the report has a Raspberry Pi in it: for reference, never as a result."""
    if not any(device.kind == "raspberry_pi" for device in summary.devices):
        return []
    source = f'<p class="small">Source: <a href="{SOURCE}">{SOURCE}</a>. Published without intervals.</p>'
    return [raspberry_pi_4().html + source]
