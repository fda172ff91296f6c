"""Where the time goes: ONNX Runtime's own profile of a voice, by stage and by operator type.

A node belongs to the stage that its name begins with (``/enc_p/...``): the scopes of the network that Piper exports,
which our own exports and the quantizers keep. What has no scope (a shared random generator, nodes that the runtime
made by fusing others) is "other". Profiling slows a run down a little, so only shares and ratios are taken from it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SCOPES = {"enc_p": "text encoder", "emb_g": "text encoder", "dp": "durations", "flow": "flow", "dec": "decoder"}
STAGES = ("text encoder", "durations", "flow", "decoder", "other")
CONTAINERS = {"If", "Loop", "Scan"}  # their time is that of the nodes inside, which are listed as well
WARMUP_PASSES, PASSES = 1, 4


def stage_of(node: str) -> str:
    """The stage of a node by its name: ``/dec/ups.0/ConvTranspose`` is "decoder"."""
    scope = node.lstrip("/").partition("/")[0] if "/" in node else ""
    return SCOPES.get(scope, "other")


def profile_onnxruntime(
    row: dict[str, Any], sentences: Sequence[np.ndarray], scales: list[float], speaker: int | None
) -> dict[str, dict[str, float]]:
    """Seconds per pass over the sentences: ``{"stages": {...}, "operators": {...}}``. Runs in a worker process."""
    from ttsopt_lib.measure.worker import onnxruntime_session, speaker_of

    with TemporaryDirectory(prefix="ttsopt-") as folder:
        session = onnxruntime_session(row, profile=str(Path(folder) / "profile"))
        speak = speaker_of(session, scales, speaker)
        for _ in range(WARMUP_PASSES + PASSES):
            for ids in sentences:
                speak(ids)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return shares(events, len(sentences), WARMUP_PASSES)


def shares(events: list[dict[str, Any]], sentences: int, uncounted_passes: int) -> dict[str, dict[str, float]]:
    """The node times of a profile by stage and by operator type, in seconds for one pass over the sentences.

    Each node counts with its shortest time over the passes: what interrupts one run does not look like a slow stage.
    """
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    times: dict[tuple[int, str, str], Counter[int]] = {}
    for event in events:
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        if event["args"]["op_name"] in CONTAINERS:
            continue
        number, sentence = divmod(bisect_right(runs, event["ts"]) - 1, sentences)
        if number >= uncounted_passes:
            node = (sentence, f"{event['name']} {event['args'].get('node_index')}", event["args"]["op_name"])
            times.setdefault(node, Counter())[number] += event["dur"]
    stages: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    operators: Counter[str] = Counter()
    for (_, name, operator), passes in times.items():
        seconds = min(passes.values()) / 1e6
        stages[stage_of(name)] += seconds
        operators[operator] += seconds  # type: ignore[assignment]
    return {"stages": stages, "operators": dict(operators.most_common())}
