"""What a container's limit on processor time is, and what a report says of it."""

import pytest

from ttsopt_lib.measure.machine.conditions import quota_warnings
from ttsopt_lib.measure.machine.cpu_quota import Quota, find_quota

STAT = "usage_usec 5000000\nnr_periods 900\nnr_throttled 41\nthrottled_usec 2500000\n"


@pytest.fixture
def group(tmp_path):
    """Writes the limit of a group, with how often it held its processes back."""

    def write(inside: str, limit: str, stat: str = STAT) -> None:
        folder = tmp_path / "groups" / inside
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{limit}\n")
        (folder / "cpu.stat").write_text(stat)

    return write


def found(tmp_path, own):
    (tmp_path / "own").write_text(own)
    return find_quota(tmp_path / "groups", tmp_path / "own")


def test_a_container_sees_its_limit_at_the_top(tmp_path, group):
    group("", "100000 100000")
    assert found(tmp_path, "0::/\n") == Quota(1.0, 41, 2.5)


def test_the_tightest_limit_above_a_process_counts(tmp_path, group):
    group("user", "50000 100000", STAT.replace("41", "7"))
    group("user/shell", "300000 100000")
    group("other", "10000 100000")
    assert found(tmp_path, "0::/user/shell\n") == Quota(0.5, 7, 2.5)


def test_version_1_of_control_groups_keeps_it_elsewhere(tmp_path):
    folder = tmp_path / "groups/cpu"
    folder.mkdir(parents=True)
    for name, text in {"quota": "150000", "period": "100000"}.items():
        (folder / f"cpu.cfs_{name}_us").write_text(f"{text}\n")
    (folder / "cpu.stat").write_text("nr_periods 900\nnr_throttled 41\nthrottled_time 2500000000\n")
    own = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"  # as the host names the group, which is not seen inside
    assert found(tmp_path, own) == Quota(1.5, 41, 2.5)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert found(tmp_path, own) is None


@pytest.mark.parametrize("own", ["0::/\n", "4:cpu,cpuacct:/docker/x\n", ""])
def test_where_there_is_no_limit_or_none_is_told_there_is_none(tmp_path, group, own):
    group("", "max 100000")
    assert found(tmp_path, own) is None


def test_a_file_of_an_unknown_form_says_nothing(tmp_path, group):
    group("", "plenty")
    assert found(tmp_path, "0::/\n") is None
    assert find_quota(tmp_path / "groups", tmp_path / "absent") is None


def test_a_limit_below_the_cores_that_are_shown_is_said_with_what_it_did():
    (said,) = quota_warnings(Quota(1.0, 40, 2.0), Quota(1.0, 53, 3.25), cores=2)
    assert "1 of the 2 cores" in said and "13 times" in said and "1.2 s" in said and "\n" not in said
    (idle,) = quota_warnings(Quota(1.5, 40, 2.0), Quota(1.5, 40, 2.0), cores=2)
    assert "did not hold" in idle and "1.5 of the 2 cores" in idle


@pytest.mark.parametrize("after", [None, Quota(2.0, 9, 9.0), Quota(8.0, 9, 9.0)])
def test_a_limit_that_leaves_all_cores_is_none(after):
    assert quota_warnings(None, after, cores=2) == []
