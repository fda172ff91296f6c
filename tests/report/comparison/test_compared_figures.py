"""What two reports have in common beyond latency and predicted MOS: every figure is compared, untested or named."""

from __future__ import annotations

import io
from typing import get_args

import pytest
from figure_names import CHARACTERS, DISTANCE, DISTANCE_ABOVE, ENERGY, FIRST_AUDIO, GPU_MEMORY, PREDICTED, TIME, WORDS
from rich.console import Console
from test_compare import row

from ttsopt_lib.report.comparison.compare import Comparison, OneSided, compare
from ttsopt_lib.report.comparison.figures import CENTS, FILE_SIZE, PERCENT, Group, figures
from ttsopt_lib.report.comparison.views import ALONE, CHANGED, REST, markdown, page, remarks, terminal
from ttsopt_lib.report.device_schema import LatencyMs
from ttsopt_lib.report.schema import (
    Estimate,
    PairedSummary,
    PeerSummary,
    PeerTimingSummary,
    Summary,
    TimingSummary,
    WerSummary,
)
from ttsopt_lib.study import ORIGINAL

VOICE = "fp32"
TWO_JOULES = "2.00 J [1.94, 2.06]"


def alone(found: Comparison, what: str) -> list[OneSided]:
    return [one for one in found.one_sided if one.what == what]


def timing(summary: Summary) -> TimingSummary:
    found = summary.timing_of(summary.devices[0], VOICE)
    assert found
    return found


def beside(summary: Summary) -> PairedSummary:
    quality = summary.quality_of(VOICE)
    assert quality and quality.paired
    return quality.paired


def spoken(summary: Summary, joules: float = 2.0) -> Summary:
    """With a time to first audio and with energy, which the invented records do not have."""
    device = summary.devices[0]
    device.first_audio_sentence, device.energy_source = "Good morning.", "a counter"
    one = timing(summary)
    one.first_audio_ms = LatencyMs(median=50.0, p95=60.0, ci=(49.0, 51.0))
    one.energy_j_per_audio_second = Estimate(value=joules, ci=(0.97 * joules, 1.03 * joules))
    one.energy_reduction = Estimate(value=0.3, ci=(0.28, 0.32))
    return summary


# --- quality ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "field", "near", "far", "printed"),
    [
        ("speaker similarity", "speaker_similarity", 0.99, 0.70, "-0.290 ["),
        (DISTANCE, "log_spectral_distance_db", 2.0, 6.0, "+4.00 dB ["),
        (DISTANCE_ABOVE, "log_spectral_distance_above_8khz_db", 2.0, 6.0, "+4.00 dB ["),
        ("F0 error", "f0_error_cents", 10.0, 60.0, "+50.0 cents ["),
        ("voicing disagreement", "voicing_disagreement", 0.02, 0.12, "+10.0 percentage points ["),
    ],
)
def test_farther_from_the_original_is_worse(what, field, near, far, printed, summary):
    before, after = summary("good"), summary("good")
    for one, value in ((before, near), (after, far)):
        setattr(beside(one), field, Estimate(value=value, ci=(0.95 * value, 1.005 * value)))
    worse, better = row(compare(before, after), what), row(compare(after, before), what)
    assert (worse.outcome, better.outcome) == ("worse", "better")
    assert worse.printed_change.replace("\N{MINUS SIGN}", "-").startswith(printed)
    assert row(compare(before, before), what).outcome == "unclear"
    setattr(beside(after), field, Estimate(value=far, ci=(far, far)))  # all sentences alike: no certainty
    assert row(compare(before, after), what).outcome == "not tested"
    after.paired_sentences = 20
    assert row(compare(before, after), what).note.endswith(" of sentences")


def test_another_speaker_encoder_forbids_its_own_figure_alone(summary):
    after = summary("good")
    after.speaker_encoder = "Another 1.0"
    found = compare(summary("good"), after)
    assert row(found, "speaker similarity").note.endswith(" encoder")
    assert row(found, "F0 error").outcome == "unclear"


def test_a_significant_change_that_prints_as_zero_is_unchanged(summary):
    before, after = summary("good"), summary("good")
    beside(before).f0_error_cents = Estimate(value=0.0001, ci=(0.00009, 0.00011))
    beside(after).f0_error_cents = Estimate(value=0.0300, ci=(0.02999, 0.03001))
    one = row(compare(before, after), "F0 error")
    assert one.outcome == "same" and one.printed_change.startswith("0.0 cents")
    beside(after).f0_error_cents = Estimate(value=0.0600, ci=(0.05999, 0.06001))
    assert row(compare(before, after), "F0 error").outcome == "worse"


# --- timings ------------------------------------------------------------------------------------------------------


def test_memory_and_load_time_are_shown_without_a_claim(summary, golden):
    after = summary("good")
    timing(after).peak_memory_mb = 2 * (timing(after).peak_memory_mb or 0.0)
    timing(after).load_ms = 2000.0
    found = compare(summary("good"), after)
    memory, load = row(found, "peak memory"), row(found, "load time")
    assert memory.outcome == load.outcome == "not tested" and "no interval" in memory.note
    assert memory.printed_change == "+100.0 %" and memory.change and memory.change.ci is None
    (untested,) = [text for text in remarks(found) if "Not tested" in text]
    assert "peak memory" in untested and "load time" in untested and TIME not in untested
    assert row(compare(after, after), "peak memory").outcome == "same"
    golden(untested, memory.note)


def test_gpu_memory_is_a_figure_of_its_own(summary):
    before, after = summary("good"), summary("good")
    timing(before).device_memory_mb, timing(after).device_memory_mb = 100.0, 150.0
    assert row(compare(before, after), GPU_MEMORY).printed_change == "+50.0 %"


def test_time_to_first_audio_is_judged_for_the_same_first_sentence(summary):
    before, after = spoken(summary("good")), spoken(summary("good"))
    timing(after).first_audio_ms = LatencyMs(median=25.0, p95=30.0, ci=(24.5, 25.5))
    one = row(compare(before, after), FIRST_AUDIO)
    assert one.outcome == "better" and one.change
    assert one.change.value == pytest.approx(-0.5) and one.change.ci and one.change.ci[1] < -0.45
    after.devices[0].scales = [0.667, 2.0, 0.8]
    assert row(compare(before, after), FIRST_AUDIO).note.endswith(" rate")
    after.devices[0].first_audio_sentence = "Hello."
    assert row(compare(before, after), FIRST_AUDIO).note.endswith("first sentence")


def test_times_and_energy_are_judged_for_the_same_timing_sentences(summary):
    before, after = spoken(summary("good")), spoken(summary("good"), joules=3.0)
    timed = (TIME, "latency reduction", ENERGY, "energy reduction", "peak memory")
    assert all(row(compare(before, after), what).outcome != "not compared" for what in timed)
    after.devices[0].sentences_sha256 = "0" * 64
    found = compare(before, after)
    assert {row(found, what).note for what in timed} == {"other timing sentences"}
    assert row(found, "load time").outcome == "same"
    before.devices[0].sentences_sha256 = None  # of an older version
    assert row(compare(before, after), ENERGY).outcome == "worse"
    after.devices[0].scales = [0.667, 2.0, 0.8]
    assert row(compare(before, after), TIME).note == "another noise or speaking rate"


def test_energy_is_judged_where_the_same_counter_counted(summary):
    before, after = spoken(summary("good")), spoken(summary("good"), joules=3.0)
    found = compare(before, after)
    assert row(found, ENERGY).outcome == "worse"
    assert row(found, ENERGY).after.startswith("3.00 J")
    assert row(found, "energy reduction").outcome == "unclear"
    after.devices[0].energy_source = "another"
    found = compare(before, after)
    notes = {row(found, what).note for what in (ENERGY, "energy reduction")}
    assert len(notes) == 1 and "counter" in notes.pop()


def test_nothing_that_was_timed_is_compared_between_two_machines(summary):
    before, after = spoken(summary("good")), spoken(summary("good"))
    system = after.devices[0].system
    assert system
    after.devices[0].system = system.model_copy(update={"hostname_hash": "f" * 12})
    timed = [one for one in compare(before, after).differences if ", CPU," in one.subject]
    assert {one.note for one in timed} == {"another machine"} and all(one.change is None for one in timed)
    assert {"peak memory", "load time", FIRST_AUDIO, "energy reduction"} <= {one.what for one in timed}


# --- one report only ----------------------------------------------------------------------------------------------


def test_a_figure_of_one_report_alone_is_named_with_its_value(summary, golden):
    before, after = spoken(summary("good")), summary("good")
    beside(before).f0_error_cents = None
    found = compare(before, after)
    (joules,), (cents,) = alone(found, ENERGY), alone(found, "F0 error")
    assert (joules.report, joules.value) == ("A", TWO_JOULES)
    assert (cents.report, cents.subject) == ("B", VOICE) and cents.value.endswith("]") and "cents" in cents.value
    assert not [one for one in found.differences if one.what == ENERGY]
    ours, theirs = [text for text in remarks(found) if "(1 row)" in text]
    assert " A " in ours and "energy reduction" in ours and "F0 error" not in ours
    assert " B " in theirs and "F0 error" in theirs and "energy" not in theirs
    golden(ours, theirs)


def test_every_figure_of_common_variants_and_devices_is_compared_or_named(summary):
    """Of reports as unlike as these, nothing is dropped in silence."""
    before, after = summary("good"), summary("bad")  # B: no recognizer, and a variant less
    found = compare(before, after)
    in_both = {variant.name for variant in after.variants} | {"original-copy"}
    keys = {key for key in {**figures(before), **figures(after)} if key.name in in_both}
    assert len(found.differences) + len(found.one_sided) == len(keys)
    assert len(alone(found, WORDS)) == len(alone(found, CHARACTERS)) == len(after.variants)
    assert {one.report for one in found.one_sided} == {"A"}


def test_what_another_number_of_threads_took_is_named(summary):
    after = summary("good")
    after.devices[0].rows = [one for one in after.devices[0].rows if one is not timing(after)]
    found = compare(summary("good"), after)
    assert {one.what for one in found.one_sided} == {
        TIME, "latency reduction", "peak memory", "load time",
    }  # fmt: skip


# --- peers --------------------------------------------------------------------------------------------------------


def with_peer(summary: Summary, slower: float = 1.0, name: str = "piper-tts") -> Summary:
    """The original once more as something that a user would pick instead."""
    original, heard = summary.timing_of(summary.devices[0], ORIGINAL), summary.quality_of(ORIGINAL)
    assert original and heard and original.rtf_ci
    low, high = original.rtf_ci
    timed = {"variant": name, "runtime": name, "rtf": slower * original.rtf, "rtf_ci": (slower * low, slower * high)}
    summary.peers.append(
        PeerSummary(
            name=name, label=name, versions={name: "1.0"}, another_voice=False, compared="text to audio",
            same_noise=False, reason=None, size_bytes=8_000_000, size_reduction=None,
            timings=[
                PeerTimingSummary(
                    device="cpu", status="measured", reason=None, row=original.model_copy(deep=True, update=timed)
                )
            ],
            quality=[heard.model_copy(deep=True, update={"variant": name})],
        )
    )  # fmt: skip
    return summary


def test_peers_are_compared_with_themselves_in_a_table_of_their_own(summary, golden):
    before, after = with_peer(summary("good")), with_peer(summary("good"), slower=1.5)
    after.peers[0].size_bytes = 16_000_000
    after.peers[0].versions = {"piper-tts": "2.0"}
    found = compare(before, after)
    peers = [one for one in found.differences if one.group == "Peers"]
    assert {one.what for one in peers if one.outcome == "worse"} == {"size", TIME}
    assert {PREDICTED, WORDS, "peak memory"} <= {one.what for one in peers}
    assert {one.subject.split(",")[0] for one in peers} == {"piper-tts"}
    (software,) = [text for text in found.cautions if "software" in text]
    assert software.startswith("piper-tts (peer)") and software.index("1.0") < software.index("2.0")
    assert found.only == ([], [])
    golden(software)


def test_a_peer_of_one_report_alone_is_named(summary, golden):
    found = compare(summary("good"), with_peer(summary("good")))
    assert found.only == ([], ["piper-tts (peer)"])
    (only,) = [text for text in remarks(found) if "(peer)" in text]
    assert "in B" in only and "piper-tts" in only
    golden(only)


def test_a_peer_that_was_not_timed_in_one_report_is_named(summary, golden):
    before, after = with_peer(summary("good")), with_peer(summary("good"))
    after.peers[0].timings[0].row = None
    found = compare(before, after)
    (one,) = alone(found, TIME)
    assert (one.group, one.report) == ("Peers", "A")
    (told,) = [text for text in remarks(found) if "(1 row)" in text]
    assert f"{TIME} of peers" in told and " A " in told
    golden(told)


# --- how they are shown -------------------------------------------------------------------------------------------


def test_the_tables_are_few_narrow_and_named(summary):
    before, after = with_peer(spoken(summary("good"))), with_peer(summary("good"), slower=1.5)
    after.variant(VOICE).size_bytes *= 2
    found = compare(before, after)
    text, html = markdown(found), page(found)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    groups = [f"### {group}" for group in get_args(Group)]
    assert titles[1:4] == [f"## {CHANGED}", groups[0], groups[-1]]
    assert titles[4:] == [f"## {REST}", *groups, f"## {ALONE}"] and len(groups) == 5
    assert html.count("<table") == html.count("<caption") == 8
    assert html.count('<th scope="col"') == 7 * 6 + 4
    assert html.count('<th scope="row">') == len(found.differences) + len(found.one_sided)
    assert len({part.split('"')[0] for part in html.split('<caption id="')[1:]}) == 8
    (joules,) = [line.split(" | ") for line in text.splitlines() if TWO_JOULES in line]
    assert joules[0] == f"| {ENERGY}" and joules[1].startswith("`fp32, CPU") and joules[2:] == ["A", f"{TWO_JOULES} |"]


def test_the_terminal_has_a_table_for_each_group(summary):
    before, after = with_peer(spoken(summary("good"))), with_peer(summary("good"), slower=1.5)
    found = compare(before, after)

    def printed(everything: bool) -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(terminal(found, everything))
        return console.export_text()

    beside_it = get_args(Group)[3]
    assert "Peers" in printed(False) and beside_it not in printed(False)
    assert beside_it in printed(True) and ALONE in printed(True)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (FILE_SIZE.figure(Estimate(value=63_200_000, ci=None)), "63.2 MB"),
        (FILE_SIZE.difference(Estimate(value=0.5, ci=(0.4, 0.6))), "+50.0 % [+40.0, +60.0]"),
        (PERCENT.difference(Estimate(value=0.02, ci=None)), "+2.0 percentage points"),
        (CENTS.figure(Estimate(value=8.24, ci=(7.93, 8.58))), "8.2 cents [7.9, 8.6]"),
    ],
)
def test_figures_and_changes_carry_their_units(printed, expected):
    assert printed == expected


def test_a_change_that_prints_as_zero_is_nothing():
    assert CENTS.is_nothing(Estimate(value=0.04, ci=None)) and not CENTS.is_nothing(Estimate(value=0.06, ci=None))
    assert FILE_SIZE.is_nothing(Estimate(value=0.0004, ci=None)) and not FILE_SIZE.is_nothing(
        Estimate(value=0.001, ci=None)
    )


def test_relative_rates_are_compared_under_names_of_their_own(summary):
    one, other = summary("good"), summary("good")
    for made, value in ((one, 0.1), (other, 0.3)):
        made.asr_against = "original"
        for found in made.quality:
            found.wer = found.cer = found.wer_figures = found.cer_figures = None
            found.relative_wer = WerSummary(value=value, ci=(value - 0.01, value + 0.01), change=None)
    made = compare(one, other)
    assert row(made, "relative word error rate").outcome == "worse"
    subjects = {found.subject for found in made.differences if found.what == "relative word error rate"}
    assert ORIGINAL not in subjects and not {WORDS, CHARACTERS} & {found.what for found in made.differences}
