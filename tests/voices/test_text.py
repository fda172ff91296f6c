"""Text to phoneme ids, and files of sentences."""

import numpy as np
import pytest
from piper import PiperVoice

from ttsopt_lib.voices.piper import VoiceError, open_piper
from ttsopt_lib.voices.text import TextError, missing_symbols, missing_words, phoneme_ids, read_sentences, utterance_ids


@pytest.fixture(scope="module")
def config(joe):
    return open_piper(joe).config


def test_ids_are_the_ones_piper_makes(joe, config):
    text = "Hello there. It's 5 o'clock, isn't it? Fine!"
    piper = PiperVoice.load(joe)
    expected = [piper.phonemes_to_ids(sentence) for sentence in piper.phonemize(text)]
    assert phoneme_ids(config, text) == expected
    assert len(expected) == 3
    assert np.isin(np.concatenate(expected), range(config.num_symbols)).all()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He came into the room with a lamp, and asked us all to wait; then we went home together.", 3),
        ("He came into the room with a lamp and asked us all to wait.", 1),
        (
            "Yes, sir, he came into the room with a lamp in his hand.",
            1,
        ),  # a phrase that is too short goes with the next
        ("He came into the room with a lamp in his hand, sir.", 1),  # or with the one before
    ],
)
def test_a_sentence_is_split_behind_its_pauses_into_phrases_that_are_long_enough(config, text, parts):
    (whole,) = phoneme_ids(config, text)
    phrases = phoneme_ids(config, text, phrases=True)
    assert len(phrases) == parts and (parts > 1 or phrases == [whole])
    space, marks = set(config.phoneme_id_map[" "]), {id for one in "_^$" for id in config.phoneme_id_map[one]}

    def spoken(ids):
        return [one for one in ids if one not in space | marks]

    assert [one for phrase in phrases for one in spoken(phrase)] == spoken(whole), "nothing is lost or said twice"


def test_utterance_is_all_sentences_in_one(config):
    assert utterance_ids(config, "Good morning.") == phoneme_ids(config, "Good morning.")[0]
    joined = utterance_ids(config, "Good morning. Good night.")
    first, second = phoneme_ids(config, "Good morning. Good night.")
    begin, pad, end = 1, 0, 2
    space = config.phoneme_id_map[" "][0]
    assert joined == [*first[:-1], space, pad, *second[2:]]
    assert joined.count(begin) == joined.count(end) == 1


@pytest.mark.parametrize("text", ["", "   ", "...", "\n"])
def test_text_without_phonemes_is_refused(config, text):
    with pytest.raises(TextError, match="gives no phonemes"):
        utterance_ids(config, text)
    with pytest.raises(TextError, match="gives no phonemes"):
        phoneme_ids(config, text)


def test_phonemes_the_voice_does_not_know_are_no_speech(config):
    known = {symbol: config.phoneme_id_map[symbol] for symbol in "_^$"}
    silent = config.model_copy(update={"phoneme_id_map": known})
    with pytest.raises(TextError, match="'Hello' gives no phonemes"):
        utterance_ids(silent, "Hello")


def test_voice_of_an_unknown_language_is_refused(config):
    unknown = config.model_copy(update={"espeak": config.espeak.model_copy(update={"voice": "xx-none"})})
    with pytest.raises(VoiceError, match=r"espeak.voice \(xx-none\)"):
        utterance_ids(unknown, "Hello")


def test_comments_and_empty_lines_are_no_sentences(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("# Harvard sentences\n\n  Rice is often served in round bowls. \n#\nÜber uns.\n", encoding="utf-8")
    assert read_sentences(path) == ["Rice is often served in round bowls.", "Über uns."]


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n"])
def test_file_without_sentences_is_refused(tmp_path, content):
    path = tmp_path / "sentences.txt"
    path.write_text(content)
    with pytest.raises(TextError, match="sentences.txt: holds no sentence"):
        read_sentences(path)


def test_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(TextError, match="absent.txt: no such file"):
        read_sentences(tmp_path / "absent.txt")
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF\xff\xfe\x80")
    with pytest.raises(TextError, match="cannot be read as UTF-8"):
        read_sentences(path)
    with pytest.raises(TextError, match="cannot be read"):
        read_sentences(tmp_path)


def test_a_file_is_read_as_the_person_who_wrote_it_means_it(tmp_path):
    path = tmp_path / "notepad.txt"
    path.write_bytes("\ufeff# my sentences\r\nOne\u2028and more.\r\n\r\n# no\rTwo\x85and\x0cmore.\n".encode())
    assert read_sentences(path) == ["One\u2028and more.", "Two\x85and\x0cmore."]


@pytest.mark.parametrize("known", ["ç", "c\u0327", "cç\u0327", "c"])
def test_a_letter_with_a_mark_is_what_the_map_has(config, known):
    """espeak's German `ich`: piper gives c and its cedilla, of which a map may have the two, or the one letter."""
    symbols = {symbol: [number] for number, symbol in enumerate(f"_^$ ɪ{known}")}
    german = config.model_copy(
        update={"espeak": config.espeak.model_copy(update={"voice": "de"}), "phoneme_id_map": symbols}
    )
    spoken = {"ç": "ç", "c\u0327": "c\u0327", "cç\u0327": "c\u0327", "c": "c"}[known]
    pad, begin, end = 0, 1, 2
    expected = [begin, pad] + [one for symbol in f"ɪ{spoken}" for one in (*symbols[symbol], pad)] + [end]
    assert utterance_ids(german, "ich") == phoneme_ids(german, "ich")[0] == expected


def test_what_the_voice_cannot_speak_is_counted_and_nothing_is_printed(config, caplog):
    less = {symbol: ids for symbol, ids in config.phoneme_id_map.items() if symbol not in "ʊɹ"}
    poor = config.model_copy(update={"phoneme_id_map": less})
    texts = ["No row.", "Low rows, no.", "Yes."]
    found = {one.symbol: (one.times, one.sentences, one.left_out_by) for one in missing_symbols(poor, texts)}
    assert found == {"ʊ": (5, 2, "voice"), "ɹ": (2, 2, "voice")}
    assert missing_words(missing_symbols(poor, texts), 3) == [
        "the voice has no symbol for ʊ (5 times, in 2 of 3 texts), ɹ (2 times, in 2 of 3 texts): it leaves them out"
    ]
    assert missing_words(missing_symbols(config, texts), 3) == []
    assert utterance_ids(poor, texts[0]) == [i for i in utterance_ids(poor, texts[0]) if [i] in less.values()]
    assert not caplog.records
