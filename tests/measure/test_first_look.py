"""The first look: fewer blocks and sentences, of which the complete run wastes none."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from timed_study import CPU, study_of

from ttsopt_lib import cli
from ttsopt_lib.evaluate import quality
from ttsopt_lib.first_look import JUDGED, SENTENCES, SHARE, first_look, first_look_device
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.timing import current_measurement, measure_device
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.pipeline import Pipeline
from ttsopt_lib.study import ORIGINAL, Study

STUDY = study_of("fp32", budget_seconds=5, min_blocks=4, max_blocks=4, enough_blocks=4, warmup_passes=1)


def test_a_first_look_asks_for_fewer_sentences_and_blocks_of_the_same_variants():
    study = read_study(resolve(Path("params/joe.yaml")))
    quick = first_look(study)
    assert quick.stage == "first_look" and study.stage == "complete"
    assert quick.variant_names == study.variant_names and quick.targets == study.targets
    for asked, of in (
        (quick.sentences.evaluation, study.sentences.evaluation),
        (quick.sentences.confirmation, study.sentences.confirmation),
    ):
        assert asked and of and (asked.file, asked.start, asked.count) == (of.file, of.start, JUDGED)
    assert quick.few_sentences == SENTENCES and quick.evaluate == study.evaluate, "what is scored is used again"
    assert quick.measure.budget_seconds == SHARE * study.measure.budget_seconds
    assert Study.model_validate(quick.model_dump(mode="json")) == quick  # as the notebooks read it
    slow = CPU.model_copy(update={"budget_seconds": 2400.0})
    assert first_look_device(slow).budget_seconds == SHARE * 2400 and first_look_device(CPU) == CPU
    assert first_look_device(CPU.model_copy(update={"threads": (2, 1)})).threads == (2,)


def test_a_small_study_is_not_made_larger():
    study = study_of("fp32")
    few = study.sentences.evaluation.model_copy(update={"count": 4})
    quick = first_look(study.model_copy(update={"sentences": study.sentences.model_copy(update={"evaluation": few})}))
    assert quick.sentences.evaluation.count == 4 and quick.sentences.confirmation is None
    assert quick.few_sentences is None


@pytest.mark.slow
def test_the_complete_measurement_goes_on_after_the_blocks_of_the_first_look(folder):
    looked = measure_device(first_look(STUDY), CPU, folder, progress=False)
    assert looked.stage == "first_look" and current_measurement(STUDY, CPU, folder) is None
    more = STUDY.model_copy(update={"measure": STUDY.measure.model_copy(update={"max_blocks": 8, "min_blocks": 8})})
    complete = measure_device(more, CPU, folder, progress=False)
    assert complete.stage == "complete" and current_measurement(more, CPU, folder) == complete
    for before, after in zip(looked.rows, complete.rows, strict=True):
        assert before.variant == after.variant
        assert len(before.seconds) == 4 and len(after.seconds) == 8 and after.seconds[:4] == before.seconds
    assert looked.profiles == [] and [one.variant for one in complete.profiles] == [ORIGINAL, "fp32"]
    assert looked.energy is not None and looked.energy.reason
    assert [sitting.first_look for sitting in complete.sittings] == [True, False]
    assert not [warning for warning in complete.warnings if "interrupted" in warning.text]
    assert not folder.unfinished("cpu").exists()


@pytest.mark.slow
def test_more_threads_are_timed_by_the_complete_measurement_alone(folder):
    device = CPU.model_copy(update={"threads": (1, 2)})
    looked = measure_device(first_look(STUDY), first_look_device(device), folder, progress=False)
    complete = measure_device(STUDY, device, folder, progress=False)
    assert {row.threads for row in looked.rows} == {1} and {row.threads for row in complete.rows} == {1, 2}
    assert complete.rows[0].seconds[:4] == looked.rows[0].seconds


@pytest.mark.slow
def test_an_interrupted_complete_run_keeps_the_blocks_of_the_first_look(folder, monkeypatch):
    looked = measure_device(first_look(STUDY), CPU, folder, progress=False)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            measure_device(STUDY, CPU, folder, progress=False)
    assert folder.unfinished("cpu").exists()
    complete = measure_device(STUDY, CPU, folder, progress=False)
    assert complete.rows[0].seconds[:4] == looked.rows[0].seconds
    assert sum(not sitting.first_look for sitting in complete.sittings) == 1


def test_a_journal_that_was_reopened_has_everything_but_the_reasons_to_stop(folder, tmp_path):
    measure_device(first_look(STUDY), CPU, folder, progress=False)
    (path,) = folder.unfinished("cpu").glob("*.jsonl")
    journal = Journal(path)
    assert len(journal.pairs) == 2 and [pair.stopped_by for pair in journal.pairs] == [None, None]
    assert len(journal.sittings) == 1 and journal.sittings[0].first_look


def test_quick_and_full_exclude_each_other(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ttsopt", "run", "--quick", "--full"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    errors = capsys.readouterr().err
    assert "--quick" in errors and "--full" in errors and len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(("sentences", "alone", "made"), [(50, False, True), (4, False, False), (4, True, True)])
def test_where_the_complete_report_is_as_near_a_first_look_is_made_only_when_asked_for(
    sentences, alone, made, small_folder, monkeypatch
):
    study = study_of("fp32", budget_seconds=60)
    asked = study.sentences.evaluation.model_copy(update={"count": sentences})
    study = study.model_copy(update={"sentences": study.sentences.model_copy(update={"evaluation": asked})})
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(Pipeline, "measure", lambda self, *_: done.append(("measure", self.study.stage)))
    monkeypatch.setattr(Pipeline, "evaluate", lambda self: done.append(("evaluate", self.study.stage)))
    monkeypatch.setattr(Pipeline, "report", lambda *_, pdf: done.append(("report", f"pdf: {pdf}")))
    monkeypatch.setattr(quality, "current_evaluation", lambda *_: None)
    started: list[str] = []
    kernel: Any = SimpleNamespace(start=started.append, stop=lambda: None)
    assert Pipeline(study, small_folder(study), kernel).first_look([CPU], alone) is made
    assert bool(started) is made
    steps = [("measure", "first_look"), ("evaluate", "first_look"), ("report", f"pdf: {alone}")]
    assert done == (steps if made else [])
