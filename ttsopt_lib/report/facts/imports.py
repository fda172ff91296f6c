"""Whether what was timed or scored are today's voices, and whose the records are that other machines measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ttsopt_lib.records.base import RecordError, read_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.report.device_schema import ImportSummary
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.facts.timing_rows import device_of
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device, Study


def further_devices(devices: Sequence[Device], folder: StudyFolder) -> list[Device]:
    """The devices of imported records that nobody named: they are shown all the same."""
    named, found = {device.name for device in devices}, []
    for path in sorted(folder.device_record("any").parent.glob("*.json")):
        try:
            record = read_record(path, DeviceRecord, "measure")
        except RecordError:  # one that nobody asked for
            continue
        if record.imported and path.stem == record.device and record.device not in named:
            found.append(device_of(record))
    return found


def of_this_study(record: DeviceRecord, study: Study) -> DeviceRecord:
    """A record without what it says of variants that the study does not have."""
    known = {*study.variant_names, ORIGINAL_COPY}
    rows = [row for row in record.rows if row.variant in known]
    profiles = [one for one in record.profiles if one.variant in known]
    batches = [one for one in record.batches if one.variant in known]
    return record.model_copy(update={"rows": rows, "profiles": profiles, "batches": batches})


def other_files(made_with: Iterable[tuple[str, str | None]], variants: Mapping[str, VariantRecord]) -> list[str]:
    """The variants whose voice file is not today's, from the hashes that were timed or scored.

    A file of which the record does not say the hash counts as today's.
    """
    today = {name: record.files.get("model.onnx") for name, record in variants.items()}
    found = (name for name, digest in made_with if digest and name in today and digest != today[name])
    return list(dict.fromkeys(found))


def why_not_judged(record: DeviceRecord | None, study: Study, variants: Mapping[str, VariantRecord]) -> list[str]:
    """Why timings are shown and not judged, in words: other voices than today's were timed, or other sentences."""
    if record is None or record.status != "measured":
        return []
    different, unknown = _timed_files(record, variants)
    doubts = []
    if different:
        files, differ = ("file", "differs") if len(different) == 1 else ("files", "differ")
        doubts.append(f"the voice {files} of {listed(different)} {differ} from today's")
    if unknown and record.imported:
        files, were = ("file", "was") if len(unknown) == 1 else ("files", "were")
        doubts.append(f"which voice {files} of {listed(unknown)} {were} timed is not known")
    texts = [text for group in study.sentences.timing.values() for text in group]
    if [sentence.text for sentence in record.sentences] != texts:
        doubts.append("other sentences were timed than the study's")
    return doubts


def import_summary(record: DeviceRecord | None, variants: Mapping[str, VariantRecord]) -> ImportSummary | None:
    """Where an imported record comes from; None for one that was measured here."""
    if record is None or record.imported is None:
        return None
    different, unknown = _timed_files(record, variants)
    return ImportSummary(
        file=record.imported.file,
        when=record.imported.when,
        commit=record.commit,
        different=different,
        unknown=unknown,
    )


def _timed_files(record: DeviceRecord, variants: Mapping[str, VariantRecord]) -> tuple[list[str], list[str]]:
    """The variants whose voice file is not today's, and those of which the record does not say which was timed."""
    timed = [(ORIGINAL if row.variant == ORIGINAL_COPY else row.variant, row.model_sha256) for row in record.rows]
    told = {name for name, digest in timed if digest}
    return other_files(timed, variants), [name for name in dict.fromkeys(dict(timed)) if name not in told]
