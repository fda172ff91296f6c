"""The device's end of a measurement over ssh: `python -m ttsopt_lib.measure.remote.device_side ROOT RUN [--again]`.

Carries out `ROOT/runs/RUN/job.json` and says how it goes in JSON lines on standard output: `waiting` for another
run on this device, seconds `elapsed` of the timing, the `work` after it with what is `done` of the `total`, and
at last `findings` or an `error`. Finished pairs of blocks, or comparisons, are kept beside the job. When the
connection is gone, the next line cannot be written: the timing stops there, and the same job goes on after its last
pair or comparison; the work after a timing goes on to its end, and the same job gets the findings. The lock is the
system's own, which ends with the process: none can be left behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ttsopt_lib
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_path, file_sha256
from ttsopt_lib.measure.devices import Probe, probe
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.machine.system import cpu_name
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.remote.bundle import Job
from ttsopt_lib.measure.session import Findings, time_plan
from ttsopt_lib.measure.side_by_side import Compared, ComparisonPlan, Speed, compare
from ttsopt_lib.study import ORIGINAL

TICK_SECONDS = 0.5
KEEP_SECONDS = 30 * 86400.0  # what nobody has used for so long is removed
KINDS = ("voices", "voices/.partial", "runs", "code", "environments", "packages")
OURS = re.compile(r"[0-9a-f]{24,}(\..*)?")  # names of what is sent: hashes


def say(**message: Any) -> None:
    """One line to the workstation. Raises BrokenPipeError when it has gone."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Wait until no other run works on this device: two would time each other."""
    with open(root / "lock", "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                say(waiting=True)
                time.sleep(1.0)
        yield


def carry_out(root: Path, run: Path) -> Findings | Compared:
    """The findings of the run: those on file, or timed now. Raises TtsoptError, OSError, BrokenPipeError."""
    job = read_job(run)
    finished = run / "findings.json"
    if finished.exists():
        kind = Compared if isinstance(job.plan, ComparisonPlan) else Findings
        return kind.model_validate_json(finished.read_text(encoding="utf-8"))
    found = probe(job.device)
    if found.reason:
        raise MeasureError(found.reason)
    plan = with_voices(job.plan, root / "voices")
    if isinstance(plan, ComparisonPlan):
        findings = compared(plan, run / "speeds.jsonl")
    else:
        findings = timed(plan, found, run / "blocks.jsonl")
    with atomic_path(finished) as temporary:
        temporary.write_text(findings.model_dump_json(), encoding="utf-8")
    return findings


def read_job(run: Path) -> Job:
    """What the run is."""
    return Job.model_validate_json((run / "job.json").read_text(encoding="utf-8"))


def compared(plan: ComparisonPlan, journal: Path) -> Compared:
    """Compare graphs; what `journal` has is not compared again. Raises TtsoptError, OSError, BrokenPipeError."""
    found: list[dict[str, Speed]] = []
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        with suppress(ValueError):  # a line that was cut off is the last one
            found.append({name: Speed.model_validate(one) for name, one in json.loads(line).items()})
    journal.write_text("".join(line_of(one) for one in found), encoding="utf-8")
    say(work="comparing", done=len(found), total=len(plan.comparisons))
    for comparison in plan.comparisons[len(found) :]:
        found.append(compare(comparison, plan.threads, plan.patience))
        with open(journal, "a", encoding="utf-8") as file:
            file.write(line_of(found[-1]))
        say(work="comparing", done=len(found), total=len(plan.comparisons))
    return Compared(machine=cpu_name(), speeds=found)


def line_of(speeds: dict[str, Speed]) -> str:
    """A comparison as a line of the journal."""
    return json.dumps({name: one.model_dump() for name, one in speeds.items()}) + "\n"


def timed(plan: TimingPlan, found: Probe, journal: Path) -> Findings:
    """Time a study. Raises MeasureError, OSError, BrokenPipeError."""
    if found.accelerator:
        rows = tuple(
            row.model_copy(update={"accelerator": found.accelerator, "optional": row.variant != ORIGINAL})
            for row in plan.rows
        )
        plan = plan.model_copy(update={"rows": rows, "streams": ()})
    said = 0.0

    def tick(elapsed: float) -> None:
        nonlocal said
        if time.monotonic() - said > TICK_SECONDS:
            said = time.monotonic()
            say(elapsed=elapsed)

    def step(work: str, done: int, total: int) -> None:
        with suppress(BrokenPipeError):  # what remains is short: findings for the next call instead of none
            say(work=work, done=done, total=total)

    return time_plan(plan, tick, Journal(journal), found.accelerator_name, step)


def with_voices(plan: TimingPlan | ComparisonPlan, voices: Path) -> TimingPlan | ComparisonPlan:
    """The plan with the files that its names stand for. Raises MeasureError for one that arrived damaged."""
    places = {name: voices / name.name for name in plan.files}
    for path in places.values():
        if not path.is_file() or file_sha256(path) != path.stem:
            path.unlink(missing_ok=True)
            raise MeasureError(f"{path}: did not arrive whole and was removed; run the same command again")
        os.utime(path)
    return plan.with_files(places)


def tidy(root: Path) -> None:
    """Remove what was sent and has not been used for a month: an SD card is small."""
    for path in (path for kind in KINDS for path in root.glob(f"{kind}/*") if OURS.fullmatch(path.name)):
        if time.time() - path.stat().st_mtime > KEEP_SECONDS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Known errors are one line to the workstation; with the connection gone there is nobody to tell."""
    root = Path(sys.argv[1])
    run = root / "runs" / sys.argv[2]
    try:
        with only_run(root):
            if "--again" in sys.argv[3:]:
                for kept in ("blocks.jsonl", "speeds.jsonl", "findings.json"):
                    (run / kept).unlink(missing_ok=True)
            for used in (Path(ttsopt_lib.__file__).parents[1], Path(sys.prefix)):
                if used.is_relative_to(root):
                    os.utime(used)
            say(findings=carry_out(root, run).model_dump(mode="json"))
            if sys.stdin.readline() == "kept\n":
                plan = read_job(run).plan
                if isinstance(plan, ComparisonPlan):  # nobody asks for these graphs again
                    for path in plan.files:
                        (root / "voices" / path.name).unlink(missing_ok=True)
                shutil.rmtree(run)
                tidy(root)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except TtsoptError as error:
        say(error=str(error))
    except OSError as error:
        say(error=f"{error.filename or root}: {error.strerror or error}")


if __name__ == "__main__":
    main()
