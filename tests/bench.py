"""How long a report takes on this machine: `make bench` makes one in an empty folder and prints a Markdown table.

The docs quote these figures with the machine that they were measured on. No test asserts a time: a busy machine would
fail it and a fast one would hide what became slower. Run it with nothing else running; it takes as long as a complete
report and a minute more. `python tests/bench.py STUDY.yaml` takes another study.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.process import Worker
from ttsopt_lib.measure.session import time_plan

ROOT = Path(__file__).parents[1]
SLEEPERS = ROOT / "tests/measure"
TTSOPT = Path(sys.executable).with_name("ttsopt")
LOOK_SECONDS = 0.2  # between two looks at the files


def main() -> None:
    """Run the study in a folder of its own and print what took how long."""
    study = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "params/joe.yaml"
    name = yaml.safe_load(study.read_text(encoding="utf-8"))["study"]["name"]
    with TemporaryDirectory(prefix="ttsopt-bench-") as temporary:
        project = Path(temporary)
        for part in ("notebooks", "params", "models"):
            shutil.copytree(ROOT / part, project / part)
        shutil.copyfile(study, project / "params/bench.yaml")
        rows = [*_cold(project, project / "reports" / name), _again(project), _slow_rows(project)]
    system = describe_system()
    memory = (system.memory_mb or 0) / 1000
    print(f"\n{system.cpu}, {system.logical_cores} cores, {memory:.0f} GB, {system.os}\n")
    print("| what | seconds |\n|---|---|")
    for what, seconds in rows:
        print(f"| {what} | {seconds:.2f} |" if seconds < 5 else f"| {what} | {seconds:.0f} |")


def _cold(project: Path, report: Path) -> Iterator[tuple[str, float]]:
    """A first run, watched from outside: when its pages were there, and what the records say."""
    start = time.monotonic()
    pages: dict[str, float] = {}
    scored = {"utterances": 0, "seconds": 0.0}
    last, lines = start, 0
    with subprocess.Popen([TTSOPT, "run", "params/bench.yaml"], cwd=project) as running:
        while running.poll() is None:
            time.sleep(LOOK_SECONDS)
            now, count = time.monotonic(), _lines(report / "records/scores.jsonl")
            if lines and count > lines:  # between two lines, not while blocks are timed
                scored["utterances"] += count - lines
                scored["seconds"] += min(now - last, 5.0)
            if count != lines:
                last, lines = now, count
            if (report / "summary.json").is_file():
                stage = json.loads((report / "summary.json").read_text(encoding="utf-8"))["stage"]
                pages.setdefault(stage, now - start)
    if running.returncode:
        sys.exit(f"ttsopt run failed with exit code {running.returncode}")
    for stage, what in (("first_look", "first look: a whole page"), ("complete", "complete report, from the start")):
        if stage in pages:
            yield what, pages[stage]
    yield f"scoring an utterance ({scored['utterances']} of them)", scored["seconds"] / max(1, scored["utterances"])
    for path in sorted((report / "variants").glob("*/variant.json"), key=lambda path: path.stat().st_mtime):
        record = json.loads(path.read_text(encoding="utf-8"))
        yield f"optimize: {record['name']}", record["seconds"]


def _again(project: Path) -> tuple[str, float]:
    """Rendering with nothing new."""
    start = time.monotonic()
    subprocess.run([TTSOPT, "report", "params/bench.yaml"], cwd=project, check=True, stdout=subprocess.DEVNULL)
    return "rendering again, PDF included", time.monotonic() - start


def _slow_rows(project: Path) -> tuple[str, float]:
    """A GPU's measurement with its times at a thirtieth: 33 rows that each take half a second to open."""
    os.environ["PYTHONPATH"] = str(SLEEPERS)
    sys.path.insert(0, str(SLEEPERS))
    from sleepers import default_plan  # pyright: ignore[reportMissingImports]

    Worker.module = "sleepy_worker"
    plan = default_plan(project, 33, 1 / 30)
    start = time.monotonic()
    time_plan(plan)
    took = time.monotonic() - start
    return f"33 rows that sleep (limit {plan.settings.limit_seconds:.0f} s, beside the starts of processes)", took


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


if __name__ == "__main__":
    main()
