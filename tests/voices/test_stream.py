"""A voice that is spoken piece by piece says what the whole voice says."""

import re
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ttsopt_lib.cli import main
from ttsopt_lib.optimize.build import build_study, stale_variants
from ttsopt_lib.optimize.steps.fp16 import half_precision
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_static import quantize_static
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.rearrange_decoder import rearrange_decoder
from ttsopt_lib.own_voice import study_on
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.step_settings import Fp16, QuantizeDynamic, QuantizeStatic, QuantizeWeights
from ttsopt_lib.voices.graph_part import as_inputs, part_of
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.paired import PairedSession, duration_noise, prior_noise
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.seam import StreamError, split_voice
from ttsopt_lib.voices.stream import DECODER, ENCODER, LAYOUT, StreamingVoice, write_streaming
from ttsopt_lib.voices.text import phoneme_ids
from ttsopt_lib.voices.vits_graph import NORMAL

pytestmark = pytest.mark.slow

EXACT = 1e-4  # of full scale
SCALES = (0.667, 1.0, 0.8)


def with_noise(encoder: onnx.ModelProto, noises: list[np.ndarray]) -> onnx.ModelProto:
    """The first half of a voice, which speaks one utterance with the last of these noises in place of its own draws."""
    random = [node.output[0] for node in encoder.graph.node if node.op_type in NORMAL]
    given = part_of(encoder, [value.name for value in encoder.graph.output], as_inputs(encoder, random))
    values = zip(noises[-len(random) :], random, strict=True)
    given.graph.initializer.extend(numpy_helper.from_array(noise, name) for noise, name in values)
    return given


def differences(path: Path, folder: Path, lengths, seconds=(None, 0.03, 0.2), sid=None) -> list[float]:
    """Between pieces put together and the whole voice, at equal noise, for utterances of so many phonemes."""
    write_streaming(open_piper(path), folder)
    encoder = onnx.load(folder / ENCODER)
    whole, found = PairedSession(path), []
    for seed, length in enumerate(lengths):
        generator = np.random.default_rng(seed)
        ids = generator.integers(1, 40, length).tolist()
        audio, durations = whole.speak(ids, seed=seed, scales=SCALES, sid=sid)
        channels, frames = whole.latent_channels, int(durations.sum())
        assert channels is not None
        noises = [duration_noise(seed, length)[None], prior_noise(seed, channels, frames)[None]]
        onnx.save(with_noise(encoder, noises), folder / ENCODER)
        streaming = StreamingVoice(folder)
        for size in seconds:
            pieces = list(streaming.speak_ids(ids, sid, size))
            together = np.concatenate(pieces)
            assert together.shape == audio.shape
            found.append(float(np.abs(together - audio).max()))
    return found


@pytest.mark.parametrize("quality", ["low", "medium", "high", "deterministic"])
def test_pieces_are_the_whole_for_voices_of_every_quality(quality, random_voice, tmp_path):
    sid = 1 if quality == "deterministic" else None
    assert max(differences(random_voice(quality), tmp_path, [1, 7, 60, 120], sid=sid)) < EXACT


def test_a_voice_with_speakers_is_spoken_by_the_one_asked_for(multi_speaker_voice, tmp_path):
    assert max(differences(multi_speaker_voice, tmp_path, [60], sid=1)) < EXACT


@pytest.fixture
def changed(medium_voice, tmp_path):
    """Saves a voice with the graph that is made of it."""

    def save(change) -> Path:
        path = tmp_path / "voice.onnx"
        onnx.save(change(onnx.load(medium_voice)), path)
        shutil.copy(f"{medium_voice}.json", f"{path}.json")
        return path

    return save


FEEDS = [
    {
        "input": np.random.default_rng(5).integers(1, 40, (1, 50)),
        "input_lengths": np.array([50]),
        "scales": np.array(SCALES, dtype=np.float32),
    }
]


CHANGES = {
    "rearranged": rearrange_decoder,
    "int8 weights": lambda model: quantize_weights(model, QuantizeWeights(step="quantize_weights"), FEEDS),
    "static int8": lambda model: quantize_static(model, QuantizeStatic(step="quantize_static"), FEEDS),
    "rearranged static int8": lambda model: quantize_static(
        rearrange_decoder(model), QuantizeStatic(step="quantize_static"), FEEDS
    ),
    "float16 arithmetic": lambda model: half_precision(model, Fp16(step="fp16", arithmetic="float16")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_pieces_of_an_optimized_voice_are_its_whole(name, changed, tmp_path):
    exact = 1e-3 if "float16" in name else EXACT
    assert max(differences(changed(CHANGES[name]), tmp_path / "streaming", [7, 60, 120])) < exact


def test_a_voice_whose_ranges_depend_on_the_utterance_is_refused_with_what_helps(changed):
    step = QuantizeDynamic(step="quantize_dynamic", operators=("Conv",))
    path = changed(lambda model: quantize_dynamic(model, step))
    with pytest.raises(StreamError, match="voice.onnx.*DynamicQuantizeLinear.*quantize_static"):
        StreamingVoice(path)


def test_a_mean_over_all_moments_is_refused(changed):
    """As a normalization over time would be: a piece has another mean than the whole."""

    def without_mean(model: onnx.ModelProto) -> onnx.ModelProto:
        output = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
        model.graph.node.append(helper.make_node("ReduceMean", [f"{output}_before"], ["mean"], axes=[-1], keepdims=1))
        model.graph.node.append(helper.make_node("Sub", [f"{output}_before", "mean"], [output]))
        return model

    path = changed(without_mean)
    with pytest.raises(StreamError, match="ReduceMean.*mixes all moments"):
        StreamingVoice(path)


def test_a_graph_that_is_no_voice_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Abs", ["a"], ["b"])], "g", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    with pytest.raises(StreamError, match="0 nodes that round durations up"):
        split_voice(helper.make_model(graph))


def test_the_code_in_the_manual_says_the_same_with_plain_onnx_runtime(medium_voice, tmp_path, monkeypatch):
    """docs/streaming.md, without this library."""
    folder = tmp_path / "streaming"
    write_streaming(open_piper(medium_voice), folder)
    assert {path.name for path in folder.iterdir()} == {ENCODER, DECODER, LAYOUT, f"{ENCODER}.json"}
    ids = np.random.default_rng(1).integers(1, 40, (1, 60))
    feeds = {"input": ids, "input_lengths": np.array([60]), "scales": np.array([0, 1, 0], dtype=np.float32)}
    page = (Path(__file__).parents[2] / "docs/streaming.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import json, numpy.*?)```", page, re.DOTALL)
    pieces: list[np.ndarray] = []
    monkeypatch.chdir(tmp_path)
    exec(code.replace("+ 43 +", "+ 20 +"), {"feeds": feeds, "play": pieces.append})  # as a short text has many pieces
    said: Any = onnxruntime.InferenceSession(medium_voice).run(None, feeds)
    (whole,) = said
    assert len(pieces) > 1 and np.abs(np.concatenate(pieces) - whole.reshape(-1)).max() < EXACT


def test_a_folder_that_is_no_streaming_voice_names_the_file(medium_voice, tmp_path):
    folder = tmp_path / "streaming"
    write_streaming(open_piper(medium_voice), folder)
    (folder / LAYOUT).write_text("{}")
    with pytest.raises(VoiceError, match="streaming.json"):
        StreamingVoice(folder)
    (folder / LAYOUT).unlink()
    with pytest.raises(VoiceError, match="streaming.json: no such file.*--export"):
        StreamingVoice(folder)


def test_an_export_removes_nothing_of_others(plain_voice, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("voice.onnx", "voice.onnx.json"):
        shutil.copyfile(f"{plain_voice}{name.removeprefix('voice.onnx')}", mine / name)
    before = sorted(mine.iterdir())
    words = ["speak", str(mine / "voice.onnx"), "Hello", "-o", str(tmp_path / "x.wav"), "--export", str(mine)]
    monkeypatch.setattr("sys.argv", ["ttsopt", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "is not empty" in " ".join(capsys.readouterr().err.split()) and sorted(mine.iterdir()) == before
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for _ in range(2):  # an export may be made again, and what was put beside it stays
        write_streaming(open_piper(plain_voice), Path("."))
        Path("notes.txt").touch()
    assert {path.name for path in Path(".").iterdir()} == {ENCODER, DECODER, LAYOUT, f"{ENCODER}.json", "notes.txt"}


def test_a_sentence_without_an_end_is_split_between_words(medium_voice):
    config = open_piper(medium_voice).config
    text = "aba abab " * 300
    (whole,) = phoneme_ids(config, text)
    parts = phoneme_ids(config, text, 100)
    assert len(parts) > 20 and max(map(len, parts)) < 2 * 100 + 4  # a pad after each, and the marks at both ends
    spoken = [one for part in parts for one in part if one > 3]
    assert spoken == [one for one in whole if one > 3], "nothing is lost"


def test_the_halves_of_a_variant_are_written_where_the_study_asks(medium_voice, tmp_path):
    path = resolve(Path("params/joe.yaml"))
    study = study_on(medium_voice, read_study(path), path).study
    variants = tuple(
        variant.model_copy(update={"streaming": variant.name == "int8-weights"})
        for variant in study.variants
        if variant.name in ("int8-weights", "fp32")
    )
    study = study.model_copy(update={"variants": variants})
    folder = StudyFolder(study, tmp_path)
    build_study(study, folder, processes=1)
    made = folder.variant("int8-weights") / "streaming"
    assert sum(audio.size for audio in StreamingVoice(made).speak("aba.")) > 1000
    assert not (folder.variant("fp32") / "streaming").exists() and stale_variants(study, folder) == []
    (made / LAYOUT).unlink()
    assert stale_variants(study, folder) == ["int8-weights"]


def test_pieces_begin_short_and_grow(medium_voice):
    voice = StreamingVoice(medium_voice)
    sizes = [audio.size for audio in voice.speak_ids(list(range(1, 40)) * 6)]
    assert sizes[0] < 0.15 * voice.layout.sample_rate and sizes[1:-1] == sorted(sizes[1:-1])
    with pytest.raises(StreamError, match="a frame.*takes"):
        list(voice.speak_ids([1, 2, 3], seconds=0.0001))


@pytest.fixture
def command(medium_voice, monkeypatch):
    """Runs `ttsopt speak` on a voice as the terminal does, which ends with this exit code."""

    def run(*arguments: object, code: str = "0") -> None:
        monkeypatch.setattr("sys.argv", ["ttsopt", "speak", str(medium_voice), *map(str, arguments)])
        with pytest.raises(SystemExit, match=code):
            main()

    return run


@pytest.mark.parametrize(("arguments", "spoken"), [([], 1), (["--phrases"], 2)])
def test_the_command_speaks_phrase_by_phrase_where_it_is_told_to(command, tmp_path, monkeypatch, arguments, spoken):
    said = []
    speak_ids = StreamingVoice.speak_ids

    def noted(self, ids, **options):
        said.append(options["first"])
        return speak_ids(self, ids, **options)

    monkeypatch.setattr(StreamingVoice, "speak_ids", noted)
    command("aba aba aba aba aba aba, aba aba aba aba aba aba.", "-o", tmp_path / "speech.wav", *arguments)
    assert said == [True, False][:spoken], "somebody waits for the first one alone"


def test_the_command_writes_what_it_says_while_it_computes(command, tmp_path, capsys):
    output = tmp_path / "speech.wav"
    command("aba. aba aba.", "-o", output)
    with wave.open(str(output)) as file:
        assert file.getframerate() == 22050 and file.getnframes() > 1000
    assert "first sound after" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_line(command, tmp_path, capsys):
    output = str(tmp_path / "nowhere" / "speech.wav")
    command("aba", "-o", output, code="2")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert output in line


def test_where_nothing_plays_audio_it_says_what_to_do(command, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    command("aba", code="2")
    assert "--output speech.wav" in capsys.readouterr().err
