"""The command line: ``ttsopt run``, its steps one by one, and what a person needs around them.

Every step says before it begins what it will do and about how long that takes, shows one progress bar with the
remaining time, and repeats nothing that is done and unchanged. Errors are one line; the exit code is

* 0: done,
* 1: ``check`` found a target that was missed, or not measured where ``--strict`` asks for all,
* 2: something was wrong with what was asked or found,
* 3: a defect of ttsopt itself; the line names the file with the traceback,
* 130: interrupted; what was complete is kept.
"""

from __future__ import annotations

import gc
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ttsopt_lib.errors import StudyError, TtsoptError, system_words
from ttsopt_lib.params import check as checked
from ttsopt_lib.params import read_device, read_study
from ttsopt_lib.paths import params_file, params_names
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.steps import Distill
from ttsopt_lib.study import ORIGINAL, PEERS, Device, Study, VoiceSource

if TYPE_CHECKING:
    from ttsopt_lib.evaluate.ratings.means import Rated
    from ttsopt_lib.evaluate.ratings.monitor import Standing
    from ttsopt_lib.notebooks import Kernel

app = typer.Typer(
    help="Make text-to-speech voices small and fast, and render the report that proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED, DEFECT = 130, 3  # exit codes
DEFAULT_STUDY = Path("params/joe.yaml")
DEFAULT_DEVICES = ("cpu", "gpu", "raspberry_pi")

StudyArgument = Annotated[Path, typer.Argument(help="the study's YAML file", show_default=True)]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", "-d", help="a file of params/ by its name, or a path; may be given several times"),
]
PeersOption = Annotated[
    bool, typer.Option("--peers", help="also what a user would pick instead: piper-tts, OpenVINO, hibari-tts ...")
]
AgainOption = Annotated[bool, typer.Option("--again", help="repeat the step even where nothing has changed")]


# --- the steps --------------------------------------------------------------------------------------------------


@app.command()
def run(
    study: StudyArgument = DEFAULT_STUDY,
    device: DeviceOption = None,
    voice: Annotated[
        Path | None,
        typer.Option(help="a Piper .onnx of your own: the study's recipes on your voice"),
    ] = None,
    peers: PeersOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="only the first look: fewer blocks and sentences")] = False,
    full: Annotated[bool, typer.Option("--full", help="no first look before the complete report")] = False,
) -> None:
    """Everything: optimize, measure, evaluate, and the report: a first look within minutes, then the complete one."""
    from ttsopt_lib.notebooks import Kernel

    if quick and full:
        raise StudyError("--quick and --full exclude each other: --quick is the first look alone, --full leaves it out")

    began = time.monotonic()
    asked = _with_peers(_study(study, voice), peers)
    devices = _devices(device)
    folder = StudyFolder(asked)
    with Kernel() as kernel:
        if folder.summary.is_file():  # most likely nothing is left but the report: its process starts beside the rest
            kernel.start("ttsopt_lib.report.sections")
        from ttsopt_lib.preflight import check_inputs

        for doubt in check_inputs(asked):
            _say("warning", doubt)
        with _locked(folder, voice):
            made = _optimize(asked, folder, early=kernel)
            if not full:
                looked = _first_look(asked, devices, folder, quick, kernel)
                if looked:
                    out.print(f"first look after {_duration(time.monotonic() - began)}")
            if not quick:
                _window("optimize", folder, made, study=asked)
                failed = _measure(asked, devices, folder, early=kernel)
                _evaluate(asked, folder, early=kernel)
                _report(asked, devices, folder, kernel)
                _refuse_failed(failed)
            out.print(f"done in {_duration(time.monotonic() - began)}")


@app.command()
def optimize(
    study: StudyArgument = DEFAULT_STUDY,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="only this variant; may be given several times")
    ] = None,
    again: AgainOption = False,
) -> None:
    """Make the variants: deployable voices under reports/<study>/variants/."""
    from ttsopt_lib.voices.language import language_doubt
    from ttsopt_lib.voices.source import source_config

    asked = read_study(study)
    for name in variant or ():
        asked.variant(name)
    config = source_config(asked)  # a voice that cannot be read is found before a folder is made for it
    for doubt in language_doubt(config, asked.language):
        _say("warning", doubt)
    folder = StudyFolder(asked)
    with _locked(folder):
        made = _optimize(asked, folder, variant, again)
        if not variant:
            _window("optimize", folder, made, study=asked)


@app.command()
def distill(
    study: StudyArgument = DEFAULT_STUDY,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="for all the trainings together, in place of what the study says")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="text_encoder, flow, decoder, speech; all if not given; may be repeated"),
    ] = None,
    voice: Annotated[
        Path | None, typer.Option(help="a Piper .onnx of your own; its students go to models/<voice>/student")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of PyTorch; its own choice if not given")] = None,
    dask: Annotated[
        str | None,
        typer.Option(help="scheduler of a Dask cluster, tcp://host:8786, that speaks the corpus; training stays here"),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="folder of published students that a new training begins with")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="begin these trainings anew instead of going on")] = False,
) -> None:
    """Train the study's students on what the voice itself says, and publish them. Goes on where it was stopped.

    Several processes train one student: torchrun --nproc_per_node 2 -m ttsopt_lib distill STUDY --threads 1
    """
    from ttsopt_lib.distill.distillation import STAGES, Stage, one_process_first
    from ttsopt_lib.distill.study import train_students, training_plan
    from ttsopt_lib.optimize.build import build_original

    asked = _study(study, voice, training=True)
    plan = training_plan(asked)
    unknown = [name for name in stage or () if name not in STAGES]
    if unknown:
        raise StudyError(f"--stage: {unknown[0]!r} is none of {', '.join(STAGES)}")
    stages: list[Stage] = [name for name in STAGES if name in (stage or STAGES)]
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    folder = StudyFolder(asked)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with _locked(folder, voice) if first else nullcontext():
        total = plan.minutes if minutes is None else minutes
        if first:
            _say("distill", f"{', '.join(name.replace('_', ' ') for name in stages)}: about {_duration(60 * total)}")
        with one_process_first():
            build_original(asked, folder)
        record = train_students(asked, folder, minutes, stages, dask, start, anew)
        if not first:
            return
        if not record:
            _say("distill", "nothing is published before the decoder's student is trained")
            return
        change, error = (record["best"][f"predicted_mos_change{part}"] for part in ("", "_standard_error"))
        _say("distill", f"{plan.student}: predicted MOS {change:+.3f} (standard error {error:.3f})")


@app.command()
def measure(
    study: StudyArgument = DEFAULT_STUDY,
    device: DeviceOption = None,
    again: AgainOption = False,
    peers: PeersOption = False,
) -> None:
    """Time the variants on each device: this machine, or one that ssh reaches."""
    asked = _with_peers(read_study(study), peers)
    folder = StudyFolder(asked)
    with _locked(folder):
        _refuse_failed(_measure(asked, _devices(device), folder, again))


@app.command()
def selfcheck(
    study: StudyArgument = DEFAULT_STUDY,
    runs: Annotated[int, typer.Option(help="small measurements to make", min=5, max=1000)] = 20,
    blocks: Annotated[int, typer.Option(help="blocks of each", min=8, max=60)] = 12,
) -> None:
    """Does timing on this machine tell the truth? The original against its copy, and against itself with extra work."""
    from tqdm.auto import tqdm

    from ttsopt_lib.measure.selfcheck import selfcheck_study
    from ttsopt_lib.optimize.build import build_original
    from ttsopt_lib.voices.source import source_voice

    asked = read_study(study)
    folder = StudyFolder(asked)
    build_original(asked, folder)
    voice = source_voice(asked, folder)
    with tqdm(total=runs, desc="selfcheck", unit="run") as bar:
        found = selfcheck_study(asked, voice, runs=runs, blocks=blocks, done=bar.update)
    for line in found.lines():
        _say("selfcheck", line)
    if not found.right:
        raise typer.Exit(1)


@app.command()
def evaluate(
    study: StudyArgument = DEFAULT_STUDY,
    again: AgainOption = False,
    peers: PeersOption = False,
    dask: Annotated[
        str | None, typer.Option(help="scheduler of a Dask cluster, tcp://host:8786, in place of this machine's cores")
    ] = None,
) -> None:
    """Speak the evaluation sentences with every variant, further ones with those to confirm, and score them."""
    asked = _with_peers(read_study(study), peers)
    folder = StudyFolder(asked)
    with _locked(folder):
        _evaluate(asked, folder, again, dask)


@app.command()
def report(study: StudyArgument = DEFAULT_STUDY, device: DeviceOption = None) -> None:
    """Render report.html, report.pdf, summary.json, tables and figures from the records that are there."""
    from ttsopt_lib.notebooks import Kernel

    asked = read_study(study)
    folder = StudyFolder(asked)
    with _locked(folder), Kernel() as kernel:
        _report(asked, _devices(device), folder, kernel)


@app.command()
def listen(study: StudyArgument = DEFAULT_STUDY) -> None:
    """Make a listening test under reports/<study>/listening/: one page that any web server or file:// serves."""
    from ttsopt_lib.listening.site import make_listening_test

    asked = read_study(study)
    folder = StudyFolder(asked)
    with _locked(folder):
        made = make_listening_test(asked, folder)
        trials = ", ".join(f"{count} {test.upper()}" for test, count in made.trials.items())
        _say("listen", f"trials for each listener: {trials}; listener numbers 1 to {asked.listening_test.raters}")
        _say("listen", "made" if made.fresh else "there already, and nothing has changed since")
        out.print(f"  {_relative(made.folder / 'index.html')}")
        out.print(f"  {_relative(folder.listening_key)} (which voice is which: keep it, do not serve it)")


@app.command()
def ratings(
    files: Annotated[list[Path], typer.Argument(help="the CSV files that listeners sent back: all of them")],
    study: Annotated[Path, typer.Option(help="the study's YAML file")] = DEFAULT_STUDY,
    key: Annotated[Path | None, typer.Option(help="key of an earlier listening test")] = None,
) -> None:
    """Read listeners' ratings: check, screen, means with intervals; the report is filled with them."""
    from ttsopt_lib.evaluate.quality import current_evaluation
    from ttsopt_lib.evaluate.ratings.monitor import standings
    from ttsopt_lib.evaluate.ratings.screening import screen
    from ttsopt_lib.listening.collect import collect_ratings

    asked = read_study(study)
    folder = StudyFolder(asked)
    with _locked(folder):
        evaluated = _is_evaluated(asked, folder) and current_evaluation(asked, folder) is not None
        collected = collect_ratings(files, asked, folder, key)
        _say("ratings", f"{len(collected.ratings)} ratings of {len(files)} files in {_relative(collected.path)}")
        for one in collected.rated.screened:
            _say("ratings", f"screened out: {one.rater} ({one.ratings} ratings): {one.reason}")
        out.print(_ratings_table(collected.rated))
        if collected.rated.rows is None and collected.rated.reason:
            _say("ratings", f"no mean opinion score: {collected.rated.reason}")
        margin = abs(asked.targets.mos_change)
        so_far = standings(screen(collected.ratings)[0], asked.variant_names, margin)
        if so_far:
            _say("ratings", f"against the original, margin {margin:g} points; holds however often you look:")
            out.print(_standings_table(so_far))
        if evaluated:
            _evaluate(asked, folder)
            _say("ratings", f"'ttsopt report {study}' shows them")
        else:
            _say("ratings", f"'ttsopt evaluate {study}' and 'ttsopt report {study}' show them")


@app.command()
def power(
    study: StudyArgument = DEFAULT_STUDY,
    effect: Annotated[float, typer.Option(help="change of MOS to find, in points", min=0.01, max=4.0)] = 0.1,
) -> None:
    """How many raters and sentences a listening test needs, from the ratings that are there, else from assumptions."""
    from ttsopt_lib.evaluate.keys import ratings_path
    from ttsopt_lib.evaluate.ratings.file import read_ratings
    from ttsopt_lib.evaluate.ratings.means import change_components
    from ttsopt_lib.statistics.power import ASSUMED, MOST_RATERS, raters_needed

    asked = read_study(study)
    path = ratings_path(asked, StudyFolder(asked))
    found = change_components(read_ratings(path, asked.variant_names), asked.variant_names) if path else None
    spread = found or ASSUMED
    source = f"found in {_relative(path)}" if found and path else "assumed: too few ratings are there yet"
    _say("power", f"to find a change of {effect:g} points in 8 of 10 tests (two-sided, 5 %), every rater hearing all")
    _say("power", f"spread of changes ({source}):")
    _say("power", f"raters {spread.rater:.2f}, sentences {spread.sentence:.2f}, rest {spread.rest:.2f}")
    table = Table("sentences", "raters needed", "ratings of each variant")
    for sentences in (6, 12, 24, 48, 96):
        raters = raters_needed(effect, sentences, spread)
        few = (f"more than {MOST_RATERS}: take more sentences", "-")
        table.add_row(str(sentences), *(few if raters is None else (str(raters), str(raters * sentences))))
    out.print(table)


def _standings_table(standings: Sequence[Standing]) -> Table:
    table = Table("variant", "so far", "change", "anytime-valid 95 %")
    for one in standings:
        verdict = one.verdict if one.more is None else f"{one.verdict}: about {one.more}"
        change = "-" if one.change is None else f"{one.change:+.2f}"
        table.add_row(one.variant, verdict, change, f"{one.ci[0]:+.2f} to {one.ci[1]:+.2f}" if one.ci else "-")
    return table


def _is_evaluated(study: Study, folder: StudyFolder) -> bool:
    return all(folder.model(name).is_file() for name in study.variant_names) and folder.quality_record.is_file()


def _ratings_table(rated: Rated) -> Table:
    def figure(value: float | None, ci: tuple[float, float] | None, sign: str = "") -> str:
        if value is None:
            return "-"
        return f"{value:{sign}.2f}" + (f" [{ci[0]:{sign}.2f}, {ci[1]:{sign}.2f}]" if ci else "")

    table = Table("test", "variant", "mean, 95 %", "change, 95 %", "raters", "ratings")
    for row in rated.rows or ():
        change = figure(row.change, row.change_ci, "+")
        table.add_row("ACR", row.variant, figure(row.mean, row.ci), change, str(row.raters), str(row.ratings))
    for row in rated.comparisons:
        mean = figure(row.mean, row.ci, "+" if row.test == "ccr" else "")
        table.add_row(row.test.upper(), row.variant, mean, "-", str(row.raters), str(row.ratings))
    return table


def _optimize(
    study: Study,
    folder: StudyFolder,
    only: Sequence[str] | None = None,
    again: bool = False,
    early: Kernel | None = None,
) -> bool:
    """Make the variants that are missing or stale, if any; ``early`` is a notebook's process not to disturb work."""
    from ttsopt_lib.optimize.build import build_study, stale_variants

    _train_missing(study, folder, only, early)
    todo = stale_variants(study, folder, only=only, again=again)
    if todo:
        _stop(early)
        _say("optimize", f"{len(todo)} of {len(study.variant_names)} variants to make: {', '.join(todo)}")
        build_study(study, folder, only=only, again=again)
    else:
        _say("optimize", "every variant is there and unchanged")
    return bool(todo)


def _first_look(study: Study, devices: Sequence[Device], folder: StudyFolder, alone: bool, kernel: Kernel) -> bool:
    """A report on few blocks and sentences, where the complete one has more; whether there was one to make.

    On this machine's processor only: what ssh has to reach, and what a GPU takes minutes to open, comes with the rest.
    """
    from ttsopt_lib.evaluate.quality import current_evaluation
    from ttsopt_lib.first_look import SENTENCES, first_look, first_look_device
    from ttsopt_lib.measure.devices import probe
    from ttsopt_lib.measure.timing import current_measurement

    if study.sentences.evaluation.count <= SENTENCES and not alone:
        return False  # a small study: the complete report is as near
    _make_peers(study, folder)
    near = [one for one in devices if one.runner == "local" and (one.kind != "gpu" or probe(one).reason)]
    unmeasured = [one for one in near if current_measurement(study, one, folder) is None]
    unscored = current_evaluation(study, folder) is None
    if not (alone or unmeasured or unscored):
        return False
    quick = first_look(study)
    _say("first look", "fewer blocks and sentences first; the complete report goes on from there")
    _measure(quick, [first_look_device(one) for one in unmeasured], folder, early=kernel, windows=False)
    kernel.start("ttsopt_lib.report.sections")  # nothing is timed any more: the page's process can import meanwhile
    if unscored:
        _evaluate(quick, folder, windows=False)
    _report(study, devices, folder, kernel, pdf=alone)
    return True


def _train_missing(study: Study, folder: StudyFolder, only: Sequence[str] | None, early: Kernel | None = None) -> None:
    """Train the students that recipes name and that are not there."""
    from ttsopt_lib.distill.study import missing_students, train_students, training_plan
    from ttsopt_lib.optimize.build import build_original

    for student in missing_students(study, only):
        _stop(early)
        total = _duration(60 * training_plan(study).minutes)
        _say("distill", f"{student} holds no trained student: it is trained now, which takes about {total}")
        build_original(study, folder)
        train_students(study, folder)


def _measure(
    study: Study,
    devices: Sequence[Device],
    folder: StudyFolder,
    again: bool = False,
    early: Kernel | None = None,
    windows: bool = True,
) -> list[str]:
    """Measure what is not measured yet; returns the labels of devices that failed."""
    from ttsopt_lib.measure.parallel_devices import measure_devices
    from ttsopt_lib.measure.timing import current_measurement, settings_for

    _make_peers(study, folder)
    current = {} if again else {one.name: current_measurement(study, one, folder) for one in devices}
    todo = [one for one in devices if current.get(one.name) is None]
    if todo:
        _stop(early)
    for one in todo:
        asked = settings_for(study, one)
        budget = _duration(asked.budget_seconds)
        _say("measure", f"{one.label}: {budget}, longer where {asked.min_blocks} blocks take it")
    outcomes = {outcome.device.name: outcome for outcome in measure_devices(study, todo, folder, again=again)}
    failed = []
    for one in devices:
        outcome = outcomes.get(one.name)
        record = outcome.record if outcome else current[one.name]
        assert record is not None
        if outcome and outcome.error:
            failed.append(one.label)
            _say("measure", f"{one.label}: failed: {outcome.error}")
            continue
        if record.status == "not_measured":
            _say("measure", f"{one.label}: not measured: {record.reason}")
        elif not outcome:
            _say("measure", f"{one.label}: measured on {record.created}, unchanged since")
        # those of a first look say that its blocks are few, which its page says, too
        for warning in record.warnings if outcome and record.stage == "complete" else ():
            _say("measure", f"warning: {one.label}: {warning.words}")
        if windows:
            _window("measure", folder, outcome, suffix=f"-{one.name}", study=study, device=one)
    return failed


def _make_peers(study: Study, folder: StudyFolder) -> None:
    """Make ready what a user would pick instead, where the study asks for it."""
    if not study.measure.peers:
        return
    from ttsopt_lib.optimize.peers import build_peers
    from ttsopt_lib.records.base import read_record
    from ttsopt_lib.records.variant import VariantRecord

    read_record(folder.variant_record(ORIGINAL), VariantRecord, "optimize")
    for peer in build_peers(study, folder):
        if peer.reason:
            _say("peers", f"{peer.name}: not measured: {peer.reason}")


def _refuse_failed(labels: Sequence[str]) -> None:
    """Everything else is done by now; the exit code still has to say that a device is missing."""
    if labels:
        raise StudyError(f"{', '.join(labels)}: could not be measured, see above; the rest is done")


def _evaluate(
    study: Study,
    folder: StudyFolder,
    again: bool = False,
    dask: str | None = None,
    early: Kernel | None = None,
    windows: bool = True,
) -> None:
    from ttsopt_lib.evaluate.quality import current_evaluation, evaluate_study

    _make_peers(study, folder)
    stale = again or current_evaluation(study, folder) is None
    if stale:
        _stop(early)
        count, voices = study.sentences.evaluation.count, len(study.variant_names) + len(study.measure.peers)
        what = f"{len(study.variant_names)} variants" + (", and peers" if study.measure.peers else "")
        confirmed, confirmation = study.evaluate.confirmed, study.sentences.confirmation
        further = confirmation.count if confirmation and confirmed else 0
        # besides: two anchors and the original with other noise; the original. At most: some stop early
        spoken = count * (voices + 3) + further * (len(confirmed) + 1)
        more = f", {further} further ones of {', '.join(confirmed)}" if further else ""
        _say("evaluate", f"{count} sentences, {what}{more}: about {_duration(20 + 0.39 * spoken)}")
        for one in evaluate_study(study, folder, again=again, dask=dask).not_scored:
            _say("evaluate", f"{one.variant}: not scored: {one.reason}")
    else:
        _say("evaluate", "every variant is scored and unchanged")
    if windows:
        _window("evaluate", folder, stale, study=study)


def _report(
    study: Study, devices: Sequence[Device], folder: StudyFolder, kernel: Kernel | None = None, pdf: bool = True
) -> None:
    from ttsopt_lib.report.render import render_report

    _say("report", f"rendering: about {20 if pdf else 12} s")
    rendered = render_report(study, devices, folder, kernel, pdf)
    for message in rendered.messages:
        _say("report", message)
    for path in rendered.paths:
        out.print(f"  {_relative(path)}")


def _stop(early: Kernel | None) -> None:
    """Before work that takes memory or is timed: end a process that would wait beside it."""
    if early is not None:
        early.stop()


def _window(name: str, folder: StudyFolder, changed: object, suffix: str = "", **parameters: Study | Device) -> None:
    """Leave the step's notebook, executed, beside its record; nothing to do where neither has changed."""
    from ttsopt_lib.notebooks import notebook_path, run_notebook

    output = folder.notebooks / f"{name}{suffix}.ipynb"
    source = notebook_path(name)
    if not changed and output.is_file() and output.stat().st_mtime > source.stat().st_mtime:
        return
    run_notebook(name, output, {key: value.model_dump(mode="json") for key, value in parameters.items()})


# --- around the steps -------------------------------------------------------------------------------------------


@app.command()
def check(
    study: StudyArgument = DEFAULT_STUDY,
    strict: Annotated[bool, typer.Option("--strict", help="a target that was not measured counts as missed")] = False,
) -> None:
    """Print the verdict of the last report; exit code 1 when a target is missed. For continuous integration."""
    from ttsopt_lib.records.base import read_record
    from ttsopt_lib.report.facts.summary import Summary

    summary = read_record(StudyFolder(read_study(study)).summary, Summary, f"run {study}")
    table = Table("claim", "device", "target", "measured", "verdict")
    for row in summary.verdict:
        table.add_row(
            row.claim.replace("_", " "),
            row.device or "-",
            f"{row.target:+.2f}" if "change" in row.claim else f"{row.target:.0%}",
            "-" if row.measured is None else f"{row.measured:+.3f}" if "change" in row.claim else f"{row.measured:.1%}",
            row.status.upper().replace("_", " "),
        )
    out.print(table)
    missed = {"fail", "not_measured"} if strict else {"fail"}
    if any(row.status in missed for row in summary.verdict):
        raise typer.Exit(1)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="RUN_A", help="a report's folder, or its summary.json")],
    after: Annotated[Path, typer.Argument(metavar="RUN_B", help="another one: of another commit, or another voice")],
    everything: Annotated[bool, typer.Option("--all", help="also print what did not change")] = False,
    html: Annotated[Path | None, typer.Option(help="write the whole comparison as a page")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the whole comparison as Markdown")] = None,
) -> None:
    """What changed between two reports, and what of it is more than chance."""
    from ttsopt_lib.files import atomic_path
    from ttsopt_lib.report.comparison import views as compare_views
    from ttsopt_lib.report.comparison.compare import compare, open_summary

    found = compare(open_summary(before), open_summary(after))
    for label, name in zip("AB", found.names, strict=True):
        out.print(f"[bold]{label}[/bold] {escape(name)}")
    out.print(escape(compare_views.headline(found)))
    for text in compare_views.remarks(found):
        out.print(f"- {escape(text)}")
    if compare_views.shown(found, everything):
        out.print(compare_views.terminal(found, everything))
    for path, make in ((html, compare_views.page), (markdown, compare_views.markdown)):
        if path:
            with atomic_path(path) as temporary:
                temporary.write_text(make(found), encoding="utf-8")
            out.print(f"  {_relative(path)}")


@app.command()
def doctor() -> None:
    """What is installed, which devices and models are there, and what to do about what is not."""
    from ttsopt_lib.doctor import examine

    table = Table("", "what", "found")
    table.columns[-1].overflow = "fold"  # a path can be copied whole
    findings = examine()
    for finding in findings:
        table.add_row("ok" if finding.ok else "--", finding.what, escape(finding.found))
    out.print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def clean(
    study: StudyArgument = DEFAULT_STUDY,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove what a study wrote: its variants, records and report. A training is hours of work, and stays."""
    files = StudyFolder(read_study(study))
    folder = files.path
    kept = [files.training, files.voice_record] if files.training.exists() else []
    parts = [path for path in folder.glob("*") if path not in kept]
    if not parts:
        out.print(f"{_relative(folder)}: nothing there")
        return
    size = sum(file.stat().st_size for part in parts for file in (part, *part.rglob("*")) if file.is_file())
    if yes or typer.confirm(f"remove {_relative(folder)} ({size / 1e6:.0f} MB)?"):
        for part in parts:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if not kept:
            folder.rmdir()
        left = f"; kept {_relative(files.training)}" if kept else ""
        out.print(f"removed {_relative(folder)} ({size / 1e6:.0f} MB){left}")


# --- what was asked ---------------------------------------------------------------------------------------------


def _study(path: Path, voice: Path | None, training: bool = False) -> Study:
    """The study, or the same study on another voice, with students of that voice where some were trained."""
    asked = read_study(path)
    if voice is None:
        return asked
    from ttsopt_lib.voice_names import plain_name, students_of, study_name, teacher_of
    from ttsopt_lib.voices.onnx_file import model_sha256

    if not voice.is_file():
        raise StudyError(f"--voice {voice}: no such file; give a Piper voice's .onnx")
    name = study_name(voice)
    other = "" if name == plain_name(voice) else f" (reports/{plain_name(voice)} is another voice's)"
    _say("study", f"reports/{name}: the recipes of {path} on {voice}{other}")
    student, sha256 = students_of(name), model_sha256(voice)
    variants, left_out = [], []
    for variant in asked.variants:
        trained = {getattr(step, "trained", None) or getattr(step, "student", None) for step in variant.recipe} - {None}
        if not trained:
            variants.append(variant)
        elif asked.training and trained == {asked.training.student} and teacher_of(student) == sha256:
            recipe = [
                step.model_copy(update={"student": student}) if isinstance(step, Distill) else step
                for step in variant.recipe
            ]
            variants.append(variant.model_copy(update={"recipe": tuple(recipe)}))
        else:
            left_out.append(variant.name)
    if left_out and not training:
        how = f"ttsopt distill {path} --voice {voice}"
        _say("study", f"left out, trained for another voice: {', '.join(left_out)} ({how} trains students of this one)")
    there = {variant.name for variant in variants}
    threads = tuple(variant for variant in asked.measure.more_threads or () if variant in there)
    confirmed = tuple(variant for variant in asked.evaluate.confirmed if variant in there)
    further = asked.sentences.confirmation if confirmed else None
    changes = {
        "name": name,
        "voice": VoiceSource(path=Path(os.path.abspath(voice))),
        "variants": tuple(variants),
        "training": asked.training and asked.training.model_copy(update={"student": student}),
        "measure": asked.measure.model_copy(update={"more_threads": threads or None}),
        "evaluate": asked.evaluate.model_copy(update={"confirmed": confirmed}),
        "sentences": asked.sentences.model_copy(update={"confirmation": further}),
    }
    return checked(Study, {**dict(asked), **changes}, f"{path} on {voice}")


def _with_peers(study: Study, peers: bool) -> Study:
    """The study, or the same study with every peer that there is."""
    if not peers:
        return study
    return study.model_copy(update={"measure": study.measure.model_copy(update={"peers": PEERS})})


def _devices(names: Sequence[str] | None) -> list[Device]:
    """The devices asked for, or the three of params/."""
    devices = []
    for name in names or DEFAULT_DEVICES:
        path = params_file(Path(name if name.endswith((".yaml", ".yml")) else f"params/{name}.yaml"))
        if not path.is_file():
            there = ", ".join(params_names("device")) or "none"
            raise StudyError(f"--device {name}: {path} is not there; device files in params/: {there}")
        devices.append(read_device(path))
    return devices


def _locked(folder: StudyFolder, voice: Path | None = None) -> FileLock:
    """One run of a study at a time: two would time each other. The folder is that of the voice that `--voice` names."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(f"{_relative(folder.path)}: another ttsopt works on this study; wait for it") from None
    if voice:
        from ttsopt_lib.voice_names import claim

        claim(folder, voice)
    return lock


def _say(step: str, message: str) -> None:
    out.print(f"[bold]{step:9}[/bold] {escape(message)}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _saved_traceback() -> str:
    """Write the traceback of the present error into a file of its own, and return its path."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="replace", prefix="ttsopt-", suffix=".txt", delete=False
    ) as file:
        file.write(traceback.format_exc())
    return file.name


def main() -> None:
    """Entry point: errors are one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal has no sign for must not end the work
            stream.reconfigure(errors="replace")
    try:
        app()
    except TtsoptError as error:
        err.print(f"ttsopt: {error}", markup=False)
        sys.exit(2)
    except OSError as error:
        err.print(f"ttsopt: {system_words(error)}", markup=False)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "ttsopt_lib").startswith("ttsopt_lib"):
            err.print(f"ttsopt: {error}; 'ttsopt doctor' says what is missing and how to install it", markup=False)
            sys.exit(2)
        what = " ".join([f"{type(error).__name__}:", *str(error).split()])[:200]
        err.print(f"ttsopt: a defect of ttsopt: {what}; please report it with {_saved_traceback()}", markup=False)
        sys.exit(DEFECT)
    except SystemExit as ended:  # typer has made an exit code of the interrupt, and says nothing
        if ended.code == INTERRUPTED:
            err.print("ttsopt: interrupted; what was complete is kept, the same command goes on from there")
        raise
    finally:
        gc.freeze()  # the process ends: a last search for garbage in all that it imported takes a second


if __name__ == "__main__":
    main()
