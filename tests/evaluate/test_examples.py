"""Listening examples: who spoke them and what they say."""

import numpy as np
from small_study import changed

from ttsopt_lib.evaluate import keys
from ttsopt_lib.evaluate.examples import examples_current, examples_of, spoke_before, write_examples

SAMPLES = [np.ones(10, np.int16)]


def test_examples_are_those_of_a_voice_until_its_model_changes(study, folder, monkeypatch):
    write_examples(study, folder, "fp32", SAMPLES, 22050)
    assert examples_current(study, folder, "fp32") and not spoke_before(study, folder, "fp32")
    other_seed = changed(study, evaluate={"seed": study.evaluate.seed + 1})
    assert not examples_current(other_seed, folder, "fp32") and not spoke_before(other_seed, folder, "fp32")
    with monkeypatch.context() as upgraded:
        upgraded.setattr(keys, "versions", lambda packages: dict.fromkeys(packages, "99"))
        assert not examples_current(study, folder, "fp32") and not spoke_before(study, folder, "fp32")

    model = folder.model("fp32")
    model.write_bytes(model.read_bytes() + b"x")
    assert spoke_before(study, folder, "fp32")
    model.unlink()
    assert not spoke_before(study, folder, "fp32"), "nobody can tell without the model"


def test_examples_without_a_word_of_the_voice_are_not_called_outdated(study, folder):
    write_examples(study, folder, "fp32", SAMPLES, 22050)
    record = folder.audio("fp32") / "listening.json"
    record.write_text('{"key": "of an older ttsopt", "sentences": ["A rod is used."]}', encoding="utf-8")
    assert not spoke_before(study, folder, "fp32")
    record.unlink()
    assert not spoke_before(study, folder, "fp32")


def test_an_example_is_found_by_what_it_says(study, folder):
    said = study.sentences.listening[0]
    write_examples(study, folder, "fp32", SAMPLES, 22050)
    first = folder.audio("fp32") / "0.wav"
    assert examples_of(folder, "fp32", ["Another sentence.", said]) == [None, first]
    (folder.audio("fp32") / "listening.json").unlink()
    assert examples_of(folder, "fp32", [said, "Another sentence."]) == [first, None]
    first.unlink()
    assert examples_of(folder, "fp32", [said]) == [None]
