"""Workers are alone, tell what went wrong in one line, and never outlive whoever started them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from timed_study import CPU, SHORT_STUDY, plan_of, rows_of, study_of, until

from ttsopt_lib.measure.blocks import time_rows
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.timing import measure_device
from ttsopt_lib.records.base import RecordError

pytestmark = pytest.mark.slow

STUDY = SHORT_STUDY

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from timed_study import CPU, study_of
from ttsopt_lib.measure.timing import measure_device
from ttsopt_lib.records.folder import StudyFolder
study = study_of("fp32", budget_seconds=300, min_blocks=8, max_blocks=int(sys.argv[3]), interval_width=1e-9)
measure_device(study, CPU, StudyFolder(study, Path(sys.argv[1])), progress=False)
"""


def test_truncated_model_is_a_one_line_error_that_names_variant_and_file(tmp_path: Path, quick_voice: Path):
    model = tmp_path / "cut.onnx"
    model.write_bytes(quick_voice.read_bytes()[:20_000])
    with pytest.raises(MeasureError) as error:
        time_rows(plan_of(rows_of(model)))
    message = str(error.value)
    assert "original" in message and str(model) in message and "ttsopt optimize" in message and "\n" not in message


@pytest.mark.parametrize(
    ("end", "why"), [(signal.SIGKILL, "memory"), (signal.SIGILL, "processor does not have"), (signal.SIGBUS, "disk")]
)
def test_worker_that_is_ended_from_outside_is_a_one_line_error_that_does_not_blame_the_variant(
    quick_voice: Path, end, why
):
    plan = plan_of(rows_of(quick_voice))
    with Worker(plan.rows[0]) as worker:
        worker.load(plan)
        os.kill(worker.pid, end)
        with pytest.raises(MeasureError) as error:
            worker.time_sentence(0)
    message = str(error.value)
    assert f"original (onnxruntime) cannot be timed: {quick_voice}: " in message and f"signal {end.value} (" in message
    assert why in message and "optimize" not in message and "\n" not in message


def test_changed_model_file_is_refused(folder):
    folder.model("fp32").write_bytes(b"something else")
    with pytest.raises(MeasureError, match=r"fp32/model.onnx: missing, or not the file that its variant.json"):
        measure_device(STUDY, CPU, folder, progress=False)
    assert not folder.device_record("cpu").exists()


def test_missing_variant_says_what_to_run(folder):
    with pytest.raises(RecordError, match="ttsopt optimize"):
        measure_device(study_of("fp32", "int8"), CPU, folder, progress=False)


def test_multi_speaker_voice_is_timed(multi_speaker_voice: Path):
    timing = time_rows(plan_of(rows_of(multi_speaker_voice), speaker=2))
    assert len(timing.rows) == 2 and len(timing.rows[0].seconds) >= 2


def test_peak_memory_does_not_include_the_process_that_started_the_worker(quick_voice: Path):
    ballast = np.ones(400_000_000 // 8)  # ru_maxrss would carry this over to the worker
    plan = plan_of(rows_of(quick_voice))
    with Worker(plan.rows[0]) as worker:
        worker.load(plan)
        assert worker.time_sentence(0)["peak_memory_mb"] < 300
    assert ballast[-1] == 1


def test_a_worker_finds_nothing_that_an_earlier_measurement_compiled_and_leaves_nothing(quick_voice: Path):
    with Worker(plan_of(rows_of(quick_voice)).rows[0]) as worker:
        worker.prepare()
        worker.wait()
        asked = psutil.Process(worker.pid).environ()
        caches = [Path(asked[name]) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
        assert caches[0].is_dir() and not any(caches[0].iterdir()) and not caches[1].exists()
    assert not caches[0].exists()


def test_waiting_worker_leaves_the_processor_alone(quick_voice: Path):
    plan = plan_of(rows_of(quick_voice))
    row = plan.rows[0].model_copy(update={"threads": 2})
    with Worker(row) as worker:
        worker.load(plan)
        worker.time_sentence(0)
        assert comes_to_rest(psutil.Process(worker.pid))


def comes_to_rest(process: psutil.Process) -> bool:
    """Whether there comes a second in which a process does nothing: one that spins while it waits never has one."""
    for _ in range(60):
        before = process.cpu_times()[:2]
        time.sleep(1.0)
        if process.cpu_times()[:2] == before:
            return True
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_measurement_leaves_no_record_and_no_process(how, folder, tmp_path: Path):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(Path(__file__).parent), "2000"], stderr=subprocess.PIPE
    )
    try:
        workers = _workers_at_work(driver.pid)
        driver.send_signal(how)
        driver.communicate(timeout=30)
    finally:
        driver.kill()
    assert driver.returncode != 0
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert not folder.device_record("cpu").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_killed_measurement_goes_on_after_its_last_pair_of_blocks(small_folder, tmp_path: Path):
    study = study_of("fp32", budget_seconds=300, min_blocks=8, max_blocks=80, interval_width=1e-9)
    folder = small_folder(study)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path), str(Path(__file__).parent), "80"])
    try:
        path = _journal_with(folder.unfinished("cpu"), pairs=3)
        driver.kill()
        driver.wait(timeout=30)
    finally:
        driver.kill()
    kept = Journal(path)
    assert 3 <= len(kept.pairs) < 40 and not folder.device_record("cpu").exists()

    record = measure_device(study, CPU, folder, progress=False)

    (stop,) = record.stops
    assert (stop.threads, stop.blocks, stop.stopped_by) == (1, 80, "max_blocks")
    before = [seconds for pair in kept.pairs for seconds in pair.rows[0].seconds]
    assert record.rows[0].seconds[: len(before)] == before and len(record.rows[0].seconds) == 80
    assert len(record.rows[0].load_seconds) == 6, "workers were started twice"
    first, second = record.sittings
    assert first.blocks + second.blocks == 80 and first.blocks > 0
    assert first.ended is not None and second.ended is not None and first.ended <= second.started
    assert any("more than one sitting" in doubt.text for doubt in record.warnings)
    assert not folder.unfinished("cpu").exists()


def test_blocks_of_other_inputs_and_those_of_a_run_made_again_are_not_used(folder):
    left = folder.unfinished("cpu") / "of-other-inputs.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text("never read")
    record = measure_device(STUDY, CPU, folder, progress=False)
    assert len(record.sittings) == 1 and record.stops[0].blocks == 2
    assert not left.exists()


def _journal_with(folder: Path, pairs: int) -> Path:
    """The journal in a folder, once it holds so many pairs."""
    (path,) = until(
        lambda: [path for path in folder.glob("*.jsonl") if path.read_text().count('"stopped_by"') >= pairs]
    )
    return path


def _workers_at_work(driver: int) -> list[psutil.Process]:
    """The driver's three workers, once they are past starting up."""

    def at_work() -> list[psutil.Process] | None:
        with suppress(psutil.NoSuchProcess):  # a helper that has just ended
            children = psutil.Process(driver).children()
            if len(children) == 3 and all(sum(child.cpu_times()[:2]) > 0.3 for child in children):
                return children
        return None

    workers = until(at_work, 120)
    assert workers, "the workers did not start"
    return workers
