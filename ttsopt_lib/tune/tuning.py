"""Make candidates, time them, score them, and write the smallest that holds what was asked.

Everything on the way lies in `<out>/tune/`, the folder of a study: variants, their records and the scores of every
utterance. What is there and was made from the same is not made again, so an interrupted tuning goes on.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ttsopt_lib.code_hash import code_digest, git_state, versions
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.quality import evaluate_study
from ttsopt_lib.files import atomic_path, content_key, file_sha256
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.side_by_side import Patience
from ttsopt_lib.optimize.build import build_study
from ttsopt_lib.optimize.context import LIBRARIES, BuildContext, VariantError
from ttsopt_lib.optimize.graph.clock import Clock, Graphs
from ttsopt_lib.optimize.graph.to_float import has_integers
from ttsopt_lib.params import read_devices
from ttsopt_lib.pipeline import locked
from ttsopt_lib.preflight import check_inputs
from ttsopt_lib.records.base import RecordError, now, read_record, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import QualityRecord, QualityRow
from ttsopt_lib.records.tune import Asks, Candidate, TimedVoice, TimedVoices, TuneRecord
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.statistics.intervals import paired_change
from ttsopt_lib.study import ORIGINAL, PredictorName, Study
from ttsopt_lib.terminal import say, shown
from ttsopt_lib.tune.candidates import (
    Recipes,
    computed_in_int8,
    confirming,
    first_steps,
    in_few_bits,
    stored_in_int8,
    tuning_study,
)
from ttsopt_lib.tune.choose import missed, nearest, on_front, preference, size_and_speed_missed
from ttsopt_lib.voices.onnx_file import read_model
from ttsopt_lib.voices.source import source_model

TIMED_SENTENCES = 2
PATIENCE = Patience(width=0.02, min_blocks=8, max_blocks=40, seconds=120)
MODEL = "model.onnx"
COLUMNS = (
    "name", "size_mb", "speedup", "speedup_low", "speedup_high", "change", "change_low", "change_high", "sentences",
    "on_front", "holds", "why_not",
)  # fmt: skip


def tune(
    voice: Path,
    out: Path,
    asks: Asks,
    sentences: Path | None = None,
    predictor: PredictorName = "distillmos",
    device: str | None = None,
) -> TuneRecord:
    """Find the smallest file of a voice that holds what was asked, and write it to `out`.

    Args:
        voice: the `.onnx` file, with what belongs to it beside it, the YAML file that declares one, or a study's YAML
            file, whose voice it is.
        out: folder for the result (`model.onnx`, `tune.json`, `table.csv`) and the work on the way (`tune/`).
        asks: what has to hold.
        sentences: a file with one sentence a line, in the voice's language; None for English ones.
        predictor: of MOS.
        device: that the candidates are timed on, by its name in params/ or its file; None: this machine.

    Returns:
        the record that stands in `tune.json`; its `chosen` is None where no candidate holds.

    Raises:
        StudyError: there is no such voice or device, `out` holds a voice of somebody else's, or the sentences cannot be
            used.
        MeasureError: the device cannot be reached, or cannot do it; what was done by then is kept.
        VoiceError, TextError, SpeechError: the voice itself cannot be opened, or cannot speak.
    """
    began = time.monotonic()
    if not voice.is_file():
        raise StudyError(f"{voice}: no such file; give a voice's .onnx, or a .yaml that declares a model")
    _refuse_foreign(voice, out)
    work = _Tuning(voice, out, asks, sentences, predictor, device)
    for doubt in check_inputs(work.checked()):
        say("warning", doubt)
    with locked(work.folder):
        work.make_all()
        work.time_all()
        chosen = work.choose()
        return work.write(chosen, began)


def _refuse_foreign(voice: Path, out: Path) -> None:
    """Write over no file but an earlier tuning's."""
    written = [] if (out / "tune.json").is_file() else [MODEL, f"{MODEL}.json", "table.csv"]
    foreign = [name for name in written if (out / name).exists()]
    if (out / MODEL).resolve() == voice.resolve():
        foreign = [MODEL]
    if foreign:
        raise StudyError(f"--out {out}: holds a {foreign[0]} that no tuning has written; choose another folder")


class _Tuning:
    """A tuning at work."""

    def __init__(
        self,
        voice: Path,
        out: Path,
        asks: Asks,
        sentences: Path | None,
        predictor: PredictorName,
        device: str | None,
    ):
        self._voice, self._out, self._asks = voice, out, asks
        self._sentences, self._device = sentences, read_devices([device])[0] if device else None
        self._clock, self._clock_device = Clock(self._device), device
        self._timed_on = ""
        self._predictor: PredictorName = predictor
        study = self._study(stored_in_int8(vits=True, integers=False))
        source = source_model(study)
        integers = has_integers(read_model(source.path)) and not study.voice.as_float
        self._recipes: Recipes = stored_in_int8(source.is_vits, integers)
        self._rows: dict[str, Candidate] = {}
        self._first_look: list[Candidate] = []  # as they were on the first sentences
        self._records: dict[str, VariantRecord] = {}
        self.folder = StudyFolder(self._study(self._recipes), out.absolute())

    def checked(self) -> Study:
        """The study as it is looked at before any work, with the further sentences."""
        study = self._study(self._recipes)
        return confirming(study, list(self._recipes)[:1]) or study

    # --- making ---------------------------------------------------------------------------------------------------

    def make_all(self) -> None:
        """Make the original and every candidate; one that the voice refuses is a row with the reason."""
        where = self._clock.place
        say("tune", f"candidates: weights in int8, then int8 arithmetic where {where} is faster: {shown(self._out)}")
        (self._records[ORIGINAL],) = build_study(self._study(self._recipes), self.folder, only=[ORIGINAL])
        for name in list(self._recipes):
            self._make(name)
        before = first_steps(self._records)
        later = computed_in_int8(self._asks, before, self._clock_device)
        most = self._asks.max_mb
        if most is not None and all(one.size_bytes > 1e6 * most for one in self._made().values()):
            later |= in_few_bits(before)
        self._recipes |= later
        for name in later:
            self._make(name)

    def _make(self, name: str) -> None:
        study = self._study(self._recipes)
        recipe = [step.model_dump(mode="json", exclude_defaults=True) for step in study.variant(name).recipe]
        row = self._rows[name] = Candidate(name=name, recipe=recipe)
        try:
            (record,) = build_study(study, self.folder, only=[name])
        except (StudyError, VariantError) as error:
            row.refused = str(error).removeprefix(f"variant {name!r}: ")
            say("tune", f"{name}: left out: {row.refused}")
            return
        row.note = record.steps[-1].note if record.steps else ""
        for other, made in self._made().items():
            if made.files[MODEL] == record.files[MODEL]:
                row.refused = f"the same file as {other}"
                say("tune", f"{name}: {row.refused}")
                return
        row.size_bytes = record.size_bytes
        self._records[name] = record

    def _made(self) -> dict[str, VariantRecord]:
        """The candidates that are there."""
        return {name: record for name, record in self._records.items() if name != ORIGINAL}

    def _study(self, recipes: Recipes) -> Study:
        return tuning_study(self._voice, recipes, self._asks, self._sentences, self._predictor)

    # --- timing ---------------------------------------------------------------------------------------------------

    def time_all(self) -> None:
        """Time each candidate beside the voice that was given, where that is not done yet."""
        path = self.folder.path / "records" / "clock.json"
        try:
            known = {one.key: one for one in read_record(path, TimedVoices, "tune").voices}
        except RecordError:
            known = {}
        with tempfile.TemporaryDirectory(prefix="ttsopt-") as scratch:
            context = BuildContext(self._study(self._recipes), Path(scratch), self.folder)
            feeds = context.calibration[:TIMED_SENTENCES]
            shared = [
                self._records[ORIGINAL].files[MODEL],
                [{name: value.tolist() for name, value in feed.items()} for feed in feeds],
                [self._asks.threads, self._clock.where, context.libraries],
                code_digest(__name__),
            ]
            keys = {name: content_key(shared, record.files[MODEL]) for name, record in self._made().items()}
            left = {name: self.folder.model(name) for name, key in keys.items() if key not in known}
            if left:
                threads = "1 thread" if self._asks.threads == 1 else f"{self._asks.threads} threads"
                beside = f"timing {', '.join(left)} beside the voice itself, {threads}"
                say("tune", f"{beside}; leave {self._clock.place} alone")
                graphs = Graphs(left, self.folder.model(ORIGINAL), feeds, context.voice.outputs)
                compared = self._clock.compare([graphs], self._asks.threads, PATIENCE)
                for name, speed in compared.speeds[0].items():
                    known[keys[name]] = TimedVoice(
                        key=keys[name],
                        machine=compared.machine,
                        speedup=speed.speedup,
                        speedup_ci=speed.ci,
                        blocks=speed.blocks,
                    )
                write_record(path, TimedVoices(voices=list(known.values())))
        for name, key in keys.items():
            self._rows[name].speedup, self._rows[name].speedup_ci = known[key].speedup, known[key].speedup_ci
            self._timed_on = known[key].machine

    # --- scoring and choosing -------------------------------------------------------------------------------------

    def choose(self) -> Candidate | None:
        """Score every candidate, and find the one to take.

        The first sentences say which come into question, which are on the front and which is the nearest. A candidate
        is taken by what it does on further ones, where the file has some: the first flatter what was chosen on them.
        """
        study = self._study({name: self._recipes[name] for name in self._made()})
        say("tune", f"scoring {len(self._made())} candidates on {study.sentences.evaluation.count} sentences")
        record = self._evaluated(study)
        original = record.rows[0]
        for row in record.rows[1:]:
            self._score(self._rows[row.variant], row, original)
        rows = list(self._rows.values())
        self._first_look = [row.model_copy() for row in rows]
        front = on_front(rows)
        asked: list[str] = []
        chosen = None
        for row in preference(rows):
            if row.change is None or row.change < -self._asks.max_loss or size_and_speed_missed(row, self._asks):
                continue
            if further := confirming(study, [*asked, row.name]):
                asked.append(row.name)
                say("tune", f"{row.name} speaks {_further_count(further)} further sentences, on which it has to hold")
                spoken = {one.variant: one for one in self._evaluated(further).confirmation}
                if row.refused:
                    continue
                self._score(row, spoken[row.name], spoken[ORIGINAL])
                row.confirmed = True
            if not missed(row, self._asks):
                chosen = row
                break
        for row in rows:
            row.missed, row.on_front = missed(row, self._asks), row.name in front and not row.refused
        return chosen

    def _evaluated(self, study: Study) -> QualityRecord:
        """The scores of a study; a candidate that cannot speak one of its sentences is refused, and has no scores."""
        record = evaluate_study(study, self.folder)
        for one in record.not_scored:
            if row := self._rows.get(one.variant):  # and no second run of the voice itself
                row.refused, row.change, row.change_ci, row.sentences = one.reason, None, None, None
        return record

    def _score(self, row: Candidate, scored: QualityRow, original: QualityRow) -> None:
        scores = scored.scores[self._predictor]
        found = paired_change(scores, original.scores[self._predictor][: len(scores)])
        row.change, row.change_ci, row.sentences = found.value, found.ci, len(scores)

    # --- writing --------------------------------------------------------------------------------------------------

    def write(self, chosen: Candidate | None, began: float) -> TuneRecord:
        """Put the chosen voice, the table and the record into place; without one an earlier tuning's voice goes."""
        rows = list(self._rows.values())
        _remove_earlier(self._out)
        files = {}
        if chosen:
            for name in self._records[chosen.name].files:
                with atomic_path(self._out / name) as temporary:
                    shutil.copyfile(self.folder.variant(chosen.name) / name, temporary)
                files[name] = file_sha256(self._out / name)
        speaking = [row for row in self._first_look if not self._rows[row.name].refused]
        near = None if chosen else nearest(speaking, self._asks)
        commit, dirty = git_state()
        original = self._records[ORIGINAL]
        record = TuneRecord(
            created=now(),
            voice=str(self._voice.absolute()),
            voice_sha256=original.source_sha256,
            size_bytes=original.size_bytes,
            asks=self._asks,
            predictor=self._predictor,
            sentences=str(self._study(self._recipes).sentences.evaluation.file),
            machine=describe_system(),
            device=self._device.label if self._device else None,
            timed_on=self._timed_on,
            libraries=versions(LIBRARIES),
            commit=commit,
            uncommitted_changes=dirty,
            candidates=rows,
            chosen=chosen.name if chosen else None,
            nearest=near.name if near else None,
            files=files,
            seconds=time.monotonic() - began,
        )
        _write_table(self._out / "table.csv", rows)
        write_record(self._out / "tune.json", record)
        return record


def _further_count(study: Study) -> int:
    return study.sentences.confirmation.count if study.sentences.confirmation else 0


def _remove_earlier(out: Path) -> None:
    """Remove what an earlier tuning wrote, by its record: its voice may hold other asks than today's."""
    try:
        earlier = read_record(out / "tune.json", TuneRecord, "tune")
    except RecordError:
        return
    for name, digest in earlier.files.items():
        path = out / name
        if path.is_file() and file_sha256(path) == digest:
            path.unlink()


def _write_table(path: Path, rows: Sequence[Candidate]) -> None:
    """The table as CSV, with nothing where nothing was measured."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            size = None if row.size_bytes is None else row.size_bytes / 1e6
            speed, change = row.speedup_ci or (None, None), row.change_ci or (None, None)
            why = row.refused or "; ".join(row.missed)
            figures = [row.name, size, row.speedup, *speed, row.change, *change, row.sentences]
            writer.writerow([*figures, row.on_front, not why, why])
