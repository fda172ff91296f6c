"""Lengths rounded up: the same speech from few shapes, on every kind of VITS voice."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ttsopt_lib.measure.plan import PlannedRow
from ttsopt_lib.measure.runtimes.onnx_runtime import open_onnxruntime
from ttsopt_lib.optimize.steps.pack import pack
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.step_settings import QuantizeWeights
from ttsopt_lib.voices.length_buckets import FRAMES, PHONEMES, TRUE_FRAMES, BucketSpeaker, with_rounded_frames
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.session import open_session

SILENT = [0.0, 1.0, 0.0]  # no noise: every run says the same
IDS = np.array([1, 0, 20, 0, 31, 0, 15, 0, 9, 0, 22, 0, 2], dtype=np.int64)
SEEN = 12  # frames before the end: what the decoder of a random voice sees of it


def speaker(model: Path, mode: str, sid: int | None = None):
    row = PlannedRow(variant="x", runtime="onnxruntime", threads=1, model=model, mode=mode)  # type: ignore[arg-type]
    return open_onnxruntime(row.model_dump(mode="json"), SILENT, sid)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "medium", "speakers", "packed", "own export"])
def test_a_voice_with_rounded_lengths_says_the_same(name: str, random_voice, exported, tmp_path: Path):
    model = exported("plain") if name in ("packed", "own export") else random_voice(name)
    if name == "packed":
        packed = pack(quantize_weights(onnx.load(model), QuantizeWeights(step="quantize_weights")))
        model = tmp_path / "packed.onnx"
        onnx.save(packed, model)
    sid = 2 if name == "speakers" else None
    plain, rounded = speaker(model, "fp32", sid), speaker(model, "buckets", sid)
    for count in (1, 2, 9, 5):  # a shorter text after a longer one
        ids = np.tile(IDS, count)
        expected, audio = np.asarray(plain(ids)), np.asarray(rounded(ids))
        assert audio.shape == expected.shape and audio.dtype == np.float32
        same = max(0, expected.shape[-1] - 256 * SEEN)
        np.testing.assert_allclose(audio[..., :same], expected[..., :same], atol=2e-5)
        assert np.isfinite(audio).all()  # how far ends differ says nothing where weights are random


def test_two_lengths_of_a_bucket_have_the_same_shapes_everywhere(plain_voice: Path):
    model = with_rounded_frames(onnx.load(plain_voice))
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[1:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != model.graph.output[0].name)
    session = open_session(model)
    names = [one.name for one in session.get_outputs()]

    def shapes(count: int) -> tuple[dict, int]:
        ids = np.zeros((1, PHONEMES), np.int64)
        ids[0, :count] = np.resize(IDS, count)
        feeds = {"input": ids, "input_lengths": np.array([count]), "scales": np.array(SILENT, np.float32)}
        values = dict(zip(names, session.run(names, feeds), strict=True))
        return {name: np.shape(value) for name, value in values.items()}, int(values[TRUE_FRAMES])

    (one, frames), (other, fewer) = shapes(24), shapes(23)
    assert fewer < frames and -(-fewer // FRAMES) == -(-frames // FRAMES), "the two lengths fell into two buckets"
    assert one == other


def test_only_the_first_sentence_of_a_bucket_meets_new_shapes(plain_voice: Path):
    voice = speaker(plain_voice, "buckets")
    assert isinstance(voice, BucketSpeaker)
    met = []
    for count in (24, 23, 24 + PHONEMES, 24):
        voice(np.resize(IDS, count))
        met.append(voice.met_new_shape)
    assert met == [True, False, True, False]


def test_the_model_that_is_given_stays_as_it_is(plain_voice: Path):
    model = onnx.load(plain_voice)
    before = model.SerializeToString()
    assert with_rounded_frames(model).SerializeToString() != before == model.SerializeToString()


def test_what_is_no_vits_voice_is_refused_in_one_line(plain_voice: Path):
    model = onnx.load(plain_voice)
    for node in model.graph.node:
        if node.op_type == "Ceil":
            node.op_type = "Floor"
    with pytest.raises(VoiceError, match="mine: its lengths cannot be rounded up: it has 0 nodes that round durations"):
        with_rounded_frames(model, "mine")
    model = onnx.load(plain_voice)
    for node in model.graph.node:
        if node.op_type == "Range":
            node.op_type = "Shape"
    with pytest.raises(VoiceError, match="behind its durations 0 nodes count something"):
        with_rounded_frames(model)
