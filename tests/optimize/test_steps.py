"""A recipe's step is one file: a new one is built, counted and keyed without a word of it anywhere else."""

import ast
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.optimize.small_graphs import arrays
from tests.optimize.test_build import make_study
from ttsopt_lib import code_hash
from ttsopt_lib.measure.plan import torch_recipe
from ttsopt_lib.optimize.build import build_study, variant_key
from ttsopt_lib.optimize.steps.step import source_of, work_of
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.step_settings import STEPS, Step

OWN = '''
"""The step `louder`: every weight of the last layer, doubled."""

from typing import ClassVar, Literal

from onnx import ModelProto, numpy_helper

from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.steps.step import GraphWork
from ttsopt_lib.step_settings import GraphStep


class Louder(GraphStep):
    """Double the weights of the last convolution."""

    step: Literal["louder"]
    times: float = 2.0
    changes_arithmetic: ClassVar = False


class LouderWork(GraphWork[Louder]):
    settings = Louder
    label = "amplification"
    family = "louder"

    def files(self, step):
        return {"an amplifier": "of the first kind"}

    def apply(self, model, step, context):
        result = copy_named(model)
        tensor = next(one for one in result.graph.initializer if one.name == "dec.conv_post.weight")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * step.times, tensor.name))
        return result

    def reaches(self, step, layer):
        return layer.parameters if "conv_post" in layer.node else 0, False

    def note(self, step, after, layers):
        return f"{layers} layer is {step.times:g} times as loud"
'''


@pytest.fixture
def louder(tmp_path, monkeypatch):
    """A step in a file of a user's own, and its settings' class."""
    before = dict(STEPS)
    path = tmp_path / "louder.py"
    path.write_text(OWN, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("louder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "louder", module)
    spec.loader.exec_module(module)
    code_hash.code_digest.cache_clear()
    code_hash._imports.cache_clear()
    yield path
    STEPS.clear()
    STEPS.update(before)


@pytest.fixture
def study(plain_voice, tmp_path):
    return lambda recipe: make_study(plain_voice, tmp_path, {"x": recipe})


@pytest.mark.slow
def test_a_new_step_is_built_counted_described_and_keyed(louder, study, tmp_path):
    asked = study([{"step": "louder", "times": 3}])
    folder = StudyFolder(asked, tmp_path / "reports")
    original, made = build_study(asked, folder, processes=1)
    weights = [arrays(onnx.load(folder.model(name))) for name in ("original", "x")]
    np.testing.assert_allclose(weights[1]["dec.conv_post.weight"].std() / weights[0]["dec.conv_post.weight"].std(), 3)
    (step,) = made.steps
    assert (step.label, step.family, step.note) == ("amplification", "louder", "1 layer is 3 times as loud")
    assert made.coverage == step.coverage and 0 < step.coverage.parameters < 0.1 and step.coverage.macs == 0
    assert torch_recipe(asked, "x") == ()  # what does not change the arithmetic is the original's in PyTorch
    assert original.coverage.parameters == 0

    key = variant_key(asked, "x")
    assert variant_key(study([{"step": "louder", "times": 2}]), "x") != key
    louder.write_text(OWN.replace("first kind", "second kind"), encoding="utf-8")
    code_hash.code_digest.cache_clear()
    assert variant_key(asked, "x") != key


def test_every_step_has_a_file_of_its_name():
    for name, settings in STEPS.items():
        work = work_of(settings.model_construct(step=name))
        assert type(work).__module__ == f"ttsopt_lib.optimize.steps.{name}"
        assert type(work).settings is settings and work.label and work.family


ITS_OWN = {  # the algorithms of one step, and the trainer of students
    "optimize/channels.py": {"PruneStructured"},
    "optimize/finetune.py": {"PruneStructured"},
    "distill/study.py": {"Distill"},
    "report/facts/students.py": {"Distill"},
    "study.py": {"Pack", "QuantizeStatic"},  # the rules of a recipe
    "tune/candidates.py": {"quantize_weights", "quantize_mixed", "rearrange_decoder"},  # recipes, as a study has them
}


def test_nothing_names_a_step_but_its_own_files():
    """Neither its class nor its name: what others have to know of it, its record says."""
    library = Path(code_hash.__file__).parent
    classes = {settings.__name__ for settings in STEPS.values()}
    names = {name for name in STEPS if "_" in name}  # one word may mean something else
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library).as_posix()
        if inside == "step_settings.py" or inside.startswith("optimize/steps/"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & classes
        said |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in names}
        assert said <= ITS_OWN.get(inside, set()), inside


def settings_of(name: str) -> Step:
    return STEPS[name].model_construct(step=name)


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_change_of_any_file_that_a_step_imports_changes_its_key(name, monkeypatch, tmp_path):
    module = source_of(settings_of(name))
    files = code_hash.imported(module)
    assert module in files and "ttsopt_lib.optimize.steps.step" in files
    find, before, changed = code_hash._file, code_hash.code_digest(module), tmp_path / "changed.py"
    for touched in files:
        source = find(touched)
        assert source is not None
        changed.write_bytes(source.read_bytes() + b"# touched")
        with monkeypatch.context() as patch:
            patch.setattr(code_hash, "_file", lambda one, at=touched: changed if one == at else find(one))
            code_hash.code_digest.cache_clear()
            assert code_hash.code_digest(module) != before, touched
    code_hash.code_digest.cache_clear()


def test_a_key_follows_imports_and_stops_at_what_is_no_part_of_the_result():
    distilled = code_hash.imported("ttsopt_lib.optimize.steps.distill")
    assert any(name.startswith("ttsopt_lib.networks.") for name in distilled)
    pruned = code_hash.imported("ttsopt_lib.optimize.steps.prune_structured")
    assert "ttsopt_lib.optimize.refit" in pruned and "ttsopt_lib.optimize.finetune" not in pruned  # training
    assert "ttsopt_lib.optimize.graph.sensitivity" in code_hash.imported("ttsopt_lib.optimize.steps.quantize_mixed")
    assert "ttsopt_lib.voices.text" in code_hash.imported("ttsopt_lib.optimize.steps.quantize_static")
    by_value = ("ttsopt_lib.records", "ttsopt_lib.study", "ttsopt_lib.files")
    assert not [name for name in code_hash.imported("ttsopt_lib.optimize.build") if name.startswith(by_value)]


def test_a_package_stands_for_its_modules():
    inside = code_hash.imported("ttsopt_lib.listening")
    assert {"ttsopt_lib.listening", "ttsopt_lib.listening.site"} <= inside
    assert "ttsopt_lib.measure.remote.ssh" in code_hash.imported(
        "ttsopt_lib.measure"
    )  # also those of packages inside it
    with pytest.raises(ModuleNotFoundError, match="ttsopt_lib.nothing"):
        code_hash.imported("ttsopt_lib.nothing")
