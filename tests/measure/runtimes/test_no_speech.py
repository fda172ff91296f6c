"""A model that runs and does not speak has no place among those that are timed, whatever runtime it is in."""

import io
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from stand_ins import Actor
from timed_study import CPU, add_variant, rows_of, study_of, timed_row
from torch import Tensor, nn

from ttsopt_lib.measure.blocks import _time_pair
from ttsopt_lib.measure.plan import PlannedRow, PlannedSentence
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.timing import measure_device
from ttsopt_lib.measure.worker import BadAudioError, answer_requests, samples_of
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study

SHORT = 64  # samples


def damage(voice: Path, how: str, target: Path) -> Path:
    """A copy of a voice that runs as before, and whose audio is no speech."""
    model = onnx.load(str(voice))
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["spoken" if output == name else output for output in node.output]
    if how == "short":
        bounds = {"first": [0], "end": [SHORT], "axis": [2]}
        model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in bounds.items())
        node = helper.make_node("Slice", ["spoken", *bounds], [name])
    else:
        factor = np.array({"nan": np.nan, "silent": 0.0}[how], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(factor, "factor"))
        node = helper.make_node("Mul", ["spoken", "factor"], [name])
    model.graph.node.append(node)
    onnx.save(model, str(target))
    shutil.copyfile(f"{voice}.json", f"{target}.json")
    return target


def make_folder(path: Path, original: Path, broken: Path) -> tuple[Study, StudyFolder]:
    """A study of two variants, of which one is the original again."""
    study = study_of("broken", "good", budget_seconds=5, warmup_passes=1, min_blocks=2, max_blocks=2)
    folder = StudyFolder(study, path)
    for name, voice in ((ORIGINAL, original), ("broken", broken), ("good", original)):
        add_variant(folder, name, voice, Path(f"{voice}.json"))
    return study, folder


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ([], "makes no audio"),
        ([[0.0, 0.0]], "2 samples of silence"),
        ([0.1, np.nan, np.inf], "2 of the 3 samples of its audio are not numbers"),
        (np.array([[[0.1, np.nan]]], np.float16), "1 of the 2 samples"),
    ],
)
def test_what_is_no_speech_says_what_it_is(audio, said: str):
    with pytest.raises(BadAudioError, match=said):
        samples_of(audio, {"speaks": True})
    assert samples_of(audio, {"speaks": False}) == np.size(audio)
    assert samples_of([0.1, -0.1], {"speaks": True}) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [("nan", "not numbers"), ("silent", "silence"), ("short", "0.003 s long, the original's")],
)
def test_a_variant_that_does_not_speak_is_refused_and_the_others_are_timed(
    how: str, said: str, quick_voice: Path, tmp_path: Path
):
    study, folder = make_folder(tmp_path, quick_voice, broken=damage(quick_voice, how, tmp_path / "broken.onnx"))
    record = measure_device(study, CPU, folder, progress=False)
    assert {row.variant for row in record.rows} == {ORIGINAL, "good", "original-copy"}
    (warning,) = [doubt.text for doubt in record.warnings if "broken" in doubt.text]
    assert warning.startswith("not measured: broken (onnxruntime, 1 thread) does not speak: ") and said in warning


def test_an_original_that_does_not_speak_ends_the_measurement(quick_voice: Path, tmp_path: Path):
    study, folder = make_folder(tmp_path, damage(quick_voice, "nan", tmp_path / "broken.onnx"), broken=quick_voice)
    with pytest.raises(MeasureError, match="original .* does not speak: .* not numbers"):
        measure_device(study, CPU, folder, progress=False)


@pytest.mark.slow
def test_pytorchs_audio_is_looked_at_too(plain_voice: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(nn.Module):
        def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
            return torch.full((1, 1, z.shape[-1]), float("nan"))

    def broken(model, mode):
        model.decoder = Broken()
        return model

    monkeypatch.setattr("ttsopt_lib.networks.gpu_modes.in_mode", broken)
    row = PlannedRow(variant=ORIGINAL, runtime="pytorch", threads=1, model=plain_voice).model_dump(mode="json")
    sentence = {"text": "a", "ids": [1, 0, 5, 0, 2], "inputs": {}}
    asked = {"do": "load", "row": row, "sentences": [sentence], "as_text": False, "once": True}
    asked |= {"scales": (0.667, 1.0, 0.0), "speaker": None, "sample_rate": 22050}
    replies = io.StringIO()
    requests = [asked, {"do": "time", "sentence": 0}]
    answer_requests(io.StringIO("".join(json.dumps(one) + "\n" for one in requests)), replies)
    said = json.loads(replies.getvalue().splitlines()[-1])
    assert said["no_speech"] and "not numbers" in said["error"]


def test_an_original_that_fails_in_one_mode_is_no_measure_for_the_others():
    class InHalf(Actor):
        def time_sentence(self, number):
            if self.row.mode != "fp32":
                raise MeasureError("it died")
            return {"seconds": 0.1, "audio_seconds": 1.0, "peak_memory_mb": 1.0}

    original, other = (row.model_copy(update={"runtime": "pytorch"}) for row in rows_of(Path("m.onnx")))
    in_half = original.model_copy(update={"mode": "fp16", "optional": True})
    workers = [InHalf(row) for row in (in_half, original, other)]
    fresh = [timed_row(one.row.variant, [], runtime="pytorch", mode=one.row.mode) for one in workers]
    sentence = PlannedSentence(length_class="short", text="Yes.", ids=(1, 2))
    rows, failed = _time_pair(cast(Any, workers), fresh, [sentence], np.random.default_rng(0), lambda: None)
    assert [row.variant for row in rows] == [ORIGINAL, "fp32"]
    assert [one.reason for one in failed] == ["it died"]
