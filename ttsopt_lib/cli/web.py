"""The command that writes a study's web page and serves it."""

import sys
from functools import partial
from typing import Annotated

import typer

from ttsopt_lib.cli.app import DEFAULT_STUDY, StudyArgument, VoiceOption, app, as_typed, asked_study, working_on
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.terminal import out, say, shown

PORT = 8021


@app.command()
def web(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help="only this variant beside the original; may be given several times"),
    ] = None,
    without_original: Annotated[
        bool, typer.Option("--without-original", help="a page of the variants alone, which is much smaller")
    ] = False,
    serve: Annotated[bool, typer.Option("--serve", help="serve the page on this machine until Ctrl+C")] = False,
    lan: Annotated[
        bool, typer.Option("--lan", help="serve it to every device of the local network, and show a QR code")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the server; 0 for any that is free")] = PORT,
) -> None:
    """Write a page under reports/<study>/web/ that speaks with the voices and measures any device with a browser."""
    from ttsopt_lib.web.build import write_web

    asked = asked_study(study, voice)
    folder = StudyFolder(asked)
    with working_on(folder, voice):
        page = write_web(asked, folder, variant, without_original)
    size = sum(file.stat().st_size for file in page.rglob("*") if file.is_file())
    say("web", f"the page has {size / 1e6:.1f} MB; any server of files can serve this folder, also below another path")
    out.print(f"  {shown(page)}")
    if serve or lan:
        _serve(asked, as_typed(study, voice), lan, port)


def _serve(asked: Study, typed: str, lan: bool, port: int) -> None:
    from ttsopt_lib.voices.adapters.opening import open_model
    from ttsopt_lib.web.build import text_inputs
    from ttsopt_lib.web.serve import Server

    folder = StudyFolder(asked)
    model = open_model(folder.model(ORIGINAL))
    inputs = partial(text_inputs, model, asked.voice.speaker)
    with Server(folder.web, lan, port, folder.received, typed, inputs) as server:
        if lan:
            say(
                "web",
                "everybody in this network can now open the page, take its voices and send records of measurements",
            )
            say("web", "a browser gives such a page one thread: without https only a page of this machine has more")
            _show_code(server.address)
        say("web", f"{server.address} (Ctrl+C ends it)")
        say("web", f"records that are sent back go to {shown(server.received)}")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("web", "ended")


def _show_code(address: str) -> None:
    """The address for a phone's camera. Light modules are drawn, so that it can be read on a dark terminal, too."""
    import segno

    segno.make(address, micro=False).terminal(out=sys.stdout, compact=True)
