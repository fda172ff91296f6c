"""Where the time goes: ONNX Runtime's own profile of a voice, by stage and by operator type.

A node belongs to the stage that its name begins with (``/enc_p/...``): the scopes of the network that Piper exports,
which our own exports and the quantizers keep. What has no scope (a shared random generator, nodes that the runtime
made by fusing others) is "other". Profiling slows a run down a little, so only shares and ratios are taken from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SCOPES = {"enc_p": "text encoder", "emb_g": "text encoder", "dp": "durations", "flow": "flow", "dec": "decoder"}
STAGES = ("text encoder", "durations", "flow", "decoder", "other")
CONTAINERS = {"If", "Loop", "Scan"}  # their time is that of the nodes inside, which are listed as well
WARMUP_PASSES, PASSES = 1, 2


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
    return shares(events, WARMUP_PASSES * len(sentences), PASSES)


def shares(events: list[dict[str, Any]], uncounted_runs: int, passes: int) -> dict[str, dict[str, float]]:
    """The node times of a profile by stage and by operator type, in seconds per pass, without the first runs."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    begin = runs[uncounted_runs]
    stages: Counter[str] = Counter(dict.fromkeys(STAGES, 0.0))  # type: ignore[arg-type]
    operators: Counter[str] = Counter()
    for event in events:
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < begin:
            continue
        operator = event["args"]["op_name"]
        if operator in CONTAINERS:
            continue
        seconds = event["dur"] / 1e6 / passes
        stages[stage_of(event["name"])] += seconds
        operators[operator] += seconds
    return {"stages": dict(stages), "operators": dict(operators.most_common())}
