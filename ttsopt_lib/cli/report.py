"""Commands that make a report: the whole way to it, and optimize, measure, evaluate, report one by one."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ttsopt_lib.cli.app import (
    DEFAULT_STUDY,
    AgainOption,
    DeviceOption,
    PeersOption,
    StudyArgument,
    VoiceOption,
    app,
    asked_study,
    working_on,
)
from ttsopt_lib.errors import StudyError
from ttsopt_lib.notebooks import Kernel
from ttsopt_lib.params import read_devices
from ttsopt_lib.pipeline import Pipeline, refuse_failed
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Device, Study
from ttsopt_lib.terminal import duration, out, say


@app.command()
def run(
    study: StudyArgument = DEFAULT_STUDY,
    device: DeviceOption = None,
    voice: VoiceOption = None,
    peers: PeersOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="only the first look: fewer blocks and sentences")] = False,
    full: Annotated[bool, typer.Option("--full", help="no first look before the complete report")] = False,
) -> None:
    """Everything: optimize, measure, evaluate, and the report: a first look within minutes, then the complete one."""
    if quick and full:
        raise StudyError("--quick and --full exclude each other: --quick is the first look alone, --full leaves it out")

    began = time.monotonic()
    asked = asked_study(study, voice)
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
        with working_on(folder, voice):
            steps.optimize()
            if not full and steps.first_look(devices, alone=quick):
                out.print(f"first look after {duration(time.monotonic() - began)}")
            if not quick:
                failed = steps.measure(devices)
                steps.evaluate()
                measured = [one for one in devices if one.label not in failed]
                steps.leave_notebooks("optimize", "evaluate", devices=measured)
                steps.report(devices)
                refuse_failed(failed)
            out.print(f"done in {duration(time.monotonic() - began)}")


@app.command()
def optimize(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="only this variant; may be given several times")
    ] = None,
    again: AgainOption = False,
) -> None:
    """Make the variants: deployable voices under reports/<study>/variants/."""
    from ttsopt_lib.voices.source import source_before_export

    asked = asked_study(study, voice)
    for name in variant or ():
        if name != ORIGINAL:
            asked.variant(name)
    model = source_before_export(asked)  # a voice that cannot be read is found before a folder is made for it
    for doubt in model.language_doubt(asked.language):
        say("warning", doubt)
    folder = StudyFolder(asked)
    steps = Pipeline(asked, folder)
    with working_on(folder, voice):
        steps.optimize(variant, again)
        if not variant:
            steps.leave_notebooks("optimize")


@app.command()
def distill(
    study: StudyArgument = DEFAULT_STUDY,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="minutes for all the trainings together, in place of the study's")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage", help="train only this stage: text_encoder, flow, decoder or speech; may be given several times"
        ),
    ] = None,
    voice: VoiceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads for PyTorch; its own choice if not given")] = None,
    dask: Annotated[
        str | None,
        typer.Option(help="scheduler of a Dask cluster, tcp://host:8786, that speaks the corpus; training stays here"),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="folder of published students that a new training begins with")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="begin these trainings again at their first step, instead of going on")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="say what a training would take, and train nothing")
    ] = False,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="begin with random weights, not with those of the students that ship"),
    ] = False,
) -> None:
    """Train the study's students on what the voice itself says, and publish them. Goes on where it was stopped.

    Several processes train one student: torchrun --nproc_per_node 2 -m ttsopt_lib distill STUDY --threads 1
    """
    from ttsopt_lib.distill.distillation import STAGES, Stage, one_process_first
    from ttsopt_lib.distill.study import train_students, training_plan
    from ttsopt_lib.optimize.build import build_original

    if start and random_weights:
        raise StudyError("--start and --random-weights exclude each other: the one names students, the other uses none")
    asked = asked_study(study, voice, training=True)
    plan = training_plan(asked)
    unknown = [name for name in stage or () if name not in STAGES]
    if unknown:
        raise StudyError(f"--stage: {unknown[0]!r} is none of {', '.join(STAGES)}")
    stages: list[Stage] = [name for name in STAGES if name in (stage or STAGES)]
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    folder = StudyFolder(asked)
    if estimate:
        if asked.voice.huggingface:
            with working_on(folder, voice):
                build_original(asked, folder)
        _say_estimate(asked, folder, minutes, stages)
        return
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with working_on(folder, voice) if first else nullcontext():
        total = plan.minutes if minutes is None else minutes
        if first:
            say("distill", f"{', '.join(name.replace('_', ' ') for name in stages)}: about {duration(60 * total)}")
        with one_process_first():
            build_original(asked, folder)
        record = train_students(asked, folder, minutes, stages, dask, start, anew, random_weights)
        if not first:
            return
        if not record:
            say("distill", "nothing is published before the decoder's student is trained")
            return
        from ttsopt_lib.distill.model_card import change_words

        say("distill", f"{plan.student}: predicted MOS {change_words(record, 'predicted_mos_change')}")


def _say_estimate(study: Study, folder: StudyFolder, minutes: float | None, stages: Sequence[str]) -> None:
    """Print what a training would take."""
    from ttsopt_lib.distill.estimate import estimate_training

    found = estimate_training(study, folder, minutes, stages)  # pyright: ignore[reportArgumentType]
    each = ", ".join(f"{name.replace('_', ' ')} {duration(60 * of)}" for name, of in found.minutes.items())
    say("distill", f"{duration(60 * sum(found.minutes.values()))} in all: {each}")
    if found.hours:
        say(
            "distill",
            f"the teacher speaks {found.hours:.1f} hours in {duration(60 * found.speaking_minutes)} at most of that",
        )
    where = f"on {found.accelerator}, " if found.accelerator else ""
    room = f"{found.disk_gb:.1f} GB on the disk, which has {found.free_gb:.0f} GB left"
    say("distill", f"{where}about {found.memory_gb:.1f} GB of memory, and {room}")
    if found.expected:
        say("distill", f"predicted MOS of a test voice of these sizes changed by {found.expected}")


@app.command()
def measure(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    device: DeviceOption = None,
    again: AgainOption = False,
    peers: PeersOption = False,
    imported: Annotated[
        list[Path] | None,
        typer.Option(
            "--import",
            help="import a device record of another machine, or what a study's web page saved; "
            "nothing is timed here unless --device is given",
        ),
    ] = None,
) -> None:
    """Time the variants on each device: this machine, or one that ssh reaches."""
    asked = asked_study(study, voice)
    asked = asked.with_all_peers() if peers else asked
    steps = Pipeline(asked, folder := StudyFolder(asked))
    with working_on(folder, voice):
        devices = read_devices(device) if device or not imported else []
        browser = _imported_browser(devices, imported or ())
        for file in imported or ():
            steps.import_record(file, browser)
        devices = [one for one in devices if one is not browser]
        if devices:
            failed = steps.measure(devices, again)
            steps.leave_notebooks(devices=[one for one in devices if one.label not in failed])
            refuse_failed(failed)


def _imported_browser(devices: Sequence[Device], imported: Sequence[Path]) -> Device | None:
    """The device of kind browser that a record is imported as, where `--device` names one. It is not measured here."""
    from ttsopt_lib.measure.importing import is_of_a_page

    browsers = [one for one in devices if one.kind == "browser"]
    pages = [file for file in imported if browsers and is_of_a_page(file)]
    if not pages:
        return None
    if len(browsers) > 1 or len(imported) > 1:
        raise StudyError(
            "--import with --device of kind browser takes one record and one such device: it becomes that device's "
            "record; import the others one by one"
        )
    return browsers[0]


@app.command()
def selfcheck(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    runs: Annotated[int, typer.Option(help="small measurements to make", min=5, max=1000)] = 20,
    blocks: Annotated[int, typer.Option(help="blocks of each", min=8, max=60)] = 12,
) -> None:
    """Does timing on this machine tell the truth? The original against its copy, and against itself with extra work."""
    from tqdm.auto import tqdm

    from ttsopt_lib.measure.selfcheck import selfcheck_study
    from ttsopt_lib.optimize.build import build_original
    from ttsopt_lib.voices.source import source_model

    asked = asked_study(study, voice)
    folder = StudyFolder(asked)
    with working_on(folder, voice):
        build_original(asked, folder)
    model = source_model(asked, folder)
    with tqdm(total=runs, desc="selfcheck", unit="run") as bar:
        found = selfcheck_study(asked, model, runs=runs, blocks=blocks, done=bar.update)
    for line in found.lines():
        say("selfcheck", line)
    if not found.right:
        raise typer.Exit(1)


@app.command()
def evaluate(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    again: AgainOption = False,
    peers: PeersOption = False,
    dask: Annotated[
        str | None, typer.Option(help="scheduler of a Dask cluster, tcp://host:8786, in place of this machine's cores")
    ] = None,
) -> None:
    """Speak and score the evaluation sentences with every variant, and the further ones with `evaluate.confirmed`."""
    asked = asked_study(study, voice)
    asked = asked.with_all_peers() if peers else asked
    folder = StudyFolder(asked)
    with working_on(folder, voice):
        steps = Pipeline(asked, folder)
        steps.evaluate(again, dask)
        steps.leave_notebooks("evaluate")


@app.command()
def report(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    device: DeviceOption = None,
    again: AgainOption = False,
) -> None:
    """Render report.html, report.pdf, summary.json, tables and figures from the records that are there."""
    asked = asked_study(study, voice)
    folder = StudyFolder(asked)
    with working_on(folder, voice):
        Pipeline(asked, folder).report(read_devices(device), again=again)
