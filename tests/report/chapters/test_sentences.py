"""The prose: right for good, bad and missing results, and no number in it that summary.json does not have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from traced_numbers import Tracer, named

from ttsopt_lib.paths import resolve
from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import (
    choice,
    conclusion,
    first_page,
    listeners,
    quality_words,
    sizes,
    students,
    tradeoff,
)
from ttsopt_lib.report.chapters.speed import first_sound, timings
from ttsopt_lib.report.comparison.compare import open_summary
from ttsopt_lib.report.facts import findings, verdict
from ttsopt_lib.report.facts.advice import advice
from ttsopt_lib.report.printing.html import escape
from ttsopt_lib.report.printing.plot_style import LOOKS, look
from ttsopt_lib.report.schema import Estimate, StepSummary, Summary
from ttsopt_lib.report.sections import Report

NAMES = ["good", "bad", "unmeasured", "many"]


def prose(summary: Summary) -> list[str]:
    """Everything that is said in words."""
    return [
        *first_page.manager_summary(summary),
        *tradeoff.tradeoff(summary),
        *conclusion.conclusion(summary),
        *listeners.what_ratings_could_show(summary),
        *sizes.quantization_notes(summary),
        *sizes.pruning_notes(summary),
        *students.distillation_notes(summary),
        *timings.timing_notes(summary),
        *timings.first_audio_notes(summary),
        *(note for device in summary.timed_devices for note in first_sound.notes(summary, device)),
        *choice.choice_notes(summary),
        *choice.corner_notes(summary),
        *conclusion.limitations(summary),
        choice.rule(summary),
        *quality_words.distrusted(summary),
        *quality_words.trusted(summary),
        *quality_words.what_same_means(summary),
        *quality_words.worse_than_noise(summary),
        *listeners.what_comparisons_could_show(summary),
        *(f"{one.text} {one.because}" for one in summary.advice),
        findings.size_title(summary),
        findings.latency_title(summary),
        findings.quality_title(summary),
        *(findings.tradeoff_title(summary, device) for device in summary.measured_devices),
    ]


def example() -> Summary:
    """The summary that is part of the project, with what would be advised today."""
    one = open_summary(resolve(Path("reports/example")))
    one.advice = advice(one)
    return one


@pytest.mark.parametrize("name", [*NAMES, "example"])
def test_every_number_in_the_prose_is_in_the_summary(name, summary):
    one = example() if name == "example" else summary(name)
    trace = Tracer(one)
    assert {sentence: wrong for sentence in prose(one) if (wrong := trace.untraced(sentence))} == {}


def counts(sentence: str) -> list[int]:
    """The whole numbers of a sentence, in its order."""
    return [int(found) for found in re.findall(r"(?<![\w.-])\d+(?![\w.-]\d)", re.sub(r"`[^`]*`", "", sentence))]


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_whole(name, summary):
    one = summary(name)
    assert len(first_page.manager_summary(one)) == 3
    for sentence in [*first_page.manager_summary(one), *tradeoff.tradeoff(one), *conclusion.conclusion(one)]:
        assert sentence[0].isupper() or sentence[0].isdigit() or sentence[0] == "`"
        assert sentence.endswith(".") and ".." not in sentence
        missing = re.search(r"\bNone\b(?! of| keeps)", sentence)
        assert missing is None
        assert "  " not in sentence and "nan" not in sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_predicted_mos_is_never_called_mos(name, summary):
    one = summary(name)
    one.quality = [row.model_copy(update={"human_mos": None}) for row in one.quality]
    for sentence in prose(one):
        for found in re.finditer(r"\bMOS\b|mean opinion score", sentence):
            before = sentence[: found.start()]
            denied = "nothing here is a" in before or "guess at the" in before or before.endswith("No predictor of ")
            assert before.endswith(("predicted ", "predicted-", "Predicted ")) or denied, sentence


def test_good_results(summary):
    one = summary("good")
    chosen, change = one.variant("distilled-int8"), one.quality_of("distilled-int8").predicted_mos.change_held_out
    saved = one.timing_of(one.devices[0], "distilled-int8").latency_reduction
    won, cost, met = first_page.manager_summary(one)
    assert named(won, one) == {"distilled-int8"} and "on CPU" in won
    assert f"{numbers.percent(chosen.size_reduction)} smaller" in won
    assert f"{numbers.percent(saved.value)} less" in won
    assert numbers.CHANGE.figure(change) in cost and "no people" in cost
    assert counts(met) == [3, 6, 3] and all(missing in met for missing in ("GPU", "Raspberry Pi", "listeners"))
    (small,) = [sentence for sentence in tradeoff.tradeoff(one) if "32-bit" in sentence]
    assert named(small, one) == {"int8-weights"}
    assert numbers.percent(one.variant("int8-weights").size_reduction) in small


def test_bad_results(summary):
    one = summary("bad")
    won, cost, met = first_page.manager_summary(one)
    low = one.quality_of("int8-weights").predicted_mos.change_choosing.ci[0]
    (choice,) = one.choices
    assert choice.variant is None and choice.closest == "int8-weights" and len(choice.failed) == 2
    for sentence in (won, conclusion.conclusion(one)[0]):
        assert named(sentence, one) == {"int8-weights"} and all(failed in sentence for failed in choice.failed)
    assert f" {numbers.number(one.targets.predicted_mos_change - low, 2)})" in choice.failed[1]
    assert counts(choice.failed[0]) == [60, 72, 12]  # per cent, and percentage points that are missing
    title = findings.tradeoff_title(one, one.devices[0])
    assert named(title, one) == {"int8-weights"} and "CPU" in title and "%" not in title
    assert named(cost, one) == set(findings.keeps_quality(one)) == {"fp32"}
    assert numbers.signed(one.targets.predicted_mos_change) in cost
    assert counts(met)[:2] == [0, 6]
    sizes, quality = tradeoff.tradeoff(one)[0].split(". ")
    assert counts(sizes)[:2] == [5, 72] and named(sizes, one) == {"int8-weights"} and named(quality, one) == {"fp32"}


def test_nothing_measured(summary):
    one = summary("unmeasured")
    won, cost, met = first_page.manager_summary(one)
    smallest = findings.smallest(one)
    assert smallest and named(won, one) == {smallest.name}
    assert counts(won) == [len(verdict.candidates(one)), round(100 * smallest.size_reduction)]
    assert counts(cost) == [] and "not measured" in cost
    assert counts(met) == [0, 6, 6]
    drawn = conclusion.conclusion(one)[0]
    assert "speed" in drawn and "quality" in drawn and named(drawn, one) == set()
    assert len([sentence for sentence in tradeoff.tradeoff(one) if "no device" in sentence]) == 1


def test_all_targets_met_on_several_devices(summary, golden):
    one = summary("many")
    rated = one.quality_of("distilled-int8-weights").human_mos.change
    missed = conclusion.conclusion(one)[0]
    one.verdict = [row.model_copy(update={"status": "pass"}) for row in one.verdict]
    won, cost, met = first_page.manager_summary(one)
    assert counts(met) == [16]
    assert numbers.CHANGE.figure(rated) in cost and "no people" not in cost
    assert named(cost, one) == set()  # there is one voice to speak of
    assert all(device.label in won for device in one.measured_devices)
    reached = conclusion.conclusion(one)[0]
    assert named(reached, one) == {"distilled-int8-weights"}
    assert "target on" in missed and "target on" not in reached  # what is missed, and where
    golden(won, cost, met, reached)


def test_another_variant_on_each_device(summary, golden):
    one = summary("many")
    one.optimized = {"cpu": "distilled", "gpu": "int8-weights", "raspberry_pi": "distilled", "laptop": None}
    one.choices[-1] = one.choices[-1].model_copy(update={"closest": "fp32", "failed": ["its file is too large"]})
    won, cost, _ = first_page.manager_summary(one)
    first, second, none = won.split("; ", 2)
    for part, name in ((first, "distilled"), (second, "int8-weights")):
        assert named(part, one) == {name} and numbers.percent(one.variant(name).size_reduction) in part
        change = one.quality_of(name).predicted_mos.change_held_out
        assert f"`{name}` by {numbers.CHANGE.figure(change)}" in cost
        assert f"`{name}` {numbers.CHANGE.figure(one.quality_of(name).human_mos.change)}" in cost
    assert "CPU" in first and "Raspberry Pi" in first and "GPU" in second
    assert "Laptop" in none and not named(none, one) & {"distilled", "int8-weights"}
    golden(won, cost)


def test_a_spread_over_devices_is_a_range(summary, golden):
    one = summary("many")
    for device, value in zip(one.devices, (0.31, 0.62, 0.55, 0.47), strict=True):
        row = one.timing_of(device, "distilled-int8-weights")
        assert row
        row.latency_reduction = Estimate(value=value, ci=(value - 0.01, value + 0.01))
    won = first_page.manager_summary(one)[0]
    assert won.index(f"{numbers.percent(0.31)} (CPU)") < won.index(f"{numbers.percent(0.62)} (GPU)")
    assert counts(won)[-1] == 4
    assert "55" not in won and "47" not in won
    golden(won)


def test_quality_alone_is_missing(summary, golden):
    one = summary("good")
    one.predictors, one.quality, one.anchors = [], [], []
    one.optimized["cpu"] = None
    one.choices = [one.choices[0].model_copy(update={"variant": None, "closest": None, "decided": False})]
    one.quality_reason = "the voices were not evaluated yet"
    won, cost, _ = first_page.manager_summary(one)
    assert one.quality_reason in won and one.quality_reason in cost and named(won, one) == set()
    drawn, sizes = conclusion.conclusion(one)[0], tradeoff.tradeoff(one)[0]
    assert "quality" in drawn and "speed" not in drawn
    assert counts(sizes) == [2, 6, 72] and "not measured" in sizes
    golden(won, cost, drawn, sizes)


def test_a_chosen_variant_that_misses_a_target_succeeded_in_part(summary, golden):
    one = summary("good")
    for row in one.verdict:
        if row.claim == "latency_reduction" and row.device == "cpu":
            row.status = "fail"
    drawn = conclusion.conclusion(one)[0]
    assert named(drawn, one) == {"distilled-int8"} and "latency" in drawn
    assert not any(other in drawn for other in ("size", "MOS"))
    golden(drawn)


def test_small_variants_that_all_sound_worse_are_listed_with_their_loss(summary, golden):
    one = summary("good")
    worse = Estimate(value=-0.5, ci=(-0.6, -0.4))
    for row in one.quality:
        row.predicted_mos.change = worse
    text, cost = tradeoff.tradeoff(one)[0], first_page.manager_summary(one)[1]
    assert text.count(numbers.CHANGE.figure(worse)) == len(findings.meets_size(one)) == 2
    assert named(text.partition(":")[2], one) == {"int8-weights", "distilled-int8"}
    held_out = numbers.CHANGE.figure(one.quality_of("distilled-int8").predicted_mos.change_held_out)
    assert held_out in cost
    one.optimized["cpu"] = None
    none = first_page.manager_summary(one)[1]
    assert held_out not in none and named(none, one) == set()
    assert numbers.signed(one.targets.predicted_mos_change) in none
    golden(text, cost, none)


def test_no_variant_faster(summary, golden):
    one = summary("bad")
    for row in one.devices[0].rows:
        row.latency_reduction = Estimate(value=-0.1, ci=(-0.12, -0.08))
    speed, title = tradeoff.tradeoff(one)[1], findings.latency_title(one)
    assert findings.fastest(one, one.devices[0]) is None
    for sentence in (speed, title):
        assert "faster" in sentence and "CPU" in sentence and named(sentence, one) == set()
    golden(speed, title)


def test_titles_of_bad_results(summary, golden):
    one = summary("bad")
    for variant in one.variants:
        variant.size_reduction = 0.0
    for row in one.quality:
        row.predicted_mos.change = Estimate(value=-0.5, ci=(-0.6, -0.4))
    size, quality, sizes = findings.size_title(one), findings.quality_title(one), tradeoff.tradeoff(one)[0]
    assert named(size, one) == set() and counts(size) == [] and size.startswith("No")
    assert counts(quality)[-1] == one.evaluation_sentences and quality.startswith("No")
    assert named(sizes, one) == set() and counts(sizes)[:2] == [5, 72]
    golden(size, quality, sizes)


def test_why_dynamic_quantization_does_little(summary):
    (note,) = [note for note in sizes.quantization_notes(summary("good")) if "does little" in note]
    assert named(note, summary("good")) == {"int8-dynamic"} and "1.2" in note


def test_dynamic_quantization_that_reaches_much_is_not_said_to_do_little(summary):
    notes = [note for note in sizes.quantization_notes(summary("many")) if "int8-dynamic-conv" in note]
    assert len(notes) == 1 and "does little" not in notes[0]


def test_int8_products_beside_int8_weights_are_told_in_one_sentence(summary, golden):
    one = summary("many")
    both = one.variant("distilled-int8-weights")
    products, stored = (one.variant(name).steps[0] for name in ("int8-dynamic-conv", "int8-weights"))
    stored = StepSummary.model_validate(stored.model_dump() | {"coverage": {"parameters": 0.04, "macs": 0.0}})
    both.steps = [both.steps[0], products, stored]
    (note,) = [note for note in sizes.quantization_notes(one) if "`distilled-int8-weights`" in note]
    computed, kept = note.split("; another ")
    assert f"{numbers.percent(0.97, 1)} of" in computed and numbers.percent(0.95, 1) in computed
    assert kept.startswith(numbers.percent(0.04, 1)) and "32-bit" in kept
    assert note.count("smaller") == 1 and Tracer(one).untraced(note) == []
    golden(note)


def test_a_step_that_the_report_does_not_know_is_drawn_and_described_by_its_record(summary):
    one = summary("many").variant("int8-weights")
    (step,) = one.steps
    one.steps = [step.model_copy(update={"step": "louder", "label": "amplification", "family": "louder"})]
    assert sizes.recipe_words(one) == "amplification"
    assert look(one).family == "louder" and look(one).marker not in {known.marker for known in LOOKS.values()}
    one.steps += [step.model_copy(update={"step": "softer", "label": "attenuation", "optimizes": False})]
    assert look(one).family == "louder"
    one.steps += [step]
    assert look(one).family == "combined"
    assert look(one.model_copy(update={"steps": []})).family == "nothing optimized"


@pytest.mark.parametrize("products", [False, True], ids=["weights alone", "products too"])
def test_packed_weights_are_told_with_their_bits_and_that_they_cost_no_time(summary, products, golden):
    one = summary("many")
    small = one.variant("int8-weights")
    (stored,) = small.steps
    dynamic = one.variant("int8-dynamic-conv").steps if products else []
    small.recipe = [{"step": "quantize_weights", "bits": 4}, {"step": "pack"}]  # figures are traced to it
    stored.settings["bits"] = 4
    packed = {"step": "pack", "settings": {}, "label": "packing", "kind": "packing", "optimizes": False}
    small.steps = [*dynamic, stored, StepSummary.model_validate(stored.model_dump() | packed)]
    notes = [note for note in sizes.quantization_notes(one) if "`int8-weights`" in note]
    assert len(notes) == (1 if products else 2)
    assert all("4 bits" in note for note in notes) and "utterance" in notes[-1]
    made = sizes.recipe_words(small)
    assert made.endswith("weight quantization to 4 bits, packing") and len(made.split(", ")) == 2 + products
    assert [Tracer(one).untraced(note) for note in notes] == [[]] * len(notes)
    if not products:
        assert numbers.percent(0.98, 1) in notes[0]
    words = [*notes, made]
    small.recipe[0]["bits"] = 5  # another figure than the sentence says
    assert Tracer(one).untraced(notes[-1])
    golden(*words)


def test_zeros_shrink_nothing_unless_something_else_does(summary, golden):
    one = summary("good")
    pruned, others = one.variant("pruned-30"), "weight quantization"
    (alone,) = sizes.pruning_notes(one)
    pruned.steps = [*pruned.steps, *one.variant("int8-weights").steps]
    (together,) = sizes.pruning_notes(one)
    for note in (alone, together):
        assert named(note, one) == {"pruned-30"} and numbers.percent(pruned.zero_fraction) in note
        assert numbers.percent(pruned.compressed_reduction) in note
    assert others in together and others not in alone
    golden(together)


def test_an_unsteady_machine_is_not_believed(summary, golden):
    one = summary("good")
    row = one.timing_of(one.devices[0], "original-copy")
    assert row
    steady = timings.timing_notes(one)[0]
    assert numbers.REDUCTION.figure(row.latency_reduction) in steady and "steady" not in steady
    row.latency_reduction = Estimate(value=0.05, ci=(0.03, 0.07))
    unsteady = timings.timing_notes(one)[0]
    assert numbers.REDUCTION.figure(row.latency_reduction) in unsteady and "not steady" in unsteady
    golden(unsteady)


def passed_over(summary: Callable[[str], Summary], choosing: float, everywhere: float, half: float = 0.02) -> Summary:
    """The good study, where distilled-int8 is the fastest and int8-weights is chosen."""
    one = summary("good")
    row = one.quality_of("distilled-int8")
    assert row
    for field, value in (("change_choosing", choosing), ("change", everywhere)):
        setattr(row.predicted_mos, field, Estimate(value=value, ci=(value - half, value + half)))
    kept = one.quality_of("int8-weights")
    assert kept
    kept.predicted_mos.change_choosing = Estimate(value=0.0, ci=(-0.02, 0.02))
    one.choices = [verdict.choose(one, one.devices[0])]
    one.optimized["cpu"] = one.choices[0].variant
    assert one.optimized["cpu"] == "int8-weights"
    return one


def about(notes: list[str], name: str = "distilled-int8") -> str:
    """The note on a faster variant that was not chosen."""
    return next(note for note in notes if f"`{name}` is faster" in note)


def test_a_faster_variant_says_what_kept_it_from_being_chosen(summary, golden):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    note = about(choice.choice_notes(one))
    kept_from, _, everywhere = note.partition("). ")
    assert "[−0.11, −0.07]" in kept_from and verdict.CHOOSING in kept_from and "−0.10" in kept_from
    row = one.quality_of("distilled-int8")
    assert row and numbers.CHANGE.figure(row.predicted_mos.change) in everywhere
    assert "meets" in everywhere and "misses" not in everywhere
    assert choice.corner_notes(one) == [note]
    golden(note)


def test_what_all_sentences_say_is_left_out_where_they_agree_and_kept_where_only_the_interval_does(summary, golden):
    one = passed_over(summary, choosing=-0.3, everywhere=-0.3)
    note = about(choice.choice_notes(one))
    assert "all evaluation" not in note and choice.corner_notes(one) == []
    near = passed_over(summary, choosing=-0.3, everywhere=-0.0804)
    (both,) = choice.corner_notes(near)
    everywhere = both.partition("). ")[2]
    assert "−0.08 [−0.1004, −0.06]" in everywhere and "misses" in everywhere
    golden(note, both)


def test_a_faster_variant_whose_file_is_too_large_says_so(summary, golden):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    target = numbers.percent(one.targets.size_reduction)
    one.variant("distilled-int8").size_reduction = one.targets.size_reduction - 0.002
    note = about(choice.choice_notes(one))
    short = numbers.percent(one.targets.size_reduction - 0.002, 1)
    size, quality = verdict.judge(one, "distilled-int8").failed
    assert short in size and target in size and " 0.2 " in size and "MOS" in quality
    assert note.index(size) < note.index(quality)
    golden(note)


def test_at_most_three_faster_variants_are_explained_and_the_others_named(summary, golden):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    for name in ("fp32", "int8-dynamic", "int8-static", "pruned-30"):
        row = one.timing_of(one.devices[0], name)
        assert row
        row.latency_reduction = Estimate(value=0.4, ci=(0.39, 0.41))
    notes = choice.choice_notes(one)
    explained = [note for note in notes if "is faster (" in note]
    assert len(explained) == 3 and "`distilled-int8`" in explained[0]
    (rest,) = [note for note in notes if "faster too" in note]
    told = {name for note in explained for name in named(note, one)}
    assert named(rest, one) == {"distilled-int8", "fp32", "int8-dynamic", "int8-static", "pruned-30"} - told
    assert len(told) == 3
    golden(*notes)


def test_nothing_is_passed_over_where_the_fastest_was_chosen(summary):
    one = summary("good")
    assert one.optimized["cpu"] == "distilled-int8"
    assert not any("is faster" in note for note in choice.choice_notes(one))
    assert choice.corner_notes(one) == []
    assert choice.corner_notes(summary("unmeasured")) == []


def test_each_change_of_the_predicted_mos_says_of_which_sentences_it_is(summary):
    one = summary("good")
    mos = one.quality_of("distilled-int8").predicted_mos
    cost = first_page.manager_summary(one)[1]
    assert f"{numbers.CHANGE.figure(mos.change_held_out)} {verdict.HELD_OUT}" in cost and "all evaluation" not in cost
    assert "all evaluation" in tradeoff.tradeoff(one)[0]
    assert findings.quality_title(one).endswith(f"({one.evaluation_sentences} sentences)")
    title = findings.tradeoff_title(one, one.measured_devices[0])
    assert title.endswith(f"predicted MOS {numbers.signed(mos.change.value)} ({one.evaluation_sentences} sentences)")


def test_where_none_qualifies_the_corner_names_what_came_closest_with_its_miss(summary, golden):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    one.variant("int8-weights").size_reduction = 0.0
    one.choices = [verdict.choose(one, one.devices[0])]
    one.optimized["cpu"] = None
    assert one.choices[0].closest == "distilled-int8"
    (note,) = choice.corner_notes(one)
    (failed,) = one.choices[0].failed
    closest, _, everywhere = note.partition(f"{failed}.")
    saved = findings.latency_of(one, one.devices[0], "distilled-int8")
    assert saved and numbers.REDUCTION.figure(saved) in closest
    assert note.startswith("CPU") and named(closest, one) == {"distilled-int8"}
    assert "−0.10" in failed and failed.endswith(" 0.01)") and "closest" in closest
    row = one.quality_of("distilled-int8")
    assert row and numbers.CHANGE.figure(row.predicted_mos.change) in everywhere
    assert "meets" in everywhere and "misses" not in everywhere
    assert Tracer(one).untraced(note) == []
    golden(note)


def test_what_came_closest_and_lies_outside_the_corner_is_no_note_of_it(summary):
    assert choice.corner_notes(summary("bad")) == []


@pytest.mark.slow
def test_the_first_page_says_which_sentences_are_meant_and_why_a_mark_in_the_corner_was_not_chosen(summary, case):
    one, folder = passed_over(summary, choosing=-0.09, everywhere=-0.05), case("good")[2]
    text = Report(one, folder).first_page().text
    (note,) = choice.corner_notes(one)
    assert escape(note) in text and verdict.HELD_OUT in text and "figure below" in text
    assert "all evaluation" in Report(one, folder).mos().text
    assert '<aside class="note"' in text
    assert '<aside class="note"' not in Report(summary("good"), folder).first_page().text
    assert "figure below" not in Report(summary("unmeasured"), case("unmeasured")[2]).first_page().text


def test_a_study_without_students_says_so(summary):
    assert "No variant" in students.distillation_notes(summary("bad"))[0]
