"""Where the time goes: ONNX Runtime's own profile of a voice, by stage and by operator type.

A node belongs to the stage that its name begins with (`/enc_p/...`): the scopes of the network that Piper exports,
which our own exports and the quantizers keep. Where the runtime puts an array into the order that its convolutions want
and back, its nodes have no scope, and belong to the stage of the convolution that they serve. What else has no scope (a
shared random generator, nodes that the runtime made by fusing others) is "other". Profiling slows a run down a little,
so only shares and ratios are taken from it.

Of a model that is no VITS the parts are kinds of work: convolutions, matrix products, recurrent layers.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ttsopt_lib.measure.runtimes.onnx_runtime import onnxruntime_session, speaker_of

SCOPES = {"enc_p": "text encoder", "emb_g": "text encoder", "dp": "durations", "flow": "flow", "dec": "decoder"}
STAGES = ("text encoder", "durations", "flow", "decoder", "other")
KINDS = {  # by what an operator's name holds
    "convolutions": ("Conv",),
    "matrix products": ("MatMul", "Gemm"),
    "recurrent layers": ("LSTM", "GRU", "RNN"),
    "other": ("",),
}
CONTAINERS = {"If", "Loop", "Scan"}  # their time is that of the nodes inside, which are listed as well
WARMUP_PASSES, PASSES = 1, 2


def stage_of(node: str) -> str:
    """The stage of a node by its name: `/dec/ups.0/ConvTranspose` is "decoder"."""
    scope = node.lstrip("/").partition("/")[0] if "/" in node else ""
    return SCOPES.get(scope, "other")


def kind_of(operator: str) -> str:
    """The kind of work that an operator does: `MatMulInteger` is "matrix products"."""
    return next(kind for kind, parts in KINDS.items() if any(part in operator for part in parts))


def profile_onnxruntime(
    row: dict[str, Any], sentences: Sequence[Any], scales: list[float], speaker: int | None
) -> dict[str, dict[str, float]]:
    """Seconds per pass over the sentences: `{"stages": {...}, "operators": {...}}`. Runs in a worker process."""
    with TemporaryDirectory(prefix="ttsopt-") as folder:
        session = onnxruntime_session(row, profile=str(Path(folder) / "profile"))
        speak = speaker_of(session, scales, speaker, row)
        for _ in range(WARMUP_PASSES + PASSES):
            for ids in sentences:
                speak(ids)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return shares(events, len(sentences), WARMUP_PASSES)


def shares(events: list[dict[str, Any]], sentences: int, uncounted_passes: int) -> dict[str, dict[str, float]]:
    """The node times of a profile by stage and by operator type, in seconds for one pass over the sentences.

    Stages are kinds of work where no node is of a stage.

    Each node counts with its shortest time over the passes: what interrupts one run does not look like a slow stage.
    """
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    kernels = sorted(filter(_is_kernel, events), key=lambda event: event["ts"])
    times: dict[tuple[int, str, str], Counter[int]] = {}
    stage: dict[str, str] = {}
    named = _stages(kernels)
    if set(named) == {"other"}:
        named = [kind_of(event["args"]["op_name"]) for event in kernels]
    for event, its_stage in zip(kernels, named, strict=True):
        number, sentence = divmod(bisect_right(runs, event["ts"]) - 1, sentences)
        if number >= uncounted_passes:
            name = f"{event['name']} {event['args'].get('node_index')}"
            stage[name] = its_stage
            node = (sentence, name, event["args"]["op_name"])
            times.setdefault(node, Counter())[number] += event["dur"]
    stages: dict[str, float] = dict.fromkeys(STAGES if set(named) <= set(STAGES) else KINDS, 0.0)
    operators: Counter[str] = Counter()
    for (_, name, operator), passes in times.items():
        seconds = min(passes.values()) / 1e6
        stages[stage[name]] += seconds
        operators[operator] += seconds  # type: ignore[assignment]
    return {"stages": stages, "operators": dict(operators.most_common())}


def _is_kernel(event: dict[str, Any]) -> bool:
    timed = event["cat"] == "Node" and event["name"].endswith("_kernel_time")
    return timed and event["args"]["op_name"] not in CONTAINERS


def _stages(kernels: Sequence[dict[str, Any]]) -> list[str]:
    """The stage of each of the kernels, which are in the order in which they ran."""
    named = [stage_of(kernel["name"]) for kernel in kernels]
    before = list(accumulate(named, _last_known))
    after = list(accumulate(reversed(named), _last_known))[::-1]
    found = []
    for number, kernel in enumerate(kernels):
        served = {"ReorderInput": after, "ReorderOutput": before}.get(kernel["args"]["op_name"], named)
        found.append(named[number] if named[number] != "other" else served[number])
    return found


def _last_known(known: str, stage: str) -> str:
    return known if stage == "other" else stage
