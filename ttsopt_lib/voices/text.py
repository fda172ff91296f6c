"""Text to phoneme ids, exactly as `piper` makes them, and the files that sentences come from."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from ttsopt_lib.study import TtsoptError
from ttsopt_lib.voices.piper import VoiceConfig, VoiceError, piper_json

if TYPE_CHECKING:
    from piper import PiperVoice as Speaker


class TextError(TtsoptError, ValueError):
    """Text that cannot be spoken, or a sentence file that cannot be used; the message says what would be right."""


def phoneme_ids(config: VoiceConfig, text: str) -> list[list[int]]:
    """Phoneme ids of each sentence in a text, as `piper` splits it.

    Raises:
        TextError: if the text gives no phonemes.
        VoiceError: if the voice's config names a phonemizer or language that does not exist.
    """
    voice = _speaker(config)
    return [voice.phonemes_to_ids(sentence) for sentence in _phonemes(config, text)]


def utterance_ids(config: VoiceConfig, text: str) -> list[int]:
    """Phoneme ids of a text spoken in one go: its sentences joined by a space.

    Raises:
        TextError: if the text gives no phonemes.
        VoiceError: if the voice's config names a phonemizer or language that does not exist.
    """
    first, *others = _phonemes(config, text)
    joined = list(first)
    for sentence in others:
        joined += [" ", *sentence]
    return _speaker(config).phonemes_to_ids(joined)


def read_sentences(path: str | Path) -> list[str]:
    """The sentences of a UTF-8 text file, one a line. Empty lines and lines that start with # are left out.

    Lines end as editors end them (LF, CR LF, CR), and by no other sign; a byte order mark is no part of the first.

    Raises:
        TextError: if the file is missing, is not text, or holds no sentence.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise TextError(f"{path}: no such file; it should hold sentences, one a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path}: cannot be read as UTF-8 text ({error}); it should hold sentences") from error
    sentences = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not sentences:
        raise TextError(f"{path}: holds no sentence; write one a line (lines that start with # do not count)")
    return sentences


def _phonemes(config: VoiceConfig, text: str) -> list[list[str]]:
    try:
        sentences = _speaker(config).phonemize(text)
    except Exception as error:  # every phonemizer raises its own
        raise VoiceError(
            f"the voice's config: keys phoneme_type ({config.phoneme_type}) and espeak.voice "
            f"({config.espeak.voice}): the phonemizer failed: {error}"
        ) from error
    # Pauses alone are no speech: there has to be a phoneme that the voice knows.
    if not any(_is_speech(config, phoneme) for sentence in sentences for phoneme in sentence):
        raise TextError(f"text {text[:60]!r} gives no phonemes: write words in the voice's language")
    return [sentence for sentence in sentences if sentence]


def _is_speech(config: VoiceConfig, phoneme: str) -> bool:
    return phoneme in config.phoneme_id_map and any(unicodedata.category(c)[0] in "LN" for c in phoneme)


def _speaker(config: VoiceConfig) -> "Speaker":
    """Piper's own phonemizer for the voice. A session is for speaking, which nothing here does."""
    from piper import PiperVoice as Speaker
    from piper.config import PiperConfig

    settings = piper_json(config)
    return Speaker(session=None, config=PiperConfig.from_dict(settings))  # type: ignore[arg-type]
