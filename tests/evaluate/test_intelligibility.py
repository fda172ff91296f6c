from types import SimpleNamespace
from typing import Any

import jiwer
import numpy as np
import pytest

from ttsopt_lib.evaluate import plan
from ttsopt_lib.evaluate.intelligibility import (
    Recognizer,
    character_error_rate,
    character_errors,
    find_recognizer,
    normalize,
    normalize_english,
    spoken_characters,
    spoken_words,
    transcribe,
    word_error_rate,
    word_errors,
)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    found = find_recognizer("tiny.en", "en_US")
    assert isinstance(found, Recognizer), found
    return found


@pytest.mark.slow
def test_the_original_is_understood_and_speech_lost_in_noise_is_not(recognizer, sentences, heard):
    hypotheses = transcribe(recognizer, heard)
    assert (word_error_rate(sentences, hypotheses) or 0) <= 0.15
    generator = np.random.default_rng(0)
    buried = [waveform * 0.02 + generator.normal(0, 0.1, len(waveform)).astype(np.float32) for waveform in heard]
    lost = transcribe(recognizer, buried)
    assert (word_error_rate(sentences, lost) or 0) >= 0.7


@pytest.mark.slow
def test_what_is_heard_does_not_depend_on_what_is_heard_before_or_beside_it(recognizer, heard):
    alone = [*transcribe(recognizer, heard[:1]), *transcribe(recognizer, heard[1:2])]
    long = np.concatenate([heard[0], np.zeros(16_000, np.float32), heard[1]] * 3)  # more than 10 s: another window
    assert len(long) > 160_000
    first, longest, second = transcribe(recognizer, [heard[0], long, heard[1]])
    assert [first, second] == alone
    assert len(longest) > len(first)


def test_words_are_compared_without_case_punctuation_and_apostrophes():
    assert normalize_english("It's  a well-known\u2014café, “isn’t” it?") == "its a well known cafe isnt it"
    assert word_error_rate(["It's here.", "Two cats"], ["its HERE", "too cats sat"]) == pytest.approx(2 / 4)
    assert word_error_rate([], []) is None
    assert word_error_rate(["..."], ["what"]) is None


def test_a_model_that_is_neither_there_nor_known_is_named():
    found = find_recognizer("no-such-model", "en-us")
    assert isinstance(found, str) and "'no-such-model' is neither a folder nor one of tiny.en" in found


def test_a_recognizer_that_does_not_know_the_language_hears_the_original_in_place_of_the_text(recognizer):
    assert (recognizer.language, recognizer.against) == ("en", "text")
    for language in ("ja", "de_DE", ""):
        found = find_recognizer("tiny.en", language)
        assert isinstance(found, Recognizer)
        assert (found.folder, found.language, found.against) == (recognizer.folder, "en", "original")


def test_a_recognizer_that_knows_the_language_is_told_to_hear_it(monkeypatch, recognizer):
    class Multilingual:
        supported_languages = ("en", "ja", "de")

    monkeypatch.setattr("ttsopt_lib.evaluate.intelligibility.load_recognizer", lambda folder: Multilingual())
    for code, language in (("ja", "ja"), ("deu_AT", "de")):
        found = find_recognizer("tiny.en", code)
        assert isinstance(found, Recognizer) and (found.language, found.against) == (language, "text")
    unknown = find_recognizer("tiny.en", "tlh")
    assert isinstance(unknown, Recognizer) and unknown.against == "original"


def test_words_of_other_languages_keep_their_letters_and_are_characters_where_none_are_between():
    assert normalize("Größe, l’été — naïve?", "de") == "grösse lété naïve"
    assert normalize("今日は、雨です。", "ja") == "今 日 は 雨 で す"
    assert normalize("नमस्ते, हिन्दी!", "hi") == "नमस्ते हिन्दी"  # vowels are marks
    assert spoken_characters("ที่นี่", "th") == 6  # and so are tones
    assert word_errors("今日は雨です。", "今日は雪です", "ja") == 1
    assert character_errors("今日は雨です", "今日は、雪です", "ja") == 1
    assert spoken_words("今日は雨です。", "ja") == spoken_characters("今日は 雨です。", "ja") == 6
    assert word_error_rate(["Der Hund läuft."], ["der hund lauft"], "de") == pytest.approx(1 / 3)
    assert character_error_rate(["Der Hund läuft."], ["der hund lauft"], "de") == pytest.approx(1 / 14)


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, language):
    (tmp_path / "model.bin").write_bytes(b"no model")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    found = find_recognizer(str(tmp_path), language)
    assert isinstance(found, str) and "\n" not in found
    assert found.startswith(f"evaluate.asr_model: {tmp_path}: cannot be loaded as a faster-whisper model (")


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    found = find_recognizer(str(tmp_path), "en_US")
    assert isinstance(found, str) and str(tmp_path) in found and "model.bin" in found


@pytest.mark.parametrize(
    ("spoken", "heard", "errors"),
    [
        ("Two cats sat.", "Two cats sat", 0),
        ("Two cats sat.", "too cats sat", 1),
        ("Two cats sat.", "two cats", 4),  # the space as well
        ("Two cats", "two cats sat", 4),
    ],
)
def test_each_character_that_is_heard_wrong_missed_or_added_counts_once(spoken, heard, errors):
    assert character_errors(spoken, heard) == errors


def test_what_was_not_heard_at_all_is_wrong_in_every_character():
    assert character_errors("Two cats", "") == spoken_characters("Two cats") == 8


def test_the_rate_is_that_of_jiwer_on_the_text_that_words_are_compared_in():
    expected = jiwer.cer(["its a well known cafe", "two cats sat"], ["its a well known cafes", "too cats"])
    spoken, heard = ["It's a well-known café.", "Two cats sat."], ["its a well known cafes", "too cats"]
    assert character_error_rate(spoken, heard) == pytest.approx(expected)
    assert expected == pytest.approx((1 + 5) / (21 + 12))


def test_a_sentence_without_words_has_no_characters_to_miss():
    assert character_error_rate(["..."], ["what"]) is None and character_error_rate([], []) is None
    assert character_error_rate(["...", "a cat"], ["what", "a cut"]) == pytest.approx(1 / 5)


@pytest.mark.parametrize(("voice", "study", "asked"), [("", "ja", "ja"), ("de", "ja", "de"), ("", None, "")])
def test_a_voice_that_names_no_language_is_heard_in_the_study_s(monkeypatch, voice, study, asked):
    monkeypatch.setattr(plan, "find_recognizer", lambda model, language: (model, language))
    asking: Any = SimpleNamespace(language=study, evaluate=SimpleNamespace(wer_sentences=1, asr_model="small"))
    speaking: Any = SimpleNamespace(language_code=voice)
    assert plan._recognizer(asking, speaking) == ("small", asked)
