"""Speak with peers; imported by the worker process of such a row and by nobody else in this layer.

Each opener gives a function from what the row is fed (phoneme ids [T], or a text) to the audio, and
the sampling rate where it is not the original voice's. Threads are pinned to the row's; noise and durations are fixed
as far as the runtime lets itself be told.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.measure.runtimes.onnx_runtime import Speak, piper_feeds, session_options

MODULES = {"openvino": "openvino", "piper-tts": "piper", "sherpa-onnx": "sherpa_onnx", "hibari-tts": "hibari"}
PRECISION_HINTS = {"openvino-fp32": "f32", "openvino-bf16": "bf16", "openvino-int8": "f32"}


def prepare_peer(runtime: str) -> None:
    """Import the runtime, which is no part of loading its model."""
    import_module(MODULES[runtime])


def open_peer(row: dict[str, Any], scales: list[float], speaker: int | None) -> tuple[Speak, int | None]:
    """The row's peer ready to speak, and its sampling rate in Hz; None: that of the original voice.

    Raises RuntimeError where it would not be what its name says.
    """
    if row["runtime"] == "openvino":
        return _openvino(row, scales, speaker), None
    if row["runtime"] == "piper-tts":
        return _piper_tts(row, scales, speaker), None
    if row["runtime"] == "sherpa-onnx":
        return _sherpa_onnx(row, scales, speaker), None
    return _hibari_tts(row)


# --- OpenVINO -----------------------------------------------------------------------------------------------------


def compile_openvino(model: Any, precision: str, threads: int) -> Any:
    """A model (path, bytes or openvino.Model) compiled for the CPU with its precision hint pinned: "f32" or "bf16".

    Left alone, the hint is bfloat16 wherever the processor has it. Raises RuntimeError where the processor has not.
    """
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError("this processor has no bfloat16 arithmetic")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }
    source = model if isinstance(model, openvino.Model) else core.read_model(model)
    return core.compile_model(source, "CPU", settings)


def _openvino(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    compiled = compile_openvino(row["model"], PRECISION_HINTS[row["variant"]], row["threads"])
    request, feeds_of = compiled.create_infer_request(), piper_feeds(scales, speaker)

    def speak(ids: np.ndarray) -> np.ndarray:
        request.infer(feeds_of(ids))
        return request.get_output_tensor(0).data

    return speak


# --- other people's Python APIs -----------------------------------------------------------------------------------


def open_piper_tts(model: Path, threads: int) -> Any:
    """The voice as `piper.PiperVoice`, which would otherwise take all cores."""
    import onnxruntime
    from piper import PiperVoice
    from piper.config import PiperConfig

    session = onnxruntime.InferenceSession(str(model), session_options(threads), providers=["CPUExecutionProvider"])
    config = json.loads(Path(f"{model}.json").read_text(encoding="utf-8-sig"))
    return PiperVoice(session=session, config=PiperConfig.from_dict(config))


def _piper_tts(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    from piper import SynthesisConfig

    voice = open_piper_tts(Path(row["model"]), row["threads"])
    noise, length, noise_w = scales
    settings = SynthesisConfig(speaker_id=speaker, noise_scale=noise, length_scale=length, noise_w_scale=noise_w)
    return lambda text: np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(text, settings)])


def open_sherpa_onnx(model: Path, scales: list[float], threads: int) -> Any:
    """`sherpa_onnx.OfflineTts` on a Piper voice with sherpa-onnx's metadata and tokens.txt beside it."""
    import sherpa_onnx

    noise, length, noise_w = scales
    vits = sherpa_onnx.OfflineTtsVitsModelConfig(
        model=str(model),
        lexicon="",
        tokens=str(model.with_name("tokens.txt")),
        noise_scale=noise,
        noise_scale_w=noise_w,
        length_scale=length,
    )
    settings = sherpa_onnx.OfflineTtsModelConfig(vits=vits, num_threads=threads, provider="cpu")
    return sherpa_onnx.OfflineTts(sherpa_onnx.OfflineTtsConfig(model=settings))


def sherpa_request(ids: np.ndarray, symbols: dict[int, str], speaker: int | None) -> Any:
    """Phoneme ids [T] as sherpa-onnx wants them: the phonemes' code points, without the pauses that it puts in."""
    import sherpa_onnx

    request = sherpa_onnx.GenerationConfig()
    request.sid = 0 if speaker is None else speaker  # sherpa-onnx has a number for a voice with one speaker too
    phonemes = "".join(symbols[int(number)] for number in ids)
    request.phoneme_codepoints = [[ord(one) for one in phonemes if one not in "_^$"]]
    return request


def sherpa_symbols(model: Path) -> dict[int, str]:
    """Id -> phoneme, from the tokens.txt beside the model."""
    lines = model.with_name("tokens.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    return {int(number): symbol or " " for symbol, number in (line.rsplit(" ", 1) for line in lines)}


def _sherpa_onnx(row: dict[str, Any], scales: list[float], speaker: int | None) -> Speak:
    model = Path(row["model"])
    voice, symbols = open_sherpa_onnx(model, scales, row["threads"]), sherpa_symbols(model)
    return lambda ids: voice.generate("", sherpa_request(ids, symbols, speaker)).samples


def _hibari_tts(row: dict[str, Any]) -> tuple[Speak, int]:
    from hibari import SAMPLE_RATE, Hibari

    voice = Hibari(threads=row["threads"])
    voice("Yes.")  # its text front end is read at the first sentence: that is loading, as the model is
    return lambda text: voice(text, seed=0), SAMPLE_RATE
