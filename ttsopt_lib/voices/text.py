"""Text to phoneme ids, exactly as `piper` makes them, and the files that sentences come from."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.records.quality import MissingSymbol
from ttsopt_lib.voices.piper import VoiceConfig, VoiceError, piper_json

if TYPE_CHECKING:
    from piper import PiperVoice as Speaker


class TextError(TtsoptError, ValueError):
    """Text that cannot be spoken, or a sentence file that cannot be used; the message says what would be right."""


PAUSES = ",;:\N{EM DASH}"  # symbols behind which a phrase may end
LEAST_PHONEMES = 20  # of a phrase


def phoneme_ids(config: VoiceConfig, text: str, most: int | None = None, phrases: bool = False) -> list[list[int]]:
    """Phoneme ids of each sentence in a text, as `piper` splits it, without those that a tokenizer leaves nothing of.

    Args:
        config: the voice's config.
        text: what to say.
        most: phonemes of a sentence; a longer one is split between words. None: as long as it is.
        phrases: split sentences into phrases as well, behind commas, semicolons, colons and dashes.

    Raises:
        TextError: if the text gives no phonemes.
        VoiceError: if the voice's config names a phonemizer or language that does not exist.
    """
    sentences = _phonemes(config, text)
    if phrases:
        sentences = [part for sentence in sentences for part in _phrases(sentence)]
    if most is not None:
        sentences = [part for sentence in sentences for part in _split(sentence, most)]
    return [ids for sentence in sentences if (ids := _ids(config, sentence))]


def _phrases(phonemes: Sequence[str]) -> list[list[str]]:
    """Parts that end behind a pause; one of fewer than `LEAST_PHONEMES` goes with its neighbour."""
    parts: list[list[str]] = [[]]
    for number, phoneme in enumerate(phonemes):
        begins = number and phonemes[number - 1] in PAUSES and phoneme == " "
        if begins and len(parts[-1]) >= LEAST_PHONEMES <= len(phonemes) - number:
            parts.append([])
        else:
            parts[-1].append(phoneme)
    return parts


def _split(phonemes: Sequence[str], most: int) -> list[list[str]]:
    """Parts of so many phonemes at most, cut at spaces; a word that is longer stays whole."""
    parts: list[list[str]] = []
    word: list[str] = []
    for phoneme in (*phonemes, " "):
        if phoneme != " ":
            word.append(phoneme)
        elif word:
            if parts and len(parts[-1]) + 1 + len(word) <= most:
                parts[-1] += [" ", *word]
            else:
                parts.append(word)
            word = []
    return parts


def utterance_ids(config: VoiceConfig, text: str) -> list[int]:
    """Phoneme ids of a text spoken in one go: its sentences joined by a space. Raises as `phoneme_ids`."""
    return _ids(config, _joined(_phonemes(config, text)))


def missing_symbols(config: VoiceConfig, texts: Sequence[str]) -> list[MissingSymbol]:
    """What the phonemizer makes of some texts and is not spoken, the most frequent first. Raises as `phoneme_ids`."""

    def lost(text: str) -> Iterator[tuple[str, str]]:
        for symbol in symbols_of(config, _joined(_phonemes(config, text))):
            if symbol not in config.phoneme_id_map:
                yield symbol, "voice"
            elif len(symbol) == 1 and not unicodedata.is_normalized("NFD", symbol):
                yield symbol, "piper"

    return counted(lost(text) for text in texts)


def counted(lost: Iterable[Iterable[tuple[str, str]]]) -> list[MissingSymbol]:
    """The symbols that each text lost, and who leaves them out, added up; the most frequent first."""
    times: Counter[tuple[str, str]] = Counter()
    sentences: Counter[tuple[str, str]] = Counter()
    for of_text in map(list, lost):
        times.update(of_text)
        sentences.update(set(of_text))
    return [
        MissingSymbol(symbol=symbol, left_out_by=who, times=count, sentences=sentences[symbol, who])  # type: ignore[arg-type]
        for (symbol, who), count in times.most_common()
    ]


def missing_words(missing: Sequence[MissingSymbol], texts: int) -> list[str]:
    """Sentences that say what of so many texts is not spoken; none where all is."""
    said = []
    for who, what in (
        ("voice", "the voice has no symbol for {}: it leaves them out"),
        ("piper", "piper's own command takes {} apart, and does not speak them as the figures and the audio here do"),
    ):
        each = [
            f"{_shown(one.symbol)} ({_times(one.times)}, in {one.sentences} of {texts} texts)"
            for one in missing
            if one.left_out_by == who
        ]
        if each:
            said.append(what.format(", ".join(each)))
    return said


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count} times"


def _shown(symbol: str) -> str:
    """A mark needs something to stand on, and its number says which it is."""
    is_mark = len(symbol) == 1 and unicodedata.category(symbol)[0] == "M"
    return f"\u25cc{symbol} U+{ord(symbol):04X}" if is_mark else symbol


def symbols_of(config: VoiceConfig, phonemes: Sequence[str]) -> list[str]:
    """Phonemes as the voice's map spells them.

    The phonemizer gives a letter with a mark as two code points, letter and mark. Where the map does not have both, but
    has the letter with its mark as one (`ç`), that one is meant. A tokenizer's vocabulary means it in any case, and
    where it does not have it, the letter is left out whole.

    Args:
        config: the voice's config.
        phonemes: code points in Unicode's decomposed form, as `piper` gives them.
    """
    known = config.phoneme_id_map
    spellings = {}
    for symbol in known:
        parts = tuple(unicodedata.normalize("NFD", symbol))
        meant = config.from_tokenizer or not all(part in known for part in parts)
        if meant and len(symbol) == 1 and parts != (symbol,):
            spellings[parts] = symbol
    longest = max(map(len, spellings), default=0)
    symbols: list[str] = []
    at = 0
    while at < len(phonemes):
        for length in range(longest, 0, -1):
            symbol = spellings.get(tuple(phonemes[at : at + length]))
            if symbol is not None:
                break
        else:
            length, symbol = 1, phonemes[at]
            marked = unicodedata.normalize("NFC", "".join(phonemes[at : at + 2]))
            if config.from_tokenizer and len(marked) == 1 and not set(phonemes[at + 1 : at + 2]) <= set(known):
                length, symbol = len(phonemes[at : at + 2]), marked  # a tokenizer drops the letter with its mark
        symbols.append(symbol)
        at += length
    return symbols


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


def _joined(sentences: list[list[str]]) -> list[str]:
    first, *others = sentences
    return first + [phoneme for sentence in others for phoneme in (" ", *sentence)]


def _ids(config: VoiceConfig, phonemes: Sequence[str]) -> list[int]:
    """Their ids, as `piper` puts them together. It prints a line for each one that the map does not have."""
    known = [symbol for symbol in symbols_of(config, phonemes) if symbol in config.phoneme_id_map]
    if config.from_tokenizer:  # a tokenizer strips what remains of the text
        spoken = [at for at, symbol in enumerate(known) if symbol != " "]
        if not spoken:
            return []
        known = known[spoken[0] : spoken[-1] + 1]
    return _speaker(config).phonemes_to_ids(known)


def _phonemes(config: VoiceConfig, text: str) -> list[list[str]]:
    try:
        sentences = _speaker(config).phonemize(text)
    except Exception as error:  # every phonemizer raises its own
        raise VoiceError(
            f"the voice's config: keys phoneme_type ({config.phoneme_type}) and espeak.voice "
            f"({config.espeak.voice}): the phonemizer failed: {error}"
        ) from error
    # Pauses alone are no speech: there has to be a phoneme that the voice knows.
    if not any(_is_speech(config, symbol) for sentence in sentences for symbol in symbols_of(config, sentence)):
        raise TextError(f"text {text[:60]!r} gives no phonemes: write words in the voice's language")
    return [sentence for sentence in sentences if sentence]


def espeak_phonemes(voice: str, text: str) -> list[list[str]]:
    """Phonemes of each sentence in a text, as espeak-ng makes them with its `voice`, in Unicode's decomposed form.

    Raises:
        VoiceError: espeak-ng has no such voice.
    """
    from piper.phonemize_espeak import EspeakPhonemizer

    try:
        return EspeakPhonemizer().phonemize(voice, text)
    except Exception as error:  # the bridge raises what it likes
        raise VoiceError(f"espeak-ng cannot make phonemes with its voice {voice!r}: {error}") from None


def _is_speech(config: VoiceConfig, phoneme: str) -> bool:
    return phoneme in config.phoneme_id_map and any(unicodedata.category(c)[0] in "LN" for c in phoneme)


def _speaker(config: VoiceConfig) -> "Speaker":
    """Piper's own phonemizer for the voice. A session is for speaking, which nothing here does."""
    from piper import PiperVoice as Speaker
    from piper.config import PiperConfig

    return Speaker(session=None, config=PiperConfig.from_dict(piper_json(config)))  # type: ignore[arg-type]
