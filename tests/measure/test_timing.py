"""A whole measurement of the real voice, and what it finds about copies and about a known amount of extra work."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timed_study import CPU, add_variant, study_of, timed_row

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure import timing
from ttsopt_lib.measure.blocks import _reason_to_stop, mirrored_visits
from ttsopt_lib.measure.calibrated_load import voice_with_work, work_alone
from ttsopt_lib.measure.plan import PlannedRow, plan_rows
from ttsopt_lib.measure.timing import current_measurement, measure_device, read_variants
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord, TimingRow
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.statistics.intervals import reduction
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, MeasureSettings

MULTIPLICATIONS = 60
TWO = CPU.model_copy(update={"threads": (1, 2)})
STUDY = study_of(
    "extra-work",
    "work-alone",
    budget_seconds=20,
    warmup_passes=1,
    min_blocks=12,
    max_blocks=30,
    pytorch=["original"],
)


@pytest.fixture(scope="module")
def folder(joe: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The real voice, the same with matrix products on top, and the products alone."""
    folder = StudyFolder(STUDY, tmp_path_factory.mktemp("reports"))
    config = Path(f"{joe}.json")
    add_variant(folder, "original", joe, config)
    add_variant(folder, "extra-work", voice_with_work(joe, MULTIPLICATIONS), config)
    add_variant(folder, "work-alone", work_alone(MULTIPLICATIONS), config)
    return folder


@pytest.fixture(scope="module")
def measured(folder: StudyFolder) -> DeviceRecord:
    def planned(*arguments: Any) -> tuple[PlannedRow, ...]:
        rows = plan_rows(*arguments)
        return tuple(row.model_copy(update={"speaks": row.variant != "work-alone"}) for row in rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "plan_rows", planned)
        return measure_device(STUDY, CPU, folder, progress=False)


def row(record: DeviceRecord, variant: str, runtime: str = "onnxruntime") -> TimingRow:
    return next(row for row in record.rows if (row.variant, row.runtime) == (variant, runtime))


@pytest.mark.slow
def test_the_same_file_timed_twice_is_found_equal(measured: DeviceRecord):
    value, (low, high) = reduction(row(measured, ORIGINAL_COPY), row(measured, ORIGINAL))
    # One interval in twenty misses by right: two points more keep the test honest without making it a lottery.
    assert low - 0.02 <= 0 <= high + 0.02, f"{value:.3f} [{low:.3f}, {high:.3f}]"


@pytest.mark.slow
def test_a_voice_with_extra_work_is_found_slower_by_what_the_work_takes_alone(measured: DeviceRecord):
    baseline = row(measured, ORIGINAL)
    value, (low, high) = reduction(row(measured, "extra-work"), baseline)
    work, voice = (np.median(np.sum(row(measured, name).seconds, axis=1)) for name in ("work-alone", ORIGINAL))
    assert work > 0.1 * voice, "the extra work is too little to test anything"
    assert high < 0
    assert low - 0.08 <= -work / voice <= high + 0.08, f"{value:.3f} [{low:.3f}, {high:.3f}], truth {-work / voice:.3f}"


@pytest.mark.slow
def test_raw_samples_are_kept_for_every_block_and_sentence(measured: DeviceRecord):
    blocks = {len(row.seconds) for row in measured.rows}
    assert len(blocks) == 1 and 12 <= blocks.pop() <= 30
    for one in measured.rows:
        assert np.shape(one.seconds) == np.shape(one.audio_seconds) == (len(one.seconds), 2)
        assert np.min(one.seconds) > 0
    audio = np.array(row(measured, ORIGINAL).audio_seconds)
    assert (audio == audio[0]).all() and audio[0, 1] > audio[0, 0] > 0.2, "durations are not the same in every block"
    assert [one.length_class for one in measured.sentences] == ["one_word", "short"]
    assert measured.scales[2] == 0


@pytest.mark.slow
def test_pytorch_is_a_row_of_its_own(measured: DeviceRecord):
    torch_row = row(measured, ORIGINAL, "pytorch")
    assert torch_row.audio_seconds[0] == pytest.approx(row(measured, ORIGINAL).audio_seconds[0], rel=0.05)


@pytest.mark.slow
def test_memory_and_load_time_are_the_workers_own(measured: DeviceRecord):
    voice, work = row(measured, ORIGINAL), row(measured, "work-alone")
    assert voice.peak_memory_mb and voice.idle_memory_mb and work.peak_memory_mb
    assert voice.peak_memory_mb > voice.idle_memory_mb + 63, "the voice alone is a 63 MB file"
    assert work.peak_memory_mb < voice.peak_memory_mb - 63, "a worker without the voice cannot need as much"
    assert len(voice.load_seconds) == 3 and min(voice.load_seconds) > 0


@pytest.mark.slow
def test_record_says_why_it_stopped_and_where_it_was_made(measured: DeviceRecord, folder: StudyFolder):
    assert measured.status == "measured" and measured.stopped_by in ("interval", "budget", "max_blocks")
    assert measured.system is not None and measured.system.packages["onnxruntime"]
    assert measured.elapsed_seconds > 0
    assert any("too few for a 95th percentile" in doubt.text for doubt in measured.warnings) == (
        len(measured.rows[0].seconds) < 20
    )
    assert [(stop.threads, stop.stopped_by) for stop in measured.stops] == [(1, measured.stopped_by)]
    assert measured.stops[0].blocks == len(measured.rows[0].seconds)
    (sitting,) = measured.sittings
    assert sitting.blocks == measured.stops[0].blocks and sitting.ended is not None
    assert read_record(folder.device_record("cpu"), DeviceRecord, "measure") == measured


@pytest.mark.slow
def test_unchanged_measurement_is_not_repeated(measured: DeviceRecord, folder: StudyFolder):
    assert current_measurement(STUDY, CPU, folder) == measured
    assert measure_device(STUDY, CPU, folder, progress=False) == measured
    changed = study_of("extra-work", "work-alone", budget_seconds=21)
    assert current_measurement(changed, CPU, folder) is None
    assert current_measurement(STUDY, TWO, folder) is None


@pytest.mark.parametrize(
    "blocks, fits, reason",
    [
        (6, True, None),
        (6, False, None),
        (8, False, "budget"),
        (28, True, None),
        (30, True, "interval"),
        (60, True, "max_blocks"),
    ],
)
def test_narrow_intervals_end_the_timing_after_30_blocks_and_the_budget_after_the_least(blocks, fits, reason):
    seconds = [[1.0 + 0.001 * (block % 3)] for block in range(blocks)]
    rows = [timed_row(name, seconds) for name in (ORIGINAL, ORIGINAL_COPY)]
    assert _reason_to_stop(rows, blocks, fits, MeasureSettings()) == reason


def test_second_block_of_a_pair_makes_the_same_visits_backwards():
    random = np.random.default_rng(0)
    pairs = [mirrored_visits(7, 4, random) for _ in range(20)]
    everything = sorted((row, sentence) for row in range(7) for sentence in range(4))
    assert all(sorted(forward) == everything and backward == forward[::-1] for forward, backward in pairs)
    assert len({tuple(forward) for forward, _ in pairs}) == 20


@pytest.mark.slow
def test_later_thread_counts_have_the_variants_that_the_study_names(folder: StudyFolder):
    study = study_of("extra-work", "work-alone", more_threads=["work-alone"], pytorch=["original"])
    rows = plan_rows(study, TWO, folder, read_variants(study, folder))
    with_two = [row.variant for row in rows if row.threads == 2]
    assert with_two == [ORIGINAL, "work-alone", ORIGINAL_COPY]
    assert [row.variant for row in rows if row.threads == 1 and row.runtime == "onnxruntime"] == [
        ORIGINAL,
        "extra-work",
        "work-alone",
        ORIGINAL_COPY,
    ]
    with pytest.raises(StudyError, match="measure.more_threads: 'nothing' is not a variant"):
        study_of("extra-work", more_threads=["nothing"])
