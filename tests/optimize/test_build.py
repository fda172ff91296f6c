"""A study's variants: made whole, made once, made the same each time, and refused with a reason."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from piper.patch_voice_with_alignment import add_alignment_output

from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.optimize import build, context
from ttsopt_lib.optimize.build import VariantError, build_study, stale_variants, variant_key
from ttsopt_lib.optimize.steps import quantize_weights as weights_step
from ttsopt_lib.optimize.torch_build import build_torch
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.step_settings import PruneMagnitude, QuantizeDynamic, QuantizeWeights
from ttsopt_lib.study import Study
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.session import RuntimeFailure, open_session
from ttsopt_lib.voices.source import source_model

SENTENCES = ["The birch canoe slid.", "Rice is often served.", "Glue the sheet.", "These days are rare."]
DYNAMIC = {"step": "quantize_dynamic", "operators": ["MatMul"]}
WEIGHTS = {"step": "quantize_weights"}
FOUR_BITS = [DYNAMIC | {"bits": 4}, WEIGHTS | {"bits": 4}, {"step": "pack"}]
STATIC = {"step": "quantize_static", "exclude": ["^/(enc_p|dp|flow)/"]}
PRUNE = {"step": "prune_magnitude", "amount": 0.3}


def make_study(voice, tmp_path, variants, speaker=None):
    sentences = tmp_path / "sentences.txt"
    if not sentences.exists():
        sentences.write_text("\n".join(SENTENCES), encoding="utf-8")
    values = {
        "name": "tiny",
        "voice": {"path": str(voice), "speaker": speaker},
        "variants": [{"name": name, "recipe": steps} for name, steps in variants.items()],
        "sentences": {
            "evaluation": {"file": str(sentences), "start": 0, "count": 2},
            "calibration": {"file": str(sentences), "start": 2, "count": 2},
            "timing": {"short": ["Yes."]},
            "listening": ["Yes."],
        },
        "evaluate": {"wer_sentences": 0},
    }
    return Study.model_validate(values)


@pytest.fixture(scope="module")
def built(medium_voice, tmp_path_factory):
    """A whole study of a small random voice, built once."""
    tmp_path = tmp_path_factory.mktemp("study")
    variants = {
        "fp32": [],
        "int8-dynamic": [DYNAMIC],
        "int8-weights": [WEIGHTS],
        "int8-static": [STATIC],
        "pruned-30": [PRUNE],
        "pruned+int8": [PRUNE, WEIGHTS],
        "packed": FOUR_BITS,
    }
    study = make_study(medium_voice, tmp_path, variants)
    folder = StudyFolder(study, tmp_path / "reports")
    return study, folder, build_study(study, folder)


@pytest.fixture
def exported(built, monkeypatch):
    """Tests of what comes after the export take the one that was made already."""
    ready = built[1].model("fp32")

    def copy_export(model, config, path):
        shutil.copyfile(ready, path)
        shutil.copyfile(f"{ready}.json", f"{path}.json")
        return path

    monkeypatch.setattr(context, "export_piper", copy_export)
    monkeypatch.setattr(context, "load_piper", lambda voice: None)


@pytest.mark.slow
def test_every_variant_is_a_folder_with_a_voice_its_config_and_its_record(built):
    study, folder, records = built
    assert [record.name for record in records] == ["original", *(variant.name for variant in study.variants)]
    for record in records:
        here = folder.variant(record.name)
        assert sorted(path.name for path in here.iterdir()) == ["model.onnx", "model.onnx.json", "variant.json"]
        assert record == VariantRecord.model_validate_json((here / "variant.json").read_text())
        assert record.files == {name: file_sha256(here / name) for name in ("model.onnx", "model.onnx.json")}
        assert record.size_bytes == (here / "model.onnx").stat().st_size
        assert 0 < record.compressed_bytes < record.size_bytes
        assert json.loads((here / "model.onnx.json").read_text())["phoneme_id_map"]


@pytest.mark.slow
def test_the_original_is_the_users_file_byte_for_byte(built, medium_voice):
    study, folder, records = built
    assert folder.model("original").read_bytes() == medium_voice.read_bytes()
    assert (folder.variant("original") / "model.onnx.json").read_bytes() == (
        medium_voice.parent / f"{medium_voice.name}.json"
    ).read_bytes()
    assert records[0].parent is None and not records[0].steps
    assert records[0].source_sha256 == file_sha256(medium_voice)
    assert source_model(study).path == medium_voice


@pytest.mark.slow
def test_each_record_says_what_its_steps_reached(built, medium_voice):
    records = {record.name: record for record in built[2]}
    assert records["fp32"].coverage.parameters == records["fp32"].coverage.macs == 0.0
    assert 0 < records["int8-dynamic"].coverage.parameters < 0.5
    assert records["int8-dynamic"].steps[0].layers == 8  # four linear layers in each of two attention layers
    assert records["int8-weights"].coverage.parameters > 0.5 and records["int8-weights"].coverage.macs == 0.0
    assert records["int8-static"].coverage.macs > 0.3
    pruned = records["pruned-30"]
    zeros = pruned.parameters_stored - pruned.parameters_nonzero
    assert pruned.coverage.parameters == pytest.approx(zeros / pruned.parameters_stored, rel=1e-3)
    assert pruned.compressed_bytes < 0.9 * records["fp32"].compressed_bytes
    assert [step.step for step in records["pruned+int8"].steps] == ["prune_magnitude", "quantize_weights"]
    assert records["pruned+int8"].coverage.parameters >= records["int8-weights"].coverage.parameters
    packed = records["packed"]
    assert packed.size_bytes < 0.7 * records["int8-weights"].size_bytes
    assert packed.parameters_stored == records["int8-weights"].parameters_stored
    assert 0.7 < packed.steps[2].coverage.parameters < packed.coverage.parameters
    assert packed.coverage.macs == records["int8-dynamic"].coverage.macs
    assert (
        "(8 of all have 4 bits so far, rounded on the calibration sentences; other int8 has 8)" in packed.steps[0].note
    )
    assert open_piper(built[1].model("packed")).config.num_symbols == open_piper(medium_voice).config.num_symbols
    assert "in fewer than 8 bits a weight" in packed.steps[2].note


@pytest.mark.slow
def test_a_second_call_builds_nothing(built, monkeypatch):
    study, folder, records = built
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert stale_variants(study, folder) == []
    assert build_study(study, folder) == records


@pytest.mark.slow
def test_a_changed_recipe_or_a_damaged_file_is_built_again_and_alone(built, medium_voice, tmp_path):
    study, folder, _ = built
    copied = StudyFolder(study, tmp_path / "reports")
    shutil.copytree(folder.path, copied.path)
    with copied.model("int8-weights").open("ab") as file:
        file.write(b"x")
    pruned = study.variant("pruned-30")
    less = pruned.model_copy(update={"recipe": (pruned.recipe[0].model_copy(update={"amount": 0.2}),)})
    variants = tuple(less if variant is pruned else variant for variant in study.variants)
    changed = study.model_copy(update={"variants": variants})
    assert stale_variants(changed, copied) == ["int8-weights", "pruned-30"]
    assert stale_variants(changed, copied, only=["fp32"], again=True) == ["fp32"]


@pytest.mark.slow
def test_the_same_study_gives_the_same_bytes_in_another_process(built, medium_voice, tmp_path):
    study, folder, records = built
    program = (
        "import sys; from pathlib import Path; from ttsopt_lib.study import Study; "
        "from ttsopt_lib.records.folder import StudyFolder; from ttsopt_lib.optimize.build import build_study; "
        "study = Study.model_validate_json(sys.argv[1]); "
        "build_study(study, StudyFolder(study, Path(sys.argv[2])), only=['int8-static'])"
    )
    subprocess.run(
        [sys.executable, "-c", program, study.model_dump_json(), str(tmp_path)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    other = StudyFolder(study, tmp_path)
    assert other.model("int8-static").read_bytes() == folder.model("int8-static").read_bytes()


@pytest.mark.slow
def test_calibration_sentences_only_matter_to_what_is_calibrated(built, tmp_path):
    study = built[0]
    more = study.sentences.calibration.model_copy(update={"count": 1})
    fewer = study.model_copy(update={"sentences": study.sentences.model_copy(update={"calibration": more})})
    assert variant_key(study, "int8-weights") == variant_key(fewer, "int8-weights")
    assert variant_key(study, "int8-static") != variant_key(fewer, "int8-static")
    assert variant_key(study, "packed") != variant_key(fewer, "packed")


@pytest.mark.slow
def test_an_unknown_variant_is_an_error_that_lists_the_known(built):
    study, folder, _ = built
    with pytest.raises(StudyError, match="no variant 'int4'.*int8-weights"):
        build_study(study, folder, only=["int4"])


@pytest.mark.slow
def test_a_step_that_reached_nothing_is_an_error_unless_expected(medium_voice, tmp_path, exported):
    nothing = {"step": "quantize_weights", "minimum_size": 10**9}
    study = make_study(medium_voice, tmp_path, {"empty": [nothing]})
    folder = StudyFolder(study, tmp_path / "reports")
    with pytest.raises(StudyError, match="variant 'empty': step quantize_weights .*reaches_nothing: expected"):
        build_study(study, folder, only=["empty"])
    assert not any(folder.variant("empty").parent.iterdir())

    study = make_study(medium_voice, tmp_path, {"empty": [{**nothing, "reaches_nothing": "expected"}]})
    (record,) = build_study(study, folder, only=["empty"])
    assert record.steps[0].layers == 0


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_half_made_and_the_next_run_goes_on(medium_voice, tmp_path, monkeypatch, exported):
    study = make_study(medium_voice, tmp_path, {"int8-weights": [WEIGHTS]})
    folder = StudyFolder(study, tmp_path / "reports")
    with monkeypatch.context() as patch:
        patch.setattr(weights_step, "quantize_weights", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_study(study, folder, processes=1)
    assert [path.name for path in folder.variant("x").parent.iterdir()] == ["original"]
    assert stale_variants(study, folder) == ["int8-weights"]
    build_study(study, folder)
    assert stale_variants(study, folder) == []


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_an_error_in_a_process_is_the_callers(medium_voice, tmp_path):
    nothing = {"step": "quantize_weights", "minimum_size": 10**9}
    study = make_study(medium_voice, tmp_path, {"int8-weights": [WEIGHTS], "empty": [nothing]})
    folder = StudyFolder(study, tmp_path / "reports")
    (folder.variant("int8-weights").parent / ".int8-weights.abc.part").mkdir(parents=True)
    with pytest.raises(StudyError, match="variant 'empty'"):
        build_study(study, folder, processes=2)
    assert not list(folder.variant("empty").parent.glob(".*"))
    assert "empty" in stale_variants(study, folder)


@pytest.mark.slow
def test_a_variant_that_cannot_speak_is_refused_and_an_older_one_stays(built, monkeypatch, exported):
    study, folder, _ = built
    before = folder.model("int8-weights").read_bytes()

    def broken(model, step, feeds):
        result = onnx.ModelProto()
        result.CopyFrom(quantize(model, step, feeds))
        scale = next(t for t in result.graph.initializer if t.name.startswith("dec.") and t.name.endswith("_scale"))
        scale.CopyFrom(onnx.numpy_helper.from_array(np.full(list(scale.dims), np.nan, np.float32), scale.name))
        return result

    quantize = weights_step.quantize_weights
    monkeypatch.setattr(weights_step, "quantize_weights", broken)
    with pytest.raises(VariantError, match="'int8-weights'.*not numbers"):
        build_study(study, folder, only=["int8-weights"], again=True)
    assert folder.model("int8-weights").read_bytes() == before
    assert not list(folder.variant("int8-weights").parent.glob(".*"))


@pytest.mark.slow
def test_a_speaker_of_a_voice_with_several_is_calibrated_and_spoken(multi_speaker_voice, tmp_path):
    keys = set()
    for speaker in (0, 2):
        study = make_study(multi_speaker_voice, tmp_path, {"int8-static": [STATIC]}, speaker=speaker)
        keys.add(variant_key(study, "int8-static"))
    assert len(keys) == 2
    original, static = build_study(study, StudyFolder(study, tmp_path / "reports"))
    assert static.steps[0].layers > 0
    assert original.parameters_stored == pytest.approx(static.parameters_stored, rel=1e-3)


@pytest.mark.slow
def test_variants_of_a_voice_that_tells_its_durations_tell_them_too(medium_voice, tmp_path, exported):
    patched = tmp_path / "patched.onnx"
    graph = onnx.load(medium_voice)
    add_alignment_output(graph)
    onnx.save(graph, patched)
    shutil.copyfile(f"{medium_voice}.json", f"{patched}.json")
    study = make_study(patched, tmp_path, {"int8-weights": [WEIGHTS]})
    folder = StudyFolder(study, tmp_path / "reports")
    for record in build_study(study, folder):
        voice = open_piper(folder.model(record.name))
        session = open_session(voice.path)
        ids = np.array([[1, 0, 5, 0, 9, 0, 2]], dtype=np.int64)
        feed = {"input": ids, "input_lengths": np.array([7]), "scales": np.array([0.0, 1.0, 0.0], dtype=np.float32)}
        audio, frames = (np.asarray(output) for output in session.run(None, feed))
        assert frames.size == ids.size and frames.sum() * 256 == audio.size, record.name


@pytest.mark.slow
def test_any_variant_can_be_made_to_tell_its_durations_as_piper_does(built):
    _, folder, records = built
    for record in records:
        model = onnx.load(folder.model(record.name))
        told = add_alignment_output(model)
        assert [output.name for output in open_session(model).get_outputs()] == [model.graph.output[0].name, told]


def test_a_recipe_runs_in_pytorch_where_pytorch_has_it(medium_voice, recwarn):
    model = build_torch(
        [PruneMagnitude(step="prune_magnitude"), QuantizeDynamic(step="quantize_dynamic")], medium_voice
    )
    kinds = [type(module).__module__ for module in model.modules()]
    assert sum("quantized.dynamic" in kind for kind in kinds) == 8
    audio = model(torch.tensor([[1, 5, 6, 7, 2]]), torch.tensor([5]), torch.tensor([0.0, 1.0, 0.0]))
    assert torch.isfinite(audio).all()
    assert not [w for w in recwarn if "quantiz" in str(w.message)]
    with pytest.raises(StudyError, match="measure.pytorch: quantize_weights has no equal in PyTorch"):
        build_torch([QuantizeWeights(step="quantize_weights")], medium_voice)


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["quantize_weights", "speak"])
def test_what_a_runtime_says_of_a_variant_is_one_line_and_what_is_made_stays(
    plain_voice, tmp_path, monkeypatch, failing
):
    study = make_study(plain_voice, tmp_path, {"int8-weights": [WEIGHTS]})
    folder = StudyFolder(study, tmp_path / "reports")

    def broken(*_):
        raise RuntimeFailure("ONNX Runtime cannot run it: no such kernel")

    place = {"quantize_weights": weights_step, "speak": context}[failing]
    monkeypatch.setattr(place, failing, broken)
    names = {"quantize_weights": "variant 'int8-weights': ", "speak": f"{plain_voice}: .* the voice itself cannot"}
    with pytest.raises(VariantError, match=f"^{names[failing]}.*no such kernel"):
        build_study(study, folder, processes=1)
    assert folder.model("original").is_file() is (failing == "quantize_weights")
    assert not list((tmp_path / "reports").rglob("*.part"))
