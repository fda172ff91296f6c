"""Voices spoken piece by piece are timed beside themselves spoken whole: here, and on a device that ssh reaches."""

import json
from pathlib import Path

import numpy as np
import pytest
from timed_study import CPU, add_variant, study_of

from ttsopt_lib.files import file_sha256
from ttsopt_lib.measure import timing
from ttsopt_lib.measure.plan import TimingPlan
from ttsopt_lib.measure.remote.bundle import collect
from ttsopt_lib.measure.runtimes.first_sound import FirstSound, Streamed
from ttsopt_lib.measure.scenarios.first_sound import FEWEST, FIXED_SECONDS, measure_first_sound
from ttsopt_lib.measure.timing import current_measurement, measure_device
from ttsopt_lib.optimize.build import build_study
from ttsopt_lib.own_voice import study_on
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.study import ORIGINAL
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.voices.stream import write_streaming

STUDY = study_of("fp32", budget_seconds=4, warmup_passes=1, min_blocks=2, max_blocks=2, first_sound=[ORIGINAL, "fp32"])


@pytest.fixture
def folder(plain_voice: Path, tmp_path: Path) -> StudyFolder:
    """A study of one voice and a copy of it, with the halves for streaming of both."""
    folder = StudyFolder(STUDY, tmp_path / "reports")
    for name in (ORIGINAL, "fp32"):
        add_variant(folder, name, plain_voice, Path(f"{plain_voice}.json"))
        halves = folder.variant(name) / "streaming"
        write_streaming(open_piper(plain_voice), halves)
        record = read_record(folder.variant_record(name), VariantRecord, "optimize")
        record.files |= {f"streaming/{path.name}": file_sha256(path) for path in halves.iterdir()}
        write_record(folder.variant_record(name), record)
    return folder


def check_record(record) -> None:
    found = record.first_sound
    assert found is not None and found.threads == 1
    assert [(text.length_class, text.sentences) for text in found.texts] == [
        *(("one_word", 1), ("short", 1)),
        ("paragraph", 2),
    ]
    wanted = [(name, seconds) for name in (ORIGINAL, "fp32") for seconds in (None, *FIXED_SECONDS)]
    assert [(row.variant, row.piece_seconds) for row in found.rows] == wanted
    for row in found.rows:
        first, whole = np.array(row.first_seconds), np.array(row.streamed_seconds)
        assert len(first) >= FEWEST and first.shape == whole.shape == (len(first), len(row.texts))
        assert (first > 0).all() and (first <= whole).all()
        assert row.texts == ([1] if row.piece_seconds else [0, 1, 2]), "pieces of one length: the longest sentence"
        assert row.whole_texts == ([1] if row.piece_seconds else [0, 1]), "the paragraph is never spoken whole"
        assert np.array(row.whole_seconds).shape == (len(first), len(row.whole_texts))


@pytest.mark.slow
def test_every_text_is_timed_whole_and_in_pieces_in_every_block(folder):
    record = measure_device(STUDY, CPU, folder, progress=False)
    check_record(record)
    assert record.first_sound and np.array(record.first_sound.ids_seconds).shape == (
        len(record.first_sound.rows[0].first_seconds),
        3,
    )
    assert current_measurement(STUDY, CPU, folder) == record
    less = STUDY.model_copy(update={"measure": STUDY.measure.model_copy(update={"first_sound": ()})})
    assert current_measurement(less, CPU, folder) is None


@pytest.mark.slow
def test_a_device_over_ssh_times_them_too(folder, loopback):
    record = measure_device(STUDY, loopback.device(), folder, progress=False)
    check_record(record)
    assert record.first_sound and record.first_sound.ids_seconds == [], "no phonemizer is sent"


@pytest.mark.slow
def test_a_first_look_and_an_accelerator_time_no_first_sound(folder, monkeypatch):
    first = STUDY.model_copy(update={"stage": "first_look"})
    variants = timing.read_variants(STUDY, folder)

    def plan(study, accelerator=None):
        found = timing.Probe(accelerator=accelerator)
        return timing._plan(study, CPU, folder, variants, [], found)[0]

    assert [one.variant for one in plan(STUDY).streams] == [ORIGINAL, "fp32"] and len(plan(STUDY).texts) == 3
    assert plan(STUDY).settings.budget_seconds < STUDY.measure.budget_seconds == plan(first).settings.budget_seconds
    assert plan(first).streams == plan(STUDY, "cuda").streams == ()
    assert measure_first_sound(plan(first), lambda done, total: None) is None


def test_what_is_sent_has_both_halves_and_nothing_of_this_machine(folder):
    variants = timing.read_variants(STUDY, folder)
    plan = timing._plan(STUDY, CPU, folder, variants, [], timing.Probe())[0]
    bundle = collect(plan, CPU)
    assert isinstance(bundle.job.plan, TimingPlan)
    streams = bundle.job.plan.streams
    assert {str(path) for one in streams for path in (one.model, one.encoder, one.decoder)} == set(bundle.voices)
    assert len(bundle.voices) == 3, "equal files are sent once"
    assert str(folder.path) not in json.dumps(bundle.job.model_dump(mode="json"))


def test_the_lead_is_what_a_player_has_left_at_its_tightest_moment(monkeypatch):
    class Voice(Streamed):
        def __init__(self, *_):
            pass

        def pieces(self, text, seconds):  # 0.1 s of audio after 0.02 s, 0.2 after 0.09 (0.03 left), 0.4 after 0.35
            return [0.02, 0.09, 0.35], [0.1, 0.2, 0.4]

    monkeypatch.setattr("ttsopt_lib.measure.runtimes.first_sound.Streamed", Voice)
    request = {"streams": [None], "texts": [{"text": "a", "sentences": [[1, 2]]}]}
    request |= {"scales": [], "speaker": None, "phonemizer": None}
    timed = FirstSound(request).time(0, 0, None, False)
    assert timed == {"seconds": 0.35, "first": 0.02, "lead": pytest.approx(0.02 + 0.3 - 0.35)}
    assert not FirstSound(request).phonemizes


@pytest.mark.slow
def test_a_voice_that_cannot_be_streamed_is_made_all_the_same_and_says_why(plain_voice, tmp_path):
    """Its ranges are found anew in every run, so that every sample depends on the whole sentence."""
    path = resolve(Path("params/joe.yaml"))
    study = study_on(plain_voice, read_study(path), path).study
    dynamic = study.variant("int8-dynamic")
    step = dynamic.recipe[0].model_copy(update={"operators": ("MatMul", "Conv")})
    dynamic = dynamic.model_copy(update={"recipe": (step,)})
    measure = study.measure.model_copy(update={"first_sound": ("int8-dynamic",)})
    study = study.model_copy(update={"variants": (dynamic,), "measure": measure})
    folder = StudyFolder(study, tmp_path)
    _, record = build_study(study, folder, processes=1)
    assert "cannot be streamed" in record.not_streamed and not (folder.variant("int8-dynamic") / "streaming").exists()
    assert timing.plan_streams(study, CPU, folder, {"int8-dynamic": record}) == ()


@pytest.mark.slow
def test_a_half_that_the_runtime_refuses_leaves_the_voice(plain_voice, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeFailure("ONNX Runtime cannot load it: no kernel")

    monkeypatch.setattr("ttsopt_lib.voices.stream.write_streaming", refuse)
    path = resolve(Path("params/joe.yaml"))
    study = study_on(plain_voice, read_study(path), path).study
    measure = study.measure.model_copy(update={"first_sound": ("original",)})
    study = study.model_copy(update={"variants": (), "measure": measure})
    (record,) = build_study(study, StudyFolder(study, tmp_path), processes=1)
    assert record.not_streamed == "ONNX Runtime cannot load it: no kernel"
