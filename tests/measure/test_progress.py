"""Whoever measures sees what is being done and what remains, on standard error alone, and no figure pays for it."""

import json
import os
import re
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from stand_ins import Actor, Counter
from timed_study import CPU, plan_of, rows_of, timed_row

from ttsopt_lib.measure import session
from ttsopt_lib.measure.journal import Journal, Pair
from ttsopt_lib.measure.machine import energy
from ttsopt_lib.measure.machine.energy import ROUNDS, measure_energy
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.progress import Bars
from ttsopt_lib.measure.remote import device_side, environment, ssh
from ttsopt_lib.measure.remote.bundle import Job
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.session import Findings, profile_rows
from ttsopt_lib.params import check
from ttsopt_lib.records.device import SittingRecord
from ttsopt_lib.study import ORIGINAL, Device


def drawn(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Everything that was drawn on standard error; nothing may be on standard output."""
    said = capsys.readouterr()
    assert said.out == ""
    return [line.strip() for line in said.err.replace("\n", "\r").split("\r") if line.strip()]


def bar(lines: list[str], work: str) -> tuple[int, str]:
    """Per cent and progress of the board's bar for a kind of work, as it was drawn last."""
    found = [re.match(r"([^|%]*): +(\d+)%.* (\S+/\S+)( s)? ", line) for line in lines]
    ends = [(int(one[2]), one[3]) for one in found if one and work in one[1] and "Board" in one[1]]
    assert ends, (work, lines)
    return ends[-1]


def test_each_kind_of_work_has_a_bar_of_its_own_that_comes_to_its_end(capsys):
    with Bars("Board", budget_seconds=60.0) as bars:
        bars.doing("looking")
        for size in (0, 40_000_000, 63_000_000):
            bars.step("sending", size, 63_000_000)
        bars.doing("installing numpy")
        bars.tick(20.0)
        bars.tick(30.0)  # sharp before the budget is spent
        bars.step("energy", 0, 9)
        bars.step("energy", 7, 7)  # a row dropped out
    lines = drawn(capsys)
    assert any(re.fullmatch(r"\[\d\d:\d\d\]\sBoard:\slooking", line) for line in lines)
    assert bar(lines, "sending") == (100, "63.0M/63.0M")
    assert bar(lines, "timing") == (100, "30/30")
    assert bar(lines, "energy") == (100, "7/7")


def test_a_failure_leaves_its_bar_where_it_was(capsys):
    with pytest.raises(ValueError), Bars("Board", 60.0) as bars:
        bars.tick(15.0)
        raise ValueError
    assert bar(drawn(capsys)[-1:], "timing")[0] == 25


def test_work_that_failed_while_the_rest_went_on_and_work_that_did_nothing_are_not_shown_as_complete(capsys):
    idle = "where the time goes"
    with Bars("Board", 60.0) as bars:
        bars.tick(0.0)
        bars.step("energy", 3, 12)
        bars.step(idle, 0, 0)
    lines = drawn(capsys)
    assert bar(lines[-1:], "energy")[0] == 25
    assert not any("100%" in line or idle in line for line in lines)


def test_a_timing_that_goes_on_begins_where_it_was_and_counts_no_earlier_seconds_into_its_speed(capsys):
    with Bars("Board", 100.0) as bars:
        bars.tick(50.0)
        lines = drawn(capsys)[:1]
        assert bar(lines, "timing") == (50, "50/100") and "[? left]" in lines[0]


def test_the_time_is_seen_however_long_the_line_is(monkeypatch):
    name = "A board with a long name"
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 40))
    with os.fdopen(ours, "rb") as reader, os.fdopen(terminal, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Bars(name, 60.0) as bars:
            bars.doing("installing " + ", ".join(["numpy"] * 20))
        monkeypatch.undo()
        lines = os.read(reader.fileno(), 65536).decode().replace("\n", "\r").split("\r")
    lines = [line for line in lines if line.strip()]
    assert lines and all(re.match(rf"\[\d\d:\d\d\] {name}: in", line) for line in lines)
    assert max(map(len, lines)) <= 40


def screen(written: str) -> list[str]:
    """What a terminal shows of it."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|.|\s", written):
        if part == "\x1b[A":
            row -= 1
            assert row >= 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_the_bars_of_two_devices_stay_out_of_each_others_lines(capsys):
    with Bars("Here", 60.0) as here, Bars("There", 60.0, position=1) as there:
        here.tick(15.0)
        there.doing("looking")
        there.step("sending", 5, 5)
        there.tick(30.0)
        here.step("energy", 4, 8)
        there.step("energy", 3, 4)
    shown = screen(capsys.readouterr().err)
    assert shown.pop() == "", "the next line is drawn over"
    for line, expected in zip(
        shown,
        (r"\[\d\d:\d\d\] There: looking$", "There: sending: 100%", "timing on Here: 100%", "timing on There: 100%",
         "There: energy:  75%", "Here: energy:  50%"),
        strict=True,
    ):  # fmt: skip
        assert re.match(expected, line), shown


def test_a_quiet_run_draws_nothing(capsys):
    with Bars("Board", 60.0, progress=False) as bars:
        bars.doing("looking")
        bars.tick(1.0)
        bars.step("energy", 1, 2)
    assert drawn(capsys) == []


# --- what is counted


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a measurement with a worker and a counter of paper does, in order."""
    found: list[str] = []

    class Noting(Counter):
        def joules(self) -> float:
            found.append("read")
            return super().joules()

    class Noted(Actor):
        def load(self, plan: TimingPlan) -> dict[str, Any]:
            found.append("load")
            return super().load(plan)

        def repeat(self, seconds: float) -> dict[str, float]:
            found.append("speak" if seconds else "warm up")
            return super().repeat(seconds)

        def profile(self, plan: TimingPlan) -> dict[str, dict[str, float]]:
            found.append("profile")
            return super().profile(plan)

    monkeypatch.setattr(energy, "Worker", Noted)
    monkeypatch.setattr(session, "Worker", Noted)
    monkeypatch.setattr(energy, "find_counter", lambda *_: Noting())
    return found


PLAN = plan_of(rows_of(Path("a.onnx")))


def test_energy_counts_to_its_total_and_never_between_the_two_readings_of_a_round(events):
    counted = []

    def step(done: int, total: int) -> None:
        counted.append((done, total))
        events.append("step")

    found = measure_energy(PLAN, step=step)
    assert [len(row.joules) for row in found.rows] == [ROUNDS, ROUNDS]
    total = 2 * (1 + ROUNDS)
    assert counted == [(done, total) for done in range(total + 1)]
    rounds = " ".join(events).split("step")
    assert rounds.count(" read speak read ") == 2 * ROUNDS and "".join(rounds).count("read") == 4 * ROUNDS


def test_a_progress_bar_that_cannot_be_drawn_is_no_counter_that_stopped(events):
    def step(done: int, total: int) -> None:
        if done == 4:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        measure_energy(PLAN, step=step)


def test_profiles_count_the_rows_that_have_one(events):
    counted = []

    def step(done: int, total: int) -> None:
        counted.append((done, total))
        events.append("step")

    profiles = profile_rows(PLAN, step)
    assert len(profiles) == 2
    assert counted == [(0, 2), (1, 2), (2, 2)]
    assert events == ["step", "profile", "step", "profile", "step"]


# --- from a device


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The folder of a run on a device that has its voices."""
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    job = Job(device=CPU, plan=plan_of(rows_of(Path("a.onnx"), ORIGINAL)))
    (run / "job.json").write_text(job.model_dump_json())
    monkeypatch.setattr(device_side, "with_voices", lambda plan, folder: plan)
    return run


def test_a_device_says_how_far_it_is_in_lines_of_its_protocol(run, tmp_path, monkeypatch, capsys):
    class Ended(Exception):
        pass

    def time_plan(plan, tick, journal, name, step):
        tick(1.5)
        step("energy", 3, 9)
        raise Ended

    monkeypatch.setattr(device_side, "time_plan", time_plan)
    with pytest.raises(Ended):
        device_side.carry_out(tmp_path, run)
    said = capsys.readouterr()
    assert said.err == ""
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"elapsed": 1.5},
        {"work": "energy", "done": 3, "total": 9},
    ]


@pytest.mark.parametrize("sittings", [(0, 0), (0, 2)])
def test_with_the_timing_done_and_the_workstation_gone_the_findings_are_kept(
    run, tmp_path, monkeypatch, events, sittings
):
    journal = Journal(run / "blocks.jsonl")
    for number in range(max(sittings) + 1):
        journal.note_sitting(number, SittingRecord(started="2026-11-01", warnings=[f"of {number}"]))
    with (run / "blocks.jsonl").open("a") as file:
        for sitting, stopped_by in zip(sittings, (None, "max_blocks"), strict=True):
            pair = Pair(
                threads=1, rows=[timed_row(ORIGINAL, [[0.1], [0.1]])], elapsed_seconds=9.0, stopped_by=stopped_by,
                sitting=sitting, ended="2026-11-01",
            )  # fmt: skip
            file.write(pair.model_dump_json() + "\n")

    def say(**message: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(device_side, "say", say)
    found = device_side.carry_out(tmp_path, run)
    assert isinstance(found, Findings)
    assert Findings.model_validate_json((run / "findings.json").read_text()) == found
    assert "load" in events and "profile" in events and len(found.rows[0].seconds) == 4
    assert [(one.blocks, one.warnings) for one in found.sittings] == (
        [(4, ["of 0"])] if sittings == (0, 0) else [(2, ["of 0"]), (2, ["of 2"])]
    )
    assert any("one sitting" in doubt.text for doubt in found.warnings) is (sittings == (0, 2))


PIP = """
import sys
print("Collecting numpy<3,>=2.0 (from -r requirements.txt (line 1))")
print("  Downloading numpy-2.3.1-cp311-linux_aarch64.whl (16 MB)")
print("Processing /a/folder/scipy-1.16-py3-none-any.whl")
print("Looking in links: /a/folder")
print("Installing collected packages: numpy, scipy")
print("ERROR: no room", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_an_installation_says_what_it_is_at_and_keeps_what_went_wrong(capsys):
    environment.run([sys.executable, "-c", PIP, "0"])
    said = [json.loads(line)["doing"] for line in capsys.readouterr().out.splitlines()]
    doing, what = zip(*(one.split(" ", 1) for one in said), strict=True)
    assert doing == ("collecting", "downloading", "processing", "installing")
    wheels = ("numpy-2.3.1-cp311-linux_aarch64.whl", "scipy-1.16-py3-none-any.whl")
    assert what == ("numpy<3,>=2.0", *wheels, "numpy, scipy")
    with pytest.raises(environment.subprocess.CalledProcessError) as raised:
        environment.run([sys.executable, "-c", PIP, "1"])
    assert "no room" in raised.value.output


TALKER = """
import os, sys, time
print("one", flush=True)
for _ in range(6000):  # rather than for ever, if nobody hears the silence
    if os.path.exists(sys.argv[1]):
        sys.stdout.write("two\\rthree")
        break
    time.sleep(0.01)
"""


def test_lines_of_a_command_are_heard_as_they_come_and_so_is_silence(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ssh, "SILENCE_SECONDS", 0.05)
    device = check(Device, {"name": "a", "label": "a", "kind": "cpu", "runner": "ssh", "host": "nowhere"}, "a")
    answered = tmp_path / "answered"
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if "one" in heard and heard[-2:] == ["", ""]:
            answered.touch()

    output, _, code = Connection(device)._carry_out([sys.executable, "-c", TALKER, str(answered)], hear)
    assert (output, code) == ("one\ntwo\rthree", 0)
    assert [line for line in heard if line] == ["one", "two", "three"]
