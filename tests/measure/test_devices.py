"""Devices that are not here say so, and the machine that is here is described and watched."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from timed_study import plan_of, rows_of, study_of, timed_row

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure import devices
from ttsopt_lib.measure.machine import conditions, nvidia
from ttsopt_lib.measure.machine.conditions import ConditionsWatch, memory_warnings, worker_mb
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.plan import PlannedRow
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.remote.measurement import describe_device
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.sample_checks import sample_doubts
from ttsopt_lib.measure.session import time_plan
from ttsopt_lib.measure.timing import current_measurement, device_key, measure_device, settings_for
from ttsopt_lib.params import check, read_device
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, TimingRow
from ttsopt_lib.study import Device, MeasureSettings

ROOT = Path(__file__).parents[2]
GPU = check(Device, {"name": "gpu", "label": "GPU", "kind": "gpu"}, "gpu")
STUDY = study_of("fp32")
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


@pytest.mark.slow
def test_measuring_imports_without_pytorch_transformers_pandas_onnx_yaml():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8


def test_a_worker_loads_no_runtime_but_that_of_its_row():
    """Or the memory of every row would count ONNX Runtime's."""
    code = "import sys, ttsopt_lib.measure.worker; print({'onnxruntime', 'torch', 'openvino'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_without_a_gpu_the_record_says_not_measured_and_what_to_do(folder, monkeypatch):
    monkeypatch.setattr(nvidia, "gpu_names", list)  # whatever machine the test runs on
    record = measure_device(STUDY, GPU, folder, progress=False)
    assert record.status == "not_measured" and not record.rows and record.system is None
    assert record.reason and "CUDA device" in record.reason and "onnxruntime-gpu" in record.reason
    assert current_measurement(STUDY, GPU, folder) == record


@pytest.mark.slow
def test_a_gpu_that_pytorch_alone_reaches_has_no_rows_of_a_voice_that_is_no_vits_voice(folder, monkeypatch):
    monkeypatch.setattr(nvidia, "gpu_names", lambda: ["NVIDIA T4"])
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(devices, "why_not_on_gpu", lambda ask: None)
    gpu = GPU.model_copy(update={"pytorch": ("fp32",)})
    assert devices.probe(gpu).runtimes == ("pytorch",)
    declared = SimpleNamespace(is_vits=False, kind="a declared model")
    monkeypatch.setattr("ttsopt_lib.voices.adapters.opening.open_model", lambda path: declared)
    record = measure_device(STUDY, gpu, folder, progress=False)
    assert record.status == "not_measured" and record.reason
    assert "a declared model" in record.reason and "onnxruntime-gpu" in record.reason
    assert current_measurement(STUDY, gpu, folder) == record


@pytest.fixture
def on_a_workstation(monkeypatch):
    """Whatever machine the test runs on, the probe sees one that is no board."""
    monkeypatch.setattr(devices, "board_model", lambda: None)


@pytest.mark.slow
def test_off_the_raspberry_pi_the_record_says_where_to_run(folder, on_a_workstation):
    record = measure_device(STUDY, PI, folder, progress=False)
    assert record.status == "not_measured"
    assert record.reason
    assert all(said in record.reason for said in ("Pi itself", "kind: cpu", "--device raspberry_pi"))


@pytest.mark.slow
def test_a_record_that_came_from_the_device_is_kept_where_the_device_is_not(folder, on_a_workstation):
    here = measure_device(STUDY, PI, folder, progress=False)
    brought = here.model_copy(update={"status": "measured", "reason": None, "system": describe_system()})
    write_record(folder.device_record("raspberry_pi"), brought)
    assert measure_device(STUDY, PI, folder, progress=False) == brought
    assert measure_device(STUDY, PI, folder, progress=False, again=True) == brought


@pytest.mark.slow
def test_not_measured_is_looked_at_again_when_the_reason_has_gone(folder, on_a_workstation):
    record = measure_device(STUDY, PI, folder, progress=False)
    old = record.model_copy(update={"reason": "the Pi was switched off"})
    write_record(folder.device_record("raspberry_pi"), old)
    assert current_measurement(STUDY, PI, folder) is None
    assert measure_device(STUDY, PI, folder, progress=False).reason == record.reason


def test_graphics_card_without_the_right_runtime_is_told_apart(monkeypatch):
    monkeypatch.setattr(nvidia, "gpu_names", lambda: ["NVIDIA T4"])
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    reason = devices.probe(GPU).reason
    assert reason and "NVIDIA T4" in reason and "CUDA provider" in reason


def test_machine_is_described_without_naming_it():
    system = describe_system()
    assert system.logical_cores and system.memory_mb and system.memory_mb > 100 and system.cpu
    assert system.hostname_hash and len(system.hostname_hash) == 12 and "numpy" in system.packages
    assert system.browser is None


def test_a_busy_neighbour_is_noticed(monkeypatch):
    work = {(1, "neighbour"): 0.0, (2, "idler"): 0.0}  # core seconds of all processes but ours
    monkeypatch.setattr(conditions, "_busy_seconds", lambda: sum(work.values()))
    monkeypatch.setattr(conditions, "_own_seconds", lambda: 0.0)
    monkeypatch.setattr(conditions, "_process_seconds", lambda: dict(work))
    with ConditionsWatch() as quiet:
        pass
    assert not any("other processes" in text for text in quiet.warnings)
    with ConditionsWatch() as watch:
        work[1, "neighbour"] += 1000.0
    assert any("other processes" in text and "the busiest was 'neighbour'" in text for text in watch.warnings)


@pytest.mark.slow
def test_what_another_process_does_is_counted_as_its_own():
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as neighbour:
        assert neighbour.stdout and neighbour.stdin
        neighbour.stdout.readline()
        seconds = {pid: spent for (pid, _), spent in conditions._process_seconds().items()}
        neighbour.stdin.close()
    assert seconds[neighbour.pid] >= 0.4


def test_a_system_that_tells_nothing_of_its_battery_is_measured_all_the_same(monkeypatch):
    def sensors_battery():
        raise FileNotFoundError("/sys/class/power_supply")

    monkeypatch.setattr(psutil, "sensors_battery", sensors_battery, raising=False)
    with ConditionsWatch() as watch:
        pass
    assert not any("battery" in text for text in watch.warnings)


@pytest.mark.slow
def test_our_own_work_is_no_neighbour(monkeypatch):
    monkeypatch.setattr(conditions, "_busy_seconds", lambda: sum(os.times()[:4]))  # nobody but us is at work
    with ConditionsWatch() as watch:
        began, spent = time.monotonic(), time.process_time()
        while time.process_time() - spent < 1.0:
            pass
        others = watch.others_load() * (time.monotonic() - began)
    assert abs(others) < 0.1, "core seconds of our own loop were counted"


def samples_of(*levels: float, wobble: float = 0.0, blocks: int = 30) -> list[TimingRow]:
    return [
        timed_row(name, [[level * (1 + wobble * ((block + number) % 3 - 1))] for block in range(blocks)])
        for number, (name, level) in enumerate(zip(("original", "original-copy", "fast"), levels, strict=True))
    ]


def test_quiet_samples_raise_no_doubt():
    assert sample_doubts(samples_of(1.0, 1.0, 0.5, wobble=0.002), MeasureSettings()) == []


def test_doubts_name_the_rows_they_are_about():
    found = sample_doubts(samples_of(1.0, 1.0, 0.5, wobble=0.3, blocks=10), MeasureSettings())
    doubts = "\n".join(doubt.words for doubt in found)
    assert "10 blocks" in doubts and "95th percentile" in doubts
    assert "unstable latencies" in doubts and "fast 2" in doubts
    assert "4 percentage" in doubts


def test_a_difference_between_equal_files_is_reported():
    (doubt,) = sample_doubts(samples_of(1.0, 0.9, 0.5, wobble=0.002), MeasureSettings())
    assert "against itself" in doubt.text and "10.1 %" in doubt.text


@pytest.mark.slow
def test_a_measurement_of_other_settings_is_moved_aside_and_not_lost(folder, on_a_workstation):
    here = measure_device(STUDY, PI, folder, progress=False)
    brought = here.model_copy(update={"status": "measured", "reason": None, "key": "of another study"})
    write_record(folder.device_record("raspberry_pi"), brought)
    assert measure_device(STUDY, PI, folder, progress=False).status == "not_measured"
    (kept,) = folder.device_record("raspberry_pi").parent.glob("raspberry_pi.outdated-*.json")
    assert read_record(kept, DeviceRecord, "measure") == brought


@pytest.mark.slow
def test_a_device_with_a_budget_of_its_own_is_timed_within_that(small_folder):
    study = study_of("fp32", budget_seconds=600, warmup_passes=1, min_blocks=2, max_blocks=2000, interval_width=1e-9)
    folder = small_folder(study)
    cpu = {"name": "cpu", "label": "CPU", "kind": "cpu"}
    plain, hasty = check(Device, cpu, "cpu"), check(Device, {**cpu, "budget_seconds": 3}, "cpu")
    assert settings_for(study, plain) == study.measure
    assert settings_for(study, hasty) == study.measure.model_copy(update={"budget_seconds": 3.0})
    assert device_key(study, plain, {}) != device_key(study, hasty, {})
    record = measure_device(study, hasty, folder, progress=False)
    assert record.stopped_by == "budget" and 2 <= record.stops[0].blocks < 2000
    with pytest.raises(StudyError, match="budget_seconds"):
        check(Device, {**cpu, "budget_seconds": 0}, "cpu")


def test_a_raspberry_pi_has_more_time_than_the_default_study_gives():
    budget = read_device(ROOT / "params/raspberry_pi.yaml").budget_seconds
    assert budget is not None and budget > 5 * MeasureSettings().budget_seconds


def test_rows_that_do_not_fit_into_the_free_memory_together_are_a_warning(quick_voice: Path, monkeypatch):
    free = SimpleNamespace(total=4e9, available=900e6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    size = quick_voice.stat().st_size / 1e6
    needed = 5 * (250 + 1.5 * size)
    plan = plan_of([*rows_of(quick_voice, *"abcde"), *rows_of(quick_voice, threads=4)])
    (warning,) = memory_warnings(plan)
    assert "5 rows" in warning and f" {needed:.0f} MB" in warning
    assert "900 MB" in warning and "fewer variants" in warning
    assert memory_warnings(plan_of(rows_of(quick_voice))) == []


@pytest.mark.slow
def test_the_record_warns_of_memory_that_was_short_before_the_workers_started(quick_voice: Path, monkeypatch):
    asked = psutil.virtual_memory()._replace(available=100_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: asked)
    findings = time_plan(plan_of(rows_of(quick_voice), max_blocks=2))
    assert any("100 MB" in doubt.text for doubt in findings.warnings)


def test_the_memory_that_rows_are_expected_to_need_is_what_the_example_needed(tmp_path: Path):
    summary = json.loads((ROOT / "reports/example/summary.json").read_text())
    sizes = {variant["name"]: variant["size_bytes"] for variant in summary["variants"]}
    (device,) = [device for device in summary["devices"] if device["device"] == "cpu"]
    expected = measured = 0.0
    for number, row in enumerate(row for row in device["rows"] if row["threads"] == 1):
        model = tmp_path / f"{number}.onnx"
        with open(model, "wb") as file:
            file.truncate(sizes[row["variant"].removesuffix("-copy")])
        expected += worker_mb(PlannedRow(variant="v", runtime=row["runtime"], threads=1, model=model))
        measured += row["peak_memory_mb"]
    assert 0.85 < expected / measured < 1.25


def test_a_32_bit_system_on_a_64_bit_processor_is_refused_before_anything_is_sent():
    class Board:
        host = "pi"

        def run(self, words, heard):
            return json.dumps({"python": [3, 11], "bits": 32, "machine": "aarch64"}) + "\n"

    with pytest.raises(MeasureError, match=r"^pi: .* is a 32-bit program.*install the 64-bit system") as error:
        describe_device(cast(Connection, Board()), PI)
    assert "\n" not in str(error.value)
