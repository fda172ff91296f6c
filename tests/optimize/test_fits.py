"""Recipes whose students, decoders or widths are another voice's are refused before a variant is made."""

from pathlib import Path

import pytest
import torch

from ttsopt_lib.distill.decoder_speed import macs_per_frame
from ttsopt_lib.errors import StudyError
from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.optimize.build import check_recipes
from ttsopt_lib.optimize.calibration import sentence_feeds
from ttsopt_lib.optimize.channels import of_widths, prune_structured
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import PruneStructured
from ttsopt_lib.study import Study
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.piper import load_piper, open_piper

MODELS = Path(__file__).parents[2] / "models/en_US-joe-medium"


@pytest.fixture
def with_recipe(plain_voice):
    """A study of a small voice with one step."""
    asked = read_study(resolve(Path("params/joe.yaml"))).model_dump(mode="json")

    def make(voice: Path = plain_voice, **step) -> Study:
        asked["voice"] = {"path": str(voice)}
        asked["variants"] = [{"name": "small", "recipe": [step]}]
        asked["measure"], asked["evaluate"]["confirmed"] = {}, []
        asked["sentences"]["confirmation"] = None
        return check(Study, asked, "study")

    return make


def test_what_fits_is_taken(with_recipe, joe):
    study = read_study(resolve(Path("params/joe.yaml")))
    check_recipes(study, study.variant_names)
    check_recipes(with_recipe(step="prune_structured", decoder_widths=[16, 8, 4, 2]), ["small"])


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ({"step": "distill", "student": MODELS / "students"}, "students/record.json"),
        ({"step": "prune_structured", "trained": MODELS / "pruned-48x24"}, "pruned-48x24/record.json"),
    ],
)
def test_what_was_trained_for_another_voice_is_refused_by_its_record(with_recipe, step, file):
    study = with_recipe(**step)
    with pytest.raises(StudyError, match=r"variant 'small': .*: key voice_sha256: .*'en_US-joe-medium'") as refused:
        check_recipes(study, ["small"])
    assert file in str(refused.value) and "\n" not in str(refused.value)
    check_recipes(study, ["original"])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"decoder_widths": [256, 128, 48, 24]}, "decoder_widths: give 4 numbers of at most [32, 16, 8, 4]"),
        ({"decoder_widths": [16, 8, 4]}, "decoder_widths: give 4 numbers"),
        ({"decoder_widths": [32, 16, 8, 4]}, "decoder_widths remove 0.0% of the macs, amount asks for 30%"),
    ],
)
def test_widths_of_another_decoder_are_refused(with_recipe, step, words):
    with pytest.raises(StudyError, match="variant 'small': prune_structured: ") as refused:
        check_recipes(with_recipe(step="prune_structured", **step), ["small"])
    assert words in str(refused.value)


def test_a_trained_decoder_that_lost_too_little_is_refused(with_recipe, joe):
    trained = {"step": "prune_structured", "trained": MODELS / "pruned-48x24"}
    with pytest.raises(StudyError, match="lost only"):
        check_recipes(with_recipe(joe, **trained, amount=0.9), ["small"])
    with pytest.raises(StudyError, match="decoder_widths: .* has "):
        check_recipes(with_recipe(joe, **trained, decoder_widths=[256, 128, 48, 16]), ["small"])


@pytest.mark.parametrize("stands", ["a file", "an empty folder", "a folder of others"])
def test_a_place_for_a_trained_decoder_that_is_taken_is_refused_before_it_trains(with_recipe, tmp_path, stands):
    place = tmp_path / "decoder"
    if stands == "a file":
        place.write_text("notes")
    else:
        place.mkdir()
    if stands == "a folder of others":
        (place / "notes.txt").write_text("keep")
    with pytest.raises(StudyError, match=r"variant 'small': .*decoder\.safetensors: no such file"):
        check_recipes(with_recipe(step="prune_structured", trained=place), ["small"])


@pytest.mark.parametrize("content", ["", "[]", "<html>"])
def test_a_damaged_record_is_named(with_recipe, tmp_path, content):
    for file in (MODELS / "students").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(StudyError, match=r"variant 'small': .*record\.json: .*JSON"):
        check_recipes(with_recipe(step="distill", student=tmp_path), ["small"])


def test_widths_are_counted_as_they_are_when_channels_are_gone(plain_voice):
    voice = open_piper(plain_voice)
    model = load_piper(voice)
    assert isinstance(model.decoder, HifiGanDecoder)
    config, step = model.decoder.config, {"step": "prune_structured", "decoder_widths": [32, 8, 8, 3]}
    prune_structured(model, PruneStructured.model_validate(step), sentence_feeds(PiperModel(voice), ["Yes."]))
    with torch.device("meta"):
        counted = macs_per_frame(of_widths(config, (32, 8, 8, 3)), config.latent_channels)
    assert counted == macs_per_frame(model.decoder, config.latent_channels)
