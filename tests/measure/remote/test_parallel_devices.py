"""Several devices in one study: machines at the same time, and one that fails does not lose the others."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from loopback import Loopback
from timed_study import CPU, study_of, until

from ttsopt_lib.measure import parallel_devices, timing
from ttsopt_lib.measure.parallel_devices import measure_devices
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord

pytestmark = pytest.mark.slow

STUDY = study_of("fp32", budget_seconds=15, warmup_passes=1, min_blocks=10, max_blocks=10, interval_width=1e-9)
LONG = study_of("fp32", budget_seconds=10, warmup_passes=1, min_blocks=2, max_blocks=2000, interval_width=1e-9)


def test_a_device_that_fails_is_not_measured_with_its_error_and_the_others_are(loopback: Loopback, small_folder):
    folder = small_folder(LONG)
    good, bad = loopback.device(name="good"), loopback.device(name="bad", host="localhost", identity="/nowhere/key")
    together = threading.Event()
    watcher = threading.Thread(target=watch_for_both, args=(loopback, together), daemon=True)
    watcher.start()
    outcomes = measure_devices(LONG, [bad, CPU, good], folder, progress=False)
    assert together.is_set(), "different machines were timed one after another"
    assert [outcome.device.name for outcome in outcomes] == ["bad", "cpu", "good"]
    assert [outcome.record.status for outcome in outcomes] == ["not_measured", "measured", "measured"]
    assert outcomes[0].error and outcomes[0].record.reason == str(outcomes[0].error)
    for outcome in outcomes:
        assert read_record(folder.device_record(outcome.device.name), DeviceRecord, "measure") == outcome.record


def watch_for_both(server: Loopback, together: threading.Event) -> None:
    """Set the event once a worker of this process and the far end behind this server are there together."""

    def both() -> bool:
        here = any(
            process.info["ppid"] == os.getpid() and "ttsopt_lib.measure.worker" in (process.info["cmdline"] or [])
            for process in psutil.process_iter(["ppid", "cmdline"])
        )
        return here and server.is_measuring()

    if until(both, 100):
        together.set()


def test_a_file_that_cannot_be_written_here_does_not_stop_the_others(loopback: Loopback, folder):
    in_the_way = folder.unfinished("cpu")
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # where the folder of the journal should be
    here, far = measure_devices(STUDY, [CPU, loopback.device(name="good")], folder, progress=False)
    assert here.error and str(in_the_way) in str(here.error) and "\n" not in str(here.error)
    assert here.record.status == "not_measured" and here.record.reason == str(here.error)
    assert far.error is None and far.record.status == "measured"


def test_a_disk_too_full_for_the_failure_itself_is_still_one_device_that_failed(folder, monkeypatch):
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "cpu.json")

    monkeypatch.setattr(parallel_devices, "measure_device", lambda *_, **__: no_room())
    monkeypatch.setattr(timing, "write_record", no_room)
    (outcome,) = measure_devices(STUDY, [CPU], folder, progress=False)
    assert (
        str(outcome.error)
        == "cpu.json: No space left on device; make room there and run the same command again"
        == outcome.record.reason
    )
    assert not folder.device_record("cpu").exists()


def test_an_interrupt_stops_every_device(loopback: Loopback, folder, monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    def measure(study, device, folder, *, connection=None, **_):
        if connection is None:
            assert begun.wait(30)
            raise KeyboardInterrupt
        begun.set()
        try:
            connection.run(["sleep", "600"])
        finally:
            ended.set()

    monkeypatch.setattr(parallel_devices, "measure_device", measure)
    with pytest.raises(KeyboardInterrupt):
        measure_devices(STUDY, [CPU, loopback.device()], folder, progress=False)
    assert ended.is_set()


def test_a_measured_device_keeps_its_record_when_repeating_it_fails(loopback: Loopback, folder):
    far = loopback.device()
    (first,) = measure_devices(STUDY, [far], folder, progress=False)
    loopback.close()
    (second,) = measure_devices(STUDY, [far], folder, again=True, progress=False)
    assert second.error and second.record == first.record


def test_the_command_ends_with_2_and_one_line_when_a_device_failed(loopback: Loopback, folder, tmp_path: Path):
    folder.path.rename(tmp_path / "made")
    root = Path(__file__).parents[3]
    project = tmp_path / "project"
    (project / "reports").mkdir(parents=True)
    (tmp_path / "made").rename(project / "reports" / STUDY.name)
    (project / "notebooks").symlink_to(root / "notebooks")
    (project / "params").mkdir()
    (project / "params/timed.yaml").write_text(yaml.safe_dump({"study": STUDY.model_dump(mode="json")}))
    far = loopback.device(label="The far one", python="python3.99")
    values = far.model_dump(mode="json", exclude_defaults=True)
    (project / "params/far.yaml").write_text(yaml.safe_dump({"device": values}))
    command = [sys.executable, "-c", "from ttsopt_lib.cli import main; main()", "measure", "params/timed.yaml"]
    done = subprocess.run([*command, "--device", "far"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    (failed,) = [line for line in done.stdout.splitlines() if "'python3.99'" in line]
    assert "The far one: failed:" in failed and "127.0.0.1" in failed
    assert "Traceback" not in done.stderr and "The far one: could not" in done.stderr
