"""Rows whose workers sleep (`sleepy_worker.py`), for measurements that take a fraction of the time of real ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from timed_study import plan_of, rows_of

from ttsopt_lib.measure.plan import Accelerator, PlannedSentence, TimingPlan
from ttsopt_lib.measure.timing import settings_for
from ttsopt_lib.params import read_device, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import ORIGINAL


@dataclass
class Sleeper:
    """How a row behaves. `hangs_at` and `dies_at`: import, open, first run, pass N, repeat, batches of N."""

    name: str
    import_seconds: float = 0.0
    open_seconds: float = 0.0
    speak_seconds: float = 0.002
    hangs_at: str = ""
    dies_at: str = ""
    restless: bool = False


def sleepy_plan(
    folder: Path, sleepers: list[Sleeper], accelerator: Accelerator | None = "cuda", **settings: float | None
) -> TimingPlan:
    """A plan of these rows on two sentences; on an accelerator all but the original are optional."""
    rows = []
    for one in sleepers:
        model = folder / f"{one.name}.json"
        model.write_text(json.dumps(asdict(one) | {"log": str(folder / "log.jsonl")}), encoding="utf-8")
        optional = accelerator is not None and one.name != ORIGINAL
        (row,) = rows_of(model, one.name)
        made = {"accelerator": accelerator, "optional": optional, "recipe": ({"step": "fp16"},) if optional else ()}
        rows.append(row.model_copy(update=made))
    sentences = (
        PlannedSentence(length_class="one_word", text="Yes.", ids=(1, 2)),
        PlannedSentence(length_class="short", text="The door is open.", ids=(1, 2, 3)),
    )
    asked = {"min_blocks": 4, "interval_width": 1e-9, "budget_seconds": 20, **settings}
    return plan_of(rows, *sentences, **asked)


def default_plan(folder: Path, rows: int, scale: float) -> TimingPlan:
    """So many rows of 15 s, with the times of params/gpu.yaml; all in units of `scale` seconds."""
    asked = settings_for(read_study(resolve(Path("params/joe.yaml"))), read_device(resolve(Path("params/gpu.yaml"))))
    sleepers = [
        Sleeper(ORIGINAL if not n else f"row-{n}", import_seconds=6 * scale, open_seconds=9 * scale)
        for n in range(rows)
    ]
    times = ("budget_seconds", "opening_seconds", "limit_seconds")
    scaled = {name: scale * getattr(asked, name) for name in times}
    return sleepy_plan(folder, sleepers, min_blocks=8, max_blocks=60, **scaled)


@dataclass
class Noted:
    """What a row did, and when."""

    row: str
    what: str
    began: float
    ended: float

    def overlaps(self, other: "Noted") -> bool:
        return self.row != other.row and self.began < other.ended and other.began < self.ended


def noted(folder: Path) -> list[Noted]:
    """Everything that the rows did."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [Noted(*json.loads(line)) for line in lines]
