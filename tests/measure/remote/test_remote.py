"""A device that only ssh reaches is measured by one call, and what goes wrong on the way is one line and resumable."""

import fcntl
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback
from timed_study import study_of, until

from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.remote.device_side import tidy
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.timing import current_measurement, measure_device
from ttsopt_lib.params import check
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device

STUDY = study_of("fp32", budget_seconds=30, warmup_passes=1, min_blocks=4, max_blocks=6)
LONG = study_of("fp32", budget_seconds=30, warmup_passes=1, min_blocks=4, max_blocks=60, interval_width=1e-9)


def error_of(study, device, folder) -> str:
    with pytest.raises(MeasureError) as raised:
        measure_device(study, device, folder, progress=False)
    message = str(raised.value)
    assert message.startswith("127.0.0.1: ") and "\n" not in message
    return message.removeprefix("127.0.0.1: ")


@pytest.mark.slow
def test_one_call_brings_a_record_back_and_leaves_no_run_there(loopback: Loopback, folder, capsys):
    device = loopback.device()
    record = measure_device(STUDY, device, folder)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    for work in ("] Far CPU: looking", "Far CPU: sending: 100%", "timing on Far CPU: 100%", "] Far CPU: starting"):
        assert work in drawn.err
    assert "goes: 100%" in drawn.err
    assert record.status == "measured" and record.device == "far"
    assert {row.variant for row in record.rows} == {ORIGINAL, ORIGINAL_COPY, "fp32"}
    assert all(len(row.seconds) >= 4 for row in record.rows)
    assert [sentence.text for sentence in record.sentences] == ["Yes.", "The door is open."]
    assert record.system is not None and record.system.kernel and len(record.system.temperature_c) == 2
    assert current_measurement(STUDY, device, folder) == record
    there = loopback.folder / "there"
    voices = [file.name for file in (there / "voices").iterdir() if file.is_file()]
    assert voices == [f"{file_sha256(folder.model(ORIGINAL))}.onnx"], "equal files are sent once"
    assert not list((there / "runs").iterdir())


def test_what_is_sent_is_told_up_to_its_size(loopback: Loopback, tmp_path: Path):
    folder = tmp_path / "sent"
    folder.mkdir()
    for name, size in (("a", 3_000_000), ("b", 70_000)):
        (folder / name).write_bytes(os.urandom(size))
    told: list[int] = []
    there = str(loopback.folder / "there")
    Connection(loopback.device()).send(folder, there, told.append)
    assert told == sorted(told) and told[-1] == 3_070_000
    assert (loopback.folder / "there/a").read_bytes() == (folder / "a").read_bytes()


@pytest.mark.slow
def test_a_second_run_waits_for_the_first_and_sends_nothing_that_is_there(loopback: Loopback, folder):
    voices = loopback.folder / "there/voices"
    voices.mkdir(parents=True)
    voice = voices / f"{file_sha256(folder.model(ORIGINAL))}.onnx"
    shutil.copy(folder.model(ORIGINAL), voice)
    before, begun = voice.stat().st_ino, []
    with open(loopback.folder / "there/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def release() -> None:
            begun.extend((loopback.folder / "there/runs").glob("*/*.jsonl"))
            fcntl.flock(lock, fcntl.LOCK_UN)

        timer = threading.Timer(6.0, release)
        timer.start()
        record = measure_device(STUDY, loopback.device(), folder, progress=False)
        assert not timer.is_alive() and not begun, "it did not wait"
    assert record.status == "measured"
    assert voice.stat().st_ino == before, "rsync writes a new file beside the old one"


@pytest.mark.slow
def test_a_voice_that_was_damaged_there_is_noticed_and_sent_again(loopback: Loopback, folder):
    device = loopback.device()
    voices = loopback.folder / "there/voices"
    voices.mkdir(parents=True)
    damaged = voices / f"{file_sha256(folder.model(ORIGINAL))}.onnx"
    damaged.write_bytes(b"0" * folder.model(ORIGINAL).stat().st_size)
    assert "arrive whole" in error_of(STUDY, device, folder)
    assert measure_device(STUDY, device, folder, progress=False).status == "measured"


@pytest.mark.slow
def test_a_cut_connection_is_one_line_and_the_next_call_goes_on_after_the_last_pair(loopback: Loopback, small_folder):
    folder = small_folder(LONG)
    device = loopback.device()
    seen: list[bool] = []
    threading.Thread(target=cut_after_pairs, args=(loopback, 3, seen)).start()
    message = error_of(LONG, device, folder)
    assert "was lost" in message and "goes on" in message
    assert not folder.device_record("far").exists()
    assert seen == [True], "the device's end is not found while it is there"
    assert until(lambda: not loopback.is_measuring(), 20), "the device went on measuring for nobody"
    (journal,) = loopback.folder.glob("there/runs/*/blocks.jsonl")
    kept = Journal(journal).pairs
    assert 3 <= len(kept) < 29, "cut too late to test anything"

    record = measure_device(LONG, device, folder, progress=False)
    assert record.stopped_by in ("budget", "max_blocks") and len(record.rows[0].seconds) > 2 * len(kept)
    for number, row in enumerate(record.rows):
        first = [block for pair in kept for block in pair.rows[number].seconds]
        assert row.seconds[: len(first)] == first, "finished pairs were timed again"
    assert any("one sitting" in warning.text for warning in record.warnings)


def cut_after_pairs(server: Loopback, pairs: int, seen: list[bool]) -> None:
    """Cut the connection once so many pairs are on the device's disk; `seen`: whether it was measuring then."""
    journals = "there/runs/*/blocks.jsonl"
    if until(lambda: any(one.read_bytes().count(b'"stopped_by"') >= pairs for one in server.folder.glob(journals))):
        seen.append(server.is_measuring())
        server.cut()


def test_a_line_that_was_cut_short_is_dropped_from_the_journal(tmp_path: Path):
    path = tmp_path / "blocks.jsonl"
    whole = {"threads": 1, "rows": [], "elapsed_seconds": 2.0, "stopped_by": None}
    path.write_text(json.dumps(whole) + "\n" + json.dumps(whole)[:20])
    assert len(Journal(path).pairs) == 1 and Journal(path).elapsed_seconds == 2.0
    assert path.read_text() == json.dumps(whole) + "\n"


def swap_host_key(server: Loopback) -> None:
    """Have our side know another key of the server."""
    kind, key, *_ = (server.folder / "client key.pub").read_text().split()
    (server.folder / "known hosts").write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")


BARE_PYTHON = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
Spoil = Callable[[Loopback], object] | None
TROUBLE: dict[str, tuple[Spoil, dict[str, object], tuple[str, ...]]] = {
    "an unknown host key": (lambda server: (server.folder / "known hosts").write_text(""), {}, ("not known",)),
    "another host key": (swap_host_key, {}, ("known one",)),
    "a key that is not accepted": (
        lambda server: (server.folder / "authorized_keys").write_text(""),
        {},
        ("ssh-copy-id",),
    ),
    "switched off": (Loopback.close, {}, ("ssh enabled",)),
    "a missing Python": (None, {"python": "python3.99"}, ("no 'python3.99'",)),
    "a program that says nothing": (None, {"python": "true"}, ("^true ", "printed nothing", "a Python")),
    "a Python without the packages": (None, {"python": BARE_PYTHON}, ("No module",)),
    "no Raspberry Pi": (None, {"kind": "raspberry_pi"}, ("Raspberry Pi", "not a")),
}


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "values", "said"), TROUBLE.values(), ids=TROUBLE)
def test_a_device_that_cannot_be_used_is_one_line_that_says_what_to_do(loopback: Loopback, folder, spoil, values, said):
    device = loopback.device(**values)
    if spoil:
        spoil(loopback)
    message = error_of(STUDY, device, folder)
    assert all(re.search(words, message) for words in said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loopback", "expected"),
    [
        ("ForceCommand sh -c 'eval \"$SSH_ORIGINAL_COMMAND\"; echo Welcome'", "the login shell printed 'Welcome'"),
        ("ForceCommand sh -c 'echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"'", "must be silent"),
    ],
    indirect=["loopback"],
)
def test_a_login_that_prints_something_is_one_line(loopback: Loopback, folder, expected):
    message = error_of(STUDY, loopback.device(), folder)
    assert expected in message and "start-up file" in message


@pytest.mark.slow
def test_too_little_room_is_said_before_anything_is_sent(loopback: Loopback, folder, tmp_path: Path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with open(wheels / "huge-1-py3-none-any.whl", "wb") as huge:
        huge.truncate(2**42)  # a file of 4.4 TB that takes no room here
    device = loopback.device(venv=True, wheels=str(wheels))
    message = error_of(STUDY, device, folder)
    assert "are needed" in message and "make room" in message
    assert not list((loopback.folder / "there/voices").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "loopback",
    ['ForceCommand sh -c \'ulimit -f 100; trap "" XFSZ; eval "$SSH_ORIGINAL_COMMAND"\''],
    indirect=True,
    ids=["files of 50 kB at most"],
)
def test_a_file_that_cannot_be_written_there_is_one_line(loopback: Loopback, folder):
    """Rsync ends as on a full disk."""
    message = error_of(STUDY, loopback.device(), folder)
    assert "be written" in message and "disk full" in message and "goes on" in message


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "pi@-x", "a b", "pi@host;reboot", "$(id)", "a:b", ""])
def test_a_host_that_could_be_read_as_anything_else_is_refused(host):
    with pytest.raises(StudyError, match="host"):
        check(Device, {"name": "a", "label": "a", "kind": "cpu", "runner": "ssh", "host": host}, "far")


def test_words_reach_the_far_side_as_they_are(loopback: Loopback):
    words = ["a b", "$(id)", "`id`", "'; echo no", '"', "*", "~", "\\n"]
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    said = Connection(loopback.device()).run([sys.executable, "-c", program, *words])
    assert json.loads(said) == words


def test_ssh_keys_without_ssh_are_refused():
    with pytest.raises(StudyError, match="runner: ssh needs host"):
        check(Device, {"name": "a", "label": "a", "kind": "cpu", "runner": "ssh"}, "far")
    with pytest.raises(StudyError, match="only for runner: ssh"):
        check(Device, {"name": "a", "label": "a", "kind": "cpu", "host": "pi@raspberrypi"}, "far")


def test_a_record_from_before_ssh_still_loads():
    old = {
        "key": "k", "device": "cpu", "label": "CPU", "kind": "cpu", "status": "measured", "reason": None, "created": "",
        "system": {
            "hostname_hash": "0", "machine": "x86_64", "cpu": "c", "board": None, "logical_cores": 1, "memory_mb": 1,
            "os": "o", "kernel": "k", "governor": None, "instruction_sets": [], "accelerator": None, "python": "3",
            "packages": {},
        },
    }  # fmt: skip
    record = DeviceRecord.model_validate(old)
    assert record.system and record.system.temperature_c == (None, None)


def test_what_was_sent_and_nobody_used_for_a_month_is_removed_from_the_device(tmp_path: Path):
    old, new = "a" * 24, "b" * 24
    there = (f"voices/{old}.onnx", f"voices/{new}.onnx", f"runs/{old}/blocks.jsonl", f"environments/{new}/.ready")
    there = (*there, f"voices/.partial/{old}.onnx", f"packages/{old}/a.whl")
    for name in (*there, "code/thesis/draft.txt"):  # the device's `folder:` may be somebody's home
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    month_ago = time.time() - 31 * 86400
    for name in (f"voices/{old}.onnx", f"voices/.partial/{old}.onnx", f"runs/{old}", f"packages/{old}", "code/thesis"):
        os.utime(tmp_path / name, (month_ago, month_ago))
    tidy(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {f"voices/{new}.onnx", "voices/.partial", f"environments/{new}", "code/thesis"}
    assert not list((tmp_path / "voices/.partial").iterdir())
