"""A record that another machine measured is checked, kept under its device, and lost to a measurement here alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from timed_study import CPU, SHORT_STUDY, timed_row

from ttsopt_lib.measure import timing
from ttsopt_lib.measure.devices import Probe
from ttsopt_lib.measure.importing import import_record
from ttsopt_lib.measure.timing import current_measurement, measure_device, record_failure
from ttsopt_lib.params import check
from ttsopt_lib.pipeline import Pipeline
from ttsopt_lib.records.base import RecordError, read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, TimedSentence
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device

STUDY = SHORT_STUDY
GPU = check(Device, {"name": "gpu", "label": "My GPU", "kind": "gpu"}, "gpu")


def invented(**more: Any) -> DeviceRecord:
    """What a GPU somewhere would have found."""
    rows = [
        timed_row(name, [[0.01, 0.02]] * 4, audio_seconds=[[0.5, 1.0]] * 4)
        for name in (ORIGINAL, "fp32", ORIGINAL_COPY)
    ]
    sentences = [
        TimedSentence(length_class=name, text=text, phonemes=9)
        for name, texts in STUDY.sentences.timing.items()
        for text in texts
    ]
    values = {"key": "of there", "device": "gpu", "label": "GPU", "kind": "gpu", "status": "measured", "reason": None}
    values |= {"created": "2026-11-20T10:00:00Z", "system": None, "study": "timed", "commit": "c0ffee" * 6, **more}
    return DeviceRecord(sentences=sentences, rows=rows, **values)


@pytest.fixture
def brought(tmp_path: Path) -> Callable[..., Path]:
    """Write such a record, or any text, as a file of another machine."""

    def write(what: DeviceRecord | str | None = None, **more: Any) -> Path:
        path = tmp_path / "there" / "from-there.json"
        path.parent.mkdir(exist_ok=True)
        if isinstance(what, str):
            path.write_text(what)
        else:
            write_record(path, what or invented(**more))
        return path

    return write


def test_an_imported_record_stands_under_its_device_with_where_it_came_from(brought, folder):
    made = import_record(STUDY, folder, brought())
    kept = read_record(folder.device_record("gpu"), DeviceRecord, "measure")
    assert kept == made and kept.imported is not None
    assert kept.imported.file == "from-there.json" and kept.imported.when.startswith("20")
    assert kept.created == "2026-11-20T10:00:00Z" and kept.rows == invented().rows
    before = folder.device_record("gpu").read_bytes()
    assert import_record(STUDY, folder, brought()) == made
    assert folder.device_record("gpu").read_bytes() == before, "the same file once more changes nothing"
    newer = import_record(STUDY, folder, brought(created="2026-11-21T10:00:00Z"))
    assert newer.created == "2026-11-21T10:00:00Z"


def test_a_device_file_gives_a_record_its_own_name_and_label(brought, folder, monkeypatch, capsys):
    monkeypatch.setattr(timing, "probe", lambda device: Probe("no GPU here"))
    device = GPU.model_copy(update={"name": "far-gpu", "record": brought()})
    steps = Pipeline(STUDY, folder)
    for again in (False, True):  # it is elsewhere, whatever is asked
        assert steps.measure([device], again) == []
        kept = read_record(folder.device_record("far-gpu"), DeviceRecord, "measure")
        assert (kept.device, kept.label) == ("far-gpu", "My GPU") and kept.imported is not None
        assert capsys.readouterr().out.strip().endswith("; its file names that record")
    assert not folder.device_record("gpu").exists()


def test_neither_a_run_nor_a_failure_takes_the_place_of_an_import(brought, folder, monkeypatch, capsys):
    monkeypatch.setattr(timing, "probe", lambda device: Probe("no GPU here"))
    made = import_record(STUDY, folder, brought())
    before = folder.device_record("gpu").read_bytes()
    assert current_measurement(STUDY, GPU, folder) == made
    steps = Pipeline(STUDY, folder)
    for again, said in ((False, "--again measures here"), (True, "this machine cannot measure it")):
        assert steps.measure([GPU], again) == []
        assert capsys.readouterr().out.strip().endswith(f"; {said}")
    assert record_failure(STUDY, GPU, folder, "it fell over") == made
    assert folder.device_record("gpu").read_bytes() == before
    assert [path.name for path in folder.device_record("gpu").parent.glob("*.json")] == ["gpu.json"]


def test_a_device_that_is_measured_here_after_all_has_its_own_record(brought, folder):
    import_record(STUDY, folder, brought(device="cpu", label="CPU", kind="cpu"))
    assert measure_device(STUDY, CPU, folder, progress=False).imported is not None
    record = measure_device(STUDY, CPU, folder, progress=False, again=True)
    assert record.imported is None and record.study == "timed"
    sha = {
        name: json.loads(folder.variant_record(name).read_text())["files"]["model.onnx"] for name in STUDY.variant_names
    }
    assert {row.variant: row.model_sha256 for row in record.rows} == {**sha, ORIGINAL_COPY: sha[ORIGINAL]}
    assert all(len(row.first_seconds) == 2 and all(one and one > 0 for one in row.first_seconds) for row in record.rows)
    before = folder.device_record("cpu").read_bytes()
    with pytest.raises(RecordError, match="measured here and would be lost.*'record: "):
        import_record(STUDY, folder, brought(device="cpu"))
    assert folder.device_record("cpu").read_bytes() == before


def changed(**values: Any) -> str:
    return json.dumps(invented().model_dump(mode="json") | values)


def with_rows(change: Callable[[list[dict]], object], **more: Any) -> str:
    rows = invented().model_dump(mode="json")["rows"]
    change(rows)
    return changed(rows=rows, **more)


BAD = {
    "not JSON": ("{", "not JSON"),
    "a list": ("[]", "not a device record"),
    "a variant's": ('{"name": "fp32", "schema_version": 2}', "not a device record"),
    "of another schema": (changed(schema_version=2), "of schema 2, and this version reads 1"),
    "with a field that nobody knows": (changed(colour="red"), "not a device record that this version reads (colour"),
    "of another study": (changed(study="other"), "of study 'other', not of 'timed'"),
    "of other variants": (
        with_rows(lambda rows: [row.update(variant="x") for row in rows[1:]], study=None),
        "without any of its variants",
    ),
    "not measured": (changed(status="not_measured", reason="no GPU", rows=[]), "nothing was measured on GPU: no GPU"),
    "cut short": (with_rows(lambda rows: rows[1]["seconds"].pop()), "the timings of fp32 (onnxruntime) are not whole"),
    "with a time of 0": (with_rows(lambda rows: rows[1]["seconds"][0].__setitem__(0, 0.0)), "are not whole"),
    "without the original": (with_rows(lambda rows: rows.pop(0)), "has no original to be compared with"),
    "with a path for a name": (changed(device="../../gpu"), "'../../gpu' is no name of a device"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_imported_is_one_line_and_the_earlier_record_stays(text, said, brought, command):
    code, output, _ = command("--import", str(brought()))
    assert code == 0 and "GPU: imported from" in output
    record = Path("reports/timed/records/devices/gpu.json")
    before = record.read_bytes()
    bad = str(brought(text))
    code, _, errors = command("--import", bad)
    assert code == 2 and said in errors and bad in errors and len(errors.strip().splitlines()) == 1
    assert record.read_bytes() == before and len(list(record.parent.glob("*.json"))) == 1


def test_a_file_that_is_not_there_is_an_error_of_the_system(folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        import_record(STUDY, folder, tmp_path / "nothing.json")
