"""Peers: what people use instead of our variants. This is the list; `runtimes/peer_runtimes.py` speaks with them.

| peer | what it is |
|---|---|
| `piper-tts` | the original voice through piper-tts's own Python API |
| `sherpa-onnx` | the original voice through sherpa-onnx's own Python API |
| `ort-int8-dynamic` | ONNX Runtime's `quantize_dynamic`, uint8 weights: what sherpa-onnx ships |
| `ort-fp16` | ONNX Runtime's float16 converter, inputs and outputs float32 |
| `openvino-fp32`, `-bf16` | the original's file in OpenVINO, its precision hint pinned |
| `openvino-int8` | NNCF's post-training quantization with its defaults, in OpenVINO |
| `hibari-tts` | the smallest good voice that pip installs: *another voice*, never compared with ours in quality |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ttsopt_lib.code_hash import versions
from ttsopt_lib.records.device import Runtime
from ttsopt_lib.study import PeerName

Compared = Literal["phonemes to audio", "text to audio"]


class Peer(NamedTuple):
    """One peer: how it is spoken with, and what its figures may be compared with."""

    label: str  # as the report names it
    runtime: Runtime
    packages: tuple[str, ...]  # distributions that it takes
    compared: Compared = "phonemes to audio"
    another_voice: bool = False
    same_noise: bool = True  # it can be given the noise that our variants are scored with


CATALOGUE: Mapping[str, Peer] = {
    "piper-tts": Peer("piper-tts", "piper-tts", ("piper-tts", "onnxruntime"), "text to audio", same_noise=False),
    "sherpa-onnx": Peer("sherpa-onnx", "sherpa-onnx", ("sherpa-onnx", "onnx"), same_noise=False),
    "ort-int8-dynamic": Peer("ONNX Runtime, dynamic int8", "onnxruntime", ("onnxruntime", "onnx")),
    "ort-fp16": Peer("ONNX Runtime, float16", "onnxruntime", ("onnxruntime", "onnx")),
    "openvino-fp32": Peer("OpenVINO, float32", "openvino", ("openvino",)),
    "openvino-bf16": Peer("OpenVINO, bfloat16", "openvino", ("openvino",)),
    "openvino-int8": Peer("OpenVINO, int8 by NNCF", "openvino", ("openvino", "nncf"), same_noise=False),
    "hibari-tts": Peer("hibari-tts", "hibari-tts", ("hibari-tts",), "text to audio", True, False),
}
TEXT_RUNTIMES = {peer.runtime for peer in CATALOGUE.values() if peer.compared == "text to audio"}


def versions_of(name: PeerName) -> dict[str, str]:
    """Distribution -> version of the peer's packages, without those that are missing."""
    return {package: found for package, found in versions(CATALOGUE[name].packages).items() if found}


def missing_packages(name: PeerName) -> str | None:
    """Why the peer cannot be had here, with the command that helps; None where all its packages are installed."""
    missing = [package for package, found in versions(CATALOGUE[name].packages).items() if found is None]
    return f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}" if missing else None
