"""Devices that are not here say so, and the machine that is here is described and watched."""

import subprocess
import sys
import time

import psutil
import pytest
from timed_study import study_of

from ttsopt_lib.measure import devices
from ttsopt_lib.measure.conditions import ConditionsWatch
from ttsopt_lib.measure.doubts import sample_warnings
from ttsopt_lib.measure.system import describe_system
from ttsopt_lib.measure.timing import current_measurement, measure_device
from ttsopt_lib.records import DeviceRecord, TimingRow, read_record, write_record
from ttsopt_lib.study import Device, MeasureSettings, check

GPU = check(Device, {"name": "gpu", "label": "GPU", "kind": "gpu"}, "gpu")
PI = check(Device, {"name": "raspberry_pi", "label": "Raspberry Pi", "kind": "raspberry_pi"}, "pi")

BLOCKED = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "pandas", "onnx", "yaml", "piper"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
import ttsopt_lib.measure
names = [module.name for module in pkgutil.walk_packages(ttsopt_lib.measure.__path__, "ttsopt_lib.measure.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_measuring_imports_without_pytorch_transformers_pandas_onnx_yaml():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8


def test_without_a_gpu_the_record_says_not_measured_and_what_to_do(small_folder, monkeypatch):
    monkeypatch.setattr(devices, "cuda_device_names", list)  # whatever machine the test runs on
    study = study_of("fp32")
    folder = small_folder(study)
    record = measure_device(study, GPU, folder, progress=False)
    assert record.status == "not_measured" and not record.rows and record.system is None
    assert record.reason and "no CUDA device" in record.reason and "onnxruntime-gpu" in record.reason
    assert current_measurement(study, GPU, folder) == record


@pytest.fixture
def on_a_workstation(monkeypatch):
    """Whatever machine the test runs on, the probe sees one that is no board."""
    monkeypatch.setattr(devices, "board_model", lambda: None)


def test_off_the_raspberry_pi_the_record_says_where_to_run(small_folder, on_a_workstation):
    study = study_of("fp32")
    record = measure_device(study, PI, small_folder(study), progress=False)
    assert record.status == "not_measured"
    assert (
        record.reason
        and "on the Pi itself" in record.reason
        and "kind: cpu" in record.reason
        and "--device raspberry_pi" in record.reason
    )


def test_a_record_that_came_from_the_device_is_kept_where_the_device_is_not(small_folder, on_a_workstation):
    study = study_of("fp32")
    folder = small_folder(study)
    here = measure_device(study, PI, folder, progress=False)
    brought = here.model_copy(update={"status": "measured", "reason": None, "system": describe_system()})
    write_record(folder.device_record("raspberry_pi"), brought)
    assert measure_device(study, PI, folder, progress=False) == brought
    assert measure_device(study, PI, folder, progress=False, again=True) == brought


def test_not_measured_is_looked_at_again_when_the_reason_has_gone(small_folder, on_a_workstation):
    study = study_of("fp32")
    folder = small_folder(study)
    record = measure_device(study, PI, folder, progress=False)
    old = record.model_copy(update={"reason": "the Pi was switched off"})
    write_record(folder.device_record("raspberry_pi"), old)
    assert current_measurement(study, PI, folder) is None
    assert measure_device(study, PI, folder, progress=False).reason == record.reason


def test_graphics_card_without_the_right_runtime_is_told_apart(monkeypatch):
    monkeypatch.setattr(devices, "cuda_device_names", lambda: ["NVIDIA T4"])
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    reason = devices.probe(GPU).reason
    assert reason and "NVIDIA T4" in reason and "no CUDA provider" in reason


def test_machine_is_described_without_naming_it():
    system = describe_system()
    assert system.logical_cores >= 1 and system.memory_mb > 100 and system.cpu
    assert len(system.hostname_hash) == 12 and "numpy" in system.packages


def test_a_busy_neighbour_is_noticed():
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with ConditionsWatch() as watch:
            time.sleep(2)
    finally:
        neighbour.kill()
        neighbour.wait()
    assert any("other processes used" in text for text in watch.warnings)


def test_a_system_that_tells_nothing_of_its_battery_is_measured_all_the_same(monkeypatch):
    def sensors_battery():
        raise FileNotFoundError("/sys/class/power_supply")

    monkeypatch.setattr(psutil, "sensors_battery", sensors_battery, raising=False)
    with ConditionsWatch() as watch:
        pass
    assert not any("battery" in text for text in watch.warnings)


def test_our_own_work_is_no_neighbour():
    with ConditionsWatch() as watch:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            pass
        others = watch.others_load()
    assert others < 1.0 + others_elsewhere(), "our own loop, one whole core, was counted"


def others_elsewhere() -> float:
    """What the rest of the machine is doing anyway, in cores."""
    with ConditionsWatch() as watch:
        time.sleep(1.5)
        return watch.others_load()


def rows_of(*levels: float, wobble: float = 0.0, blocks: int = 30) -> list[TimingRow]:
    names = ("original", "original-copy", "fast")
    return [
        TimingRow(
            variant=name,
            runtime="onnxruntime",
            threads=1,
            load_seconds=[],
            peak_memory_mb=0,
            idle_memory_mb=0,
            seconds=[[level * (1 + wobble * ((block + number) % 3 - 1))] for block in range(blocks)],
            audio_seconds=[[1.0]] * blocks,
        )
        for number, (name, level) in enumerate(zip(names, levels, strict=True))
    ]


def test_quiet_samples_raise_no_doubt():
    assert sample_warnings(rows_of(1.0, 1.0, 0.5, wobble=0.002), MeasureSettings()) == []


def test_doubts_name_the_rows_they_are_about():
    doubts = "\n".join(sample_warnings(rows_of(1.0, 1.0, 0.5, wobble=0.3, blocks=10), MeasureSettings()))
    assert "10 blocks are too few for a 95th percentile" in doubts
    assert "unstable latencies" in doubts and "fast 2" in doubts
    assert "wider than 4 percentage points" in doubts


def test_a_difference_between_equal_files_is_reported():
    doubts = sample_warnings(rows_of(1.0, 0.9, 0.5, wobble=0.002), MeasureSettings())
    assert len(doubts) == 1 and "timed against itself differs by 10.1 %" in doubts[0]


def test_a_measurement_of_other_settings_is_moved_aside_and_not_lost(small_folder, on_a_workstation):
    study = study_of("fp32")
    folder = small_folder(study)
    here = measure_device(study, PI, folder, progress=False)
    brought = here.model_copy(update={"status": "measured", "reason": None, "key": "of another study"})
    write_record(folder.device_record("raspberry_pi"), brought)
    assert measure_device(study, PI, folder, progress=False).status == "not_measured"
    (kept,) = folder.device_record("raspberry_pi").parent.glob("raspberry_pi.outdated-*.json")
    assert read_record(kept, DeviceRecord, "measure") == brought
