"""A study says exactly what was asked, or one line says what is wrong with it."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttsopt_lib import params
from ttsopt_lib.errors import StudyError
from ttsopt_lib.params import check, notebook_parameters, read_device, read_study
from ttsopt_lib.paths import RUN, own_path, params_names, project_root, python_command, resolve, shipped_root
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.text_files import parsed_yaml

PARAMS = Path(__file__).parents[1] / "params"


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load((PARAMS / "joe.yaml").read_text())["study"]


def test_every_params_file_is_valid():
    for path in PARAMS.glob("*.yaml"):
        kind = next(iter(yaml.safe_load(path.read_text())))
        read = {"study": read_study, "device": read_device}[kind](path)
        assert read.name == path.stem


def test_a_study_survives_the_way_through_papermill(values):
    study = check(Study, values, "joe.yaml: study")
    assert check(Study, study.model_dump(mode="json"), "again") == study


def refused(values: dict[str, Any], *path: str | int, **change: Any) -> str:
    """The message for `values` with `change` made at `path`."""
    broken = copy.deepcopy(values)
    place: Any = broken
    for part in path:
        place = place[part]
    place.update(change)
    with pytest.raises(StudyError) as caught:
        check(Study, broken, "my.yaml: study")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("my.yaml: study: ")
    return message


def test_an_unknown_key_is_named_with_the_keys_that_exist(values):
    message = refused(values, "measure", bugdet_seconds=5)
    assert "measure.bugdet_seconds: unknown key" in message
    assert "budget_seconds" in message.split("known here")[1]


def test_an_unknown_key_in_a_step_is_named_with_the_keys_of_that_step(values):
    weights = next(i for i, v in enumerate(values["variants"]) if v["name"] == "int8-weights")
    message = refused(values, "variants", weights, "recipe", 0, minimum=5)
    assert "minimum_size" in message


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        (("measure",), {"budget_seconds": "long"}, "measure.budget_seconds"),
        (("measure",), {"pytorch": ["int9"]}, "'int9' is not a variant of this study"),
        (("voice",), {"path": "x.onnx"}, "exactly one of package, path, huggingface"),
        (("sentences", "calibration"), {"start": 50}, "no step has seen"),
        (("variants", 0), {"name": "original"}, "reserved"),
        (("variants", 0), {"name": "int8-static"}, "duplicate name: int8-static"),
        (("variants", 0), {"name": "../evil"}, "variants.0.name"),
        (("variants", 0), {"recipe": [{"step": ["fp16"]}]}, "step: ['fp16'] is none of dequantize, distill"),
        (("variants", 0), {"recipe": [{"step": "fp16"}, {"step": "prune_magnitude"}]}, "must come before quantization"),
        (("evaluate",), {"wer_sentences": 1000}, "more than"),
        (("evaluate",), {"predictors": ["dnsmos_p808"]}, "not among the predictors"),
        (("targets",), {"size_reduction": 72}, "targets.size_reduction"),
        (("sentences", "confirmation"), {"start": 50}, "confirmation and evaluation share sentences"),
        (("sentences", "confirmation"), {"start": 310}, "confirmation and calibration share sentences"),
        (("sentences",), {"confirmation": None}, "sentences.confirmation is missing"),
        (("evaluate",), {"confirmed": []}, "evaluate.confirmed is missing"),
        (("evaluate",), {"confirmed": ["int9"]}, "'int9' is not a variant of this study"),
    ],
)
def test_what_cannot_be_right_is_refused(values, path, change, expected):
    assert expected in refused(values, *path, **change)


def test_asking_for_a_variant_that_is_not_there_lists_those_that_are(values):
    with pytest.raises(StudyError, match="no variant 'int9'.*: fp32, fp32-rearranged, int8-dynamic, "):
        check(Study, values, "x").variant("int9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("device: {}\nstudy: {}\n", "expected the one top-level key 'study:'"),
        ("- a\n", "expected the one top-level key 'study:'"),
        ("study: {a: [\n", "not valid YAML in line"),
        ("study:\n", "study"),
        ("study:\n  name: x\n  measure: {min_blocks: 9}\n  measure: {}\n", "in line 4: key measure stands there twice"),
        ("a: &a {x: 1}\nb: &b {y: 2}\nstudy: {<<: *a, <<: *b}\n", "expected the one top-level key 'study:'"),
        ("study: {title: 2024-13-45}\n", "not valid YAML: month must be in 1..12"),
    ],
)
def test_a_params_file_that_is_no_study_is_refused(tmp_path, text, expected):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_notebook_parameters_may_be_values_or_files(values):
    (from_values,) = notebook_parameters({"study": values}, study=Study)
    (from_file,) = notebook_parameters({"study": str(PARAMS / "joe.yaml")}, study=Study)
    assert from_values == from_file


def test_an_unknown_notebook_parameter_is_refused(values):
    namespace = {"study": values, "stduy": 1, "Path": Path, "yaml": yaml, "_i1": "", "In": []}
    with pytest.raises(StudyError, match="unknown notebook parameter: stduy; this notebook takes study"):
        notebook_parameters(namespace, study=Study)


def test_relative_paths_start_at_the_project_folder(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_root() == tmp_path
    assert resolve(Path("params/x.txt")) == tmp_path / "params/x.txt"
    assert resolve(Path("/etc/x")) == Path("/etc/x")


def test_what_the_own_folder_lacks_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentences = Path("params/sentences/harvard.txt")
    assert resolve(sentences) == shipped_root() / sentences
    assert read_study(Path("params/joe.yaml")).name == "joe"
    (tmp_path / "params/sentences").mkdir(parents=True)
    (tmp_path / sentences).write_text("My own.")
    (tmp_path / "params/mine.yaml").write_text("# mine\nstudy: {}")
    assert resolve(sentences) == tmp_path / sentences
    assert {"joe", "mine", "more"} <= set(params_names("study"))
    assert {"cpu", "gpu", "raspberry_pi"} <= set(params_names("device"))
    with pytest.raises(StudyError, match=r"^params/none.yaml: no such file; study files .* params/mine.yaml"):
        read_study(Path("params/none.yaml"))


def test_no_file_of_the_working_folder_stands_in_for_a_library_of_a_process_of_ours(tmp_path):
    for name in ("random", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is no library')\n")
    command = [*python_command("json.tool"), "--compact"]
    done = subprocess.run(command, cwd=tmp_path, input="[1, 2]", capture_output=True, text=True)
    assert done.stdout == "[1,2]\n", done.stderr


def test_a_process_of_ours_runs_this_package_and_no_library_from_beside_it(tmp_path):
    for folder in ("own", "installed"):
        package = tmp_path / folder / "ttsopt_lib"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("import logging")
        (package / "told.py").write_text("import ttsopt_lib; print(ttsopt_lib.__file__, ttsopt_lib.logging.INFO)")
    (tmp_path / "own/logging.py").write_text("raise SystemExit('this is no library')\n")
    command = [sys.executable, "-P", "-c", RUN, str(tmp_path / "own"), "ttsopt_lib.told"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'own/ttsopt_lib/__init__.py'} 20\n", done.stderr


def test_a_home_that_is_not_there_is_a_path_that_is_not_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve(Path("~/a.txt")) == Path("/home/me/a.txt")
    with pytest.raises(StudyError, match="^~nosuchuser/mine.yaml: no such file"):
        read_study(Path("~nosuchuser/mine.yaml"))


def test_nothing_is_written_where_the_package_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = Path("models/en_US-joe-medium/students")
    assert resolve(student) == shipped_root() / student
    assert own_path(student) == tmp_path / student
    assert StudyFolder(read_study(Path("params/joe.yaml"))).path == tmp_path / "reports/joe"
    assert resolve(Path("reports")) == tmp_path / "reports"  # only what ships is looked for there
    assert resolve(Path("models/mine/student")) == tmp_path / "models/mine/student"


@pytest.mark.parametrize(
    "location", [("evaluate", "EvaluateSettings", "typo"), ("variants", 9, "typo"), ("variants", "x", "typo")]
)
def test_a_place_that_the_values_do_not_have_still_names_the_known_keys(location):
    assert "known here" in params._known_keys(Study, location, {"evaluate": {}, "variants": [], "name": "joe"})


def test_a_key_of_a_merged_mapping_may_be_written_over():
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n"
    assert parsed_yaml(text) == {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}, "c": {"x": 2, "y": 3}}
