"""Several sentences at once: the same speech as alone, audio without padding, and what fails leaves the rest."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sleepers import Sleeper, noted, sleepy_plan
from stand_ins import Actor, Counter
from timed_study import CPU, plan_of, rows_of, study_of

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure import opening, session
from ttsopt_lib.measure.machine import energy
from ttsopt_lib.measure.plan import PlannedBatches, PlannedRow, TimingPlan
from ttsopt_lib.measure.process import Worker
from ttsopt_lib.measure.runtimes import batches as spoken_at_once
from ttsopt_lib.measure.runtimes.batches import batch_feeds
from ttsopt_lib.measure.runtimes.torch_runtime import open_pytorch
from ttsopt_lib.measure.scenarios import batches as batches_of
from ttsopt_lib.measure.scenarios.batches import (
    FEWEST_PAIRS,
    NO_TIME,
    SECONDS,
    batch_reserve,
    batch_rows,
    measure_batches,
    plan_batches,
)
from ttsopt_lib.measure.session import time_plan
from ttsopt_lib.measure.timing import device_key, measure_device
from ttsopt_lib.params import check, read_device, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import BatchRow, DeviceRecord
from ttsopt_lib.study import ORIGINAL, Device, Study
from ttsopt_lib.voices.adapters.opening import open_model

STUDY = study_of("fp32", budget_seconds=1, min_blocks=2, max_blocks=2)
WORD = [1, 5, 0, 6, 0, 7, 0, 2]
SENTENCES = [np.array(WORD * times, dtype=np.int64) for times in (2, 3, 5)]
SILENT = [0.0, 1.0, 0.0]  # without noise a voice speaks the same samples every time


def batched(rows: tuple[PlannedRow, ...], sizes: tuple[int, ...], speaker: int | None = None) -> TimingPlan:
    """A plan of rows that speak the three sentences at once."""
    spoken = tuple(tuple(ids.tolist()) for ids in SENTENCES)
    names = tuple(row.variant for row in rows)
    batches = PlannedBatches(sizes=sizes, variants=names, sentences=spoken)
    return plan_of(rows, speaker=speaker).model_copy(update={"batches": batches})


def with_batches(**keys: object) -> Device:
    return check(Device, {"name": "cpu", "label": "CPU", "kind": "cpu", **keys}, "cpu")


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that takes as long as its fewest rounds."""
    monkeypatch.setattr(batches_of, "SECONDS", 1.5)
    monkeypatch.setattr(batches_of, "VISIT_SECONDS", 0.02)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until a test moves it."""
    told = SimpleNamespace(now=0.0)
    for module in (batches_of, spoken_at_once):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: told.now, perf_counter=lambda: told.now))
    return told


# --- what is spoken


@pytest.mark.parametrize(
    ("name", "own", "speaker"), [("plain", False, None), ("speakers", False, 2), ("speakers", True, 2)]
)
def test_a_sentence_in_a_batch_is_the_same_as_alone_in_both_runtimes(
    name: str, own: bool, speaker: int | None, random_voice: Callable[[str], Path], exported: Callable[[str], Path]
):
    path = random_voice(name)
    session: Any = onnxruntime.InferenceSession(str(exported(name) if own else path))
    row = PlannedRow(variant=ORIGINAL, runtime="pytorch", threads=1, model=path).model_dump(mode="json")
    for speak in (lambda feeds: session.run(None, feeds)[0], open_pytorch(row, SILENT, speaker)):
        alone = [np.ravel(speak(batch_feeds([ids], SILENT, speaker))) for ids in SENTENCES]
        together = np.asarray(speak(batch_feeds(SENTENCES, SILENT, speaker))).reshape(len(SENTENCES), -1)
        assert together.shape[1] == alone[-1].size, "a batch is as long as its longest sentence"
        for spoken, row_of_batch in zip(alone, together, strict=True):
            seen = spoken.size - 2048  # behind it the end of the sentence is in the field of view
            np.testing.assert_allclose(row_of_batch[:seen], spoken[:seen], atol=1e-5)
        np.testing.assert_allclose(together[-1], alone[-1], atol=1e-5, err_msg="the longest has no padding")
    if speaker is not None:
        other = np.ravel(session.run(None, batch_feeds(SENTENCES[-1:], SILENT, 0))[0])
        assert other.size != alone[-1].size or not np.allclose(other, alone[-1], atol=1e-3), "somebody else spoke"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_audio_counts_the_sentences_and_not_what_fills_them_up(runtime, plain_voice: Path):
    (row,) = rows_of(plain_voice, ORIGINAL)
    plan = batched((row.model_copy(update={"runtime": runtime}),), (1, 3))
    with Worker(plan.rows[0]) as worker:
        worker.load(plan)
        assert worker.open_batches(plan)["seconds"] > 0
        one, three = worker.speak_batches(1, 0.0), worker.speak_batches(3, 0.0)
    session: Any = onnxruntime.InferenceSession(str(plain_voice))
    feeds = [batch_feeds([ids], plan.scales, None) for ids in SENTENCES]
    lengths = [np.size(session.run(None, one)[0]) for one in feeds]
    for spoken in (one, three):
        assert spoken["audio_seconds"] == pytest.approx(sum(lengths) / plan.sample_rate)
    assert one["padding"] == 0 and three["padding"] == pytest.approx(1 - sum(lengths) / (3 * max(lengths)))


def test_all_sentences_are_spoken_until_the_seconds_are_over_and_at_least_once(clock: SimpleNamespace):
    def speak(feeds: dict[str, np.ndarray]) -> np.ndarray:
        clock.now += 0.1
        return np.ones((len(feeds["input"]), 2205), np.float32)

    row = {"runtime": "onnxruntime", "accelerator": None}
    request = {"sentences": [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]], "scales": SILENT, "speaker": None}
    batches = spoken_at_once.Batches(speak, request, 22050, np.size, row)
    assert batches.alone_seconds == pytest.approx(0.4)
    for size, seconds, passes in ((1, 0.0, 1), (2, 0.19, 1), (2, 0.21, 2), (4, 0.25, 3)):
        spoken = batches.speak(size, seconds)
        assert spoken["seconds"] == pytest.approx(passes * 0.4 / size)
        assert spoken["audio_seconds"] == pytest.approx(passes * 4 * 0.1) and spoken["padding"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_short")
def test_a_graph_for_one_sentence_is_left_out_at_the_other_sizes_and_the_rest_goes_on(
    quick_voice: Path, plain_voice: Path
):
    rows = (*rows_of(quick_voice, "fixed"), *rows_of(plain_voice, ORIGINAL), *rows_of(Path("nowhere.onnx"), "missing"))
    steps = []
    found = measure_batches(batched(rows, (1, 2, 9)), lambda done, total: steps.append((done, total)))
    by_place = {(row.variant, row.batch_size): row for row in found}
    measured = [place for place, row in by_place.items() if row.seconds]
    assert measured == [("fixed", 1), (ORIGINAL, 1), (ORIGINAL, 2)]
    for place in measured:
        row = by_place[place]
        assert row.reason is None and len(row.seconds) == len(row.audio_seconds) >= 2 * FEWEST_PAIRS
    assert "invalid dimensions for input: input" in (by_place["fixed", 2].reason or "")
    assert by_place[ORIGINAL, 9].reason == "the study has 3 evaluation sentences"
    assert "nowhere.onnx" in (by_place["missing", 1].reason or "")
    assert steps[-1][0] == steps[-1][1] and steps == sorted(steps)


def test_without_time_nothing_is_measured_and_the_reason_says_so(quick_voice: Path):
    plan = batched(rows_of(quick_voice), (1,))
    found = measure_batches(plan, end=time.monotonic())
    assert [(row.seconds, row.reason) for row in found] == [([], NO_TIME)] * 2
    looked = plan.model_copy(update={"only_timing": True})
    assert measure_batches(looked) == [] and batch_reserve(looked) == 0 and batch_reserve(plan) == SECONDS
    assert measure_batches(plan_of(rows_of(quick_voice))) == []


# --- an accelerator's rows, as far as a machine without one goes


@pytest.fixture
def _sleepy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "module", "sleepy_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setattr(opening, "usable_cores", lambda: 8)
    monkeypatch.setattr(energy, "find_counter", lambda *_: Counter())
    monkeypatch.setattr(session, "measure_energy", partial(energy.measure_energy, round_seconds=0.01))


@pytest.mark.slow
@pytest.mark.usefixtures("_sleepy", "_short")
def test_an_accelerators_rows_stay_open_for_it_and_one_that_dies_or_hangs_leaves_the_others_theirs(tmp_path: Path):
    sleepers = [
        Sleeper(ORIGINAL), Sleeper("good"), Sleeper("dies", dies_at="batches of 2"),
        Sleeper("hangs", hangs_at="batches of 2"), Sleeper("other"),
    ]  # fmt: skip
    plan = sleepy_plan(tmp_path, sleepers, limit_seconds=60, max_blocks=4, opening_seconds=10)
    names = tuple(one.name for one in sleepers[:-1])
    batches = PlannedBatches(sizes=(1, 2), variants=names, sentences=((1,), (1, 2)))
    found = time_plan(plan.model_copy(update={"batches": batches}))
    opened = [one.row for one in noted(tmp_path) if one.what == "open"]
    assert sorted(opened) == sorted(one.name for one in sleepers), "rows were opened once more"
    assert "other" not in {one.row for one in noted(tmp_path) if one.what == "alone"}
    assert found.energy is not None and len(found.energy.rows) == 5
    reasons = {(row.variant, row.batch_size): row.reason for row in found.batches}
    assert list(reasons) == [(name, size) for name in names for size in (1, 2)]
    assert "it fell over" in (reasons["dies", 1] or "") and reasons["dies", 1] == reasons["dies", 2]
    assert "gave no answer" in (reasons["hangs", 2] or "")
    rounds = {row.variant: len(row.seconds) for row in found.batches if row.reason is None}
    assert set(rounds) == {ORIGINAL, "good"} and min(rounds.values()) >= 2 * FEWEST_PAIRS


class Paced(Actor):
    """A worker that takes so many seconds of an invented clock for anything that it speaks."""

    is_open = True

    def __init__(self, row: PlannedRow, clock: SimpleNamespace, seconds: float, new_shapes: float = 0.0):
        super().__init__(row)
        self._clock, self._seconds, self._new_shapes = clock, seconds, new_shapes

    def open_batches(self, plan: TimingPlan) -> dict[str, float]:
        self._clock.now += self._new_shapes
        return {"seconds": self.speak_batches(1, 0.0)["seconds"]}

    def speak_batches(self, size: int, seconds: float) -> dict[str, float]:
        spent = max(self._seconds, seconds)
        self._clock.now += spent
        return {"seconds": spent, "audio_seconds": 1.0, "padding": 0.1}


def paced(
    clock: SimpleNamespace, end: float, accelerator: str | None, new_shapes: float = 0.0, **seconds: float
) -> list[BatchRow]:
    """What rows of that speed leave behind, at sizes 1 and 2, measured on the invented clock until `end`.

    The shapes that are new to the original take `new_shapes` seconds.
    """
    rows = [row.model_copy(update={"accelerator": accelerator}) for row in rows_of(Path("no.onnx"), *seconds)]
    workers = [Paced(row, clock, seconds[row.variant], new_shapes * (row.variant == ORIGINAL)) for row in rows]
    plan = batched(tuple(worker.row for worker in workers), (1, 2))
    return measure_batches(plan, opened=lambda _: workers, end=end)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize(
    ("end", "rounds"),
    [(1.19, 0), (1.21, 2), (1.99, 2), (2.01, 4), (2.79, 4), (60.0, 2 * FEWEST_PAIRS)],
)
def test_the_limit_ends_it_and_whole_rounds_are_kept(end: float, rounds: int, clock: SimpleNamespace):
    found = paced(clock, end, None, original=0.1, other=0.1)
    # what comes before the rounds takes 0.4 s, and a pair of them 0.8
    assert clock.now <= end and {len(row.seconds) for row in found} == {rounds}
    assert {row.reason for row in found} == ({None} if rounds else {NO_TIME})


@pytest.mark.usefixtures("_short")
def test_a_slow_row_does_not_take_the_others_time(clock: SimpleNamespace):
    found = paced(clock, 5.0, "cuda", original=0.002, slow=1.0, good=0.002)
    assert clock.now <= 5
    reasons = {(row.variant, row.batch_size): row.reason for row in found}
    assert all(reasons[name, size] is None for name in (ORIGINAL, "good") for size in (1, 2))
    assert NO_TIME in (reasons["slow", 1], reasons["slow", 2])


@pytest.mark.usefixtures("_short")
def test_on_an_accelerator_the_original_has_the_time_that_its_new_shapes_take(clock: SimpleNamespace):
    found = paced(clock, 30.0, "cuda", new_shapes=11.0, original=0.002, **{f"v{n}": 0.002 for n in range(7)})
    assert clock.now <= 30 and not [row.reason for row in found if row.reason]


def test_on_an_accelerator_pytorch_speaks_in_its_plain_modes_and_no_peer_or_copy_takes_part(tmp_path: Path):
    (plain,) = rows_of(tmp_path / "voice.onnx", ORIGINAL)
    torch_row = plain.model_copy(update={"runtime": "pytorch", "accelerator": "cuda"})
    rows = [
        plain, plain.model_copy(update={"variant": "original-copy"}), plain.model_copy(update={"variant": "ort-fp16"}),
        plain.model_copy(update={"threads": 2}), plain.model_copy(update={"variant": "int8"}),
        *(torch_row.model_copy(update={"mode": mode}) for mode in ("fp32", "fp16", "fp16-graphs", "fp16-compiled")),
        plain.model_copy(update={"runtime": "pytorch"}),
    ]  # fmt: skip
    batches = PlannedBatches(sizes=(1,), variants=(ORIGINAL, "fp32"))
    plan = plan_of(rows).model_copy(update={"batches": batches})
    assert [(row.runtime, row.mode) for row in batch_rows(plan)] == [
        ("onnxruntime", "fp32"), ("pytorch", "fp32"), ("pytorch", "fp16"),
    ]  # fmt: skip


# --- what is asked for, and the record


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_sizes": [8, 8]}, "same number twice"),
        ({"batch_sizes": [0]}, "batch_sizes"),
        ({"batch_sizes": [1], "kind": "browser"}, "not for kind: browser"),
        ({"batch_sizes": [1], "runner": "ssh", "host": "pi"}, "only for runner: local"),
    ],
)
def test_sizes_that_cannot_be_measured_are_refused(keys: dict, message: str):
    with pytest.raises(StudyError, match=message):
        with_batches(**keys)


def test_the_devices_that_come_along_ask_for_batches_on_a_gpu_alone():
    sizes = {
        path.stem: read_device(path).batch_sizes for path in (Path("params") / f"{n}.yaml" for n in ("cpu", "gpu"))
    }
    assert sizes == {"cpu": (), "gpu": (1, 8, 32)}


def test_the_first_evaluation_sentences_are_spoken_the_shortest_first_by_the_variants_of_more_threads(joe: Path):
    study, voice = read_study(resolve(Path("params/joe.yaml"))), open_model(joe)
    plan = plan_batches(study, with_batches(batch_sizes=[1, 8]), voice)
    assert plan is not None and plan.sizes == (1, 8) and plan.reason is None
    assert plan.variants == (ORIGINAL, "fp32", "int8-mixed", "distilled")
    lengths = [len(ids) for ids in plan.sentences]
    assert len(lengths) == 32 and lengths == sorted(lengths) and len(set(plan.sentences)) == 32
    larger = plan_batches(study, with_batches(batch_sizes=[64]), voice)
    assert larger is not None and len(larger.sentences) == 64
    assert plan_batches(study, with_batches(), voice) is None


def test_another_kind_of_model_is_left_out_with_the_reason(quick_voice: Path):
    class Declared:
        is_vits, kind = False, "a declared model"

    study = read_study(resolve(Path("params/joe.yaml")))
    asked = plan_batches(study, with_batches(batch_sizes=[1, 8]), Declared())  # type: ignore[arg-type]
    plan = plan_of(rows_of(quick_voice)).model_copy(update={"batches": asked})
    found = measure_batches(plan)
    assert len(found) == 4 and batch_reserve(plan) == 0
    assert all("a declared model" in (row.reason or "") and not row.seconds for row in found)


def study_with_texts(folder: Path) -> Study:
    texts = folder / "texts.txt"
    texts.write_text("Yes.\nThe door is open.\nNo.\n")
    evaluation = STUDY.sentences.evaluation.model_copy(update={"file": texts, "count": 3})
    return STUDY.model_copy(update={"sentences": STUDY.sentences.model_copy(update={"evaluation": evaluation})})


def test_a_key_follows_the_sizes_and_the_sentences_of_batches_alone(tmp_path: Path):
    study = study_with_texts(tmp_path)
    sized = with_batches(batch_sizes=[1, 2])
    plain, one = device_key(study, CPU, {}), device_key(study, sized, {})
    assert plain == device_key(study, with_batches(), {}) != one
    assert one != device_key(study, with_batches(batch_sizes=[1]), {})
    (tmp_path / "texts.txt").write_text("Yes.\nThe door is shut.\nNo.\n")
    assert plain == device_key(study, CPU, {}) and one != device_key(study, sized, {})


@pytest.mark.slow
@pytest.mark.usefixtures("_short")
def test_the_record_on_file_has_the_samples_and_an_older_one_has_none(folder, tmp_path: Path):
    study = study_with_texts(tmp_path)
    record = measure_device(study, with_batches(batch_sizes=[1, 2]), folder, progress=False)
    assert read_record(folder.device_record("cpu"), DeviceRecord, "measure") == record
    by_place = {(row.variant, row.batch_size): row for row in record.batches}
    assert list(by_place) == [(ORIGINAL, 1), (ORIGINAL, 2), ("fp32", 1), ("fp32", 2)]
    assert len(by_place["fp32", 1].seconds) >= 2 * FEWEST_PAIRS and by_place["fp32", 1].sentences == 3
    assert by_place["fp32", 2].reason and not by_place["fp32", 2].seconds, "this graph takes one sentence"
    older = record.model_dump(mode="json")
    del older["batches"]
    assert DeviceRecord.model_validate(older).batches == []
    older["batches"] = [record.batches[0].model_dump() | {"audio_seconds": [1.0]}]
    with pytest.raises(ValueError, match="audio_seconds"):
        DeviceRecord.model_validate(older)
