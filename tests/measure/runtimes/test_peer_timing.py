"""Peers are timed beside the variants, and what cannot be had says so without taking anything else along."""

from importlib import metadata
from pathlib import Path

import pytest
from timed_study import CPU, add_variant, study_of, timed_row

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure.journal import Pair, joined
from ttsopt_lib.measure.peers import CATALOGUE, missing_packages, versions_of
from ttsopt_lib.measure.plan import plan_peers, typical_sentence
from ttsopt_lib.measure.timing import current_measurement, measure_device
from ttsopt_lib.records.base import RecordError, now, write_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.study import ORIGINAL, PEERS, Study

TIMED = ("piper-tts", "sherpa-onnx", "ort-fp16", "openvino-fp32", "hibari-tts")
QUICK = {"budget_seconds": 20, "warmup_passes": 1, "min_blocks": 2, "max_blocks": 2}


def ready(name: str, model: str | None = None, reason: str | None = None) -> PeerRecord:
    status = "not_available" if reason else "ready"
    return PeerRecord(
        key=f"key-{name}", name=name, status=status, reason=reason, versions={}, model=model, files={}, size_bytes=1,
        seconds=0, created=now(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def timed(tmp_path_factory, medium_voice: Path) -> tuple[Study, StudyFolder, DeviceRecord]:
    """A small voice and its peers, made by their own tools and timed for two blocks."""
    from ttsopt_lib.optimize.peers import build_peers

    study = study_of("fp32", peers=TIMED, **QUICK)
    folder = StudyFolder(study, tmp_path_factory.mktemp("peers"))
    for name in study.variant_names:
        add_variant(folder, name, medium_voice, Path(f"{medium_voice}.json"))
    build_peers(study, folder)
    # ready by its record, and no model: it must not take the others along
    broken = ready("openvino-int8", "model.xml")
    write_record(folder.peer_record("openvino-int8"), broken)
    asked = study_of("fp32", peers=(*TIMED, "openvino-int8"), **QUICK)
    return asked, folder, measure_device(asked, CPU, folder, progress=False)


@pytest.mark.slow
def test_every_peer_has_samples_in_the_blocks_of_the_variants(timed):
    _, _, record = timed
    original = next(row for row in record.rows if row.variant == ORIGINAL)
    rows = {peer.name: peer.row for peer in record.peers if peer.row}
    assert set(rows) == set(TIMED), {peer.name: peer.reason for peer in record.peers}
    for name, row in rows.items():
        assert row.runtime == CATALOGUE[name].runtime and row.threads == 1
        assert len(row.seconds) == len(original.seconds) == 2 and all(s > 0 for block in row.seconds for s in block)
        assert row.peak_memory_mb > row.idle_memory_mb > 0 and row.load_seconds
    assert {row.variant for row in record.rows} == {ORIGINAL, "fp32", "original-copy"}
    assert all(profile.variant in (ORIGINAL, "fp32") for profile in record.profiles)


@pytest.mark.slow
def test_the_same_voice_speaks_as_long_and_another_voice_at_its_own_rate(timed):
    _, _, record = timed
    original = next(row for row in record.rows if row.variant == ORIGINAL).audio_seconds[0]
    spoken = {peer.name: peer.row.audio_seconds[0] for peer in record.peers if peer.row}
    assert spoken["openvino-fp32"] == pytest.approx(original, rel=0.02)
    assert spoken["ort-fp16"] == pytest.approx(original, rel=0.1)
    assert 0.3 < spoken["hibari-tts"][0] < 1.5, '"Yes." takes about half a second, whatever the sampling rate'


@pytest.mark.slow
def test_a_peer_that_does_not_load_is_left_out_with_the_reason(timed):
    _, _, record = timed
    failed = next(peer for peer in record.peers if peer.name == "openvino-int8")
    assert failed.row is None and failed.reason and failed.reason.startswith("openvino-int8 ")


@pytest.mark.slow
def test_what_was_timed_with_peers_stays_good_for_fewer_and_not_for_others(timed):
    study, folder, record = timed
    assert current_measurement(study, CPU, folder) == record
    assert current_measurement(study_of("fp32", **QUICK), CPU, folder) == record
    write_record(folder.peer_record("ort-int8-dynamic"), ready("ort-int8-dynamic", "model.onnx"))
    assert current_measurement(study_of("fp32", peers=("ort-int8-dynamic",), **QUICK), CPU, folder) is None
    with pytest.raises(RecordError, match="measure --peers"):
        current_measurement(study_of("fp32", peers=("openvino-bf16",), **QUICK), CPU, folder)


def test_a_missing_package_is_named_with_the_command_that_helps(monkeypatch):
    def version(package: str) -> str:
        if package in ("openvino", "nncf"):
            raise metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr("ttsopt_lib.code_hash.version", version)
    missing, command = (missing_packages("openvino-int8") or "").split("; ")
    assert missing.startswith("openvino and") and "nncf" in missing
    assert command.split() == ["pip", "install", "openvino", "nncf"]
    assert missing_packages("hibari-tts") is None and versions_of("hibari-tts") == {"hibari-tts": "1.0"}


def test_over_ssh_only_peers_in_onnxruntime_are_timed(tmp_path):
    far = CPU.model_copy(update={"runner": "ssh", "host": "pi@pi.local"})
    folder = StudyFolder(study_of("fp32"), tmp_path)
    rows, reasons = plan_peers(far, folder, [ready(name, "m.onnx" if "ort" in name else None) for name in PEERS])
    assert [row.variant for row in rows] == ["ort-int8-dynamic", "ort-fp16"]
    assert set(reasons) == set(PEERS) - {"ort-int8-dynamic", "ort-fp16"} and "over ssh" in reasons["piper-tts"]
    assert all(row.optional for row in rows)
    _, reasons = plan_peers(CPU, folder, [ready("ort-fp16", "m.onnx")], "cuda", ("pytorch",))
    assert reasons == {"ort-fp16": "ONNX Runtime does not reach this device"}
    assert plan_peers(CPU, folder, [ready("hibari-tts", reason="not installed")]) == (
        [],
        {"hibari-tts": "not installed"},
    )


def test_a_variant_cannot_take_a_peers_name_and_an_unknown_peer_is_refused():
    with pytest.raises(StudyError, match="belongs to a peer"):
        study_of("ort-fp16")
    with pytest.raises(StudyError, match="peers"):
        study_of("fp32", peers=["kokoro"])


@pytest.mark.slow
def test_a_text_is_taken_to_begin_with_the_sentence_of_median_length(timed):
    assert typical_sentence([13, 281, 41, 89]) == 3
    _, _, record = timed
    assert record.first_audio_sentence == 1 and record.sentences[1].length_class == "short"


def test_a_peer_that_fails_after_an_interruption_leaves_the_other_samples_paired():
    rows = [timed_row(ORIGINAL, [[1.0]] * 2), timed_row("ort-fp16", [[2.0]] * 2)]
    before = Pair(threads=1, rows=rows, elapsed_seconds=1, stopped_by=None)
    after = Pair(threads=1, rows=[timed_row(ORIGINAL, [[3.0]] * 2)], elapsed_seconds=2, stopped_by="budget")
    (kept,) = joined([before, after])
    assert kept.variant == ORIGINAL and kept.seconds == [[1.0], [1.0], [3.0], [3.0]]


def test_every_peer_is_asked_for():
    study = study_of("fp32", peers=["piper-tts"])
    assert study.measure.peers == ("piper-tts",) and study.with_all_peers().measure.peers == PEERS
