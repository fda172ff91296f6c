"""The language of a voice and that of the texts: named on both sides, and compared."""

import pytest

from ttsopt_lib.voices.language import language_doubt, refuse_other_language
from ttsopt_lib.voices.piper import VoiceError, parse_config


def config(config_of, espeak="en-us", code="en_US", kind="espeak"):
    raw = {"espeak": {"voice": espeak}, "language": {"code": code}, "phoneme_type": kind}
    return parse_config(config_of(64) | raw, "voice.onnx.json")


@pytest.mark.parametrize(
    ("espeak", "code", "kind", "texts"),
    [
        ("en-us", "en_US", "espeak", "en"),
        ("en-gb-x-rp", "en_GB", "espeak", "en_US"),
        ("en-us+f3", "", "espeak", "eng"),
        ("de", "de_DE", "espeak", "de"),
        ("nb", "no_NO", "espeak", "no"),
        ("cmn", "zh_CN", "espeak", "zh"),
        ("", "deu", "text", "de"),
        ("", "", "text", "en"),  # a voice that does not say
        ("de", "de_DE", "espeak", None),  # nor does the study
    ],
)
def test_the_same_language_is_known_by_its_several_names(config_of, espeak, code, kind, texts):
    assert language_doubt(config(config_of, espeak, code, kind), texts) == []


@pytest.mark.parametrize(
    ("espeak", "code", "kind", "key"),
    [("de", "en_US", "espeak", "espeak.voice"), ("", "deu", "text", "language.code"), ("", "fr_FR", "text", "code")],
)
def test_texts_in_another_language_are_said_and_not_trained_on(config_of, espeak, code, kind, key, tmp_path):
    voice = config(config_of, espeak, code, kind)
    (doubt,) = language_doubt(voice, "en")
    assert "the study's texts are in 'en'" in doubt and key in doubt and "\n" not in doubt
    with pytest.raises(VoiceError, match=r"corpus_en\.txt: language: .* leave 'language' out"):
        refuse_other_language(voice, "en", tmp_path / "corpus_en.txt")
