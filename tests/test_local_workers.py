"""Processes that share work on this machine."""

import os
import signal
import sys
import time

import pytest
from joblib import delayed

import ttsopt_lib
from ttsopt_lib.workers import WorkerError, local_workers

OPENED: list[bytearray] = []
CALLS: list[int] = []


def grow(number: int) -> int:
    """The process that did it, 400 MB larger from its second call on, as where scoring opens its models."""
    CALLS.append(number)
    if len(CALLS) == 2:
        OPENED.append(bytearray(b"x" * 400_000_000))
    time.sleep(1.1)  # joblib looks at the memory once a second
    return os.getpid()


@pytest.mark.slow
def test_a_process_that_has_opened_its_models_is_not_taken_for_a_leak(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    with local_workers(2) as parallel:
        processes = list(parallel(delayed(grow)(number) for number in range(8)))  # pyright: ignore[reportArgumentType]
    assert len(set(processes)) == 2 and os.getpid() not in processes


def kill(number: int) -> int:
    """What a system does that is short of memory."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    killed = pytest.raises(WorkerError, match="^a process that shared the work was killed, .* memory")
    with killed as caught, local_workers(2) as parallel:
        list(parallel(delayed(kill)(number) for number in range(8)))  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)
    with local_workers(2) as parallel:
        assert list(parallel(delayed(abs)(-number) for number in range(4))) == [0, 1, 2, 3]  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_no_file_of_the_working_folder_stands_in_for_a_library_of_a_worker(tmp_path, monkeypatch):
    (tmp_path / "joblib.py").write_text("raise SystemExit('this is no library')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with local_workers(2) as parallel:
        assert list(parallel(delayed(abs)(-number) for number in range(2))) == [0, 1]  # pyright: ignore[reportArgumentType]
    assert "PYTHONSAFEPATH" not in os.environ


def package_file(_: int) -> str:
    """Of the package that a process has."""
    return str(sys.modules["ttsopt_lib"].__file__)


@pytest.mark.slow
def test_workers_have_the_package_of_who_started_them_where_another_is_installed(tmp_path, monkeypatch):
    (tmp_path / "ttsopt_lib").mkdir()
    (tmp_path / "ttsopt_lib/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    with local_workers(2) as parallel:
        files = set(parallel(delayed(package_file)(number) for number in range(2)))  # pyright: ignore[reportArgumentType]
    assert files == {ttsopt_lib.__file__}


def test_one_worker_is_this_process():
    with local_workers(1) as parallel:
        assert list(parallel([delayed(os.getpid)()])) == [os.getpid()]  # pyright: ignore[reportArgumentType]
