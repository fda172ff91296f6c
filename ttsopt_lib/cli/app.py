"""What all commands share: the application, its common options, the study that is asked for, and its lock."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ttsopt_lib.params import read_study
from ttsopt_lib.pipeline import locked
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.terminal import say

app = typer.Typer(
    help="Make text-to-speech voices small and fast, and render the report that proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DEFAULT_STUDY = Path("params/joe.yaml")

StudyArgument = Annotated[Path, typer.Argument(help="the study's YAML file", show_default=True)]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", "-d", help="a file of params/ by its name, or a path; may be given several times"),
]
VoiceOption = Annotated[
    Path | None,
    typer.Option(
        "--voice",
        help="the study's recipes on a voice of your own: a Piper .onnx, a folder with a Hugging Face VITS model, or a "
        ".yaml that declares another model",
    ),
]
PeersOption = Annotated[
    bool,
    typer.Option("--peers", help="also time and score what people use instead: piper-tts, OpenVINO, hibari-tts ..."),
]
AgainOption = Annotated[bool, typer.Option("--again", help="repeat the step even where nothing has changed")]


def as_typed(study: Path, voice: Path | None) -> str:
    """What a command is given for this study, to be typed again."""
    return shlex.join([str(study), *(["--voice", str(voice)] if voice else [])])


def asked_study(path: Path, voice: Path | None, training: bool = False) -> Study:
    """The study, or the same study on another voice."""
    study = read_study(path)
    if voice is None:
        return study
    from ttsopt_lib.own_voice import study_on

    own = study_on(voice, study, path)
    other = f" (reports/{own.namesake} is another voice's)" if own.namesake else ""
    say("study", f"reports/{own.study.name}: the recipes of {path} on {voice}{other}")
    if own.left_out and not training:
        names, how = ", ".join(own.left_out), f"ttsopt distill {as_typed(path, voice)}"
        say("study", f"left out, trained for another voice: {names} ({how} trains students of this one)")
    if own.of_vits:
        say("study", f"left out, for VITS voices only: {', '.join(own.of_vits)}")
    for name, steps in own.shortened.items():
        say("study", f"{name}: without {' and '.join(steps)}, which is for VITS voices only")
    return own.study


@contextmanager
def working_on(folder: StudyFolder, voice: Path | None = None) -> Iterator[None]:
    """Hold a study's folder, which belongs to the voice that `--voice` names."""
    with locked(folder):
        if voice:
            from ttsopt_lib.own_voice import claim

            claim(folder, voice)
        yield
