"""A model that is no Piper voice, on the whole way: made smaller, timed, scored, and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16
from small_study import study_values

from tests.voices.declared_graphs import HOP, READ, TONED, constant, declaration, declare, tiny_tts, toned
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.paired import compare, make_reference
from ttsopt_lib.evaluate.signal.waveform import as_float
from ttsopt_lib.measure.plan import PlannedSentence
from ttsopt_lib.measure.side_by_side import read_feeds, write_feeds
from ttsopt_lib.measure.timing import planned_sentences
from ttsopt_lib.optimize.build import build_study, stale_variants
from ttsopt_lib.own_voice import study_on
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.pipeline import Pipeline
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.tune import Asks
from ttsopt_lib.study import Device, Study
from ttsopt_lib.tune import candidates
from ttsopt_lib.tune.tuning import tune
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.piper import VoiceError

RECIPES: dict[str, list[dict[str, Any]]] = {
    "same": [],
    "int8-weights": [{"step": "quantize_weights", "minimum_size": 16}],
    "int8-static": [{"step": "quantize_static", "operators": ["Conv"]}],
    "int8-dynamic": [{"step": "quantize_dynamic", "operators": ["MatMul", "Conv"]}],
    "half": [{"step": "fp16"}],
    "zeros": [{"step": "prune_magnitude", "amount": 0.2}],
    "int8-mixed": [{"step": "quantize_mixed", "budget_db": 30.0, "calibration_sentences": 2, "judged_sentences": 1}],
    "few-bits": [{"step": "quantize_weights", "bits": 4, "minimum_size": 16}, {"step": "pack"}],
}


def study_of(declaration: Path, recipes: dict[str, list[dict[str, Any]]] = RECIPES, **changes: Any) -> Study:
    keys = {
        "voice": {"declared": str(declaration), "licence_chain": ["for tests"]},
        "language": "en",
        "variants": [{"name": name, "recipe": recipe} for name, recipe in recipes.items()],
        "measure": {"budget_seconds": 2, "min_blocks": 4, "max_blocks": 4, "warmup_passes": 1},
    }
    return check(Study, study_values("mine", **keys | changes), "study")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder]:
    """The study's folder after all steps."""
    place = tmp_path_factory.mktemp("declared")
    study = study_of(declare(place / "mine"))
    folder = StudyFolder(study, place)
    assert [line for line in check_inputs(study) if "no symbol" not in line] == []
    pipeline, cpu = Pipeline(study, folder), Device(name="cpu", label="CPU", kind="cpu", threads=(1,))
    pipeline.optimize()
    assert pipeline.measure([cpu]) == []
    pipeline.evaluate()
    pipeline.report([cpu], pdf=False)
    return study, folder


@pytest.mark.slow
def test_every_graph_step_makes_a_variant_that_speaks_by_itself(run: tuple[Study, StudyFolder]) -> None:
    study, folder = run
    assert stale_variants(study, folder) == []
    sizes = {}
    for name in study.variant_names:
        record = json.loads(folder.variant_record(name).read_text(encoding="utf-8"))
        sizes[name] = record["size_bytes"]
        model = open_model(folder.model(name))
        audio, _ = model.open().speak(model.utterance_ids("The door is open."), seed=1)
        assert len(audio) > 1000 and abs(audio).max() > 0.01, name
    assert sizes["same"] == sizes["original"]
    assert sizes["half"] < 0.75 * sizes["original"] and sizes["int8-weights"] < 0.5 * sizes["original"]


@pytest.mark.slow
def test_all_are_timed_scored_and_told_by_kinds_of_work(run: tuple[Study, StudyFolder]) -> None:
    study, folder = run
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    (device,) = summary["devices"]
    timed = {row["variant"] for row in device["rows"]}
    assert timed >= set(study.variant_names) and all(row["latency_ms"] for row in device["rows"])
    assert {row["variant"] for row in summary["quality"]} == set(study.variant_names)
    (profile,) = [one for one in device["profiles"] if one["variant"] == "original"]
    assert profile["stages"]["convolutions"] > 0
    page = folder.html.read_text(encoding="utf-8")
    assert summary["model"] == "Tiny" and "few-bits" in page
    for foreign in ("text encoder", "drop-in", "same noise and durations", "phoneme_id_map"):
        assert foreign not in page, foreign


@pytest.mark.slow
def test_what_is_given_beside_the_ids_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrated, searched, timed here and as on a device, scored and tuned with the tones that the function gives."""
    path = declare(tmp_path / "toned", toned(), ids={"function": "whole_way_reading:read"}, inputs=TONED)
    path.with_name("whole_way_reading.py").write_text(READ, encoding="utf-8")
    mixed = {"step": "quantize_mixed", "budget_db": 40.0, "calibration_sentences": 2, "judged_sentences": 1}
    recipes = {"int8-static": RECIPES["int8-static"], "int8-mixed": [{**mixed, "clock": True}]}
    study = study_of(path, recipes)
    folder = StudyFolder(study, tmp_path / "out")
    check_inputs(study)
    pipeline, cpu = Pipeline(study, folder), Device(name="cpu", label="CPU", kind="cpu", threads=(1,))
    pipeline.optimize()
    assert pipeline.measure([cpu]) == []
    pipeline.evaluate()
    record = json.loads(folder.quality_record.read_text(encoding="utf-8"))
    assert record["not_scored"] == [] and {row["variant"] for row in record["rows"]} == set(study.variant_names)
    timed = json.loads(folder.device_record("cpu").read_text(encoding="utf-8"))
    assert {row["variant"] for row in timed["rows"]} >= set(study.variant_names)

    model = open_model(folder.model("int8-static"))
    sentences = planned_sentences(study, model)
    for sentence in sentences:  # what a device is sent
        sent = PlannedSentence.model_validate_json(sentence.model_dump_json())
        assert list(sent.inputs["tones"].values) == [one % 9 for one in sent.ids]
        assert sent.inputs["colour"].shape == (1, 16) and sent.inputs["languages"].values == (2,) * len(sent.ids)
    feed = model.feed(model.utterance_ids(sentences[0].text))
    write_feeds(tmp_path / "feeds.npz", [feed])
    np.testing.assert_equal(read_feeds(tmp_path / "feeds.npz"), [feed])

    monkeypatch.setattr(candidates, "BUDGETS_DB", (40.0,))
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"Line {number} is here." for number in range(12)), encoding="utf-8")
    found = tune(path, tmp_path / "tuned", Asks(max_loss=4.0, min_speedup=0.01), lines, "dnsmos_p808")
    assert found.chosen and all(one.speedup and one.change is not None for one in found.candidates if not one.refused)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"recipes": {"pruned": [{"step": "prune_structured"}]}}, "variant 'pruned': step prune_structured needs a VITS"),
    ({"recipes": {"d": [{"step": "distill", "student": "models/x"}]}}, "step distill needs a VITS voice"),
    ({"recipes": {"r": [{"step": "rearrange_decoder"}]}}, "rearrange_decoder needs a VITS voice, and this is Tiny"),
    (
        {"measure": {"pytorch": ["same"]}, "recipes": {"same": []}},
        "measure.pytorch needs a VITS voice, and this is Tiny",
    ),
    ({"voice_changes": {"speaker": 2}}, "voice.speaker: 2, but tiny.onnx has one voice: leave the key out"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_needs_a_vits_voice_says_so_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = declare(tmp_path)
    voice = {"declared": str(path), **changes.pop("voice_changes", {})}
    with pytest.raises((StudyError, VoiceError)) as error:
        check_inputs(study_of(path, **changes, voice=voice))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_streaming_that_is_asked_for_is_refused(tmp_path: Path) -> None:
    study = study_of(declare(tmp_path), {})
    variants = [{"name": "pieces", "streaming": True}]
    study = check(Study, {**study.model_dump(), "variants": variants}, "study")
    with pytest.raises(VoiceError, match="variant 'pieces': streaming needs a VITS voice"):
        build_study(study, StudyFolder(study, tmp_path / "out"))


SILENT: list[tuple[str, str]] = [  # what a vocoder returns, and what the message says
    ("None", "what the vocoder .* returns is nothing, where samples are"),
    ("sound * np.nan", "makes NaN or infinite samples; correct the vocoder"),
    ("sound[..., :0]", "makes no samples"),
    ("sound * 0", "samples of silence"),
    ("sound.reshape(2, -1)", r"returns is of shape \[2, .* samples lie along one axis"),
    ("(sound * 3000).astype(np.int16)", "returns is int16, where samples are"),
    ("sound * 32768", "where 1 is full scale; divide them"),
    ("(sound + np.random.standard_normal(sound.shape)).astype(np.float32)", "other samples each time; let the vocoder"),
    ("(sound, sound[0, 0, :3])", "cannot speak it"),
    ("1 / 0", "cannot speak it: division by zero"),
]


@pytest.mark.parametrize("number", range(len(SILENT)))
def test_a_model_that_does_not_speak_is_refused_before_a_variant_is_made(tmp_path: Path, number: int) -> None:
    answer, message = SILENT[number]
    source = f"import numpy as np\n\n\ndef samples(sound):\n    return {answer}\n"
    (tmp_path / f"vocoder_{number}.py").write_text(source, encoding="utf-8")
    path = declare(tmp_path, audio="sound", vocoder=f"vocoder_{number}:samples")
    study = study_of(path, {"zeros": RECIPES["zeros"]})
    folder = StudyFolder(study, tmp_path / "out")
    with pytest.raises(VoiceError, match=message) as error:
        build_study(study, folder)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not folder.variant("original").exists()


def test_a_spectrum_and_ids_that_the_graph_does_not_have_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = tiny_tts()
    graph.graph.output.append(helper.make_tensor_value_info("/decoder/out", TensorProto.FLOAT, [1, HOP, "frames"]))
    study = study_of(declare(tmp_path / "spectrum", graph, audio="/decoder/out"), {})
    with pytest.raises(VoiceError, match=r"the model's audio is of shape \[1, 64, .* a vocoder makes them"):
        build_study(study, StudyFolder(study, tmp_path))
    graph = tiny_tts()
    graph.graph.initializer.append(constant("none", 0, np.int64))
    graph.graph.node.insert(0, helper.make_node("Add", ["tokens", "none"], ["numbers"]))
    graph.graph.node[1].input[1] = "numbers"  # what the ids become is looked up, not they themselves
    study = study_of(declare(tmp_path / "ids", graph, ids={**declaration()["ids"], "begin": [999]}), {})
    with pytest.raises(VoiceError, match=r"tiny.yaml: the model cannot speak 'Slide .* idx=999"):
        build_study(study, StudyFolder(study, tmp_path))
    assert "idx=999" not in capfd.readouterr().err  # ONNX Runtime's own line, beside the exception


def test_weights_in_float16_are_pruned_and_where_there_are_none_the_step_says_so(tmp_path: Path) -> None:
    half = convert_float_to_float16(tiny_tts(noise=False), keep_io_types=True)
    path, recipes = declare(tmp_path / "half", half), {"zeros": RECIPES["zeros"]}
    study = study_of(path, recipes)
    _, record = build_study(study, StudyFolder(study, tmp_path / "out"))
    assert record.parameters_nonzero < 0.9 * record.parameters_stored

    path = declare(tmp_path / "int8", model="small.onnx")
    quantization.quantize_dynamic(path.with_name("tiny.onnx"), path.with_name("small.onnx"))
    study = study_of(path, recipes)
    with pytest.raises(StudyError, match="prune_magnitude: the model has no .* integers, write 'as_float: true'"):
        build_study(study, StudyFolder(study, tmp_path / "none"))


def test_the_default_study_runs_on_it_without_what_needs_a_vits(tmp_path: Path) -> None:
    on = study_on(declare(tmp_path), read_study(resolve(Path("params/joe.yaml"))), Path("params/joe.yaml"))
    recipes = {variant.name: [step.step for step in variant.recipe] for variant in on.study.variants}
    assert {"int8-weights", "int8-static"} <= {*recipes} and not on.left_out, "nothing can be trained for it"
    assert {"distilled", "pruned-structured", "fp32-rearranged"} <= {*on.of_vits}
    assert recipes["int8-mixed"] == ["quantize_mixed"] and on.shortened == {"int8-mixed": ["rearrange_decoder"]}
    assert on.study.measure.pytorch == () and on.study.measure.first_sound == ()
    check_inputs(on.study)


def test_a_variant_of_another_length_is_not_compared_frame_by_frame() -> None:
    rng = np.random.default_rng(0)
    original = rng.integers(-9000, 9000, 22_050).astype(np.int16)
    reference = make_reference(original, (), 22_050)
    same = compare(as_float(original), reference, 22_050)
    assert same.log_spectral_distance_db == pytest.approx(0.0, abs=1e-6)
    longer = compare(as_float(np.append(original, original[:300])), reference, 22_050)
    assert longer.log_spectral_distance_db is None and longer.f0_error_cents is None


def test_the_float_form_may_be_the_original(tmp_path: Path) -> None:
    path = declare(tmp_path, model="small.onnx")
    whole, small = path.with_name("tiny.onnx"), path.with_name("small.onnx")
    quantization.quantize_dynamic(whole, small, weight_type=quantization.QuantType.QUInt8)
    made = {}
    for turned_back in (False, True):
        study = study_of(path, {}, voice={"declared": str(path), "as_float": turned_back})
        folder = StudyFolder(study, tmp_path / str(turned_back))
        (record,) = build_study(study, folder, only=["original"])
        made[turned_back] = record, {node.op_type for node in onnx.load(folder.model("original")).graph.node}
    (came, before), (turned, after) = made[False], made[True]
    assert "ConvInteger" in before and "Conv" in after and "ConvInteger" not in after
    assert turned.size_bytes > 1.5 * came.size_bytes and "its float form" in turned.steps[0].note
    path = declare(tmp_path / "float")
    study = study_of(path, {}, voice={"declared": str(path), "as_float": True})
    with pytest.raises(VoiceError, match="tiny.onnx has no integer arithmetic: leave the key out"):
        build_study(study, StudyFolder(study, tmp_path), only=["original"])


def bring(folder: Path, kind: str) -> tuple[Path, str]:
    """A model that cannot be used; returns what is given to the command, and what that says."""
    if kind == "audio":
        return declare(folder, audio="size"), r"tiny.yaml: key audio: the output size .* name the output that holds the"
    if kind == "input":
        inputs = {name: given for name, given in declaration()["inputs"].items() if name != "style"}
        return declare(folder, inputs=inputs), r"tiny.yaml: key inputs: says nothing of style, .* add 'style: ' and one"
    if kind == "operator":
        return declare(folder, tiny_tts(domain="my.own")), r"tiny.onnx: needs the operator Vocode .* export the model"
    if kind == "undeclared":
        return declare(folder).with_name("tiny.onnx"), r"tiny.onnx.json: no such file; .* give a .yaml that declares it"
    path = declare(folder)
    onnx.save(tiny_tts(), path.with_name("tiny.onnx"), save_as_external_data=True, location="w.data", size_threshold=0)
    path.with_name("w.data").unlink()
    return path, r"w.data: no such file, and tiny.onnx has its weights there; copy both into one folder"


@pytest.mark.parametrize("kind", ["audio", "input", "operator", "weights", "undeclared"])
def test_a_model_that_cannot_be_used_is_one_line_of_a_run_and_of_a_tuning(tmp_path: Path, kind: str) -> None:
    path, message = bring(tmp_path / "brought", kind)
    default = Path("params/joe.yaml")
    for work in (
        lambda: check_inputs(study_on(path, read_study(resolve(default)), default).study),
        lambda: tune(path, tmp_path / "tuned", Asks()),
    ):
        with pytest.raises(VoiceError, match=message) as raised:
            work()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "tuned").exists()
