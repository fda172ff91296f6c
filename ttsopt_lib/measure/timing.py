"""Time a study's variants on one device and keep the raw samples: the step behind `ttsopt measure`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from threading import Lock
from typing import TYPE_CHECKING, Any

from ttsopt_lib.code_hash import code_digest, git_state
from ttsopt_lib.files import content_key, file_sha256
from ttsopt_lib.measure.browser import measure_in_browser
from ttsopt_lib.measure.devices import Probe, probe
from ttsopt_lib.measure.importing import record_on_file
from ttsopt_lib.measure.journal import Journal
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.plan import (
    PlannedInput,
    PlannedSentence,
    PlannedText,
    TimingPlan,
    plan_peers,
    plan_rows,
    plan_streams,
    typical_sentence,
)
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.progress import Bars
from ttsopt_lib.measure.remote.measurement import time_over_ssh
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.scenarios.batches import batch_texts, plan_batches
from ttsopt_lib.measure.scenarios.first_sound import SHARE as FIRST_SOUND_SHARE
from ttsopt_lib.measure.session import Findings, time_plan
from ttsopt_lib.records.base import now, read_record, write_record
from ttsopt_lib.records.device import DeviceRecord, Doubt, PeerTiming, Runtime, TimedSentence
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord, VariantRecord
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device, MeasureSettings, Study

if TYPE_CHECKING:
    from ttsopt_lib.voices.adapters.model import TtsModel
    from ttsopt_lib.voices.piper import VoiceConfig

PLANNING = Lock()  # the phonemizer serves one caller at a time; devices are measured by several threads
# What decides how many blocks are timed, and what is timed after them: a first look and the complete run differ in
# these alone.
HOW_MANY = (
    "budget_seconds",
    "limit_seconds",
    "min_blocks",
    "max_blocks",
    "enough_blocks",
    "interval_width",
    "first_sound",
)


def device_key(study: Study, device: Device, variants: dict[str, VariantRecord]) -> str:
    """Content key of one device's measurement: of its blocks, with which threads, how many, and of batches."""
    settings = settings_for(study, device)
    how_many = [getattr(settings, name) for name in HOW_MANY]
    batches = [device.batch_sizes, batch_texts(study, device)] if device.batch_sizes else []
    return content_key(blocks_key(study, device, variants), device.threads, how_many, *batches)


def blocks_key(study: Study, device: Device, variants: dict[str, VariantRecord]) -> str:
    """Content key of every block of a measurement: settings, sentences, voice files, device and measuring code.

    The machine and the way to it are not in it: a record brought from a board must stay good where the report is
    made. Which machine it was stands in the record's `system`. Peers are not in it either: what was timed with them
    stays good for whoever asks for fewer; `current_measurement` sees to those who ask for more.
    """
    return content_key(
        # peers: more rows change none of the others
        settings_for(study, device).model_dump(exclude={"peers", *HOW_MANY}),
        study.sentences.timing,
        study.voice.speaker,
        # with the first number of threads all rows are timed
        [device.name, device.kind, device.threads[0], device.pytorch, device.onnxruntime],
        {name: [record.files, record.recipe] for name, record in variants.items()},
        _timing_code(device),
    )


def _timing_code(device: Device) -> str:
    """Hash of the code that times: of a browser that of its page, what the page has from elsewhere included."""
    if device.kind != "browser":
        of_gpu = ("ttsopt_lib.voices.length_buckets",) if device.kind == "gpu" else ()
        return code_digest("ttsopt_lib.measure", "ttsopt_lib.networks.gpu_modes", *of_gpu)
    page = Path(__file__).parents[1] / "web" / "page"
    files = {str(path.relative_to(page)): file_sha256(path) for path in sorted(page.rglob("*")) if path.is_file()}
    return content_key(code_digest("ttsopt_lib.measure.browser", "ttsopt_lib.web"), files)


def settings_for(study: Study, device: Device) -> MeasureSettings:
    """How long and how often to time on this device: as the study says, but within the device's own times."""
    names = ("budget_seconds", "opening_seconds", "limit_seconds")
    own = {name: value for name in names if (value := getattr(device, name)) is not None}
    return study.measure.model_copy(update=own)


def read_variants(study: Study, folder: StudyFolder) -> dict[str, VariantRecord]:
    """The records of the baseline and every variant. Raises RecordError for one that is not made yet."""
    return {name: read_record(folder.variant_record(name), VariantRecord, "optimize") for name in study.variant_names}


def read_peers(study: Study, folder: StudyFolder) -> list[PeerRecord]:
    """The records of the study's peers. Raises RecordError for one that was not made ready yet."""
    return [read_record(folder.peer_record(name), PeerRecord, "measure --peers") for name in study.measure.peers]


def current_measurement(study: Study, device: Device, folder: StudyFolder) -> DeviceRecord | None:
    """The record on file if measuring now would add nothing to it, else None.

    A measured record of the same inputs stays; one that says `not_measured` only while its reason holds. An imported
    one stays as it is: the report says where it differs. Raises RecordError for a variant that is not made yet.
    """
    present = _on_file(study, device, folder)
    if present is None or present.imported:
        return present
    if present.status == "measured":
        timed = {(peer.name, peer.key) for peer in present.peers}
        return present if all((peer.name, peer.key) in timed for peer in read_peers(study, folder)) else None
    if device.runner == "ssh":
        return None  # whether it is there again is found out by going there
    return present if _look_for(device, folder).reason == present.reason else None


def _look_for(device: Device, folder: StudyFolder) -> Probe:
    """What is found of a local device; it is not at hand for a voice that no runtime speaks on it."""
    from ttsopt_lib.voices.adapters.opening import open_model

    found, original = probe(device), folder.model(ORIGINAL)
    if device.kind != "gpu" or found.reason or "onnxruntime" in found.runtimes or not original.is_file():
        return found
    voice = open_model(original)
    if voice.is_vits:
        return found
    return Probe(f"PyTorch has no network of {voice.kind}, and {'; '.join(found.notes)}; then measure again")


def _on_file(study: Study, device: Device, folder: StudyFolder) -> DeviceRecord | None:
    """The device's record if it was made of the same inputs, or imported. Raises RecordError as `read_variants`."""
    key = device_key(study, device, read_variants(study, folder))
    present = record_on_file(folder.device_record(device.name))
    return present if present and (present.imported or present.key == key) else None


def measure_device(
    study: Study,
    device: Device,
    folder: StudyFolder,
    *,
    progress: bool = True,
    again: bool = False,
    connection: Connection | None = None,
    position: int = 0,
) -> DeviceRecord:
    """Time the study on a device, write `records/devices/<name>.json` and return it.

    What `current_measurement` finds is returned as it is, unless `again`. Where the device is not at
    hand the record says `not_measured` and why; it never takes the place of the same study's measured one,
    which may come from the device itself. A device with `runner: ssh` is reached by `connection` (default: one
    of its own); `position` is the line of its progress bars where several devices are timed at once. A local run that
    was interrupted goes on after its last pair of blocks, unless `again`.

    Raises RecordError for a variant that is not made yet, `MeasureError` for one that cannot be timed or a
    host that cannot be reached; nothing is written then.
    """
    present = current_measurement(study, device, folder)
    found = Probe() if device.runner == "ssh" else _look_for(device, folder)
    if present and (not again or found.reason):
        return present
    variants = read_variants(study, folder)
    key = device_key(study, device, variants)
    if found.reason:
        _keep_outdated(folder.device_record(device.name))
        record = _record(key, device, found, status="not_measured")
    else:
        _check_files(folder, variants)
        peers = read_peers(study, folder)
        if device.kind == "browser":
            record = _measured_in_browser(study, device, folder, key, peers, progress, position)
            write_record(folder.device_record(device.name), record)
            return record
        with PLANNING:
            plan, reasons = _plan(study, device, folder, variants, peers, found)
        with Bars(device.label, plan.settings.budget_seconds, progress, position) as bars:
            if device.runner == "ssh":
                findings = time_over_ssh(plan, device, connection or Connection(device), bars, again=again)
            else:
                keys = [blocks_key(study, device, variants), *(peer.key for peer in peers)]
                journal = _journal(folder, device, keys, plan, again)
                if journal.pairs:
                    bars.doing(f"going on after {2 * len(journal.pairs)} blocks")
                findings = time_plan(plan, bars.tick, journal, found.accelerator_name, bars.step)
                if study.stage == "first_look":
                    journal.reopen()
        record = _measured(_record(key, device, found, status="measured"), plan, findings)
        record.stage, record.study, record.commit = study.stage, study.name, git_state()[0]
        for row in record.rows:
            name = ORIGINAL if row.variant == ORIGINAL_COPY else row.variant
            row.model_sha256 = variants[name].files.get(folder.model(name).name)
        record.warnings += [Doubt(text=note) for note in found.notes]
        record.peers = _peer_timings(peers, reasons, findings)
    write_record(folder.device_record(device.name), record)
    if record.stage == "complete":
        rmtree(folder.unfinished(device.name), ignore_errors=True)
    return record


def _measured_in_browser(
    study: Study,
    device: Device,
    folder: StudyFolder,
    key: str,
    peers: list[PeerRecord],
    progress: bool,
    position: int,
) -> DeviceRecord:
    """What the study's page measured in this machine's browser; it has no row of a peer."""
    settings = settings_for(study, device)
    with Bars(device.label, settings.budget_seconds, progress, position) as bars:
        record = measure_in_browser(study, device, folder, settings, bars)
    record.key, record.created, record.stage, record.commit = key, now(), study.stage, git_state()[0]
    reason = "a browser times the voices of the page alone"
    record.peers = [PeerTiming(name=peer.name, key=peer.key, row=None, reason=reason) for peer in peers]
    return record


def _journal(folder: StudyFolder, device: Device, keys: list[str], plan: TimingPlan, again: bool) -> Journal:
    """The journal of this measurement: with the blocks of an interrupted one of the same inputs on the same machine."""
    machine = describe_system().model_dump(exclude={"temperature_c", "throttling"})
    unfinished = folder.unfinished(device.name)
    rows = plan.rows_with(plan.thread_counts[0])  # those with more threads are a part of these
    path = unfinished / f"{content_key(keys, rows, plan.sentences, plan.scales, plan.speaker, machine)[:16]}.jsonl"
    for old in unfinished.glob("*.jsonl"):
        if again or old != path:
            old.unlink()
    unfinished.mkdir(parents=True, exist_ok=True)
    return Journal(path)


def _keep_outdated(path: Path) -> None:
    """Move a measurement of other variants or settings aside: the device that could repeat it is not at hand."""
    old = record_on_file(path)
    if old and old.status == "measured":
        path.replace(path.with_name(f"{path.stem}.outdated-{old.created[:10]}.json"))


def record_failure(study: Study, device: Device, folder: StudyFolder, reason: str) -> DeviceRecord:
    """Leave "not measured" with the reason on file; an outdated measurement is moved aside, a current one stays.

    A record that cannot be written, where a full disk is what failed, is returned all the same.
    """
    present = _on_file(study, device, folder)
    if present and present.status == "measured":
        return present
    key = device_key(study, device, read_variants(study, folder))
    record = _record(key, device, Probe(reason), status="not_measured")
    with suppress(OSError):
        _keep_outdated(folder.device_record(device.name))
        write_record(folder.device_record(device.name), record)
    return record


def _measured(record: DeviceRecord, plan: TimingPlan, findings: Findings) -> DeviceRecord:
    """The record with what was found in it."""
    record.system = findings.system
    record.sentences = [
        TimedSentence(length_class=s.length_class, text=s.text, phonemes=len(s.ids)) for s in plan.sentences
    ]
    record.scales = list(plan.scales)
    record.rows = findings.rows
    record.stopped_by = findings.stopped_by
    record.stops, record.sittings = findings.stops, findings.sittings
    record.energy = findings.energy
    record.batches = findings.batches
    record.elapsed_seconds = findings.elapsed_seconds
    record.warnings = findings.warnings
    record.profiles = findings.profiles
    record.first_sound = findings.first_sound
    record.first_audio_sentence = typical_sentence([len(sentence.ids) for sentence in plan.sentences])
    return record


def _peer_timings(peers: list[PeerRecord], reasons: dict[str, str], findings: Findings) -> list[PeerTiming]:
    """Every peer that was asked for: its samples, or why there are none."""
    rows = {row.variant: row for row in findings.peer_rows}
    reasons = reasons | {one.row.variant: one.reason for one in findings.left_out if one.row.is_peer}
    return [
        PeerTiming(name=peer.name, key=peer.key, row=rows.get(peer.name), reason=reasons.get(peer.name))
        for peer in peers
    ]


def _record(key: str, device: Device, found: Probe, status: Any) -> DeviceRecord:
    return DeviceRecord(
        key=key,
        device=device.name,
        label=device.label,
        kind=device.kind,
        status=status,
        reason=found.reason,
        created=now(),
        system=None,
    )


def _check_files(folder: StudyFolder, variants: dict[str, VariantRecord]) -> None:
    """Refuse to time a file that is not the one its record describes (cut short, edited, replaced)."""
    for name, record in variants.items():
        model = folder.model(name)
        if not model.is_file() or file_sha256(model) != record.files.get(model.name):
            raise MeasureError(
                f"{model}: missing, or not the file that its variant.json describes; run 'ttsopt optimize' again"
            )


def _plan(
    study: Study,
    device: Device,
    folder: StudyFolder,
    variants: dict[str, VariantRecord],
    peers: list[PeerRecord],
    found: Probe,
) -> tuple[TimingPlan, dict[str, str]]:
    """Rows, and the sentences as phoneme ids with the scales of the original voice; the peers that have no row."""
    from ttsopt_lib.voices.adapters.opening import open_model

    original = folder.model(ORIGINAL)
    voice = open_model(original)
    runtimes: tuple[Runtime, ...] = found.runtimes
    if not voice.is_vits:
        runtimes = tuple(one for one in runtimes if one == "onnxruntime")
    rows = plan_rows(study, device, folder, variants, found.accelerator, runtimes)
    peer_rows, reasons = plan_peers(device, folder, peers, found.accelerator, runtimes)
    settings, only_timing = settings_for(study, device), study.stage == "first_look"
    streams = () if only_timing else plan_streams(study, device, folder, variants, found.accelerator)
    if streams:  # they take their share of the time
        settings = settings.model_copy(update={"budget_seconds": (1 - FIRST_SOUND_SHARE) * settings.budget_seconds})
    finish = {"outputs": voice.outputs, "vocoder": voice.vocoder, "code": voice.code}
    plan = TimingPlan(
        rows=tuple(row.model_copy(update=finish) for row in (*rows, *peer_rows)),
        sentences=planned_sentences(study, voice),
        scales=voice.timing_scales,
        speaker=voice.speaker(study.voice.speaker),
        sample_rate=voice.sample_rate,
        settings=settings,
        only_timing=only_timing,
        streams=streams,
        texts=planned_texts(study, voice.vits("streaming").config) if streams else (),
        batches=None if only_timing else plan_batches(study, device, voice),
        phonemizer=original if streams else None,
    )
    return plan, reasons


def planned_texts(study: Study, config: VoiceConfig) -> tuple[PlannedText, ...]:
    """What is spoken piece by piece: the first timing sentence of each length class, and all of these together."""
    from ttsopt_lib.voices.text import phoneme_ids

    texts = [
        PlannedText(length_class=name, text=texts[0], sentences=tuple(map(tuple, phoneme_ids(config, texts[0]))))
        for name, texts in study.sentences.timing.items()
    ]
    if len(texts) > 1:
        sentences = tuple(sentence for text in texts for sentence in text.sentences)
        together = " ".join(text.text for text in texts)
        texts.append(PlannedText(length_class="paragraph", text=together, sentences=sentences, whole=False))
    return tuple(texts)


def planned_sentences(study: Study, voice: TtsModel) -> tuple[PlannedSentence, ...]:
    """The study's timing sentences as what the voice is fed; needs the phonemizer, which timing itself does not."""

    def planned(length_class: str, text: str) -> PlannedSentence:
        ids, inputs = voice.utterance_ids(text), {}
        if not voice.is_vits:
            for name, array in voice.feed(ids, study.voice.speaker).items():
                values = tuple(array.reshape(-1).tolist())
                inputs[name] = PlannedInput(dtype=array.dtype.name, shape=array.shape, values=values)
        return PlannedSentence(length_class=length_class, text=text, ids=tuple(ids), inputs=inputs)

    return tuple(
        planned(length_class, text) for length_class, texts in study.sentences.timing.items() for text in texts
    )
