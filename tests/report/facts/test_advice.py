"""Advice: each rule is triggered by its figures, and by nothing else."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from traced_numbers import named

from ttsopt_lib.records.quality import RatingSpread
from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters import quality_words
from ttsopt_lib.report.facts.advice import advice
from ttsopt_lib.report.facts.verdict import HELD_OUT
from ttsopt_lib.report.schema import Advice, Estimate, StepSummary, Summary
from ttsopt_lib.statistics.power import ASSUMED, raters_needed


def by_rule(summary: Summary) -> dict[str, Advice]:
    return {one.rule: one for one in advice(summary)}


def said(one: Advice) -> str:
    """A piece of advice and its reason in one text."""
    return f"{one.text} {one.because}"


def set_latency(summary: Summary, name: str, value: float, half: float = 0.01) -> None:
    row = summary.timing_of(summary.devices[0], name)
    assert row
    row.latency_reduction = Estimate(value=value, ci=(value - half, value + half))


def set_change(summary: Summary, name: str, value: float, half: float = 0.01) -> None:
    row = summary.quality_of(name)
    assert row
    estimate = Estimate(value=value, ci=(value - half, value + half))
    row.predicted_mos.change = row.predicted_mos.change_choosing = estimate


@pytest.fixture
def calm(summary) -> Summary:
    """A study whose figures call for nothing: one measured device, every target met, listeners asked."""
    one = summary("many")
    one.devices = one.devices[:1]
    one.devices[0].rows = [row for row in one.devices[0].rows if row.threads == 1]
    one.optimized = {"cpu": "distilled-int8-weights"}
    set_change(one, "distilled-int8-static", 0.0)
    set_change(one, "pruned-50", 0.0)
    one.variants = [v for v in one.variants if v.name not in ("int8-static", "distilled-int8-static")]
    one.verdict = [row.model_copy(update={"status": "pass"}) for row in one.verdict]
    return one


def test_figures_that_call_for_nothing_give_no_advice(calm):
    assert advice(calm) == []


@pytest.mark.parametrize("name", ["good", "bad", "unmeasured", "many"])
def test_every_piece_says_what_to_do_and_the_figures_behind_it(name, summary):
    found = summary(name).advice
    assert found
    for one in found:
        assert one.text.endswith(".") and one.because.endswith(".") and one.figures
        assert "nan" not in one.text + one.because and "  " not in one.text + one.because


def test_nothing_measured_asks_for_measurements(summary):
    assert list(by_rule(summary("unmeasured"))) == ["not_measured", "not_scored"]


def test_a_machine_that_differs_from_itself_is_not_believed(calm, golden):
    set_latency(calm, "original-copy", 0.05)
    found = by_rule(calm)["unsteady"]
    assert found.figures["same_file"] == 0.05
    assert "CPU" in found.text and numbers.REDUCTION.figure(Estimate(value=0.05, ci=(0.04, 0.06))) in found.because
    golden(said(found))


def test_a_predictor_that_is_deaf_to_known_damage_is_not_trusted(calm, golden):
    row = next(row for row in calm.anchors if row.predictor == "dnsmos_p808")
    row.predicted_mos.change = Estimate(value=-0.03, ci=(-0.08, 0.02))
    predictor = next(one for one in calm.predictors if one.name == row.predictor)
    predictor.missed_anchors, predictor.orders_anchors = [row.variant], False
    assert f"`{row.variant}`" in quality_words.distrusted(calm)[0] and not quality_words.trusted(calm)[1:]
    found = by_rule(calm)["untrusted_predictor"]
    assert "DNSMOS P.808" in found.text and numbers.CHANGE.figure(row.predicted_mos.change) in found.because
    assert f"`{row.variant}`" in found.because
    predictor.missed_anchors, predictor.orders_anchors = [], True  # whoever sees it faintly sees it
    assert "untrusted_predictor" not in by_rule(calm) and not quality_words.distrusted(calm)
    golden(said(found))


def missed(summary: Summary, claim: str, measured: float, ci: tuple[float, float]) -> Advice | None:
    row = next(row for row in summary.verdict if row.claim == claim and row.device == "cpu")
    row.status, row.measured, row.ci = "fail", measured, ci
    return next((one for one in advice(summary) if one.rule.startswith("more_")), None)


def test_a_target_inside_the_interval_asks_for_more_blocks_and_says_how_many(calm, golden):
    found = missed(calm, "latency_reduction", 0.62, (0.58, 0.66))  # 0.04 wide, 0.02 away: four times as many
    assert found and found.rule == "more_blocks"
    assert found.figures["needed"] == pytest.approx(4 * found.figures["have"], abs=1)
    assert "`budget_seconds`" in found.text and f" {found.figures['needed']:.0f} " in found.because
    golden(said(found))


def test_a_first_look_asks_for_nothing_that_the_complete_report_brings(calm):
    calm.stage = "first_look"
    assert missed(calm, "latency_reduction", 0.62, (0.58, 0.66)) is None
    assert missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04)) is None
    calm.stage = "complete"
    assert missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))


def test_more_sentences_are_asked_for_only_where_the_study_s_files_have_them(calm, golden):
    calm.confirmation_sentences_available = 300
    enough = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))  # 0.04 wide, 0.02 away: four times as many
    assert enough and "`evaluate.confirmed`" in enough.text and "evaluation" not in enough.text
    assert (enough.figures["needed"], enough.figures["have"], enough.figures["available"]) == (80, 20, 300)
    assert all(f" {figure} " in enough.because for figure in (80, 20, 300)) and "only" not in enough.because
    assert "about an even chance" in enough.because
    calm.confirmation_sentences_available = 79
    short = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert short and "evaluate.confirmed" not in short.text and "`ttsopt power`" in short.text
    assert short.figures["available"] == 79 and "only 79" in short.because
    calm.confirmation_sentences_available = None
    unknown = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert unknown and unknown.text == enough.text and "available" not in unknown.figures
    assert "not known" in unknown.because and "300" not in unknown.because
    golden(said(enough), said(short), said(unknown))


def test_a_confirmed_variant_that_misses_is_judged_again_on_sentences_that_it_has_not_spoken(calm, golden):
    row = calm.quality_of(calm.optimized[calm.devices[0].device])
    row.predicted_mos.sentences_held_out = 20 + 30
    calm.confirmation, calm.confirmation_sentences = [row.model_copy()], 30
    calm.confirmation_sentences_available = 230
    found = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))  # 0.04 wide, 0.02 away: four times as many
    assert found and "`sentences.confirmation`" in found.text and "evaluation" not in found.text
    assert (found.figures["needed"], found.figures["have"], found.figures["available"]) == (200, 50, 200)
    assert all(f" {figure} " in found.because for figure in (200, 50)) and "only" not in found.because
    calm.confirmation_sentences_available = 229
    short = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert short and "sentences.confirmation" not in short.text and short.figures["available"] == 199
    assert "only 199" in short.because
    golden(said(found), said(short))


def test_what_several_devices_call_for_in_the_same_words_stands_once(summary):
    one = summary("many")
    for row in one.verdict:
        if row.claim in ("predicted_mos_change", "latency_reduction"):
            middle, half = row.target + 0.02 * abs(row.target), 0.03 * abs(row.target)
            row.status, row.measured, row.ci = "fail", middle, (middle - half, middle + half)
    rules = [piece.rule for piece in advice(one)]
    assert rules.count("more_sentences") == 1
    assert rules.count("more_blocks") == len(one.measured_devices) == 4  # each names its own device


def test_a_target_outside_the_interval_asks_for_no_more_samples(calm):
    assert missed(calm, "latency_reduction", 0.50, (0.48, 0.52)) is None


def test_a_figure_right_on_its_target_is_not_sent_to_measure_forever(calm, golden):
    found = missed(calm, "predicted_mos_change", -0.1, (-0.15, -0.05))
    assert found and "exactly" in found.text and "`" in found.text and "needed" not in found.figures
    assert "available" not in found.figures and "`sentences." not in found.text
    golden(said(found))


def test_a_variant_that_only_lacks_a_little_quality_is_worked_on_first(calm, golden):
    calm.optimized = {"cpu": "int8-weights"}
    set_change(calm, "distilled-int8-weights", -0.15)
    found = by_rule(calm)["near_miss"]
    assert named(found.text, calm) == {"distilled-int8-weights"} and "student longer" in found.text
    assert numbers.signed(-0.15) in found.because
    set_change(calm, "distilled-int8-weights", -0.6)
    assert "near_miss" not in by_rule(calm)
    golden(said(found))


def test_a_variant_that_the_optimized_one_beats_in_size_and_time_is_not_worked_on(calm):
    calm.optimized = {"cpu": "int8-weights"}
    set_change(calm, "distilled-int8-weights", -0.15)
    student, chosen = calm.variant("distilled-int8-weights"), calm.variant("int8-weights")
    for size, saved, worth in ((0.0, 0.0, False), (0.01, 0.0, True), (0.0, 0.01, True), (-0.01, -0.01, False)):
        student.size_reduction = 0.8
        chosen.size_reduction = 0.8 - size
        set_latency(calm, "distilled-int8-weights", 0.7)
        set_latency(calm, "int8-weights", 0.7 - saved)
        assert ("near_miss" in by_rule(calm)) == worth, (size, saved)


def test_only_one_variant_is_worked_on_first_and_the_others_come_after_it(calm, golden):
    calm.optimized = {"cpu": "int8-weights"}
    for name, saved in (("distilled-int8-weights", 0.7), ("int8-static-mixed", 0.9)):
        calm.variant(name).size_reduction = 0.8
        set_change(calm, name, -0.15)
        set_latency(calm, name, saved)
    found = [one for one in advice(calm) if one.rule == "near_miss"]
    assert len(found) == 1 and named(found[0].text, calm) == {"int8-static-mixed"}
    assert found[0].figures["latency_reduction"] == 0.9
    assert named(found[0].because, calm) == {"distilled-int8-weights"}
    assert sum("first" in one.text for one in advice(calm)) == 1
    golden(said(found[0]))


def test_a_variant_that_is_too_slow_on_one_device_comes_after_one_that_is_on_none(summary):
    one = summary("many")
    one.optimized = {}
    for name, saved in (("distilled-int8-weights", 0.7), ("int8-static-mixed", 0.9)):
        one.variant(name).size_reduction = 0.8
        set_change(one, name, -0.15)
        for number, device in enumerate(one.devices):
            row = one.timing_of(device, name)
            assert row
            slow = name == "int8-static-mixed" and number == 3
            row.latency_reduction = Estimate(value=0.1 if slow else saved, ci=None)
    found = by_rule(one)["near_miss"]
    assert named(found.text, one) == {"distilled-int8-weights"} and found.figures["latency_reduction"] == 0.7
    assert "int8-static-mixed" in named(found.because, one)


def test_a_change_is_said_to_be_over_all_sentences_or_over_those_that_did_not_choose(summary, golden):
    one = summary("good")
    because = by_rule(one)["ask_listeners"].because
    change = one.quality_of("distilled-int8").predicted_mos
    everywhere = because.index(f"{numbers.CHANGE.figure(change.change)} over all")
    assert everywhere < because.index(f"{numbers.CHANGE.figure(change.change_held_out)} {HELD_OUT}")
    row = next(row for row in one.verdict if row.claim == "predicted_mos_change" and row.measured is not None)
    row.status, row.measured, row.ci = "fail", -0.08, (-0.12, -0.04)
    undecided = by_rule(one)["more_sentences"]
    assert f"] {HELD_OUT}" in undecided.because
    golden(because, said(undecided))


def test_a_stage_that_takes_most_of_the_time_is_named_where_the_latency_target_is_missed(summary):
    one = summary("bad")
    found = by_rule(one)["largest_stage"]
    assert "decoder" in found.text and "distil it" in found.text
    assert found.figures["share_cpu"] == pytest.approx(0.2 / 0.293)
    one.targets = one.targets.model_copy(update={"latency_reduction": -1.0})
    assert "largest_stage" not in by_rule(one)


def test_int8_that_saves_nothing_is_blamed_on_the_processor_only_where_it_lacks_the_instructions(calm, golden):
    calm.variants = [v for v in calm.variants if v.name != "int8-dynamic-conv"]
    computing = [v.name for v in calm.variants if v.name.startswith("int8-static")]
    for name in computing:
        set_latency(calm, name, 0.01)
    able = by_rule(calm)["int8_without_gain"]
    assert "avx512_vnni" in able.because and able.figures["dot_product_instruction_sets"] == 1
    calm.devices[0].system.instruction_sets = ["avx2"]
    unable = by_rule(calm)["int8_without_gain"]
    assert "no VNNI" in unable.because and unable.figures["dot_product_instruction_sets"] == 0
    assert unable.text == able.text
    set_latency(calm, computing[0], 0.04, half=0.05)  # it may gain 9 %
    assert "int8_without_gain" not in by_rule(calm)
    golden(said(able), unable.because)


def test_a_size_that_is_missed_says_where_the_weights_are(summary, golden):
    one = summary("bad")
    remedies = ("`quantize_weights`", "`bits: 4`", "smaller student")

    def remedy() -> str:
        """The only remedy that is advised."""
        found = by_rule(one)["missing_size"]
        said_of.append(said(found))
        (taken,) = [name for name in remedies if name in found.text]
        return taken

    said_of: list[str] = []
    assert remedy() == "smaller student"
    figures = by_rule(one)["missing_size"].figures
    assert figures["size_reduction"] == pytest.approx(0.6) and figures["quantized_parameters"] == 0.98
    assert all(numbers.percent(figure) in said_of[0] for figure in (0.6, 0.72, 0.98))
    weights = one.variant("int8-weights").steps
    weights.insert(0, weights[0].model_copy(update={"step": "distill", "kind": "student", "settings": {}}))
    assert remedy() == "`bits: 4`"
    weights[1].settings["bits"] = 4
    assert remedy() == "smaller student"
    del weights[0]
    for variant in one.variants:
        variant.steps = [step for step in variant.steps if step.step != "quantize_weights"]
        for step in variant.steps:
            step.coverage.parameters = 0.5
    assert remedy() == "`quantize_weights`" and numbers.percent(0.5) in said_of[-1]
    golden(*said_of)


def test_threads_that_bring_little_and_threads_that_pay(calm, summary, golden):
    one = summary("good")
    pay = by_rule(one)["threads"]
    saved = pay.figures["saved"]
    assert "2 threads" in pay.text and saved > 0.3 and f"{numbers.percent(saved)} less" in pay.because
    for row in one.devices[0].rows:
        if row.threads == 2:
            row.rtf = next(r.rtf for r in one.devices[0].rows if (r.variant, r.threads) == (row.variant, 1)) * 1.01
    cost = by_rule(one)["threads"]
    assert "beyond 1" in cost.text and "nothing" in cost.text and "2 threads" not in cost.text
    assert cost.figures["saved"] == pytest.approx(-0.01) and f"{numbers.percent(0.01)} more" in cost.because
    golden(said(pay), said(cost))


def test_a_voice_that_nobody_heard_is_to_be_heard(summary):
    assert "`ttsopt listen`" in by_rule(summary("good"))["ask_listeners"].text


def test_too_few_raters_are_told_how_many_it_takes(calm, golden):
    human = calm.quality_of("distilled-int8-weights").human_mos
    human.detectable, human.equivalence_p, human.sentences = 0.2, 0.4, 48
    unknown = by_rule(calm)["more_raters"]
    assert "needed" not in unknown.figures
    calm.ratings_spread = RatingSpread(**asdict(ASSUMED))
    found = by_rule(calm)["more_raters"]
    needed = raters_needed(abs(calm.targets.mos_change), 48, ASSUMED)
    assert found.figures["needed"] == needed and f" {needed} " in found.text
    assert numbers.number(0.2, 2) in found.because
    human.sentences = 8
    too_few = by_rule(calm)["more_sentences"]
    assert raters_needed(abs(calm.targets.mos_change), 8, ASSUMED) is None and "8 no number" in too_few.text
    golden(said(unknown), said(found), said(too_few))


@pytest.mark.parametrize("sentences", [None, 12, 48])
def test_raters_who_would_settle_a_target_are_those_whom_the_power_of_the_test_asks_for(calm, sentences, golden):
    row = next(one for one in calm.verdict if one.claim == "mos_change")
    row.variant, row.status, row.target = "distilled-int8-weights", "fail", -0.2
    row.measured, row.ci = -0.1, (-0.25, 0.05)
    calm.quality_of(row.variant).human_mos.sentences = sentences
    calm.ratings_spread = RatingSpread(**asdict(ASSUMED))
    (found,) = [one for one in advice(calm) if f"target of {numbers.CHANGE.value(-0.2)} " in one.because]
    needed = sentences and raters_needed(0.1, sentences, ASSUMED)
    assert found.figures.get("needed") == needed
    assert found.rule == ("more_sentences" if sentences == 12 else "more_raters")
    golden(said(found))


def test_a_variant_that_costs_quality_and_gives_nothing_is_left_out(calm, golden):
    assert "useless" not in by_rule(calm)
    set_change(calm, "pruned-30", -0.5)
    found = by_rule(calm)["useless"]
    assert named(found.text, calm) == {"pruned-30"} and numbers.signed(-0.5) in found.because
    golden(said(found))
    set_latency(calm, "pruned-30", 0.04, half=0.05)
    assert "useless" not in by_rule(calm)


def test_hiss_where_predictors_are_deaf_is_to_be_heard(summary, golden):
    one = summary("good")
    row = one.quality_of("distilled-int8")
    row.level_above_8khz_change_db = Estimate(value=6.0, ci=(5.0, 7.0))
    found = by_rule(one)["hiss"]
    assert named(found.text, one) == {"distilled-int8"} and "8 kHz" in found.text
    assert numbers.LEVEL_CHANGE.bare.figure(row.level_above_8khz_change_db) in found.because
    golden(said(found))


def test_a_step_that_reaches_little_is_not_taken_for_int8_arithmetic(calm):
    calm.variants = [v for v in calm.variants if v.name == "original" or v.name == "int8-dynamic"]
    step = calm.variants[-1].steps[0]
    assert isinstance(step, StepSummary) and step.coverage.macs < 0.2
    set_latency(calm, "int8-dynamic", 0.0)
    assert "int8_without_gain" not in by_rule(calm)
