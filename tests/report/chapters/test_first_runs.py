"""The first run at a new length stands beside the later ones, where it matters."""

from pathlib import Path

import invented_records as records
import pytest

from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.report.chapters.speed import first_runs
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL


def with_first_runs(tmp_path: Path, cpu: float | None, gpu: float | None) -> Summary:
    """A study on two devices whose first runs take so many times as long as the later ones; None: an older record."""
    study, devices, folder = records.good(tmp_path)
    records.write_device(folder, devices[1], records.GOOD, seed=1, speed=0.1)
    for device, times in ((devices[0], cpu), (devices[1], gpu)):
        record = read_record(folder.device_record(device.name), DeviceRecord, "measure")
        for row in record.rows if times is not None else ():
            row.first_seconds = [(times or 0.0) * seconds for seconds in row.seconds[0]]
        write_record(folder.device_record(device.name), record)
    return summarize(study, devices, folder)


@pytest.mark.parametrize(
    ("cpu", "gpu", "shown"),
    [
        (1.0, 1.0, ["GPU"]),
        (3.0, 40.0, ["CPU", "GPU"]),
        (3.0, None, ["CPU"]),
        (None, None, []),
    ],
)
def test_a_gpu_has_the_table_and_others_where_the_first_run_takes_longer(tmp_path: Path, cpu, gpu, shown):
    tables = first_runs.section(with_first_runs(tmp_path, cpu, gpu))
    assert len(tables) == len(shown)
    for table, label in zip(tables, shown, strict=True):
        assert f"First time at this length, and again, on {label}:" in table
        assert "one word" in table and "long" in table and "distilled-int8" in table and ORIGINAL in table
        assert "int8-static" not in table, "the table is short: the original and the optimized variant"


def test_the_file_has_every_row_by_length_class(tmp_path: Path):
    summary = with_first_runs(tmp_path, None, 40.0)
    frame = first_runs.first_runs(summary.timed_devices).frame
    assert set(frame["device"]) == {"GPU"} and set(frame["variant"]) == {ORIGINAL, *(one.name for one in records.GOOD)}
    assert list(frame["length_class"].unique()) == ["one_word", "short", "medium", "long"]
    ratio = frame["first_ms"] / frame["again_ms"]
    assert ratio.between(30, 50).all()
    gpu = summary.timed_devices[1]
    part = gpu.rows[0].length_classes[0]
    assert part.first_ms == pytest.approx(frame["first_ms"][0])
