"""A measurement ends, whatever a row does: rows that are slow, hang, die or never get steady."""

from functools import partial
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from sleepers import Sleeper, default_plan, noted, sleepy_plan
from stand_ins import Counter

from ttsopt_lib.measure import opening, session
from ttsopt_lib.measure.blocks import Timing, energy_reserve, time_rows
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.machine import energy
from ttsopt_lib.measure.machine.energy import FEWEST_ROUNDS, ROUNDS, energy_seconds, rounds_within
from ttsopt_lib.measure.opening import MOST_AT_ONCE, Opened, opening_limit, rows_at_once
from ttsopt_lib.measure.plan import PlannedRow, TimingPlan, plan_rows
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.sample_checks import sample_doubts
from ttsopt_lib.measure.scenarios.batches import SECONDS as BATCH_SECONDS
from ttsopt_lib.measure.session import time_plan
from ttsopt_lib.measure.timing import settings_for
from ttsopt_lib.params import read_device, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.pipeline import schedule
from ttsopt_lib.records.device import GpuRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, MeasureSettings

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _sleepy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that sleep, on a machine of eight cores."""
    monkeypatch.setattr(Worker, "module", "sleepy_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(opening, "usable_cores", lambda: 8)


class Watched:
    """A run and what it said meanwhile."""

    def __init__(self, plan: TimingPlan, journal: Journal | None = None):
        self.steps: list[tuple[str, int, int]] = []
        self.ticks: list[float] = []
        self.found: list[Opened] = []
        self.pids: list[int] = []
        self.order: list[str] = []
        self._plan, self._journal = plan, journal

    def step(self, work: str, done: int, total: int) -> None:
        self.steps.append((work, done, total))
        self.order += [work] if work not in self.order else []

    def tick(self, elapsed: float) -> None:
        self.ticks.append(elapsed)
        self.order += ["timing"] if "timing" not in self.order else []

    def run(self) -> Timing:
        return time_rows(self._plan, self.tick, self.pids.extend, self._journal, self.step, self.found.append)


def gone(pids: list[int]) -> bool:
    """Whether no worker is left."""
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


TROUBLE = [
    Sleeper(ORIGINAL, open_seconds=0.5),
    Sleeper("hangs", hangs_at="open"),
    Sleeper("imports for ever", hangs_at="import"),
    Sleeper("compiles for ever", open_seconds=0.5, hangs_at="first run"),
    Sleeper("dies", open_seconds=0.5, dies_at="open"),
    Sleeper("dies later", open_seconds=0.5, dies_at="pass 4"),
    Sleeper("never steady", open_seconds=0.5, restless=True),
    *(Sleeper(f"good-{number}", open_seconds=0.5) for number in range(5)),
]


def test_what_hangs_or_dies_is_left_out_with_what_it_was_doing_and_the_others_are_timed(tmp_path: Path):
    watched = Watched(sleepy_plan(tmp_path, TROUBLE, opening_seconds=2.0, max_blocks=6, min_blocks=6))
    timing = watched.run()

    good = [ORIGINAL, "never steady", *(f"good-{number}" for number in range(5))]
    assert [row.variant for row in timing.rows] == good
    assert {len(row.seconds) for row in timing.rows} == {6}
    reasons = {one.row.variant: one.reason for one in timing.left_out}
    assert set(reasons) == {"hangs", "imports for ever", "compiles for ever", "dies", "dies later"}
    assert "hangs (onnxruntime, 1 thread) was not ready within 2 s: it was opening its model;" in reasons["hangs"]
    assert "it was importing its runtime" in reasons["imports for ever"]
    assert "it was at its first run of 'Yes.'" in reasons["compiles for ever"]
    assert "it fell over" in reasons["dies"] and "it fell over" in reasons["dies later"]
    assert gone(watched.pids) and len(watched.pids) == len(TROUBLE)


def test_a_row_that_never_gets_steady_is_timed_with_a_doubt(tmp_path: Path):
    sleepers = [Sleeper(ORIGINAL), Sleeper("never steady", restless=True)]
    timing = Watched(sleepy_plan(tmp_path, sleepers)).run()
    steady, restless = timing.rows
    assert steady.unsteady is None and restless.unsteady is not None and restless.unsteady > 0.4
    doubts = [one for one in sample_doubts(timing.rows, MeasureSettings()) if "not steady" in one.text]
    assert [list(one.rows) for one in doubts] == [["never steady"]]
    passes = [one.what for one in noted(tmp_path) if one.row == "never steady"]
    assert passes.count(f"pass {opening.MOST_PASSES}") == 2, "it was given the most passes (of two sentences)"
    assert "pass 3" not in [one.what for one in noted(tmp_path) if one.row == ORIGINAL][: 2 * 2], "one that is steady"


def test_a_slow_row_that_never_gets_steady_is_timed_as_far_as_its_share_allows(tmp_path: Path):
    sleepers = [Sleeper(ORIGINAL), Sleeper("slow", restless=True, speak_seconds=0.15)]
    timing = Watched(sleepy_plan(tmp_path, sleepers, opening_seconds=1.5, max_blocks=2, min_blocks=2)).run()
    assert [row.variant for row in timing.rows] == [ORIGINAL, "slow"] and timing.rows[1].unsteady is not None


@pytest.mark.parametrize("accelerator", ["cuda", None])
@pytest.mark.parametrize(("where", "said"), [("import", "importing its runtime"), ("open", "opening its model")])
def test_without_the_original_the_measurement_ends_at_once_with_one_line(tmp_path: Path, accelerator, where, said):
    sleepers = [Sleeper("fp32", open_seconds=0.1), Sleeper(ORIGINAL, hangs_at=where), Sleeper("int8")]
    watched = Watched(sleepy_plan(tmp_path, sleepers, accelerator, opening_seconds=0.8))
    with pytest.raises(MeasureError) as error:
        watched.run()
    message = str(error.value)
    assert message.startswith("original (onnxruntime, 1 thread) was not ready within 0.8 s") and said in message
    assert "opening_seconds" in message and "\n" not in message
    assert gone(watched.pids)


def test_on_a_processor_a_row_that_is_not_ready_is_left_out_too(tmp_path: Path):
    sleepers = [Sleeper(ORIGINAL), Sleeper("hangs", hangs_at="open"), Sleeper("fp32")]
    timing = Watched(sleepy_plan(tmp_path, sleepers, None, opening_seconds=1.5)).run()
    assert [row.variant for row in timing.rows] == [ORIGINAL, "fp32"]
    assert [one.row.variant for one in timing.left_out] == ["hangs"]
    with pytest.raises(MeasureError, match="it fell over"):  # what dies is a fault, as before
        Watched(sleepy_plan(tmp_path, [Sleeper(ORIGINAL), Sleeper("dies", dies_at="open")], None)).run()


def test_on_an_accelerator_rows_open_side_by_side_and_speak_alone(tmp_path: Path):
    sleepers = [Sleeper(name, import_seconds=0.2, open_seconds=0.4) for name in (ORIGINAL, "a", "b", "c", "d")]
    watched = Watched(sleepy_plan(tmp_path, sleepers))
    watched.run()
    (found,) = watched.found
    assert found.at_once == 4
    did = noted(tmp_path)
    opened = [one for one in did if one.what in ("import", "open")]
    spoke = [one for one in did if one not in opened]
    together = max(one.ended for one in opened) - min(one.began for one in opened)
    assert together < sum(one.ended - one.began for one in opened), "one after another"
    assert not any(one.overlaps(other) for one, other in combinations(spoke, 2)), "two rows spoke at the same time"
    timed = sorted(spoke, key=lambda one: one.began)[-4 * 2 * 5 :]  # four blocks
    assert max(one.ended for one in opened) < timed[0].began, "a row was opened while others were timed"


def test_on_a_processor_one_row_loads_after_the_other_and_all_are_open_before_the_first_speaks(tmp_path: Path):
    sleepers = [Sleeper(name, open_seconds=0.1) for name in (ORIGINAL, "a", "b", "c", "d")]
    watched = Watched(sleepy_plan(tmp_path, sleepers, None))
    timing = watched.run()
    assert watched.found[0].at_once == 1
    did = noted(tmp_path)
    opened = [one for one in did if one.what == "open"]
    spoke = [one for one in did if one.what not in ("open", "import")]
    assert not any(one.overlaps(other) for one, other in combinations([*opened, *spoke], 2))
    assert max(one.ended for one in opened) < min(one.began for one in spoke)
    assert [row.load_seconds for row in timing.rows] == [[0.1]] * 5


@pytest.mark.parametrize("accelerator", ["cuda", None])
def test_the_bar_counts_from_the_first_second_on(tmp_path: Path, accelerator):
    watched = Watched(sleepy_plan(tmp_path, [Sleeper(ORIGINAL, open_seconds=1.5), Sleeper("a")], accelerator))
    watched.run()
    assert watched.steps[0] == ("opening", 0, 2)
    assert watched.order == ["opening", "warming up", "timing"]
    assert ("opening", 1, 2) in watched.steps or accelerator, watched.steps
    assert watched.ticks == sorted(watched.ticks)
    if accelerator:
        assert watched.ticks[0] < 1.5, "opening has a time of its own and counts towards no budget"


@pytest.mark.parametrize("accelerator", ["cuda", None])
def test_an_interrupt_while_rows_are_opened_ends_them(tmp_path: Path, accelerator):
    slow = [Sleeper(f"{number}", open_seconds=3600) for number in range(3)]
    watched = Watched(sleepy_plan(tmp_path, [Sleeper(ORIGINAL), *slow], accelerator))

    def interrupt(work: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    watched.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        watched.run()
    assert gone(watched.pids)


def test_the_first_pair_of_blocks_is_kept_whatever_happens_after_it(tmp_path: Path):
    plan = sleepy_plan(tmp_path, [Sleeper(ORIGINAL), Sleeper("a", open_seconds=0.2)], max_blocks=8, min_blocks=8)
    path = tmp_path / "blocks.jsonl"
    watched = Watched(plan, Journal(path))

    def interrupt(elapsed: float) -> None:
        if Journal(path).pairs:
            raise KeyboardInterrupt

    watched.tick = interrupt
    with pytest.raises(KeyboardInterrupt):
        watched.run()
    (pair,) = Journal(path).pairs
    assert [len(row.seconds) for row in pair.rows] == [2, 2] and pair.rows[1].first_seconds == pytest.approx(
        [0.014] * 2
    )
    opened = pair.opening_seconds
    assert opened > 0.2
    again = Watched(plan, Journal(path))
    timing = again.run()
    assert [len(row.seconds) for row in timing.rows] == [8, 8]
    assert again.ticks[0] >= pair.elapsed_seconds - opened, "the budget goes on"
    assert timing.rows[1].first_seconds == pytest.approx([0.014] * 2)
    died = sleepy_plan(tmp_path, [Sleeper(ORIGINAL, dies_at="pass 5"), Sleeper("a")], max_blocks=8, min_blocks=8)
    with pytest.raises(MeasureError, match="it fell over"):
        Watched(died, Journal(tmp_path / "died.jsonl")).run()
    assert len(Journal(tmp_path / "died.jsonl").pairs) == 1


def test_the_limit_ends_opening_and_blocks_although_fewer_were_timed_than_asked_for(tmp_path: Path):
    slow = [Sleeper(ORIGINAL), *(Sleeper(f"slow-{n}", open_seconds=0.7 if n < 6 else 3600) for n in range(12))]
    plan = sleepy_plan(tmp_path, slow, opening_seconds=30, limit_seconds=3.0, min_blocks=200, max_blocks=200)
    plan = plan.model_copy(update={"only_timing": True})
    timing = Watched(plan).run()
    assert timing.stops[0].stopped_by == "budget" and 2 <= timing.stops[0].blocks < 200
    late = [one.reason for one in timing.left_out]
    assert late and all("was not ready within" in reason for reason in late)
    assert any("limit_seconds" in reason for reason in late)
    assert {row.variant for row in timing.rows} | {one.row.variant for one in timing.left_out} == {
        one.name for one in slow
    }


# --- the default study on a GPU

ROWS = 31


def test_the_default_study_has_so_many_rows(tmp_path: Path):
    study, gpu = read_study(resolve(Path("params/joe.yaml"))), read_device(resolve(Path("params/gpu.yaml")))
    rows = plan_rows(study, gpu, StudyFolder(study, tmp_path), {}, "cuda")
    assert len(rows) == ROWS
    assert [row.variant for row in rows if row.mode == "buckets"] == [ORIGINAL, "fp32", "int8-mixed", "distilled"]
    assert [row.variant for row in rows if row.mode == "fp16-graphs"] == [ORIGINAL, "distilled"]


def test_rows_that_the_gpu_has_no_memory_for_are_left_out_and_never_opened(tmp_path: Path, monkeypatch):
    sleepers = [Sleeper(name, open_seconds=0.1) for name in (ORIGINAL, "a", "b", "c")]
    opened: list[str] = []

    def free() -> float:
        """Each row that has been opened took 1.5 GB of 6."""
        opened[:] = {one.row for one in noted(tmp_path) if one.what == "open"} if opened or log.exists() else []
        return 6000.0 - 1500.0 * len(opened)

    log = tmp_path / "log.jsonl"
    monkeypatch.setattr(opening, "free_memory_mb", free)
    timing = Watched(sleepy_plan(tmp_path, sleepers)).run()
    assert [row.variant for row in timing.rows] == [ORIGINAL, "a", "b"]
    (late,) = timing.left_out
    assert late.row.variant == "c" and "1500 MB of the GPU's memory were free" in late.reason
    assert "c" not in {one.row for one in noted(tmp_path)}
    monkeypatch.setattr(opening, "free_memory_mb", lambda: 100.0)
    with pytest.raises(MeasureError, match="original .* was not opened: 100 MB"):
        Watched(sleepy_plan(tmp_path, sleepers)).run()


def test_the_times_of_31_rows_fit_eight_minutes(tmp_path: Path):
    plan = default_plan(tmp_path, ROWS, scale=1.0)
    asked = plan.settings
    assert asked.limit_seconds == 480
    at_once = rows_at_once(plan.rows, cores=8, free_mb=64_000)
    needed = 15 * -(-ROWS // at_once)
    assert at_once == 4 and needed == 120
    most = opening_limit(ROWS, at_once, asked)
    assert needed + ROWS * 3 <= most <= 240, "there is time for each row's warm-up, 3 s, one after another"
    reserve = energy_reserve(plan) + BATCH_SECONDS
    for_blocks = 480 - needed - ROWS * 3 - reserve
    assert for_blocks > 50, "of the 120 s that blocks may take where energy takes less"
    # where opening takes all that it may, blocks have what is left beside batches and the fewest rounds of energy
    assert 480 - most - reserve > 15


# power and what holds the clock back: before, and in looks between the work of which one alone is held back
LOOKS = [(90, []), (300, []), (250, ["power limit"]), (100, [])]


def test_31_rows_are_opened_timed_and_their_energy_counted_within_the_limit(tmp_path: Path, monkeypatch):
    scale = 1 / 30  # 0.5 s in place of 15

    monkeypatch.setattr(energy, "find_counter", lambda *_: Counter())
    monkeypatch.setattr(energy, "ROUND_SECONDS", 1.0 * scale)
    monkeypatch.setattr(session, "measure_energy", partial(energy.measure_energy, round_seconds=1.0 * scale))
    looks = [GpuRecord(name="GPU", power_w=power, held_back=held) for power, held in LOOKS]
    monkeypatch.setattr(session, "look_at_gpu", lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    found = time_plan(default_plan(tmp_path, ROWS, scale))
    assert len(found.rows) == ROWS and not found.left_out
    before, at_work = found.system.gpu or (None, None)
    assert before is not None and before.power_w == 90 and before.held_back == []
    assert at_work is not None and at_work.power_w == 300 and at_work.held_back == ["power limit"]
    assert any("held back while timing (power limit)" in doubt.text for doubt in found.warnings)
    assert len(found.rows[0].seconds) >= 8
    (sitting,) = found.sittings
    assert sitting.opened_at_once == 4
    assert found.energy is not None and len(found.energy.rows) == ROWS
    assert len(found.energy.rows[0].joules) >= FEWEST_ROUNDS
    loads = [one for one in noted(tmp_path) if one.what == "open"]
    assert len(loads) == ROWS, "rows were opened once more for their energy"


def test_rounds_of_energy_fill_the_time_that_is_left():
    assert rounds_within(33, float("inf")) == ROUNDS and rounds_within(10, 300) == ROUNDS
    assert rounds_within(33, energy_seconds(33, 5)) == 4 and rounds_within(33, energy_seconds(33, 3)) == 0


def test_how_many_rows_open_at_once_depends_on_cores_and_memory(tmp_path: Path):
    rows = sleepy_plan(tmp_path, [Sleeper(str(number)) for number in range(20)]).rows
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(2_000_000_000)  # takes no room on the disk
    larger = (PlannedRow(variant="a", runtime="onnxruntime", threads=1, model=large, accelerator="cuda"), *rows)
    assert rows_at_once(rows, cores=64, free_mb=1e6) == MOST_AT_ONCE
    assert rows_at_once(rows, cores=4, free_mb=1e6) == 2 and rows_at_once(rows, cores=1, free_mb=1e6) == 1
    assert rows_at_once(rows, cores=64, free_mb=6100) == 3 and rows_at_once(larger, cores=64, free_mb=6100) == 1
    assert rows_at_once(rows[:2], cores=64, free_mb=1e6) == 2
    processor = [row.model_copy(update={"accelerator": None}) for row in rows]
    assert rows_at_once(processor, cores=64, free_mb=1e6) == 1, "load times would be disturbed"


def test_the_line_before_a_measurement_says_all_of_its_times():
    study = read_study(resolve(Path("params/joe.yaml")))
    cpu, gpu = (read_device(resolve(Path(f"params/{name}.yaml"))) for name in ("cpu", "gpu"))
    said = schedule(settings_for(study, gpu), gpu)
    assert all(
        part in said for part in ("at most 8 min in all", "at most 60 s for each row", "4 min together", "2 min")
    )
    said = schedule(settings_for(study, cpu), cpu)
    assert "5 min with opening" in said and "at most 60 s for each row" in said and "8 blocks" in said
