"""The prose: right for good, bad and missing results, and no number in it that summary.json does not have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from traced_numbers import Tracer

from ttsopt_lib.report import explanations, findings, numbers, quality_words, sentences, verdict
from ttsopt_lib.report.advice import advice
from ttsopt_lib.report.schema import Estimate, StepSummary, Summary, read_summary
from ttsopt_lib.report.sections import Report
from ttsopt_lib.study import resolve

NAMES = ["good", "bad", "unmeasured", "many"]


def prose(summary: Summary) -> list[str]:
    """Everything that is said in words."""
    return [
        *sentences.manager_summary(summary),
        *sentences.tradeoff(summary),
        *sentences.conclusion(summary),
        *sentences.what_ratings_could_show(summary),
        *explanations.quantization_notes(summary),
        *explanations.pruning_notes(summary),
        *explanations.distillation_notes(summary),
        *explanations.timing_notes(summary),
        *explanations.first_audio_notes(summary),
        *explanations.choice_notes(summary),
        *explanations.corner_notes(summary),
        *explanations.limitations(summary),
        explanations.rule(summary),
        *quality_words.distrusted(summary),
        *quality_words.trusted(summary),
        *quality_words.what_same_means(summary),
        *quality_words.worse_than_noise(summary),
        *quality_words.what_comparisons_could_show(summary),
        *(f"{one.text} {one.because}" for one in summary.advice),
        findings.size_title(summary),
        findings.latency_title(summary),
        findings.quality_title(summary),
        *(findings.tradeoff_title(summary, device) for device in summary.measured_devices),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_in_the_prose_is_in_the_summary(name, summary):
    one = summary(name)
    trace = Tracer(one)
    assert {sentence: wrong for sentence in prose(one) if (wrong := trace.untraced(sentence))} == {}


def test_every_number_in_the_prose_of_the_example_is_in_its_summary():
    one = read_summary(resolve(Path("reports/example/summary.json")))
    one.advice = advice(one)
    trace = Tracer(one)
    assert {sentence: wrong for sentence in prose(one) if (wrong := trace.untraced(sentence))} == {}


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_whole(name, summary):
    one = summary(name)
    assert len(sentences.manager_summary(one)) == 3
    for sentence in [*sentences.manager_summary(one), *sentences.tradeoff(one), *sentences.conclusion(one)]:
        assert sentence[0].isupper() or sentence[0].isdigit() or sentence[0] == "`"
        assert sentence.endswith(".") and ".." not in sentence
        assert not re.search(r"\bNone\b(?! of| keeps)", sentence)
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
    won, cost, met = sentences.manager_summary(one)
    assert "`distilled-int8`" in won and "78" in won and "on CPU" in won
    assert "no people were asked" in cost
    assert "of 6 targets" in met and "GPU, Raspberry Pi and listeners' ratings" in met
    analysis = " ".join(sentences.tradeoff(one))
    assert "Size is not speed: `int8-weights`" in analysis and "32-bit" in analysis


def test_bad_results(summary):
    one = summary("bad")
    won, cost, _ = sentences.manager_summary(one)
    assert won.startswith("No variant qualifies") and "`int8-weights` came closest" in won
    low = one.quality_of("int8-weights").predicted_mos.change_choosing.ci[0]
    assert f"missed by {numbers.number(one.targets.predicted_mos_change - low, 2)})" in won
    assert "(target: 72\N{NARROW NO-BREAK SPACE}% smaller, missed by 12 percentage points)" in won
    assert findings.tradeoff_title(one, one.devices[0]) == "No variant qualifies on CPU; int8-weights came closest"
    assert "keep the predicted quality" in cost
    assert "did not reach its targets" in sentences.conclusion(one)[0]
    assert "None of the 5 variants" in sentences.tradeoff(one)[0]


def test_nothing_measured(summary):
    one = summary("unmeasured")
    won, cost, met = sentences.manager_summary(one)
    assert "nothing was timed" in won and "not measured" in cost and met.startswith("0 of 6")
    assert "speed and quality were not measured" in sentences.conclusion(one)[0]
    assert any("no device was measured" in sentence for sentence in sentences.tradeoff(one))


def test_all_targets_met_on_several_devices(summary):
    one = summary("many")
    one.verdict = [row.model_copy(update={"status": "pass"}) for row in one.verdict]
    won, cost, met = sentences.manager_summary(one)
    assert met == "All 16 targets are met."
    assert "people who listened rated it" in cost
    assert "Laptop" in won
    assert "reached every target" in sentences.conclusion(one)[0]


def test_another_variant_on_each_device(summary):
    one = summary("many")
    one.optimized = {"cpu": "distilled", "gpu": "int8-weights", "raspberry_pi": "distilled", "laptop": None}
    won, cost, _ = sentences.manager_summary(one)
    assert "(`distilled`)" in won and "(`int8-weights`)" in won and "on Laptop no variant qualifies" in won
    assert "that of `distilled` by" in cost and "that of `int8-weights` by" in cost
    assert "rated `distilled`" in cost


def test_a_spread_over_devices_is_a_range(summary):
    one = summary("many")
    for device, value in zip(one.devices, (0.31, 0.62, 0.55, 0.47), strict=True):
        row = one.timing_of(device, "distilled-int8-weights")
        assert row
        row.latency_reduction = Estimate(value=value, ci=(value - 0.01, value + 0.01))
    won = sentences.manager_summary(one)[0]
    assert "between 31" in won and "(CPU) and 62" in won and "(GPU)" in won


def test_quality_alone_is_missing(summary):
    one = summary("good")
    one.predictors, one.quality, one.anchors = [], [], []
    one.optimized["cpu"] = None
    one.choices = [one.choices[0].model_copy(update={"variant": None, "closest": None, "decided": False})]
    one.quality_reason = "the voices were not evaluated yet"
    assert "needs a predicted MOS" in sentences.manager_summary(one)[0]
    assert "quality was not measured" in sentences.conclusion(one)[0]
    assert "What that costs in quality was not measured" in sentences.tradeoff(one)[0]


def test_a_chosen_variant_that_misses_a_target_succeeded_in_part(summary):
    one = summary("good")
    for row in one.verdict:
        if row.claim == "latency_reduction" and row.device == "cpu":
            row.status = "fail"
    assert "in part" in sentences.conclusion(one)[0] and "the latency target" in sentences.conclusion(one)[0]


def test_small_variants_that_all_sound_worse_are_listed_with_their_loss(summary):
    one = summary("good")
    for row in one.quality:
        row.predicted_mos.change = Estimate(value=-0.5, ci=(-0.6, -0.4))
    text = sentences.tradeoff(one)[0]
    assert "none of them keeps" in text and "`int8-weights` changes by" in text
    assert sentences.manager_summary(one)[1].startswith("Its predicted quality")
    one.optimized["cpu"] = None
    assert "No variant keeps the predicted quality" in sentences.manager_summary(one)[1]


def test_no_variant_faster(summary):
    one = summary("bad")
    for row in one.devices[0].rows:
        row.latency_reduction = Estimate(value=-0.1, ci=(-0.12, -0.08))
    assert any("no variant is faster" in sentence for sentence in sentences.tradeoff(one))
    assert findings.latency_title(one) == "No variant is faster than the original on CPU"


def test_titles_of_bad_results(summary):
    one = summary("bad")
    for variant in one.variants:
        variant.size_reduction = 0.0
    for row in one.quality:
        row.predicted_mos.change = Estimate(value=-0.5, ci=(-0.6, -0.4))
    assert findings.size_title(one) == "No variant is smaller than the original"
    assert findings.quality_title(one).startswith("No variant keeps")
    assert "none is smaller than the original at all" in sentences.tradeoff(one)[0]


def test_why_dynamic_quantization_does_little(summary):
    notes = " ".join(explanations.quantization_notes(summary("good")))
    assert "Why dynamic quantization does little here" in notes and "1.2" in notes


def test_dynamic_quantization_that_reaches_much_is_not_said_to_do_little(summary):
    notes = [note for note in explanations.quantization_notes(summary("many")) if "int8-dynamic-conv" in note]
    assert len(notes) == 1 and "does little" not in notes[0]


def test_int8_products_beside_int8_weights_are_told_in_one_sentence(summary):
    one = summary("many")
    both = one.variant("distilled-int8-weights")
    products, stored = (one.variant(name).steps[0] for name in ("int8-dynamic-conv", "int8-weights"))
    stored = StepSummary.model_validate(stored.model_dump() | {"coverage": {"parameters": 0.04, "macs": 0.0}})
    both.steps = [both.steps[0], products, stored]
    (note,) = [note for note in explanations.quantization_notes(one) if "`distilled-int8-weights`" in note]
    computed, kept = note.split("; another ")
    assert "computes 97.0\N{NARROW NO-BREAK SPACE}% of the multiply-accumulates in 8-bit integers" in computed
    assert kept.startswith("4.0\N{NARROW NO-BREAK SPACE}% of the parameters are only stored as integers")
    assert note.count("smaller") == 1 and Tracer(one).untraced(note) == []


@pytest.mark.parametrize("products", [False, True])
def test_packed_weights_are_told_with_their_bits_and_that_they_cost_no_time(summary, products):
    one = summary("many")
    small = one.variant("int8-weights")
    (stored,) = small.steps
    dynamic = one.variant("int8-dynamic-conv").steps if products else []
    small.recipe = [{"step": "quantize_weights", "bits": 4}, {"step": "pack"}]
    stored.settings["bits"] = 4
    small.steps = [*dynamic, stored, StepSummary.model_validate(stored.model_dump() | {"step": "pack", "settings": {}})]
    notes = [note for note in explanations.quantization_notes(one) if "`int8-weights`" in note]
    assert "most of them 4 bits" in notes[-1] and "an utterance costs what it did" in notes[-1]
    assert len(notes) == (1 if products else 2)
    assert explanations.recipe_words(small) == "weight quantization to 4 bits, packing"
    assert [Tracer(one).untraced(note) for note in notes] == [[]] * len(notes)
    if not products:
        assert "stores 98.0\N{NARROW NO-BREAK SPACE}% of the parameters as integers of 4 bits" in notes[0]
    small.recipe[0]["bits"] = 5  # another figure than the sentence says
    assert Tracer(one).untraced(notes[-1])


def test_zeros_shrink_nothing_unless_something_else_does(summary):
    one = summary("good")
    assert "a zero takes as many bits" in explanations.pruning_notes(one)[0]
    pruned = one.variant("pruned-30")
    pruned.steps = [*pruned.steps, *one.variant("int8-weights").steps]
    assert "is the doing of weight quantization" in explanations.pruning_notes(one)[0]


def test_an_unsteady_machine_is_not_believed(summary):
    one = summary("good")
    row = one.timing_of(one.devices[0], "original-copy")
    assert row
    assert "as it should" in explanations.timing_notes(one)[0]
    row.latency_reduction = Estimate(value=0.05, ci=(0.03, 0.07))
    assert "not steady" in explanations.timing_notes(one)[0]


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


def test_a_faster_variant_says_what_kept_it_from_being_chosen(summary):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    note = next(note for note in explanations.choice_notes(one) if "`distilled-int8` is faster" in note)
    assert "[−0.11, −0.07] on the sentences that choose (target: no worse than −0.10" in note
    assert "Over all evaluation sentences the change is −0.05 [−0.07, −0.03], which meets the target." in note
    assert explanations.corner_notes(one) == [note]


def test_what_all_sentences_say_is_left_out_where_they_agree_and_kept_where_only_the_interval_does(summary):
    one = passed_over(summary, choosing=-0.3, everywhere=-0.3)
    note = next(note for note in explanations.choice_notes(one) if "`distilled-int8` is faster" in note)
    assert "Over all" not in note and explanations.corner_notes(one) == []
    near = passed_over(summary, choosing=-0.3, everywhere=-0.0804)
    assert "−0.08 [−0.1004, −0.06], whose lower end misses" in explanations.corner_notes(near)[0]


def test_a_faster_variant_whose_file_is_too_large_says_so(summary):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    target = numbers.percent(one.targets.size_reduction, 1)
    one.variant("distilled-int8").size_reduction = one.targets.size_reduction - 0.002
    note = next(note for note in explanations.choice_notes(one) if "`distilled-int8` is faster" in note)
    short = numbers.percent(one.targets.size_reduction - 0.002, 1)
    missed = "missed by 0.2 percentage points"
    assert f"its file is {short} smaller (target: {target} smaller, {missed}) and its predicted MOS" in note


def test_at_most_three_faster_variants_are_explained_and_the_others_named(summary):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    for name in ("fp32", "int8-dynamic", "int8-static", "pruned-30"):
        row = one.timing_of(one.devices[0], name)
        assert row
        row.latency_reduction = Estimate(value=0.4, ci=(0.39, 0.41))
    notes = explanations.choice_notes(one)
    explained = [note for note in notes if "is faster (" in note]
    assert len(explained) == 3 and "`distilled-int8`" in explained[0]
    assert any(note.endswith("are faster too, and do not qualify either.") for note in notes)


def test_nothing_is_passed_over_where_the_fastest_was_chosen(summary):
    one = summary("good")
    assert one.optimized["cpu"] == "distilled-int8"
    assert not any("is faster" in note for note in explanations.choice_notes(one))
    assert explanations.corner_notes(one) == []
    assert explanations.corner_notes(summary("unmeasured")) == []


def test_each_change_of_the_predicted_mos_says_of_which_sentences_it_is(summary):
    one = summary("good")
    mos = one.quality_of("distilled-int8").predicted_mos
    cost = sentences.manager_summary(one)[1]
    assert f"{numbers.change(mos.change_held_out)} on the sentences that did not choose" in cost
    assert "over all evaluation sentences" in sentences.tradeoff(one)[0]
    assert findings.quality_title(one).endswith(f"({one.evaluation_sentences} sentences)")
    title = findings.tradeoff_title(one, one.measured_devices[0])
    assert title.endswith(f"predicted MOS {numbers.signed(mos.change.value)} ({one.evaluation_sentences} sentences)")


def test_where_none_qualifies_the_corner_names_what_came_closest_with_its_miss(summary):
    one = passed_over(summary, choosing=-0.09, everywhere=-0.05)
    one.variant("int8-weights").size_reduction = 0.0
    one.choices = [verdict.choose(one, one.devices[0])]
    one.optimized["cpu"] = None
    assert one.choices[0].closest == "distilled-int8"
    (note,) = explanations.corner_notes(one)
    assert note.startswith("CPU: `distilled-int8` came closest (") and "less time), but its predicted MOS" in note
    assert "−0.10 at the interval's lower end, missed by 0.01)." in note
    assert note.endswith("Over all evaluation sentences the change is −0.05 [−0.07, −0.03], which meets the target.")
    assert Tracer(one).untraced(note) == []


def test_what_came_closest_and_lies_outside_the_corner_is_no_note_of_it(summary):
    assert explanations.corner_notes(summary("bad")) == []


def test_the_first_page_says_which_sentences_are_meant_and_why_a_mark_in_the_corner_was_not_chosen(summary, case):
    one, folder = passed_over(summary, choosing=-0.09, everywhere=-0.05), case("good")[2]
    text = Report(one, folder).first_page().text
    assert "In the corner of both targets, and not chosen" in text and "meets the target" in text
    assert "in this table is on the sentences that did not choose" in text
    assert "over all evaluation sentences" in Report(one, folder).mos().text
    assert "In the corner" not in Report(summary("good"), folder).first_page().text
    assert "in the figure below" not in Report(summary("unmeasured"), case("unmeasured")[2]).first_page().text


def test_a_study_without_students_says_so(summary):
    assert "No variant" in explanations.distillation_notes(summary("bad"))[0]
