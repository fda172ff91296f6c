"""Records are whole, bound to their inputs, and never half-written."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ttsopt_lib import files
from ttsopt_lib.errors import system_words
from ttsopt_lib.evaluate import score_store
from ttsopt_lib.evaluate.scores import UtteranceScores
from ttsopt_lib.files import atomic_folder, atomic_path, content_key, file_sha256, replaced_together
from ttsopt_lib.records.base import RecordError, read_if_current, read_record, write_record
from ttsopt_lib.records.variant import Coverage, StepRecord, VariantRecord, read_variant_if_current
from ttsopt_lib.study import Targets


def variant_record(**changes) -> VariantRecord:
    values = {
        "key": "k1",
        "name": "int8-weights",
        "recipe": [{"step": "quantize_weights"}],
        "parent": "original",
        "source_sha256": "s",
        "files": {},
        "size_bytes": 16,
        "compressed_bytes": 15,
        "parameters_stored": 4,
        "parameters_nonzero": 4,
        "coverage": Coverage(parameters=1.0, macs=0.0),
        "steps": [
            StepRecord(
                step="quantize_weights",
                coverage=Coverage(parameters=1.0, macs=0.0),
                layers=2,
                label="weight quantization",
                family="int8 weights",
                kind="stored weights",
                optimizes=True,
                changes_arithmetic=False,
            )
        ],
        "seconds": 1.0,
        "created": "2026-01-01T00:00:00Z",
    }
    return VariantRecord.model_validate(values | changes)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = variant_record()
    write_record(tmp_path / "deep" / "variant.json", record)
    assert read_record(tmp_path / "deep" / "variant.json", VariantRecord, "optimize") == record
    assert json.loads((tmp_path / "deep" / "variant.json").read_text())["schema_version"] == 2


def test_a_record_that_could_not_be_read_back_is_refused_where_it_is_written(tmp_path):
    write_record(tmp_path / "variant.json", variant_record())
    spoiled = variant_record(seconds=float("nan"))
    spoiled.steps[0].coverage.macs = float("inf")
    with pytest.raises(RecordError, match=r"variant.json: not written, .* steps\.0\.coverage\.macs: "):
        write_record(tmp_path / "variant.json", spoiled)
    assert read_record(tmp_path / "variant.json", VariantRecord, "optimize") == variant_record()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"key": "k1", "surplus": 1}'])
def test_a_broken_record_says_which_step_makes_it_anew(tmp_path, text):
    path = tmp_path / "variant.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"variant.json.*run 'ttsopt optimize' again"):
        read_record(path, VariantRecord, "optimize")


def test_a_missing_record_says_which_step_makes_it(tmp_path):
    with pytest.raises(RecordError, match="run 'ttsopt optimize' first"):
        read_record(tmp_path / "variant.json", VariantRecord, "optimize")


def test_a_record_of_other_inputs_is_not_current(tmp_path):
    write_record(tmp_path / "variant.json", variant_record())
    assert read_if_current(tmp_path / "variant.json", VariantRecord, "k1") is not None
    assert read_if_current(tmp_path / "variant.json", VariantRecord, "k2") is None
    assert read_if_current(tmp_path / "nothing.json", VariantRecord, "k1") is None


def test_a_variant_whose_file_was_touched_is_not_current(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    write_record(tmp_path / "variant.json", variant_record(files={"model.onnx": file_sha256(model)}))
    assert read_variant_if_current(tmp_path, "k1") is not None
    model.write_bytes(b"weightz")
    assert read_variant_if_current(tmp_path, "k1") is None
    model.unlink()
    assert read_variant_if_current(tmp_path, "k1") is None


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_failure_while_filling_a_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    folder = tmp_path / "v"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as temporary:
        (temporary / "a").write_text("half")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["v"]
    assert (folder / "a").read_text() == "old"


def test_a_folder_is_whole_where_the_removal_of_the_earlier_one_is_interrupted(tmp_path, monkeypatch):
    def interrupted(folder: Path, **_: object) -> None:
        next(path for path in sorted(folder.rglob("*")) if path.is_file()).unlink()
        raise KeyboardInterrupt

    folder = tmp_path / "earlier"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("old")
        (temporary / "b").write_text("old")
    monkeypatch.setattr(files.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as temporary:
        (temporary / "a").write_text("new")
        (temporary / "b").write_text("new")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "new"}


def test_the_folder_that_a_link_leads_to_is_replaced(tmp_path):
    disk, link = tmp_path / "disk" / "student", tmp_path / "student"
    disk.mkdir(parents=True)
    (disk / "old").touch()
    link.symlink_to(disk)
    with atomic_folder(link) as temporary:
        (temporary / "new").touch()
    assert link.is_symlink() and [path.name for path in disk.iterdir()] == ["new"]
    assert [path.name for path in disk.parent.iterdir()] == ["student"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(NotADirectoryError, match="notes"), atomic_folder(tmp_path / "notes"):
        pass
    assert (tmp_path / "notes").read_text() == "mine"


def test_keys_depend_on_every_part_and_on_nothing_else():
    key = content_key("a", {"x": 1, "y": [1, 2]}, Targets())
    assert key == content_key("a", {"y": [1, 2], "x": 1}, Targets())
    assert key != content_key("a", {"x": 1, "y": [2, 1]}, Targets())
    assert key != content_key("a", {"x": 1, "y": [1, 2]}, Targets(size_reduction=0.5))


def test_the_hash_of_a_settled_file_is_read_once_and_follows_every_change(tmp_path, monkeypatch):
    path, read = tmp_path / "model.onnx", []

    def counted(one: Path) -> str:
        read.append(one)
        return hashlib.sha256(one.read_bytes()).hexdigest()

    monkeypatch.setattr(files, "_read_sha256", counted)
    path.write_text("one")
    assert file_sha256(path) == file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert len(read) == 2, "a file that was written just now may be written again without a sign of it"
    monkeypatch.setattr(files, "SETTLED_NS", 0)
    assert file_sha256(path) == file_sha256(path) and len(read) == 3
    other = tmp_path / "other"
    other.write_text("two")
    os.replace(other, path)
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_full_disk_names_the_file_that_was_written(tmp_path, monkeypatch):
    def full(*_, **__) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")  # a failed write names no file

    for writing in (atomic_path(tmp_path / "model.onnx"), replaced_together(tmp_path, [])):
        with pytest.raises(OSError) as caught, writing:
            full()
        assert str(tmp_path) in system_words(caught.value) and "make room there" in system_words(caught.value)
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setattr(score_store, "open", full, raising=False)
    with pytest.raises(OSError) as caught:
        store = score_store.ScoreStore(tmp_path / "scores.jsonl")
        store.add("key", UtteranceScores({"dnsmos_p808": 4.0}, 2.0, -60.0, None, None))
    assert system_words(caught.value).startswith(f"{tmp_path / 'scores.jsonl'}: No space left")
