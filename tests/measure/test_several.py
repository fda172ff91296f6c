"""Several devices in one study: machines at the same time, and one that fails does not lose the others."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from loopback import Loopback, sshd_path
from timed_study import CPU, study_of

from ttsopt_lib.measure.several import measure_devices
from ttsopt_lib.records import DeviceRecord, read_record
from ttsopt_lib.study import Device, check

pytestmark = pytest.mark.skipif(sshd_path() is None, reason="sshd is missing: apt install openssh-server rsync")

STUDY = study_of("fp32", budget_seconds=15, warmup_passes=1, min_blocks=10, max_blocks=10, interval_width=1e-9)


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    server = Loopback(tmp_path / "server")
    yield server
    server.close()


def device(server: Loopback, name: str, **more: object) -> Device:
    values = server.device_values(name=name, label=name, python=sys.executable, venv=False, **more)
    return check(Device, values, name)


def test_a_device_that_fails_is_not_measured_with_its_error_and_the_others_are(loopback: Loopback, small_folder):
    folder = small_folder(STUDY)
    good, bad = device(loopback, "good"), device(loopback, "bad", host="localhost", identity="/nowhere/key")
    together = threading.Event()
    watcher = threading.Thread(target=watch_for_both, args=(together,), daemon=True)
    watcher.start()
    outcomes = measure_devices(STUDY, [bad, CPU, good], folder, progress=False)
    assert together.is_set(), "different machines were timed one after another"
    assert [outcome.device.name for outcome in outcomes] == ["bad", "cpu", "good"]
    assert [outcome.record.status for outcome in outcomes] == ["not_measured", "measured", "measured"]
    assert outcomes[0].error and outcomes[0].record.reason == str(outcomes[0].error)
    for outcome in outcomes:
        assert read_record(folder.device_record(outcome.device.name), DeviceRecord, "measure") == outcome.record


def watch_for_both(together: threading.Event) -> None:
    """Set the event once a worker of this process and the far end of a measurement are there together."""
    for _ in range(2000):
        found = [(process.info["ppid"], process.info["cmdline"] or []) for process in processes()]
        here = any(parent == os.getpid() and "ttsopt_lib.measure.worker" in line for parent, line in found)
        if here and any("ttsopt_lib.measure.device_side" in line for _, line in found):
            together.set()
            return
        time.sleep(0.05)


def processes() -> Iterator[psutil.Process]:
    return psutil.process_iter(["ppid", "cmdline"])


def test_a_measured_device_keeps_its_record_when_repeating_it_fails(loopback: Loopback, small_folder):
    folder = small_folder(STUDY)
    far = device(loopback, "far")
    (first,) = measure_devices(STUDY, [far], folder, progress=False)
    loopback.close()
    (second,) = measure_devices(STUDY, [far], folder, again=True, progress=False)
    assert second.error and second.record == first.record


def test_the_command_ends_with_2_and_one_line_when_a_device_failed(loopback: Loopback, small_folder, tmp_path: Path):
    small_folder(STUDY).path.rename(tmp_path / "made")
    root = Path(__file__).parents[2]
    project = tmp_path / "project"
    (project / "reports").mkdir(parents=True)
    (tmp_path / "made").rename(project / "reports" / STUDY.name)
    (project / "notebooks").symlink_to(root / "notebooks")
    (project / "params").mkdir()
    (project / "params/timed.yaml").write_text(yaml.safe_dump({"study": STUDY.model_dump(mode="json")}))
    values = loopback.device_values(name="far", label="The far one", python="python3.99")
    (project / "params/far.yaml").write_text(yaml.safe_dump({"device": values}))
    command = [sys.executable, "-c", "from ttsopt_lib.cli import main; main()", "measure", "params/timed.yaml"]
    done = subprocess.run([*command, "--device", "far"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "The far one: failed: 127.0.0.1: there is no 'python3.99'" in done.stdout
    assert "Traceback" not in done.stderr and "The far one: could not be measured" in done.stderr
