"""The command line: `ttsopt run`, its steps one by one, and what a person needs around them.

Every step says before it begins what it will do and about how long that takes, shows one progress bar with the
remaining time, and repeats nothing that is done and unchanged. Errors are one line; the exit code is

* 0: done,
* 1: `check` found a target that was missed, or not measured where `--strict` asks for all,
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ttsopt_lib.errors import StudyError, TtsoptError, system_words
from ttsopt_lib.notebooks import Kernel
from ttsopt_lib.params import read_devices, read_study
from ttsopt_lib.pipeline import Pipeline, locked, refuse_failed
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.terminal import duration, err, out, ratings_table, say, shown, standings_table, verdict_table

app = typer.Typer(
    help="Make text-to-speech voices small and fast, and render the report that proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

INTERRUPTED, DEFECT = 130, 3  # exit codes
DEFAULT_STUDY = Path("params/joe.yaml")

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
    if quick and full:
        raise StudyError("--quick and --full exclude each other: --quick is the first look alone, --full leaves it out")

    began = time.monotonic()
    asked = _asked(study, voice)
    asked = asked.with_all_peers() if peers else asked
    devices = read_devices(device)
    folder = StudyFolder(asked)
    with Kernel() as kernel:
        if folder.summary.is_file():  # most likely nothing is left but the report: its process starts beside the rest
            kernel.start("ttsopt_lib.report.sections")
        from ttsopt_lib.preflight import check_inputs

        for doubt in check_inputs(asked):
            say("warning", doubt)
        steps = Pipeline(asked, folder, kernel)
        with _working_on(folder, voice):
            made = steps.optimize()
            if not full and steps.first_look(devices, alone=quick):
                out.print(f"first look after {duration(time.monotonic() - began)}")
            if not quick:
                steps.leave_notebook("optimize", made)
                failed = steps.measure(devices)
                steps.evaluate()
                steps.report(devices)
                refuse_failed(failed)
            out.print(f"done in {duration(time.monotonic() - began)}")


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
        say("warning", doubt)
    folder = StudyFolder(asked)
    steps = Pipeline(asked, folder)
    with _working_on(folder):
        made = steps.optimize(variant, again)
        if not variant:
            steps.leave_notebook("optimize", made)


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

    asked = _asked(study, voice, training=True)
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
    with _working_on(folder, voice) if first else nullcontext():
        total = plan.minutes if minutes is None else minutes
        if first:
            say("distill", f"{', '.join(name.replace('_', ' ') for name in stages)}: about {duration(60 * total)}")
        with one_process_first():
            build_original(asked, folder)
        record = train_students(asked, folder, minutes, stages, dask, start, anew)
        if not first:
            return
        if not record:
            say("distill", "nothing is published before the decoder's student is trained")
            return
        change, error = (record["best"][f"predicted_mos_change{part}"] for part in ("", "_standard_error"))
        say("distill", f"{plan.student}: predicted MOS {change:+.3f} (standard error {error:.3f})")


@app.command()
def measure(
    study: StudyArgument = DEFAULT_STUDY,
    device: DeviceOption = None,
    again: AgainOption = False,
    peers: PeersOption = False,
    imported: Annotated[
        list[Path] | None,
        typer.Option("--import", help="a device record of another machine; measures here only what --device names"),
    ] = None,
) -> None:
    """Time the variants on each device: this machine, or one that ssh reaches."""
    asked = read_study(study)
    asked = asked.with_all_peers() if peers else asked
    steps = Pipeline(asked, folder := StudyFolder(asked))
    with _working_on(folder):
        for file in imported or ():
            steps.import_record(file)
        if device or not imported:
            refuse_failed(steps.measure(read_devices(device), again))


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
        say("selfcheck", line)
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
    asked = read_study(study)
    asked = asked.with_all_peers() if peers else asked
    folder = StudyFolder(asked)
    with _working_on(folder):
        Pipeline(asked, folder).evaluate(again, dask)


@app.command()
def report(study: StudyArgument = DEFAULT_STUDY, device: DeviceOption = None) -> None:
    """Render report.html, report.pdf, summary.json, tables and figures from the records that are there."""
    asked = read_study(study)
    folder = StudyFolder(asked)
    with _working_on(folder), Kernel() as kernel:
        Pipeline(asked, folder, kernel).report(read_devices(device))


@app.command()
def listen(study: StudyArgument = DEFAULT_STUDY) -> None:
    """Make a listening test under reports/<study>/listening/: one page that any web server or file:// serves."""
    from ttsopt_lib.listening.site import make_listening_test

    asked = read_study(study)
    folder = StudyFolder(asked)
    with _working_on(folder):
        made = make_listening_test(asked, folder)
        trials = ", ".join(f"{count} {test.upper()}" for test, count in made.trials.items())
        say("listen", f"trials for each listener: {trials}; listener numbers 1 to {asked.listening_test.raters}")
        say("listen", "made" if made.fresh else "there already, and nothing has changed since")
        out.print(f"  {shown(made.folder / 'index.html')}")
        out.print(f"  {shown(folder.listening_key)} (which voice is which: keep it, do not serve it)")


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
    with _working_on(folder):
        evaluated = _is_evaluated(asked, folder) and current_evaluation(asked, folder) is not None
        collected = collect_ratings(files, asked, folder, key)
        say("ratings", f"{len(collected.ratings)} ratings of {len(files)} files in {shown(collected.path)}")
        for one in collected.rated.screened:
            say("ratings", f"screened out: {one.rater} ({one.ratings} ratings): {one.reason}")
        out.print(ratings_table(collected.rated))
        if collected.rated.rows is None and collected.rated.reason:
            say("ratings", f"no mean opinion score: {collected.rated.reason}")
        margin = abs(asked.targets.mos_change)
        so_far = standings(screen(collected.ratings)[0], asked.variant_names, margin)
        if so_far:
            say("ratings", f"against the original, margin {margin:g} points; holds however often you look:")
            out.print(standings_table(so_far))
        if evaluated:
            Pipeline(asked, folder).evaluate()
            say("ratings", f"'ttsopt report {study}' shows them")
        else:
            say("ratings", f"'ttsopt evaluate {study}' and 'ttsopt report {study}' show them")


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
    source = f"found in {shown(path)}" if found and path else "assumed: too few ratings are there yet"
    say("power", f"to find a change of {effect:g} points in 8 of 10 tests (two-sided, 5 %), every rater hearing all")
    say("power", f"spread of changes ({source}):")
    say("power", f"raters {spread.rater:.2f}, sentences {spread.sentence:.2f}, rest {spread.rest:.2f}")
    table = Table("sentences", "raters needed", "ratings of each variant")
    for sentences in (6, 12, 24, 48, 96):
        raters = raters_needed(effect, sentences, spread)
        few = (f"more than {MOST_RATERS}: take more sentences", "-")
        table.add_row(str(sentences), *(few if raters is None else (str(raters), str(raters * sentences))))
    out.print(table)


def _is_evaluated(study: Study, folder: StudyFolder) -> bool:
    return all(folder.model(name).is_file() for name in study.variant_names) and folder.quality_record.is_file()


# --- around the steps -------------------------------------------------------------------------------------------


@app.command()
def speak(
    voice: Annotated[Path, typer.Argument(help="a Piper voice's .onnx, or a folder that --export made")],
    text: Annotated[str | None, typer.Argument(help="what to say; from standard input if not given")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a WAV file; - for raw 16-bit samples; else it is played")
    ] = None,
    speaker: Annotated[int | None, typer.Option(min=0, help="number of the speaker, of a voice with several")] = None,
    piece: Annotated[
        float | None, typer.Option(help="seconds of every piece, in place of pieces that begin short and grow")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="of ONNX Runtime")] = 1,
    export: Annotated[Path | None, typer.Option(help="write the voice for streaming into this folder first")] = None,
) -> None:
    """Speak while computing: the first sound comes long before the last one is made."""
    from ttsopt_lib.voices.piper import open_piper
    from ttsopt_lib.voices.player import output_to
    from ttsopt_lib.voices.stream import StreamingVoice, write_streaming

    if export:
        write_streaming(open_piper(voice), export)
        err.print(f"  {shown(export)}")
        voice = export
        if text is None and sys.stdin.isatty():
            return
    text = sys.stdin.read() if text is None else text
    opened = StreamingVoice(voice, threads)
    began, first, samples, pieces = time.monotonic(), 0.0, 0, 0
    with output_to(output, opened.layout.sample_rate) as write:
        for audio in opened.speak(text, speaker, piece):
            first = first or time.monotonic() - began
            samples, pieces = samples + audio.size, pieces + 1
            write(audio)
    whole, spoken = time.monotonic() - began, samples / opened.layout.sample_rate
    err.print(
        f"first sound after {1000 * first:.0f} ms, {spoken:.1f} s of audio in {pieces} pieces after {whole:.2f} s"
    )


@app.command()
def check(
    study: StudyArgument = DEFAULT_STUDY,
    strict: Annotated[bool, typer.Option("--strict", help="a target that was not measured counts as missed")] = False,
) -> None:
    """Print the verdict of the last report; exit code 1 when a target is missed. For continuous integration."""
    from ttsopt_lib.records.base import read_record
    from ttsopt_lib.report.facts.summary import Summary

    summary = read_record(StudyFolder(read_study(study)).summary, Summary, f"run {study}")
    out.print(verdict_table(summary))
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
            out.print(f"  {shown(path)}")


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
    folder, parts = files.path, files.removable()
    if not parts:
        out.print(f"{shown(folder)}: nothing there")
        return
    size = sum(file.stat().st_size for part in parts for file in (part, *part.rglob("*")) if file.is_file())
    if yes or typer.confirm(f"remove {shown(folder)} ({size / 1e6:.0f} MB)?"):
        for part in parts:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        left = f"; kept {shown(files.training)}" if any(folder.iterdir()) else ""
        if not left:
            folder.rmdir()
        out.print(f"removed {shown(folder)} ({size / 1e6:.0f} MB){left}")


def _asked(path: Path, voice: Path | None, training: bool = False) -> Study:
    """The study, or the same study on another voice."""
    study = read_study(path)
    if voice is None:
        return study
    from ttsopt_lib.own_voice import study_on

    own = study_on(voice, study, path)
    other = f" (reports/{own.namesake} is another voice's)" if own.namesake else ""
    say("study", f"reports/{own.study.name}: the recipes of {path} on {voice}{other}")
    if own.left_out and not training:
        names, how = ", ".join(own.left_out), f"ttsopt distill {path} --voice {voice}"
        say("study", f"left out, trained for another voice: {names} ({how} trains students of this one)")
    return own.study


@contextmanager
def _working_on(folder: StudyFolder, voice: Path | None = None) -> Iterator[None]:
    """Hold a study's folder, which belongs to the voice that `--voice` names."""
    with locked(folder):
        if voice:
            from ttsopt_lib.own_voice import claim

            claim(folder, voice)
        yield


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
