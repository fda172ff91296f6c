"""Peers in the report: two tables, points in the trade-off, and never a candidate."""

from __future__ import annotations

from pathlib import Path

import golden_pages
import invented_records as records
import numpy as np
import pandas as pd
import pytest

from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.records.base import read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, PeerTiming
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import QualityRecord
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.report.chapters.speed import peers, timings
from ttsopt_lib.report.chapters.tradeoff import peer_positions, tradeoff_chart
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.schema import Estimate, Summary
from ttsopt_lib.study import ORIGINAL, PEERS, PeerName

SPEED: dict[PeerName, float] = {"piper-tts": 1.04, "ort-int8-dynamic": 0.2, "openvino-bf16": 0.8, "hibari-tts": 0.1}
TEXT = "text to audio"  # what a peer that takes no phonemes is compared with
MISSING = "openvino not installed; pip install openvino"


def add_peers(folder: StudyFolder) -> None:
    """Four peers beside the invented records of a study, and one whose package is missing."""
    device = read_record(folder.device_record("cpu"), DeviceRecord, "measure")
    quality = read_record(folder.quality_record, QualityRecord, "evaluate")
    original = next(row for row in device.rows if row.variant == ORIGINAL and row.threads == 1)
    for name in (*SPEED, "openvino-fp32"):
        reason = MISSING if name == "openvino-fp32" else None
        row = original.model_copy(deep=True, update={"variant": name, "runtime": CATALOGUE[name].runtime})
        row.seconds = [[SPEED.get(name, 1) * value for value in block] for block in row.seconds]
        key = f"key-{name}"
        device.peers.append(PeerTiming(name=name, key=key, row=None if reason else row, reason=reason))
        write_record(
            folder.peer_record(name),
            PeerRecord(
                key=key, name=name, status="not_available" if reason else "ready", reason=reason, versions={"x": "1"},
                model=None, files={}, size_bytes=None if reason else 8_000_000, seconds=1, created=records.CREATED,
            ),
        )  # fmt: skip
        if not reason:
            scores = quality.rows[0].model_copy(deep=True, update={"variant": name, "model_sha256": key})
            scores.scores = {
                key: [value - 0.39 - 0.02 * (number % 2) for number, value in enumerate(values)]
                for key, values in scores.scores.items()
            }
            quality.peers.append(scores)
    write_record(folder.device_record("cpu"), device.model_copy(update={"first_audio_sentence": 2}))
    write_record(folder.quality_record, quality)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    study, devices, folder = records.good(tmp_path_factory.mktemp("reports"))
    add_peers(folder)
    return summarize(study, devices, folder)


def test_a_peer_is_compared_with_the_original_in_onnxruntime_and_never_chosen(summary):
    device = summary.measured_devices[0]
    peer = next(peer for peer in summary.peers if peer.name == "ort-int8-dynamic")
    reduction = peer.timing_on(device.device).latency_reduction
    assert reduction.value == pytest.approx(0.8) and reduction.ci == pytest.approx((0.8, 0.8))
    assert peer.quality[0].predicted_mos.change.value == pytest.approx(-0.4)
    slower = next(peer for peer in summary.peers if peer.name == "piper-tts")
    assert slower.timing_on(device.device).latency_reduction.value == pytest.approx(-0.04)
    names = {row.variant for row in device.rows} | {row.variant for row in summary.quality}
    assert not names & set(PEERS) and all(choice.variant == "distilled-int8" for choice in summary.choices)


def test_a_peer_that_was_made_anew_has_no_time_and_no_scores_of_before(tmp_path):
    study, devices, folder = records.good(tmp_path)
    add_peers(folder)
    path = folder.peer_record("piper-tts")
    anew = read_record(path, PeerRecord, "measure --peers").model_copy(update={"key": "another"})
    write_record(path, anew)
    summary = summarize(study, devices, folder)
    timed = {peer.name: peer.timings[0] for peer in summary.peers}
    scored = {peer.name: bool(peer.quality) for peer in summary.peers}
    assert not scored["piper-tts"] and scored["ort-int8-dynamic"]
    assert [one.variant for one in summary.not_scored] == ["piper-tts"]
    assert summary.not_scored[0].reason == "made anew since it was scored (ttsopt evaluate --peers)"
    assert timed["piper-tts"].row is None and "made anew since it was timed" in (timed["piper-tts"].reason or "")
    assert timed["ort-int8-dynamic"].row is not None


def test_another_voice_has_absolute_figures_alone(summary):
    hibari = next(peer for peer in summary.peers if peer.another_voice)
    assert hibari.name == "hibari-tts" and hibari.compared == TEXT
    for row in hibari.quality:
        assert row.predicted_mos.change is None and row.predicted_mos.change_held_out is None
        assert row.predicted_mos.value > 3 and row.predicted_mos.ci
    assert "hibari-tts" not in [point.name for point in peer_positions(summary, summary.measured_devices[0])]


def test_two_tables_keep_the_voices_apart_and_show_ours_beside_them(summary, golden):
    same, other = peers.peers(summary).frame, peers.other_voices(summary).frame
    names = ["original", "distilled-int8", "piper-tts", "ort-int8-dynamic", "openvino-fp32", "openvino-bf16"]
    assert list(same["variant"]) == names
    assert list(other["variant"]) == ["original", "piper-tts", "hibari-tts"]
    missing = same.set_index("variant").loc["openvino-fp32"]
    assert missing["reason"] == MISSING and pd.isna(missing["rtf"]) and pd.isna(missing["size_bytes"])
    page = "\n".join(peers.section(summary))
    assert page.count(MISSING) == 1 and page.count("ANOTHER VOICE") == 1 and page.count("<table") == 2
    assert TEXT in page
    words = golden_pages.prose_of(page)
    assert "Joules" not in page, "nobody counted them"
    counting = summary.model_copy(deep=True)
    counting.devices[0].rows[0].energy_j_per_audio_second = Estimate(value=9.5, ci=(9.25, 9.75))
    counted = "\n".join(peers.section(counting))
    assert counted.index("9.500") < counted.index("[9.250, 9.750]") and "Joules" in counted
    golden(*words)


def test_peers_are_named_points_of_the_trade_off_outside_the_front(summary):
    chart = tradeoff_chart(summary)
    assert chart and "no candidates" in chart.caption
    written = {text.get_text() for text in chart.figure.axes[0].texts}
    assert {"piper-tts", "ort-int8-dynamic", "openvino-bf16"} <= written and "hibari-tts" not in written
    front = next(line for line in chart.figure.axes[0].lines if line.get_color() == "#777777")
    assert 80 not in [round(float(x)) for x in np.asarray(front.get_xdata())], "the fastest point is a peer's"


def test_nobody_asked_for_peers_says_how_to_get_them(tmp_path: Path):
    study, devices, folder = records.good(tmp_path)
    found = summarize(study, devices, folder)
    (how,) = peers.section(found)
    assert found.peers == [] and "run --peers" in how
    asked = study.model_copy(update={"measure": study.measure.model_copy(update={"peers": ("piper-tts",)})})
    (peer,) = summarize(asked, devices, folder).peers
    assert peer.reason and "not run" in peer.reason and "--peers" in peer.reason


def test_a_record_from_elsewhere_is_shown_without_the_peers_folder(tmp_path: Path):
    study, devices, folder = records.good(tmp_path)
    add_peers(folder)
    folder.peer_record("ort-int8-dynamic").unlink()
    peer = next(peer for peer in summarize(study, devices, folder).peers if peer.name == "ort-int8-dynamic")
    assert peer.reason is None and peer.size_bytes is None and peer.timing_on("cpu")


def test_time_to_first_audio_is_the_latency_of_the_sentence_that_a_text_begins_with(summary):
    device = summary.measured_devices[0]
    assert device.first_audio_sentence == "The birch canoe slid on the smooth planks."
    for row in device.rows:
        medium = next(part for part in row.length_classes if part.length_class == "medium")
        assert row.first_audio_ms and row.first_audio_ms.median == pytest.approx(medium.median_ms)
        low, high = row.first_audio_ms.ci
        assert low <= row.first_audio_ms.median <= high
    assert not any(pd.isna(value) for value in timings.timings(summary.measured_devices).frame["first_audio_ms"])


def test_published_figures_stand_apart_with_their_source(summary):
    (page,) = peers.published_section(summary)
    assert "not measured" in page and peers.SOURCE in page and "0.774" in page
    assert not any(row.rtf in peers.RTF_BY_THREADS.values() for device in summary.devices for row in device.rows)
    assert peers.SOURCE not in summary.model_dump_json()
