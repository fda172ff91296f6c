"""Device records that other machines measured: whose they are, and whether their voices are today's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """An imported record without the rows of variants that the study does not have."""
    if not record.imported:
        return record
    known = {*study.variant_names, ORIGINAL_COPY}
    rows = [row for row in record.rows if row.variant in known]
    profiles = [one for one in record.profiles if one.variant in known]
    return record.model_copy(update={"rows": rows, "profiles": profiles})


def import_summary(
    record: DeviceRecord | None, study: Study, variants: Mapping[str, VariantRecord]
) -> ImportSummary | None:
    """Where an imported record comes from, and why it is not judged; None for one that was measured here."""
    if record is None or record.imported is None:
        return None
    timed: dict[str, str | None] = {}
    for row in record.rows:
        name = ORIGINAL if row.variant == ORIGINAL_COPY else row.variant
        if name in variants:
            timed[name] = timed.get(name) or row.model_sha256
    unknown = [name for name, digest in timed.items() if digest is None]
    today = {name: variants[name].files.get("model.onnx") for name in timed}
    different = [name for name, digest in timed.items() if digest and digest != today[name]]
    doubts = []
    if different:
        files, differ = ("file", "differs") if len(different) == 1 else ("files", "differ")
        doubts.append(f"the voice {files} of {listed(different)} {differ} from today's")
    if unknown:
        files, were = ("file", "was") if len(unknown) == 1 else ("files", "were")
        doubts.append(f"which voice {files} of {listed(unknown)} {were} timed is not known")
    texts = [text for group in study.sentences.timing.values() for text in group]
    if [sentence.text for sentence in record.sentences] != texts:
        doubts.append("other sentences were timed than the study's")
    return ImportSummary(
        file=record.imported.file,
        when=record.imported.when,
        commit=record.commit,
        different=different,
        unknown=unknown,
        doubts=doubts,
    )
