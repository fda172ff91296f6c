"""Energy is read from a real counter and named by it, or not measured with the reason."""

import time
from pathlib import Path

import pytest
from stand_ins import Actor, Counter
from timed_study import plan_of, rows_of

from ttsopt_lib.measure.machine import energy
from ttsopt_lib.measure.machine.energy import NoCounterError, RaplCounter, find_counter, measure_energy
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.records.device import EnergyRow
from ttsopt_lib.statistics.intervals import energy_reduction, joules_per_audio_second

RANGE = 1_000_000_000  # microjoules at which a zone of the fake machine begins at 0 again


def zone(powercap: Path, name: str, says: str, microjoules: int) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{says}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 900_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:2", "psys", 1)
    counter = find_counter(accelerator=False, powercap=tmp_path)
    (first / "energy_uj").write_text("8000000\n")
    (second / "energy_uj").write_text("901500000\n")
    assert counter.joules() == pytest.approx(3.0 + 1.5)
    assert "RAPL (package-0, package-1)" in counter.source


def test_a_counter_that_began_at_zero_again_has_gone_on(tmp_path: Path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    counter = RaplCounter([package])
    for microjoules, joules in ((1_000_000, 3.0), (4_000_000, 6.0), (0, 1002.0)):
        (package / "energy_uj").write_text(str(microjoules))
        assert counter.joules() == pytest.approx(joules)


def test_a_machine_without_a_counter_says_so(tmp_path: Path):
    with pytest.raises(NoCounterError, match="no energy counter that Linux shows"):
        find_counter(accelerator=False, powercap=tmp_path / "nowhere")


def test_a_counter_for_root_alone_says_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)

    def refused(path: Path) -> int:  # root, as which tests may run, is refused nothing
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(energy, "_microjoules", refused)
    with pytest.raises(NoCounterError, match=rf"{package}/.* may be read by root alone; 'sudo chmod a\+r"):
        find_counter(accelerator=False, powercap=tmp_path)


def test_without_the_library_or_a_driver_the_gpus_energy_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-of-another-machine")
    with pytest.raises(NoCounterError, match="NVML says|nvidia-ml-py"):
        find_counter(accelerator=True)


@pytest.mark.slow
def test_rows_are_measured_in_rounds_while_a_counter_runs(
    tmp_path: Path, quick_voice: Path, monkeypatch: pytest.MonkeyPatch
):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    read, begin = energy._microjoules, time.monotonic()

    def running(path: Path) -> int:  # a machine that takes 50 W, whoever speaks
        (package / "energy_uj").write_text(str(int(50e6 * (time.monotonic() - begin)) % RANGE))
        return read(path)

    monkeypatch.setattr(energy, "_microjoules", running)
    found = measure_energy(plan_of(rows_of(quick_voice)), tmp_path, round_seconds=0.1)
    assert found.reason is None and found.source and "RAPL" in found.source
    for row in found.rows:
        assert len(row.joules) == energy.ROUNDS
        assert 1 <= sum(row.joules) / (50 * sum(row.seconds)) < 1.5, "the counter is read just before and just after"
        estimate = joules_per_audio_second(row)
        assert 0 < estimate.ci[0] <= estimate.value <= estimate.ci[1]


def test_a_peer_that_dies_between_rounds_leaves_the_others_theirs(monkeypatch: pytest.MonkeyPatch):
    class Mortal(Actor):
        rounds = 0

        def repeat(self, seconds: float) -> dict[str, float]:
            self.rounds += 1
            if self.row.variant == dies and self.rounds > 3:
                raise MeasureError("died")
            return super().repeat(seconds)

    original, peer, fp32 = rows_of(Path("voice.onnx"), "original", "openvino-fp32", "fp32")
    plan = plan_of([original, peer.model_copy(update={"optional": True}), fp32])
    monkeypatch.setattr(energy, "Worker", Mortal)
    monkeypatch.setattr(energy, "find_counter", lambda *_: Counter())
    dies = "openvino-fp32"
    counted = []
    found = measure_energy(plan, step=lambda done, total: counted.append((done, total)))
    assert counted[-1] == (22, 22) and counted[-2] == (21, 27), "five rounds were never to come"
    assert [(row.variant, len(row.joules)) for row in found.rows] == [
        ("original", energy.ROUNDS),
        ("fp32", energy.ROUNDS),
    ]
    dies = "fp32"
    with pytest.raises(MeasureError, match="died"):
        measure_energy(plan)


def test_a_counter_that_stops_answering_is_named_as_the_reason(tmp_path: Path, quick_voice: Path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 7)

    def step(done: int, total: int) -> None:
        if done == 2:  # both rows have spoken uncounted
            (package / "energy_uj").unlink()

    found = measure_energy(plan_of(rows_of(quick_voice)), tmp_path, round_seconds=0.0, step=step)
    assert found.source is None and found.reason and "stopped answering" in found.reason


def test_a_counter_that_stands_still_is_no_measurement(tmp_path: Path, quick_voice: Path):
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    found = measure_energy(plan_of(rows_of(quick_voice)), tmp_path, round_seconds=0.0)
    assert found.source is None and found.rows == [] and found.reason and "stood still" in found.reason


def test_energy_is_compared_per_second_of_audio():
    seconds = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0, 1.0]
    original = EnergyRow(variant="original", runtime="onnxruntime", threads=1)
    original.joules, original.audio_seconds = [40 * s for s in seconds], [4 * s for s in seconds]
    fast = original.model_copy(update={"variant": "fast", "audio_seconds": [8 * s for s in seconds]})
    assert joules_per_audio_second(original).value == pytest.approx(10)
    value, (low, high) = energy_reduction(fast, original)
    assert value == pytest.approx(0.5) and low <= 0.5 + 1e-9 and high >= 0.5 - 1e-9
