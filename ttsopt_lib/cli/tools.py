"""Commands around a study: speak, check, compare, look at the machine, clean up."""

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ttsopt_lib.cli.app import DEFAULT_STUDY, StudyArgument, VoiceOption, app, as_typed, asked_study, working_on
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.terminal import err, out, shown, verdict_table


@app.command()
def speak(
    voice: Annotated[Path, typer.Argument(help="a Piper voice's .onnx, or a folder that --export made")],
    text: Annotated[str | None, typer.Argument(help="what to say; from standard input if not given")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a WAV file; - for raw 16-bit samples; else it is played")
    ] = None,
    speaker: Annotated[
        int | None, typer.Option(min=0, help="number of the speaker, where the voice has several")
    ] = None,
    piece: Annotated[
        float | None, typer.Option(help="seconds of every piece, in place of pieces that begin short and grow")
    ] = None,
    phrases: Annotated[
        bool, typer.Option("--phrases", help="speak each phrase by itself: heard sooner, with less melody")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="threads of ONNX Runtime")] = 1,
    export: Annotated[
        Path | None,
        typer.Option(help="write the voice for streaming into this folder first, a new one or an earlier export"),
    ] = None,
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
    said = sys.stdin.read() if text is None else text
    opened = StreamingVoice(voice, threads)
    began, first, late, samples, pieces = time.monotonic(), 0.0, 0.0, 0, 0
    rate = opened.layout.sample_rate
    with output_to(output, rate) as write:
        for audio in opened.speak(said, speaker, piece, phrases):
            now = time.monotonic() - began
            first = first or now
            late = max(late, now - first - samples / rate)  # than a listener who heard everything so far
            samples, pieces = samples + audio.size, pieces + 1
            write(audio)
    whole, spoken = time.monotonic() - began, samples / rate
    if late > 0:
        err.print(
            f"too slow to be played while it computes: a piece came {1000 * late:.0f} ms after the one before had ended"
        )
    err.print(f"first sound after {1000 * first:.0f} ms; {spoken:.1f} s of audio in {pieces} pieces, {whole:.2f} s")


@app.command()
def check(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="a target that was not measured counts as missed")] = False,
) -> None:
    """Print the verdict of the last report; exit code 1 when a target is missed. For continuous integration."""
    from ttsopt_lib.records.base import read_record
    from ttsopt_lib.report.facts.summary import Summary

    summary = read_record(StudyFolder(asked_study(study, voice)).summary, Summary, f"run {as_typed(study, voice)}")
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
        out.print(Text.assemble((label, "bold"), f" {name}"))
    out.print(compare_views.headline(found))
    for text in compare_views.remarks(found):
        out.print(f"- {text}")
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
        table.add_row("ok" if finding.ok else "--", finding.what, finding.found)
    out.print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def clean(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Remove what a study wrote: its variants, records and report. A training is hours of work, and stays."""
    files = StudyFolder(asked_study(study, voice))
    folder, parts = files.path, files.removable()
    if not parts:
        out.print(f"{shown(folder)}: nothing there")
        return
    size = sum(file.stat().st_size for part in parts for file in (part, *part.rglob("*")) if file.is_file())
    if yes or typer.confirm(f"remove {shown(folder)} ({size / 1e6:.0f} MB)?"):
        with working_on(files):  # no run works on it, and none begins
            for part in parts:
                shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
        left = f"; kept {shown(files.training)}" if files.training.exists() else ""
        if not left:
            shutil.rmtree(folder)
        out.print(f"removed {shown(folder)} ({size / 1e6:.0f} MB){left}")
