"""Whether a study's texts are in the language that the voice speaks: both are named, and here they are compared."""

from __future__ import annotations

import re
from pathlib import Path

from ttsopt_lib.voices.piper import VoiceConfig, VoiceError


def language_doubt(config: VoiceConfig, language: str | None) -> list[str]:
    """What to say where a voice speaks another language than the texts are in; nothing where it is the same, or where
    nobody has said in which `language` (as in `en`) the texts are."""
    phonemized = config.phoneme_type == "espeak" and config.espeak.voice
    key = "espeak.voice" if phonemized else "language.code"
    speaks = config.espeak.voice if phonemized else config.language_code
    return other_language(language, speaks, f"its config, key {key}")


def other_language(language: str | None, speaks: str, where: str) -> list[str]:
    """The same of a voice that `speaks` a language; `where` says where that is written."""
    if not language or not speaks or base_language(language) == base_language(speaks):
        return []
    return [
        f"language: the study's texts are in {language!r}, but the voice speaks {speaks!r} ({where}): "
        "give the study texts in the voice's language, and their language"
    ]


def refuse_other_language(config: VoiceConfig, language: str | None, corpus: Path) -> None:
    """Training on a language that the voice does not speak is hours for nothing.

    Raises:
        VoiceError: the texts are in another language than the voice's.
    """
    for doubt in language_doubt(config, language):
        raise VoiceError(f"{corpus}: {doubt} (or leave 'language' out to train on them all the same)")


def base_language(code: str) -> str:
    """The language of a code without country, script or accent, in two letters where it has two: `de` of `deu_AT`."""
    from babel.core import get_global

    base = re.split(r"[-_+]", code.lower())[0]
    known = get_global("language_aliases").get(base) or base
    return {"nb": "no", "nn": "no"}.get(known, known)
