"""Energy has a table where it was counted, a sentence where it was not; modes of a GPU are rows of their own."""

import numpy as np
import pytest

from ttsopt_lib.records.device import (
    DeviceRecord,
    EnergyRecord,
    EnergyRow,
    GpuRecord,
    Runtime,
    TimedSentence,
    TimingRow,
)
from ttsopt_lib.report.chapters.speed import energy, timings
from ttsopt_lib.report.facts.timing_rows import summarize_device, summarize_peer
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device

GPU = Device(name="gpu", label="GPU", kind="gpu", threads=(1,), pytorch=("fp32", "fp16"))
SPEEDS = {(ORIGINAL, "fp32"): 1.0, ("fast", "fp32"): 0.5, (ORIGINAL_COPY, "fp32"): 1.0, (ORIGINAL, "fp16"): 0.7}


def record(source: str | None = "a counter", reason: str | None = None) -> DeviceRecord:
    rng = np.random.default_rng(0)
    rows, spent = [], []
    for (variant, mode), speed in SPEEDS.items():
        seconds = speed * (1 + 0.01 * rng.normal(size=(30, 1)))
        row = TimingRow(
            variant=variant, runtime="pytorch", threads=1, load_seconds=[1.0], peak_memory_mb=900, idle_memory_mb=800,
            seconds=seconds.tolist(), audio_seconds=[[2.0]] * 30, mode=mode, clock="device events",
            device_memory_mb=120,
        )  # fmt: skip
        rows.append(row)
        joules = (200 * speed * (1 + 0.01 * rng.normal(size=8))).tolist()
        spent.append(EnergyRow(variant=variant, runtime="pytorch", threads=1, mode=mode, joules=joules))
        spent[-1].audio_seconds = [20.0] * 8
    counted = EnergyRecord(source=source, reason=reason, rows=spent if source else [])
    return DeviceRecord(
        key="", device="gpu", label="GPU", kind="gpu", status="measured", reason=None, created="2026-01-01T00:00:00Z",
        system=None, sentences=[TimedSentence(length_class="short", text="a", phonemes=2)], rows=rows, energy=counted,
    )  # fmt: skip


def test_joules_stand_beside_their_interval_and_their_counter():
    device = summarize_device(GPU, record())
    by_name = {(row.variant, row.mode): row for row in device.rows}
    original, fast = by_name[ORIGINAL, "fp32"], by_name["fast", "fp32"]
    assert original.energy_j_per_audio_second is not None and fast.energy_reduction is not None
    assert original.energy_j_per_audio_second.value == pytest.approx(10, rel=0.02)
    assert original.energy_reduction is not None and original.energy_reduction.value == 0
    assert fast.energy_reduction.value == pytest.approx(0.5, abs=0.02) and fast.energy_reduction.ci is not None
    (table,) = energy.section([device])
    assert "a counter" in table and "Joules per" in table and "PyTorch, fp16" in table
    assert list(energy.energy([device]).frame["variant"]) == [variant for variant, _ in SPEEDS]


def test_energy_that_was_not_measured_says_why():
    device = summarize_device(GPU, record(source=None, reason="root alone may read it"))
    assert device.rows[0].energy_j_per_audio_second is None and not energy.energy([device]).rows
    (said,) = energy.section([device])
    assert "GPU" in said and "not measured" in said and device.energy_reason and device.energy_reason in said


def test_modes_are_rows_of_their_own_against_the_plain_original():
    device = summarize_device(GPU, record())
    half = next(row for row in device.rows if row.mode == "fp16")
    assert half.latency_reduction is not None and half.latency_reduction.value == pytest.approx(0.3, abs=0.02)
    assert half.clock == "device events" and half.device_memory_mb == 120
    assert device.runtime == "pytorch", "nothing else reached this device"
    classes = timings.length_classes([device]).frame
    assert list(classes["variant"]) == [ORIGINAL, "fast"], "a mode is no second variant"
    assert min(classes["p95_ms"] - classes["median_ms"]) > 0


def test_a_gpu_is_described_by_what_it_tells():
    gpu = GpuRecord(name="NVIDIA H100", driver="550.54", clock_mhz=1980, power_w=312.4, power_limit_w=700)
    assert gpu.words.split(", ") == ["NVIDIA H100", "driver 550.54", "1980 MHz", "312 W of 700"]
    assert GpuRecord(name="NVIDIA T4").words == "NVIDIA T4"


def test_a_peers_energy_is_held_against_the_original_in_onnxruntime():
    def row(variant: str, runtime: Runtime) -> TimingRow:
        return TimingRow(
            variant=variant, runtime=runtime, threads=1, load_seconds=[], peak_memory_mb=90, idle_memory_mb=80,
            seconds=[[0.1]] * 8, audio_seconds=[[2.0]] * 8,
        )  # fmt: skip

    def spent(variant: str, runtime: Runtime, joules: float) -> EnergyRow:
        rounds = [joules, joules * 1.01] * 4
        return EnergyRow(variant=variant, runtime=runtime, threads=1, joules=rounds, audio_seconds=[20.0] * 8)

    names: list[tuple[str, Runtime, float]] = [
        (ORIGINAL, "onnxruntime", 200),
        ("openvino-fp32", "openvino", 150),
        ("ort-fp16", "onnxruntime", 100),
    ]
    timed = record()
    timed.rows = [row(ORIGINAL, "onnxruntime")]
    timed.energy = EnergyRecord(source="a counter", reason=None, rows=[spent(*name) for name in names])
    for (variant, runtime, _), less in zip(names[1:], (0.25, 0.5), strict=True):
        peer = summarize_peer(row(variant, runtime), timed)
        assert peer.runtime == runtime and peer.energy_reduction is not None
        assert peer.energy_reduction.value == pytest.approx(less, abs=0.02)
