"""What is written for a page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from web_pages import SENTENCE, folder_of, study_with, write_page

from ttsopt_lib.records.base import RecordError
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.text import utterance_ids
from ttsopt_lib.web.build import write_web
from ttsopt_lib.web.packages import WebError
from ttsopt_lib.web.serve import POLICY


def about(page: Path) -> dict:
    return json.loads((page / "web.json").read_text(encoding="utf-8"))


def test_the_page_knows_its_voices_and_what_they_are_fed(plain_voice, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    found = about(page)
    assert [one["name"] for one in found["variants"]] == ["original", "small"]
    for one in found["variants"]:
        assert (page / one["file"]).stat().st_size == one["bytes"]
    voice = open_piper(plain_voice)
    assert found["voice"]["phoneme_ids"] == voice.config.phoneme_id_map
    assert found["voice"]["espeak_voice"] == "en-us" and found["voice"]["speaker"] is None
    assert [one["length_class"] for one in found["sentences"]] == ["one_word", "short", None]
    short = found["sentences"][1]
    assert short["text"] == SENTENCE and short["phonemes"] == len(utterance_ids(voice.config, SENTENCE))
    assert short["inputs"]["input"] == {
        "dtype": "int64",
        "shape": [1, short["phonemes"]],
        "values": utterance_ids(voice.config, SENTENCE),
    }
    np.testing.assert_allclose(short["inputs"]["scales"]["values"], [0.667, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found["sentences"][2]["inputs"]["scales"]["values"], [0.667, 1, 0.8], atol=1e-6)


def test_the_policy_of_the_page_is_that_of_the_server(plain_voice, tmp_path):
    html = (write_page(study_with(), plain_voice, tmp_path) / "index.html").read_text(encoding="utf-8")
    assert f'content="{POLICY}"' in html
    assert "http://" not in html and "https://" not in html


def test_a_page_without_the_original_is_small(plain_voice, tmp_path):
    page = write_page(study_with("small", "other"), plain_voice, tmp_path, without_original=True, variants=["small"])
    assert [one["name"] for one in about(page)["variants"]] == ["small"]
    runtime = sum(file.stat().st_size for file in page.iterdir() if file.is_file())
    assert runtime < 25e6 - 3.2e6  # room for the voice `distilled`
    assert (page / "espeak-license.txt").read_text(encoding="utf-8").strip().startswith("GNU GENERAL PUBLIC LICENSE")


def test_a_second_page_takes_the_place_of_the_first(plain_voice, tmp_path):
    study = study_with("small")
    page = write_page(study, plain_voice, tmp_path)
    from ttsopt_lib.records.folder import StudyFolder

    again = write_web(study, StudyFolder(study, tmp_path), variants=[])
    assert again == page and [path.name for path in (page / "voices").iterdir()] == ["original.onnx"]
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".")] == []


def test_the_letters_of_a_voice_that_spells_are_its_phonemes(plain_voice, tmp_path):
    study = study_with()
    folder = folder_of(study, plain_voice, tmp_path)
    config = Path(f"{folder.model('original')}.json")
    config.write_text(json.dumps({**json.loads(config.read_text(encoding="utf-8")), "phoneme_type": "text"}))
    found = about(write_web(study, folder))
    assert found["voice"]["spells"] and found["voice"]["espeak_voice"] is None
    assert not (folder.web / "espeak.wasm").exists()


def test_weights_beside_a_model_come_along(plain_voice, tmp_path):
    study = study_with()
    folder = folder_of(study, plain_voice, tmp_path)
    model = onnx.load(str(folder.model("original")))
    onnx.save(model, str(folder.model("original")), save_as_external_data=True, location="model.onnx.data")
    (found,) = about(write_web(study, folder))["variants"]
    (weights,) = found["weights"]
    assert weights["path"] == "model.onnx.data"
    assert (folder.web / weights["file"]).stat().st_size == weights["bytes"] > 10_000


def test_what_is_missing_is_said(plain_voice, tmp_path):
    study = study_with("small")
    folder = folder_of(study, plain_voice, tmp_path)
    folder.model("small").unlink()
    with pytest.raises(RecordError, match="small.*run 'ttsopt optimize --variant small' first"):
        write_web(study, folder, variants=["small"])
    with pytest.raises(WebError, match="leaves no voice"):
        write_web(study, folder, without_original=True)
    folder.model("original").unlink()
    with pytest.raises(RecordError, match="run 'ttsopt optimize' first"):
        write_web(study, folder)
    assert not folder.web.exists()
