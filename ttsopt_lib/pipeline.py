"""The steps of a study, one after another. Each says what it does and repeats nothing that is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ttsopt_lib.errors import StudyError
from ttsopt_lib.first_look import SENTENCES, first_look, first_look_device
from ttsopt_lib.notebooks import Kernel, notebook_path, run_notebooks
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import OPENING_SHARE, ORIGINAL, Device, MeasureSettings, Study
from ttsopt_lib.terminal import duration, out, say, shown


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Make the folder and hold it: one run of a study at a time, because two would time each other.

    Raises:
        StudyError: another run holds it.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.lock, timeout=0):
            yield
    except Timeout:
        raise StudyError(f"{shown(folder.path)}: another ttsopt works on this study; wait for it") from None


class Pipeline:
    """A study, its folder, and the steps that fill it. What a step imports is imported when that step begins."""

    def __init__(self, study: Study, folder: StudyFolder, kernel: Kernel | None = None):
        """Args:
        kernel: a notebook's process that was started early; it is ended before work that it would disturb.
        """
        self.study, self.folder, self._kernel = study, folder, kernel

    def optimize(self, only: Sequence[str] | None = None, again: bool = False) -> None:
        """Make the variants that are missing or stale, all or those named; before them students that are missing."""
        from ttsopt_lib.optimize.build import build_study, stale_variants

        self._train_missing(only)
        todo = stale_variants(self.study, self.folder, only=only, again=again)
        if todo:
            self._alone()
            say("optimize", f"{len(todo)} of {len(self.study.variant_names)} variants to make: {', '.join(todo)}")
            build_study(self.study, self.folder, only=only, again=again)
        else:
            say("optimize", "every variant is there and unchanged")

    def first_look(self, devices: Sequence[Device], alone: bool) -> bool:
        """A report on few blocks and sentences, where the complete one has more.

        On this machine's processor only: what ssh has to reach, and what a GPU or a browser takes minutes to open,
        comes with the rest.

        Args:
            alone: whether nothing follows: then there is one in any case, with its PDF.

        Returns:
            Whether there was one to make.
        """
        from ttsopt_lib.evaluate.quality import current_evaluation
        from ttsopt_lib.measure.devices import probe
        from ttsopt_lib.measure.timing import current_measurement

        study, folder = self.study, self.folder
        if study.sentences.evaluation.count <= SENTENCES and not alone:
            return False  # a small study: the complete report is as near
        self._make_peers()
        slow = ("gpu", "browser")
        near = [one for one in devices if one.runner == "local" and (one.kind not in slow or probe(one).reason)]
        unmeasured = [one for one in near if current_measurement(study, one, folder) is None]
        unscored = current_evaluation(study, folder) is None
        if not (alone or unmeasured or unscored):
            return False
        say("first look", "fewer blocks and sentences first; the complete report goes on from there")
        quick = Pipeline(first_look(study), folder, self._kernel)
        quick.measure([first_look_device(one) for one in unmeasured])
        if self._kernel:  # nothing is timed any more: the page's process can import meanwhile
            self._kernel.start("ttsopt_lib.report.sections")
        if unscored:
            quick.evaluate()
        self.report(devices, pdf=alone)
        return True

    def measure(self, devices: Sequence[Device], again: bool = False) -> list[str]:
        """Time what is not timed yet. Returns the labels of devices that failed."""
        from ttsopt_lib.measure.parallel_devices import measure_devices
        from ttsopt_lib.measure.timing import current_measurement, settings_for

        elsewhere = [one for one in devices if one.record]
        for one in elsewhere:
            self.import_record(resolve(one.record), one)  # pyright: ignore[reportArgumentType]
        self._make_peers()
        asked = elsewhere if again else devices
        current = {one.name: current_measurement(self.study, one, self.folder) for one in asked}
        todo = [one for one in devices if current.get(one.name) is None]
        if todo:
            self._alone()
        for one in todo:
            say("measure", f"{one.label}: {schedule(settings_for(self.study, one), one)}")
        outcomes = {found.device.name: found for found in measure_devices(self.study, todo, self.folder, again=again)}
        failed = []
        for one in devices:
            outcome = outcomes.get(one.name)
            record = outcome.record if outcome else current[one.name]
            assert record is not None
            if outcome and outcome.error:
                failed.append(one.label)
                say("measure", f"{one.label}: failed: {outcome.error}")
                continue
            if record.status == "not_measured":
                say("measure", f"{one.label}: not measured: {record.reason}")
            elif record.imported:
                kept = "its file names that record" if one.record else "this machine cannot measure it" if again else ""
                why = kept or "--again measures here"
                say("measure", f"{one.label}: imported, measured elsewhere on {record.created}; {why}")
            elif not outcome:
                say("measure", f"{one.label}: measured on {record.created}, unchanged since")
            # those of a first look say that its blocks are few, which its page says, too
            new = outcome and not record.imported and record.stage == "complete"
            for warning in record.warnings if new else ():
                say("measure", f"warning: {one.label}: {warning.words}")
        return failed

    def import_record(self, file: Path, device: Device | None = None) -> None:
        """Take over a device record that another machine measured."""
        from ttsopt_lib.measure.importing import import_record

        notes: list[str] = []
        record = import_record(self.study, self.folder, file, device, notes.append)
        for told in (f"imported from {shown(file)}, measured on {record.created}", *notes):
            say("measure", f"{record.label}: {told}")

    def evaluate(self, again: bool = False, dask: str | None = None) -> None:
        """Speak and score what is not scored yet, here or on a Dask cluster."""
        from ttsopt_lib.evaluate.plan import expected_seconds
        from ttsopt_lib.evaluate.quality import current_evaluation, evaluate_study

        self._make_peers()
        study = self.study
        stale = again or current_evaluation(study, self.folder) is None
        if stale:
            self._alone()
            what = f"{len(study.variant_names)} variants" + (", and peers" if study.measure.peers else "")
            further, confirmed = study.sentences.confirmation, ", ".join(study.evaluate.confirmed)
            more = f", {further.count} further ones of {confirmed}" if further else ""
            longer = confirmed or "what meets the size target"
            few = f" ({study.few_sentences} of all but original and {longer})" if study.few_sentences else ""
            about = duration(expected_seconds(study))
            say("evaluate", f"{study.sentences.evaluation.count} sentences{few}, {what}{more}: about {about}")
            for one in evaluate_study(study, self.folder, again=again, dask=dask).not_scored:
                say("evaluate", f"{one.variant}: not scored: {one.reason}")
        else:
            say("evaluate", "every variant is scored and unchanged")

    def report(self, devices: Sequence[Device], pdf: bool = True, again: bool = False) -> None:
        """Render the report from the records that are there, where they or the code have changed since the last one."""
        from ttsopt_lib.report.current import current_report, keep_current, report_key

        key = report_key(self.study, devices, self.folder)
        rendered = current_report(self.folder, key) if pdf and not again else None
        if rendered:
            say("report", "nothing has changed since it was rendered; 'ttsopt report --again' renders it again")
        else:
            from ttsopt_lib.report.render import render_report

            say("report", f"rendering: about {20 if pdf else 12} s")
            rendered = render_report(self.study, devices, self.folder, self._kernel, pdf)
            if pdf:
                keep_current(self.folder, key, rendered)
        for message in rendered.messages:
            say("report", message)
        for path in rendered.paths:
            out.print(f"  {shown(path)}")

    def leave_notebooks(self, *names: str, devices: Sequence[Device] = ()) -> None:
        """Leave executed notebooks, those named and `measure` of each device, beside records that are newer."""
        study = {"study": self.study.model_dump(mode="json")}
        asked = [(name, None) for name in names] + [("measure", device) for device in devices]
        todo = []
        for name, device in asked:
            output = self.folder.notebooks / f"{name}{f'-{device.name}' if device else ''}.ipynb"
            records = self._records(name, device)
            if not all(record.is_file() for record in records):  # the step failed: its notebook would try again
                continue
            written = output.stat().st_mtime_ns if output.is_file() else 0
            if all(one.stat().st_mtime_ns < written for one in (notebook_path(name), *records)):
                continue
            todo.append((name, output, study | ({"device": device.model_dump(mode="json")} if device else {})))
        run_notebooks(todo)

    def _records(self, name: str, device: Device | None) -> list[Path]:
        """The records that a step's notebook shows."""
        if device:
            return [self.folder.device_record(device.name)]
        if name == "evaluate":
            return [self.folder.quality_record]
        return [self.folder.variant_record(variant) for variant in self.study.variant_names]

    def _train_missing(self, only: Sequence[str] | None) -> None:
        """Train the students that recipes name and that are not there."""
        from ttsopt_lib.distill.study import missing_students, train_students, training_plan
        from ttsopt_lib.optimize.build import build_original

        for student in missing_students(self.study, only):
            self._alone()
            total = duration(60 * training_plan(self.study).minutes)
            say("distill", f"{student} holds no trained student: it is trained now, which takes about {total}")
            build_original(self.study, self.folder)
            train_students(self.study, self.folder)

    def _make_peers(self) -> None:
        """Make ready what a user would pick instead, where the study asks for it."""
        if not self.study.measure.peers:
            return
        from ttsopt_lib.optimize.peers import build_peers
        from ttsopt_lib.records.base import read_record
        from ttsopt_lib.records.variant import VariantRecord

        read_record(self.folder.variant_record(ORIGINAL), VariantRecord, "optimize")
        for peer in build_peers(self.study, self.folder):
            if peer.reason:
                say("peers", f"{peer.name}: not measured: {peer.reason}")

    def _alone(self) -> None:
        """Before work that takes memory or is timed: end a process that would wait beside it."""
        if self._kernel is not None:
            self._kernel.stop()


def schedule(asked: MeasureSettings, device: Device) -> str:
    """How long measuring may take on a device, in words."""
    budget, share = duration(asked.budget_seconds), f"at most {duration(asked.opening_seconds)} for each row"
    longer = "" if asked.limit_seconds else f", longer where {asked.min_blocks} blocks take it"
    whole = f"at most {duration(asked.limit_seconds)} in all: " if asked.limit_seconds else ""
    if device.kind != "gpu":
        return f"{whole}{budget} with opening and warming up ({share}){longer}"
    together = f", {duration(OPENING_SHARE * asked.limit_seconds)} together" if asked.limit_seconds else ""
    after = "then energy and several sentences at once" if device.batch_sizes else "then energy"
    return f"{whole}rows are opened and warmed up ({share}{together}), then timed for {budget}{longer}, {after}"


def refuse_failed(labels: Sequence[str]) -> None:
    """Everything else is done by now; the exit code still has to say that a device is missing.

    Raises:
        StudyError: one of the devices could not be measured.
    """
    if labels:
        raise StudyError(f"{', '.join(labels)}: could not be measured, see above; the rest is done")
