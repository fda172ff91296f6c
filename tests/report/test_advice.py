"""Advice: each rule is triggered by its figures, and by nothing else."""

from __future__ import annotations

import pytest

from ttsopt_lib.report import numbers
from ttsopt_lib.report.advice import advice
from ttsopt_lib.report.schema import Advice, Estimate, StepSummary, Summary


def by_rule(summary: Summary) -> dict[str, Advice]:
    return {one.rule: one for one in advice(summary)}


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


def test_a_machine_that_differs_from_itself_is_not_believed(calm):
    set_latency(calm, "original-copy", 0.05)
    found = by_rule(calm)["unsteady"]
    assert "5" in found.because and found.figures["same_file"] == 0.05


def test_a_predictor_that_is_deaf_to_known_damage_is_not_trusted(calm):
    row = next(row for row in calm.anchors if row.predictor == "dnsmos_p808")
    row.predicted_mos.change = Estimate(value=-0.03, ci=(-0.08, 0.02))
    assert "DNSMOS P.808" in by_rule(calm)["untrusted_predictor"].text
    row.predicted_mos.change = Estimate(value=-0.3, ci=(-0.4, -0.2))
    assert "untrusted_predictor" not in by_rule(calm)


def missed(summary: Summary, claim: str, measured: float, ci: tuple[float, float]) -> Advice | None:
    row = next(row for row in summary.verdict if row.claim == claim and row.device == "cpu")
    row.status, row.measured, row.ci = "fail", measured, ci
    return next((one for one in advice(summary) if one.rule.startswith("more_")), None)


def test_a_target_inside_the_interval_asks_for_more_blocks_and_says_how_many(calm):
    found = missed(calm, "latency_reduction", 0.62, (0.58, 0.66))  # 0.04 wide, 0.02 away: four times as many
    assert found and found.rule == "more_blocks"
    assert found.figures["needed"] == pytest.approx(4 * found.figures["have"], abs=1)


def test_more_sentences_are_asked_for_only_where_the_study_s_files_have_them(calm):
    assert calm.evaluation_sentences_available == 300  # harvard.txt before the sentences of calibration
    found = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))  # 0.04 wide, 0.02 away: four times as many
    assert found and "raise `sentences.evaluation.count`" in found.text and found.figures["needed"] == 160
    assert found.because.endswith(
        "about 160 in place of 40 would settle it, and the study has 300 for that in its files."
    )
    calm.evaluation_sentences_available = 159
    found = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert found and "raise" not in found.text and "ttsopt power" in found.text and found.figures["available"] == 159
    assert found.because.endswith("and the study has only 159 for that in its files.")
    calm.evaluation_sentences_available = None
    found = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert found and "is not known" in found.because and "available" not in found.figures


def test_a_confirmed_variant_that_misses_is_judged_again_on_sentences_that_it_has_not_spoken(calm):
    row = calm.quality_of(calm.optimized[calm.devices[0].device])
    row.predicted_mos.sentences_held_out = 20 + 30
    calm.confirmation, calm.confirmation_sentences = [row.model_copy()], 30
    calm.confirmation_sentences_available = 230
    found = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))  # 0.04 wide, 0.02 away: four times as many
    assert found and found.text.endswith("move `sentences.confirmation` to others, which it has not spoken.")
    assert found.because.endswith(
        "about 200 in place of 50 would settle it, and the study has 200 for that in its files."
    )
    calm.confirmation_sentences_available = 229
    short = missed(calm, "predicted_mos_change", -0.08, (-0.12, -0.04))
    assert short and "others" not in short.text and short.figures["available"] == 199


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


def test_a_figure_right_on_its_target_is_not_sent_to_measure_forever(calm):
    found = missed(calm, "predicted_mos_change", -0.1, (-0.15, -0.05))
    assert found and "exactly on the target" in found.text and "needed" not in found.figures


def test_a_variant_that_only_lacks_a_little_quality_is_worked_on_first(calm):
    calm.optimized = {"cpu": "int8-weights"}
    set_change(calm, "distilled-int8-weights", -0.15)
    found = by_rule(calm)["near_miss"]
    assert "`distilled-int8-weights`" in found.text and "student longer" in found.text
    set_change(calm, "distilled-int8-weights", -0.6)
    assert "near_miss" not in by_rule(calm)


def test_only_one_variant_is_worked_on_first_and_the_others_come_after_it(calm):
    calm.optimized = {"cpu": "int8-weights"}
    for name, saved in (("distilled-int8-weights", 0.7), ("int8-static-mixed", 0.9)):
        calm.variant(name).size_reduction = 0.8
        set_change(calm, name, -0.15)
        set_latency(calm, name, saved)
    found = [one for one in advice(calm) if one.rule == "near_miss"]
    assert len(found) == 1 and found[0].text.startswith("Work on `int8-static-mixed` first")
    assert "`distilled-int8-weights`" in found[0].because.partition("Next")[2]
    assert sum("first" in one.text for one in advice(calm)) == 1


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
    assert by_rule(one)["near_miss"].text.startswith("Work on `distilled-int8-weights` first")


def test_a_change_is_said_to_be_over_all_sentences_or_over_those_that_did_not_choose(summary):
    one = summary("good")
    because = by_rule(one)["ask_listeners"].because
    change = one.quality_of("distilled-int8").predicted_mos
    assert f"{numbers.change(change.change)} over all evaluation sentences" in because
    assert f"{numbers.change(change.change_held_out)} on the sentences that did not choose" in because
    row = next(row for row in one.verdict if row.claim == "predicted_mos_change" and row.measured is not None)
    row.status, row.measured, row.ci = "fail", -0.08, (-0.12, -0.04)
    assert "] on the sentences that did not choose" in by_rule(one)["more_sentences"].because


def test_a_stage_that_takes_most_of_the_time_is_named(summary):
    found = by_rule(summary("bad"))["largest_stage"]
    assert "decoder" in found.text and "distil it" in found.text
    assert found.figures["share_cpu"] == pytest.approx(0.2 / 0.293)


def test_a_latency_target_that_is_met_needs_no_advice_on_stages(calm):
    assert "largest_stage" not in by_rule(calm)


def test_int8_that_saves_nothing_is_blamed_on_the_processor_only_where_it_lacks_the_instructions(calm, summary):
    calm.variants = [v for v in calm.variants if v.name != "int8-dynamic-conv"]
    computing = [v.name for v in calm.variants if v.name.startswith("int8-static")]
    for name in computing:
        set_latency(calm, name, 0.01)
    assert "avx512_vnni" in by_rule(calm)["int8_without_gain"].because
    calm.devices[0].system.instruction_sets = ["avx2"]
    assert "no VNNI" in by_rule(calm)["int8_without_gain"].because
    set_latency(calm, computing[0], 0.3)
    assert "int8_without_gain" not in by_rule(calm)


def test_a_size_that_is_missed_says_where_the_weights_are(summary):
    one = summary("bad")
    assert "60" in by_rule(one)["missing_size"].because
    assert "take weights away" in by_rule(one)["missing_size"].text
    weights = one.variant("int8-weights").steps
    weights.insert(0, weights[0].model_copy(update={"step": "distill", "settings": {}}))
    assert "the students' weights in fewer than 8 bits (`bits: 4`" in by_rule(one)["missing_size"].text
    weights[1].settings["bits"] = 4
    assert "take weights away" in by_rule(one)["missing_size"].text
    del weights[0]
    for variant in one.variants:
        variant.steps = [step for step in variant.steps if step.step != "quantize_weights"]
        for step in variant.steps:
            step.coverage.parameters = 0.5
    assert "every weight in 8 bits" in by_rule(one)["missing_size"].text


def test_threads_that_bring_little_and_threads_that_pay(calm, summary):
    one = summary("good")
    assert "2 threads pay" in by_rule(one)["threads"].text
    for row in one.devices[0].rows:
        if row.threads == 2:
            row.rtf = next(r.rtf for r in one.devices[0].rows if (r.variant, r.threads) == (row.variant, 1)) * 1.01
    assert "Threads beyond 1 bring nothing" in by_rule(one)["threads"].text


def test_a_voice_that_nobody_heard_is_to_be_heard(summary):
    assert "ttsopt listen" in by_rule(summary("good"))["ask_listeners"].text


def test_too_few_raters_are_told_how_many_it_takes(calm):
    human = calm.quality_of("distilled-int8-weights").human_mos
    human.detectable, human.equivalence_p = 0.2, 0.4
    assert by_rule(calm)["more_raters"].figures["needed"] == 4 * human.raters


def test_a_variant_that_costs_quality_and_gives_nothing_is_left_out(calm):
    assert "useless" not in by_rule(calm)
    set_change(calm, "pruned-30", -0.5)
    assert "`pruned-30`" in by_rule(calm)["useless"].text


def test_hiss_where_predictors_are_deaf_is_to_be_heard(summary):
    one = summary("good")
    row = one.quality_of("distilled-int8")
    row.level_above_8khz_change_db = Estimate(value=6.0, ci=(5.0, 7.0))
    assert "above 8 kHz" in by_rule(one)["hiss"].text


def test_a_step_that_reaches_little_is_not_taken_for_int8_arithmetic(calm):
    calm.variants = [v for v in calm.variants if v.name == "original" or v.name == "int8-dynamic"]
    step = calm.variants[-1].steps[0]
    assert isinstance(step, StepSummary) and step.coverage.macs < 0.2
    set_latency(calm, "int8-dynamic", 0.0)
    assert "int8_without_gain" not in by_rule(calm)
