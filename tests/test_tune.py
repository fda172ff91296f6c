"""`ttsopt tune`: which candidate is taken, what is left beside it, and what is not done twice."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ttsopt_lib.cli import tune as command
from ttsopt_lib.cli.app import app
from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.paths import resolve
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.tune import Asks, Candidate, TuneRecord
from ttsopt_lib.tune import candidates, tuning
from ttsopt_lib.tune.candidates import (
    computed_in_int8,
    confirming,
    first_steps,
    in_few_bits,
    parts_of,
    stored_in_int8,
    tuning_study,
)
from ttsopt_lib.tune.choose import missed, nearest, on_front, preference
from ttsopt_lib.tune.tuning import tune
from ttsopt_lib.voices.piper import open_piper

LINES = ["Go.", "No.", "So low.", "Rain fell.", "A red sun.", "We ran.", "See it.", "Low tide.", "Hot tea.", "Run on."]


def row(name, mb, speed, change, width=0.02) -> Candidate:
    return Candidate(
        name=name, recipe=[], size_bytes=round(mb * 1e6), speedup=speed, speedup_ci=(speed - width, speed + width),
        change=change, change_ci=(change - width, change + width), sentences=24,
    )  # fmt: skip


# --- choosing -----------------------------------------------------------------------------------------------------


def test_every_ask_has_to_hold_at_the_worse_end():
    asks = Asks(max_loss=0.05, max_mb=20, min_speedup=1.0)
    assert missed(row("good", 16, 1.2, -0.02), asks) == []
    (speed,) = missed(row("slow?", 16, 1.01, -0.02), asks)
    assert "0.990 times as fast" in speed
    (loss,) = missed(row("worse?", 16, 1.2, -0.04), asks)
    assert "fall by 0.060" in loss and "0.05 was allowed" in loss
    (size,) = missed(row("large", 20.1, 1.2, -0.02), asks)
    assert "20.10 MB" in size


def test_the_smallest_comes_first_and_of_equally_large_ones_the_fastest():
    rows = [
        row("large and fastest", 30, 3.0, 0.0),
        row("small", 16.0, 1.2, 0.0),
        row("hardly larger and faster", 16.2, 1.7, 0.0),
        row("a little larger", 16.5, 2.0, 0.0),
        Candidate(name="refused", recipe=[], refused="no decoder"),
    ]
    assert [one.name for one in preference(rows)] == [
        "hardly larger and faster", "small", "a little larger", "large and fastest",
    ]  # fmt: skip


def test_the_nearest_misses_least():
    asks = Asks(max_loss=0.05, max_mb=10, min_speedup=1.5)
    rows = [row("two", 9, 1.2, -0.2), row("far", 16, 1.7, 0.0), row("near", 11, 1.7, 0.0)]
    found = nearest(rows, asks)
    assert found is not None and found.name == "near"
    assert nearest([Candidate(name="refused", recipe=[], refused="why")], asks) is None


def test_what_another_beats_in_everything_is_not_on_the_front():
    rows = [row("a", 16, 1.5, 0.0), row("beaten", 16, 1.4, 0.0), row("small", 9, 1.1, -0.3), row("twin", 16, 1.5, 0.0)]
    assert on_front(rows) == {"a", "small", "twin"}


# --- candidates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [8, 12, 40, 100, 720])
def test_no_sentence_is_in_two_parts(total):
    parts = parts_of(total)
    assert sum(parts) <= total and parts.evaluation >= 2 and parts.calibration >= 1 and parts.further >= 0


def test_the_recipes_follow_from_what_the_voice_allows():
    asks = Asks(threads=2)
    assert list(stored_in_int8(vits=True, integers=False)) == ["int8-weights", "rearranged-int8-weights"]
    assert list(stored_in_int8(vits=False, integers=True)) == ["int8-weights", "float-int8-weights"]
    begun = {"rearranged-int8-weights": "rearrange_decoder", "float-int8-weights": "dequantize"}
    assert first_steps(["int8-weights"]) == []
    for made, first in begun.items():
        before = first_steps(["int8-weights", made])
        recipes = computed_in_int8(asks, before) | in_few_bits(before)
        assert all(recipe[0]["step"] == first for recipe in recipes.values())
        mixed = [step for recipe in recipes.values() for step in recipe if step["step"] == "quantize_mixed"]
        assert mixed and all(
            step["clock"] and step["clock_threads"] == 2 and step["weight_bits"] == 7 for step in mixed
        )
        budgets = [step["budget_db"] for step in mixed]
        assert budgets == sorted(budgets), "in rising order of risk"
        far = computed_in_int8(asks, before, "raspberry_pi")
        assert all(recipe[-1]["clock_device"] == "raspberry_pi" for recipe in far.values())


def test_the_default_sentences_are_looked_at_with_the_further_ones(plain_voice):
    study = tuning_study(plain_voice, stored_in_int8(vits=True, integers=False), Asks(), None)
    further = confirming(study, ["int8-weights"])
    assert further is not None and further.sentences.confirmation is not None
    assert further.sentences.confirmation.count == candidates.FURTHER
    check_inputs(further)  # raises where a further sentence is one of the first, or gives no phonemes


def test_the_voice_of_a_study_is_tuned_with_what_the_study_says_of_it(plain_voice, tmp_path):
    file = tmp_path / "mine.yaml"
    asked = yaml.safe_load(resolve(Path("params/joe.yaml")).read_text(encoding="utf-8"))
    asked["study"]["voice"] = {"path": str(plain_voice), "licence_chain": ["mine"]}
    file.write_text(yaml.safe_dump(asked), encoding="utf-8")
    found = tuning_study(file, stored_in_int8(vits=True, integers=False), Asks(), None)
    assert (found.voice.path, found.voice.licence_chain) == (plain_voice, ("mine",))
    assert [one.name for one in found.variants] == ["int8-weights", "rearranged-int8-weights"], "not the study's own"
    asked["study"]["voice"] = {"huggingface": "folder"}
    file.write_text(yaml.safe_dump(asked), encoding="utf-8")
    with pytest.raises(StudyError, match="Hugging Face folder"):
        tuning_study(file, stored_in_int8(vits=True, integers=False), Asks(), None)


def test_sentences_that_are_too_few_or_not_there_are_one_line(plain_voice, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("One.\nTwo.\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"few\.txt: holds 2 sentences; give 8 or more"):
        tune(plain_voice, tmp_path / "out", Asks(), few)
    with pytest.raises(StudyError, match=r"--sentences .*none\.txt: no such file"):
        tune(plain_voice, tmp_path / "out", Asks(), tmp_path / "none.txt")
    assert not (tmp_path / "out").exists()


def test_a_voice_of_somebody_elses_is_not_written_over(plain_voice, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(plain_voice.read_bytes())
    with pytest.raises(StudyError, match="no tuning has written"):
        tune(plain_voice, tmp_path, Asks())
    (tmp_path / "tune.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StudyError, match="no tuning has written"):  # not even where it is tuned itself
        tune(model, tmp_path, Asks())
    with pytest.raises(StudyError, match=r"none\.onnx: no such file"):
        tune(tmp_path / "none.onnx", tmp_path / "out", Asks())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").touch()
    with pytest.raises(StudyError, match=r"table\.csv that no tuning has written"):
        tune(plain_voice, tmp_path / "mine", Asks())


def test_a_device_that_cannot_time_it_is_one_line_before_any_work(plain_voice, tmp_path):
    refused = {
        "gpu": "this is a GPU",
        "browser": "this is a browser",
        "raspberry_pi": "write runner: ssh",
        "phone": "params/phone.yaml is not there",
    }
    for device, said in refused.items():
        with pytest.raises(StudyError, match=said):
            tune(plain_voice, tmp_path / "out", Asks(), device=device)
    assert not (tmp_path / "out").exists()


# --- the whole way ------------------------------------------------------------------------------------------------


def paced(name, run) -> float:
    """An invented clock: mixed int8 is faster than the voice, and nothing else is."""
    run()
    groups = {"dec/resblocks.0": 0.9}
    return groups.get(name, 0.6 if name.startswith("int8-mixed") else 1.0)


@pytest.mark.slow
def test_a_voice_is_tuned_and_what_is_done_is_not_done_again(plain_voice, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "BUDGETS_DB", (50.0,))
    monkeypatch.setattr("ttsopt_lib.optimize.graph.clock.wall_seconds", paced)
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(LINES), encoding="utf-8")
    out = tmp_path / "out"
    record = tune(plain_voice, out, Asks(max_loss=4.0, min_speedup=1.3), lines, "dnsmos_p808")

    rows = {one.name: one for one in record.candidates}
    assert list(rows) == ["int8-weights", "rearranged-int8-weights", "int8-mixed-50"]
    assert record.chosen == "int8-mixed-50", "the only one that is surely so much faster"
    assert rows["int8-mixed-50"].speedup == pytest.approx(1 / 0.6, rel=0.2)
    assert "may be only" in rows["int8-weights"].missed[0]
    assert "surely faster in int8" in rows["int8-mixed-50"].note
    assert record.machine.cpu == describe_system().cpu and record.size_bytes == plain_voice.stat().st_size

    assert open_piper(out / "model.onnx").config.num_symbols == open_piper(plain_voice).config.num_symbols
    assert record.files["model.onnx"] == file_sha256(out / "model.onnx")
    assert read_record(out / "tune.json", TuneRecord, "tune") == record
    with open(out / "table.csv", encoding="utf-8", newline="") as file:
        table = {one["name"]: one for one in csv.DictReader(file)}
    assert table["int8-mixed-50"]["holds"] == "True" and float(table["int8-mixed-50"]["size_mb"]) > 0

    # Other asks of the same candidates: nothing is made or timed again, and the voice that no longer holds is gone.
    def unwanted(*args, **kwargs):
        raise AssertionError("this was there already")

    monkeypatch.setattr("ttsopt_lib.optimize.graph.clock.wall_seconds", unwanted)
    monkeypatch.setattr("ttsopt_lib.optimize.build._build", unwanted)
    monkeypatch.setattr("ttsopt_lib.evaluate.quality.score_utterances", unwanted)
    again = tune(plain_voice, out, Asks(max_loss=4.0, min_speedup=99.0), lines, "dnsmos_p808")
    assert again.chosen is None and again.nearest == "int8-mixed-50" and again.files == {}
    assert not (out / "model.onnx").exists()
    assert [one.size_bytes for one in again.candidates] == [one.size_bytes for one in record.candidates]


@pytest.mark.slow
@pytest.mark.parametrize("first", [[3.8, 4.2, 3.7, 4.3, 3.9, 4.1, 3.9, 4.1], [4.1] * 8])
def test_a_candidate_is_taken_by_further_sentences_alone(plain_voice, tmp_path, monkeypatch, first):
    """Also where it holds on those that chose it. Which are on the front is said of the same sentences for all."""
    work = tuning._Tuning(plain_voice, tmp_path, Asks(max_loss=0.05), None, "distillmos", None)
    work._records = {name: None for name in work._recipes}  # type: ignore[assignment]
    work._rows = {
        "int8-weights": row("int8-weights", 16, 1.2, 0.0).model_copy(update={"change": None}),
        "rearranged-int8-weights": row("rearranged-int8-weights", 16, 1.5, 0.0).model_copy(update={"change": None}),
    }

    def spoken(variant, scores):
        return SimpleNamespace(variant=variant, scores={"distillmos": scores})

    original = [4.0] * 8
    asked = []

    def scored(study, folder):
        asked.append(study.evaluate.confirmed)
        rows = [
            spoken("original", original),
            spoken("int8-weights", [3.99] * 8),
            spoken("rearranged-int8-weights", first),
        ]
        worse, good = spoken("rearranged-int8-weights", [3.5] * 8), spoken("int8-weights", [3.98] * 8)
        further = [spoken("original", original), worse, good] if study.evaluate.confirmed else []
        return SimpleNamespace(not_scored=[], rows=rows, confirmation=further)

    monkeypatch.setattr(tuning, "evaluate_study", scored)
    chosen = work.choose()
    assert asked == [(), ("rearranged-int8-weights",), ("rearranged-int8-weights", "int8-weights")]
    open_one = work._rows["rearranged-int8-weights"]
    assert open_one.confirmed and open_one.change == pytest.approx(-0.5) and open_one.missed
    assert chosen is not None and chosen.name == "int8-weights" and chosen.confirmed
    assert chosen.change == pytest.approx(-0.02) and open_one.on_front and not chosen.on_front


@pytest.mark.slow
def test_a_candidate_that_cannot_speak_a_further_sentence_is_refused(plain_voice, tmp_path, monkeypatch):
    work = tuning._Tuning(plain_voice, tmp_path, Asks(max_loss=0.05), None, "distillmos", None)
    name = "rearranged-int8-weights"
    work._recipes = {name: work._recipes[name]}
    work._records = {name: None}  # type: ignore[dict-item]
    work._rows = {name: row(name, 16, 1.5, 0.0).model_copy(update={"change": None})}

    def scored(study, folder):
        rows = [("original", [4.0] * 8), (name, [3.8, 4.2, 3.7, 4.3, 3.9, 4.1, 3.9, 4.1])]
        rows = [SimpleNamespace(variant=variant, scores={"distillmos": scores}) for variant, scores in rows]
        failed = [SimpleNamespace(variant=name, reason="sentence 30: no audio")] if study.evaluate.confirmed else []
        further = rows[:1] if failed else []
        return SimpleNamespace(not_scored=failed, rows=rows[:1] if failed else rows, confirmation=further)

    monkeypatch.setattr(tuning, "evaluate_study", scored)
    assert work.choose() is None
    assert work._rows[name].refused == "sentence 30: no audio" and work._rows[name].change is None
    assert not work._rows[name].confirmed and not work._rows[name].on_front


# --- the command --------------------------------------------------------------------------------------------------


def recorded(chosen: str | None) -> TuneRecord:
    rows = [row("small", 9, 1.2, -0.2), Candidate(name="other", recipe=[], refused="no decoder")]
    rows[0].missed = [] if chosen else ["predicted MOS may fall by 0.220"]
    return TuneRecord(
        created="", voice="v", voice_sha256="0", size_bytes=36_000_000, asks=Asks(), predictor="distillmos",
        sentences="s", machine=describe_system(), libraries={}, commit=None, uncommitted_changes=None,
        timed_on="Cortex-A72", device="Raspberry Pi", candidates=rows, chosen=chosen,
        nearest=None if chosen else "small", files={}, seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(("chosen", "code"), [("small", 0), (None, 1)])
def test_the_command_prints_the_table_and_says_by_its_exit_code_whether_one_holds(tmp_path, monkeypatch, chosen, code):
    given = {}

    def tuned(model, folder, asks, sentences, device):
        given.update(model=model, asks=asks, device=device)
        return recorded(chosen)

    monkeypatch.setattr("ttsopt_lib.tune.tuning.tune", tuned)
    monkeypatch.setattr("ttsopt_lib.terminal.out._width", 200)
    arguments = ["tune", "v.onnx", "--out", str(tmp_path), "--max-loss", "0.1", "--max-mb", "9.5", "--threads", "2"]
    done = CliRunner().invoke(app, [*arguments, "--device", "raspberry_pi"], env={"COLUMNS": "200"})
    assert done.exit_code == code
    asks = Asks(max_loss=0.1, max_mb=9.5, min_speedup=1.0, threads=2)
    assert given == {"model": Path("v.onnx"), "asks": asks, "device": "raspberry_pi"}
    words = " ".join(done.output.split())
    assert "other: no decoder" in words and "timed on Cortex-A72 (Raspberry Pi)" in words
    if chosen:
        assert "75.0% smaller" in words and "small: scored on the sentences that chose it" in words
    else:
        assert "no candidate holds what was asked; nearest is small: predicted MOS may fall by 0.220" in words


def test_the_table_has_whole_names_and_figures_in_80_columns(monkeypatch):
    record = recorded("small")
    long = row("rearranged-int8-weights", 16.34, 1.14, -0.061).model_copy(update={"on_front": True})
    record.candidates.append(long)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(command._table(record))
    lines = console.export_text().splitlines()
    (line,) = [one for one in lines if one.startswith("rearranged-int8-weights*")]
    figures = "rearranged-int8-weights* 16.34 1.14 [1.12, 1.16] -0.06 [-0.08, -0.04] yes"
    assert " ".join(line.split()) == figures
