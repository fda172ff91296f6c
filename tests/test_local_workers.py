"""Processes that share work on this machine."""

import os

import pytest
from growing import grow
from joblib import delayed

from ttsopt_lib.workers import local_workers


@pytest.mark.slow
def test_a_process_that_has_opened_its_models_is_not_taken_for_a_leak(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    with local_workers(2) as parallel:
        processes = list(parallel(delayed(grow)(number) for number in range(8)))  # pyright: ignore[reportArgumentType]
    assert len(set(processes)) == 2 and os.getpid() not in processes


def test_one_worker_is_this_process():
    with local_workers(1) as parallel:
        assert list(parallel([delayed(os.getpid)()])) == [os.getpid()]  # pyright: ignore[reportArgumentType]
