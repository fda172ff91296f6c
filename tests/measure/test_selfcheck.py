"""The selfcheck measures for real, and its verdict counts intervals that contain the truth."""

from pathlib import Path

import pytest
from timed_study import study_of

from ttsopt_lib.measure.selfcheck import CheckedRun, Selfcheck, selfcheck_study
from ttsopt_lib.statistics.intervals import WithInterval
from ttsopt_lib.voices.adapters.opening import open_model


def run(copy: tuple[float, float], extra: tuple[float, float]) -> CheckedRun:
    return CheckedRun(copy=WithInterval(0.0, copy), extra=WithInterval(-0.2, extra), alone=[0.19, 0.2, 0.21], blocks=12)


def found(right: int, wrong_copies: int, wrong_extras: int) -> Selfcheck:
    good = run((-0.01, 0.01), (-0.25, -0.15))
    runs = [good] * right
    runs += [run((0.01, 0.02), (-0.25, -0.15))] * wrong_copies + [run((-0.01, 0.01), (-0.1, 0.0))] * wrong_extras
    return Selfcheck(runs, [])


def test_of_twenty_runs_seventeen_must_contain_the_truth():
    assert found(20, 0, 0).needed == 17
    assert found(17, 3, 0).right and found(17, 0, 3).right
    assert not found(16, 4, 0).right and not found(16, 0, 4).right
    result = found(17, 2, 1)
    assert (result.copies_right, result.extras_right, result.truth) == (18, 19, pytest.approx(-0.2))
    assert "truth 0: 18 of 20" in result.lines()[1] and "truth -20.0 %: 19 of 20" in result.lines()[2]


@pytest.mark.slow
def test_a_voice_with_speakers_can_be_checked(multi_speaker_voice: Path):
    assert len(selfcheck_study(study_of(), open_model(multi_speaker_voice), runs=1, blocks=8).runs) == 1


@pytest.mark.slow
def test_a_voice_with_work_added_is_slower_by_about_what_the_work_takes(medium_voice: Path):
    done = []
    result = selfcheck_study(study_of(), open_model(medium_voice), runs=1, blocks=8, done=lambda: done.append(1))
    assert len(result.runs) == len(done) == 1 and result.runs[0].blocks == 8
    assert result.truth < -0.2, "the work is too little for so small a voice"
    assert result.runs[0].extra.ci[0] < 0.5 * result.truth, "the work was not found"
