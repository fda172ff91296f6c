"""Figures that others have published: a reference beside a device that was, or was not, measured; never a result."""

from __future__ import annotations

import pandas as pd

from ttsopt_lib.report.html import Column, escape, table

SOURCE = "https://k2-fsa.github.io/sherpa/onnx/tts/pretrained_models/rtf.html"
BOARD = "Raspberry Pi 4 Model B Rev 1.5"
RTF_BY_THREADS = {1: 0.774, 2: 0.482, 3: 0.390, 4: 0.357}


def raspberry_pi_4() -> pd.DataFrame:
    """sherpa-onnx's real-time factors of a Piper medium voice, float32, 61 MB; published without intervals."""
    rows = [
        {
            "board": BOARD,
            "runtime": "sherpa-onnx",
            "voice": "vits-piper-en_US-lessac-medium",
            "threads": threads,
            "rtf": rtf,
            "source": SOURCE,
        }
        for threads, rtf in RTF_BY_THREADS.items()
    ]
    return pd.DataFrame(rows)


def reference_table(frame: pd.DataFrame) -> str:
    """The table as the report prints it."""
    columns = [
        Column("Board", lambda row: escape(row.board)),
        Column("Runtime", lambda row: escape(row.runtime)),
        Column("Voice", lambda row: f"<code>{escape(row.voice)}</code>"),
        Column("Threads", lambda row: str(row.threads), True),
        Column("RTF", lambda row: f"{row.rtf:.3f}", True),
    ]
    caption = "Reference, published by others and not measured here: a Piper medium voice on a Raspberry Pi 4"
    source = f'<p class="small">Source: <a href="{SOURCE}">{SOURCE}</a>. Published without intervals.</p>'
    return table(frame, columns, caption, "published") + source
