"""What a study's web page would save after measuring a phone: an invented record, to import and to spoil."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from ttsopt_lib.study import Study

PHONE = {
    "user_agent": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 "
    "Mobile Safari/537.36",
    "brands": "Google Chrome 141, Chromium 141",
    "platform": "Android",
    "mobile": True,
    "logical_cores": 8,
    "memory_gb": 8,
    "cross_origin_isolated": False,
    "simd": True,
    "webgpu": None,
}


def page_record(
    study: Study,
    /,
    models: Mapping[str, str] | None = None,
    threads: tuple[int, ...] = (1,),
    blocks: int = 6,
    speed: Mapping[str, float] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A page's record of a study.

    Args:
        models: variant -> SHA-256 of its model; default: nobody's.
        speed: variant -> its time as a part of the original's.
        changes: of the record, or with a dict as `browser` of what the browser tells.
    """
    draw = random.Random(7)
    texts = [(name, text) for name, group in study.sentences.timing.items() for text in group]

    def times(scale: float, wobble: float) -> list[list[float]]:
        return [
            [scale * (0.2 + number) * draw.uniform(1 - wobble, 1 + wobble) for number in range(len(texts))]
            for _ in range(blocks)
        ]

    rows = [
        {
            "variant": name,
            "threads": count,
            "model_sha256": (models or {}).get(name, "0" * 64),
            "load_seconds": [1.5],
            "first_seconds": [0.4 + number for number in range(len(texts))],
            "seconds": times((speed or {}).get(name, 1.0) / count**0.5, 0.02),
            "audio_seconds": times(2.0, 0.0),
        }
        for count in threads
        for name in study.variant_names
    ]
    record = {
        "format": "ttsopt browser record",
        "schema_version": 1,
        "study": study.name,
        "created": "2026-11-20T10:00:00Z",
        "commit": "c0ffee" * 6,
        "onnxruntime_web": "1.30.0",
        "provider": "wasm",
        "threads": list(threads),
        "scales": [0.667, 1, 0],
        "sentences": [
            {"length_class": name, "text": text, "phonemes": 10 * number + 9}
            for number, (name, text) in enumerate(texts)
        ],
        "rows": rows,
        "stopped_by": "budget",
        "elapsed_seconds": 61.2,
        "sittings": [{"started": "2026-11-20T10:00:00Z", "ended": "2026-11-20T10:01:01Z", "blocks": blocks}],
        "pauses": 0,
        "warnings": [],
    }
    browser = PHONE | changes.pop("browser", {})
    return json.loads(json.dumps({**record, "browser": browser, **changes}))
