"""Two reports side by side: what changed beyond chance, and what must not be compared."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from figure_names import CHANGE, CHARACTERS, DISTANCE, PREDICTED, TIME, WORDS
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from ttsopt_lib.cli import app
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.report.comparison.compare import Comparison, Difference, compare, difference, open_summary, p_value
from ttsopt_lib.report.comparison.views import CHANGED, REST, headline, markdown, page, remarks, terminal
from ttsopt_lib.report.schema import Estimate, Summary


def row(found: Comparison, what: str, subject: str = "fp32") -> Difference:
    """A figure of a variant or peer, on the first device where it was timed."""
    return next(one for one in found.differences if one.what == what and one.subject.split(",")[0] == subject)


def slower(summary: Summary, name: str, times: float) -> None:
    timing = summary.timing_of(summary.devices[0], name)
    assert timing and timing.rtf_ci
    timing.rtf *= times
    timing.rtf_ci = (timing.rtf_ci[0] * times, timing.rtf_ci[1] * times)


def test_a_report_does_not_differ_from_itself(summary):
    clean = summary("good").model_copy(update={"dirty": False})
    found = compare(clean, clean)
    assert {one.outcome for one in found.differences} <= {"unclear", "same"}
    assert found.only == ([], []) and found.cautions == []


def test_a_slower_variant_is_worse_and_the_others_are_not(summary):
    after = summary("good")
    slower(after, "int8-weights", 1.5)
    found = compare(summary("good"), after)
    one = row(found, TIME, "int8-weights")
    assert one.outcome == "worse" and one.change and one.change.value == pytest.approx(0.5)
    assert row(found, TIME).outcome == "unclear"


def set_errors(summary: Summary, value: float, ci: tuple[float, float] | None, rate: str = "wer") -> None:
    quality = summary.quality_of("fp32")
    figures = getattr(quality, f"{rate}_figures")
    setattr(quality, rate, value)
    figures.value, figures.ci = value, ci


@pytest.mark.parametrize(("rate", "what"), [("wer", WORDS), ("cer", CHARACTERS)])
def test_error_rates_are_judged_by_the_intervals_of_the_rates(rate, what, summary):
    before, after = summary("good"), summary("good")
    set_errors(before, 0.10, (0.07, 0.13), rate)
    set_errors(after, 0.12, (0.09, 0.15), rate)
    assert row(compare(before, after), what).outcome == "unclear"
    set_errors(after, 0.30, (0.27, 0.33), rate)
    one = row(compare(before, after), what)
    assert one.outcome == "worse" and one.after.startswith("30.0") and one.printed_change.startswith("+20.0 percentage")
    assert row(compare(after, before), what).outcome == "better"
    after.asr = "another"
    assert row(compare(before, after), what).note.endswith(" recognizer")


def test_the_error_rates_change_against_the_original_is_not_taken_for_the_rate(summary):
    before, after = summary("good"), summary("good")
    for one in (before, after):
        set_errors(one, 0.10, (0.07, 0.13))
    quality = after.quality_of("fp32")
    assert quality and quality.wer_figures
    quality.wer_figures.change = Estimate(value=0.09, ci=(0.08, 0.10))
    assert row(compare(before, after), WORDS).outcome == "unclear"


@pytest.mark.parametrize("ci", [None, (0.0, 0.0)])
def test_error_rates_without_a_width_are_shown_and_not_judged(ci, summary):
    before, after = summary("good"), summary("good")
    set_errors(before, 0.0, ci)
    set_errors(after, 0.5, (0.49, 0.51))
    one = row(compare(before, after), WORDS)
    assert one.outcome == "not tested" and "no interval" in one.note and one.after.startswith("50.0")
    assert row(compare(before, before), WORDS).outcome == "same"


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"asr": "another"}, "recognizer"), ({"wer_sentences": 7}, "number of sentences")],
)
def test_error_rates_of_another_recognizer_or_other_sentences_are_not_compared(changed, why, summary):
    after = summary("good").model_copy(update=changed)
    set_errors(after, 0.5, (0.49, 0.51))
    one = row(compare(summary("good"), after), WORDS)
    assert one.outcome == "not compared" and one.note.endswith(f" {why}") and one.change is None


def decided_early(summary: Summary, value: float, half: float) -> Summary:
    """The report with a voice that was scored on 20 sentences alone; `half` of its 95 % interval of the change."""
    quality = summary.quality_of("fp32")
    assert quality
    wide = half * float(stats.t.ppf(0.9995, 19) / stats.t.ppf(0.975, 19))
    quality.sentences, quality.predicted_mos.level = 20, 0.999
    quality.predicted_mos.change = Estimate(value=value, ci=(value - wide, value + wide))
    return summary


def test_a_wider_interval_of_a_voice_that_was_decided_early_is_scaled_to_95_percent(summary):
    before, after = decided_early(summary("good"), -0.5, 0.05), decided_early(summary("good"), -0.6, 0.05)
    found = compare(before, after)
    one, half = row(found, CHANGE), math.hypot(0.05, 0.05)
    assert one.change and one.change.ci == pytest.approx((-0.1 - half, -0.1 + half)) and "[−0.55, " in one.before
    assert any("scaled to 95 %" in text for text in remarks(found))


def test_scores_on_another_number_of_sentences_are_not_compared(summary):
    found = compare(summary("good"), decided_early(summary("good"), -0.6, 0.05))
    assert {row(found, what).outcome for what in (PREDICTED, CHANGE, DISTANCE)} == {"not compared"}
    assert row(found, PREDICTED).note.endswith("number of sentences")
    assert row(found, CHANGE, "int8-static").outcome == "unclear" == row(found, WORDS).outcome


def in_modes(summary: Summary, **times: float) -> Summary:
    """The timings of one voice on the first device, in several modes of PyTorch."""
    device = summary.devices[0]
    first = next(row for row in device.rows if row.variant == "fp32" and row.threads == 1)
    assert first.rtf_ci
    low, high = first.rtf_ci
    device.rows = [
        first.model_copy(
            update={
                "runtime": "pytorch",
                "mode": mode,
                "rtf": first.rtf * factor,
                "rtf_ci": (low * factor, high * factor),
            }
        )
        for mode, factor in times.items()
    ]
    return summary


def test_each_mode_is_compared_with_the_same_mode(summary):
    before = in_modes(summary("good"), fp32=1.0, fp16=0.5)
    after = in_modes(summary("good"), fp16=1.5, graphs=0.1, fp32=1.0)
    found = {one.subject: one for one in compare(before, after).differences if one.what == TIME}
    outcomes = {subject.split(", ")[2]: one.outcome for subject, one in found.items()}
    assert outcomes == {"pytorch fp32": "unclear", "pytorch fp16": "worse"}
    assert {tuple(subject.split(", ")[:2]) for subject in found} == {("fp32", "CPU")}


def test_listeners_scores_are_compared_where_both_have_them(summary):
    after = summary("many")
    quality = after.quality_of("fp32")
    assert quality and quality.human_mos and quality.human_mos.ci
    quality.human_mos.value -= 1.0
    quality.human_mos.ci = (quality.human_mos.ci[0] - 1.0, quality.human_mos.ci[1] - 1.0)
    assert row(compare(summary("many"), after), "MOS (listeners)").outcome == "worse"


def test_a_larger_file_is_worse_without_an_interval(summary):
    after = summary("good")
    after.variant("int8-weights").size_bytes *= 2
    one = row(compare(summary("good"), after), "size", "int8-weights")
    assert one.outcome == "worse" and one.printed_change.startswith("+100.0")


def test_a_small_change_within_the_intervals_is_no_difference(summary):
    after = summary("good")
    quality = after.quality_of("fp32")
    assert quality
    quality.predicted_mos.value += 0.02
    assert row(compare(summary("good"), after), PREDICTED).outcome == "unclear"
    quality.predicted_mos.value += 1.0
    quality.predicted_mos.ci = tuple(end + 1.02 for end in quality.predicted_mos.ci)
    assert row(compare(summary("good"), after), PREDICTED).outcome == "better"


def test_latencies_of_two_machines_are_not_compared(summary, golden):
    after = summary("good")
    slower(after, "int8-weights", 3.0)
    system = after.devices[0].system
    after.devices[0].system = system.model_copy(update={"cpu": "Another CPU"})
    found = compare(summary("good"), after)
    one = row(found, TIME, "int8-weights")
    assert one.outcome == "not compared" and one.change is None and "another processor" in one.note
    assert row(found, "latency reduction", "int8-weights").outcome == "not compared"
    (caution,) = [text for text in found.cautions if "latency" in text]
    assert caution.startswith("CPU:") and "processor" in caution
    golden(caution, one.note)


def test_another_runtime_version_is_said(summary):
    after = summary("good")
    system = after.devices[0].system
    after.devices[0].system = system.model_copy(update={"packages": {**system.packages, "onnxruntime": "9.9"}})
    assert any("onnxruntime" in text and "9.9" in text for text in compare(summary("good"), after).cautions)


def test_another_version_of_a_predictor_is_not_compared(summary):
    after = summary("good")
    after.predictors[0].weights_sha256 = "f" * 64
    assert row(compare(summary("good"), after), PREDICTED).outcome == "not compared"


def test_two_voices_and_variants_of_one_alone_are_said(summary):
    after = summary("bad")
    after.source_sha256, after.voice = "0" * 64, "en_US-other"
    found = compare(summary("good"), after)
    assert found.only == (["distilled-int8"], []) and "Two voices" in found.cautions[0]
    assert all(one.voice in found.cautions[0] for one in (summary("good"), after))


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    means = rng.normal(0.0, 1.0, (4000, 2)) * (0.3, 0.4) + (1.0, 1.5)
    held = 0
    for a, b in means:
        change = difference(
            Estimate(value=a, ci=(a - 1.96 * 0.3, a + 1.96 * 0.3)),
            Estimate(value=b, ci=(b - 1.96 * 0.4, b + 1.96 * 0.4)),
        )
        assert change.ci
        held += change.ci[0] <= 0.5 <= change.ci[1]
    assert held / len(means) == pytest.approx(0.95, abs=0.012)


def test_a_difference_as_wide_as_its_interval_has_a_p_of_five_per_cent():
    assert p_value(Estimate(value=0.2, ci=(0.0, 0.5))) == pytest.approx(0.05, abs=1e-4)
    assert p_value(Estimate(value=-0.2, ci=(-0.5, 0.0))) == pytest.approx(0.05, abs=1e-4)
    assert p_value(Estimate(value=0.2, ci=None)) == 1.0


@pytest.mark.slow
def test_chance_alone_makes_nothing_significant(summary):
    """Among many figures some differ by chance: the correction for their number has to hold that back."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        after = summary("many")
        for device in after.devices:
            for timing in device.rows:
                assert timing.rtf_ci
                half = (math.log(timing.rtf_ci[1]) - math.log(timing.rtf_ci[0])) / 2
                times = math.exp(rng.normal(0, math.sqrt(2) * half / 1.96))
                timing.rtf, timing.rtf_ci = timing.rtf * times, (timing.rtf_ci[0] * times, timing.rtf_ci[1] * times)
        found = compare(summary("many"), after).differences
        alarms += any(one.outcome in ("better", "worse") for one in found)
    assert alarms <= 5  # of 20, at 5 %


def test_it_reads_on_a_terminal_in_markdown_and_as_a_page(summary, golden):
    after = summary("good")
    slower(after, "int8-weights", 1.5)
    found = compare(summary("good"), after)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal(found))
    printed = console.export_text()
    assert "int8-weights" in printed and "worse" in printed and "fp32" not in printed
    text = markdown(found)
    assert f"## {CHANGED}" in text and f"## {REST}" in text and text.count("| worse |") == 1
    html = page(found)
    assert "<script" not in html and "http" not in html and 'scope="col"' in html
    assert "1 worse" in headline(found) and any("Holm" in text for text in remarks(found))
    golden(headline(found), *[text for text in remarks(found) if text not in found.cautions])


def test_the_command_takes_folders_and_files_and_writes_both(summary, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(summary("good").model_dump_json(by_alias=True))
    done = CliRunner().invoke(
        app,
        ["compare", str(tmp_path / "a"), str(tmp_path / "b" / "summary.json"), "--all",
         "--html", str(tmp_path / "c.html"), "--markdown", str(tmp_path / "c.md")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"{len(compare(summary('good'), summary('good')).differences)} figures" in done.output
    assert (tmp_path / "c.html").is_file() and (tmp_path / "c.md").is_file()


def test_a_folder_without_a_report_is_named(tmp_path):
    with pytest.raises(RecordError, match="no report there"):
        open_summary(tmp_path)
