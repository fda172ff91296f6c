"""Peers in the summary: what a user would pick instead, from the records of peers, devices and quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.report.facts.timing_rows import summarize_peer
from ttsopt_lib.report.schema import PeerSummary, PeerTimingSummary, QualitySummary
from ttsopt_lib.study import PEERS, PeerName, Study

Records = Mapping[str, DeviceRecord | None]  # by the device's name
NOT_RUN = "not run yet (ttsopt run --peers)"
MADE_ANEW = "made anew since it was timed (ttsopt run --peers)"


def summarize_peers(
    study: Study, folder: StudyFolder, records: Records, scored: Sequence[QualitySummary], original_bytes: int
) -> list[PeerSummary]:
    """Every peer that was asked for, timed or scored, in the order of the list; empty where nobody asked.

    `scored` are the peers' rows of quality. Raises RecordError for a record that cannot be read.
    """
    known = {timing.name for record in records.values() if record for timing in record.peers}
    known |= {row.variant for row in scored} | set(study.measure.peers)
    return [_peer(name, folder, records, scored, original_bytes) for name in PEERS if name in known]


def _peer(
    name: PeerName, folder: StudyFolder, records: Records, scored: Sequence[QualitySummary], original_bytes: int
) -> PeerSummary:
    about = CATALOGUE[name]
    path = folder.peer_record(name)
    record = read_record(path, PeerRecord, "measure --peers") if path.is_file() else None
    size = record.size_bytes if record else None
    quality = [row for row in scored if row.variant == name]
    timings = [
        _timing(name, device, found, record)
        for device, found in records.items()
        if found and found.status == "measured"
    ]
    known = bool(quality) or any(timing.row for timing in timings)  # a record that came from elsewhere has no folder
    return PeerSummary(
        name=name,
        label=about.label,
        versions=record.versions if record else {},
        another_voice=about.another_voice,
        compared=about.compared,
        same_noise=about.same_noise,
        reason=record.reason if record else None if known else NOT_RUN,
        size_bytes=size,
        size_reduction=None if size is None else 1 - size / original_bytes,
        timings=timings,
        quality=[absolute(row) for row in quality] if about.another_voice else quality,
    )


def _timing(name: PeerName, device: str, record: DeviceRecord, peer: PeerRecord | None) -> PeerTimingSummary:
    found = next((timing for timing in record.peers if timing.name == name), None)
    if found and found.row and peer and found.key != peer.key and record.imported is None:
        return PeerTimingSummary(device=device, status="not_measured", reason=MADE_ANEW, row=None)
    row = summarize_peer(found.row, record) if found and found.row else None
    reason = None if row else (found and found.reason) or NOT_RUN
    return PeerTimingSummary(device=device, status="measured" if row else "not_measured", reason=reason, row=row)


def absolute(row: QualitySummary) -> QualitySummary:
    """Scores without their changes: a change between two voices says nothing about what was done to either."""
    nothing = {"change": None, "change_choosing": None, "change_held_out": None, "sentences_held_out": 0}
    mos = row.predicted_mos.model_copy(update=nothing)
    return row.model_copy(update={"predicted_mos": mos, "level_above_8khz_change_db": None})
