"""The ids that the page makes of a text are those that the library makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from web_pages import ask, opened, study_with, write_page

from ttsopt_lib.paths import shipped_root
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.stream import MOST_PHONEMES
from ttsopt_lib.voices.text import phoneme_ids, read_sentences

pytestmark = pytest.mark.slow

GLIDE = "\u02b2"  # a sign that espeak-ng wrote between vowels only later (docs/web.md)
HARD = [
    "Dr. Smith paid $3.50, i.e. 3,50 in euros; then he left: why?",
    '"Hello," she said -- and then (quietly) "goodbye..."',
    "It costs 1,234,567 dollars!  Really? Yes. No! The U.S.A. is big.",
    "Wait... what; yes: no, maybe \u2014 perhaps \u2013 well.",
    "On 2026-11-27 at 15:01 the c'est la vie caf\u00e9 na\u00efve r\u00e9sum\u00e9 fa\u00e7ade.",
    "cafe\u0301 and caf\u00e9, \u201cquoted\u201d \u2018text\u2019",
    "One line\nand another one\n\nand a paragraph",
    "Raw [[h\u0259l\u02c8o\u028a]] phonemes, and [[w\u02c8\u025c\u02d0ld]].",
    "<b>bold</b> & <img src=x onerror=alert(1)>",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 and \u5317\u4eac and \u03b3\u03b5\u03b9\u03ac",
    "a" * 60,
    "word " * 200,
]


def page_ids(browser, texts: list[str], phrases: bool = False) -> list[list[list[int]]]:
    made = ask(
        browser,
        "await (async (texts, phrases) => { const all = [];"
        " for (const text of texts) all.push(await window.ttsopt.ids(text, {phrases}));"
        " return JSON.stringify(all); })(arguments[0], arguments[1])",
        texts,
        phrases,
    )
    return json.loads(made)


def test_phrases_are_the_librarys(joe, browser, tmp_path):
    page = write_page(study_with(), joe, tmp_path, variants=[])
    config = open_piper(joe).config
    texts = [
        "He came into the room with a lamp in his hand, and asked us all to wait until the rain was over.",
        "Yes, no, and then perhaps: we shall see what comes of it \u2014 sooner or later; who knows?",
        "One, two. Three hundred and twenty thousand, more or less, were counted, and then nobody came.",
        "No pause in this one at all.",
    ]
    with opened(browser, page):
        made = page_ids(browser, texts, phrases=True)
    glide = [*config.phoneme_id_map[GLIDE], *config.phoneme_id_map["_"]]
    expected = [phoneme_ids(config, text, MOST_PHONEMES, phrases=True) for text in texts]
    assert made == [[without(phrase, glide) for phrase in text] for text in expected]
    assert [len(text) for text in made] == [2, 3, 4, 1]


def test_ids_are_the_librarys_but_for_a_sign_that_other_builds_of_espeak_do_not_write(joe, browser, tmp_path):
    page = write_page(study_with(), joe, tmp_path, variants=[])
    config = open_piper(joe).config
    texts = [*read_sentences(shipped_root() / "params/sentences/harvard.txt")[:300], *HARD]
    with opened(browser, page):
        made = page_ids(browser, texts)
    glide = [*config.phoneme_id_map[GLIDE], *config.phoneme_id_map["_"]]
    different = 0
    for text, ids in zip(texts, made, strict=True):
        expected = phoneme_ids(config, text, MOST_PHONEMES)
        different += ids != expected
        assert ids == [without(sentence, glide) for sentence in expected], text
    assert different < 0.2 * len(texts)


def without(ids: list[int], part: list[int]) -> list[int]:
    kept: list[int] = []
    at = 0
    while at < len(ids):
        if ids[at : at + len(part)] == part:
            at += len(part)
        else:
            kept.append(ids[at])
            at += 1
    return kept


@pytest.mark.parametrize(
    ("voice", "text"), [("de", "Wir z\u00e4hlen h\u00fcbsche S\u00e4tze."), ("fr", "C'est \u00e7a, l'\u00e9t\u00e9.")]
)
def test_other_languages_have_their_dictionaries(plain_voice, browser, tmp_path, voice, text):
    own = tmp_path / "voice.onnx"
    own.write_bytes(plain_voice.read_bytes())
    values = json.loads(Path(f"{plain_voice}.json").read_text(encoding="utf-8"))
    # one symbol for a letter with its mark, as some voices have it
    values["phoneme_id_map"] |= {"\u00e7": [60], "\u0281": [61], "\u00f8": [62], "y": [63]}
    Path(f"{own}.json").write_text(json.dumps({**values, "espeak": {"voice": voice}}), encoding="utf-8")
    page = write_page(study_with(), own, tmp_path)
    with opened(browser, page):
        assert page_ids(browser, [text]) == [phoneme_ids(open_piper(own).config, text, MOST_PHONEMES)]


@pytest.mark.parametrize("text", ["", "   ", "...", "?!"])
def test_a_text_with_nothing_to_speak_is_said(plain_voice, browser, tmp_path, text):
    page = write_page(study_with(), plain_voice, tmp_path)
    with opened(browser, page), pytest.raises(AssertionError, match="nothing to speak"):
        page_ids(browser, [text])
