"""Commands around a listening test: make it, collect its ratings, plan how many are needed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ttsopt_lib.cli.app import DEFAULT_STUDY, StudyArgument, VoiceOption, app, as_typed, asked_study, working_on
from ttsopt_lib.pipeline import Pipeline
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.terminal import out, ratings_table, say, shown, standings_table


@app.command()
def listen(study: StudyArgument = DEFAULT_STUDY, voice: VoiceOption = None) -> None:
    """Make a listening test under reports/<study>/listening/: one page that any web server or file:// serves."""
    from ttsopt_lib.listening.site import make_listening_test

    asked = asked_study(study, voice)
    folder = StudyFolder(asked)
    with working_on(folder, voice):
        trials, fresh = make_listening_test(asked, folder)
        counts = ", ".join(f"{count} {test.upper()}" for test, count in trials.items())
        say("listen", f"trials for each listener: {counts}; listener numbers 1 to {asked.listening_test.raters}")
        say("listen", "made" if fresh else "there already, and nothing has changed since")
        out.print(f"  {shown(folder.listening / 'index.html')}")
        out.print(f"  {shown(folder.listening_key)} (which voice is which: keep it, do not serve it)")


@app.command()
def ratings(
    files: Annotated[list[Path], typer.Argument(help="the CSV files that listeners sent back: all of them")],
    study: Annotated[Path, typer.Option(help="the study's YAML file")] = DEFAULT_STUDY,
    voice: VoiceOption = None,
    key: Annotated[Path | None, typer.Option(help="key of an earlier listening test")] = None,
) -> None:
    """Check and screen listeners' ratings and print their means; `ttsopt report` then shows them."""
    from ttsopt_lib.evaluate.quality import current_evaluation
    from ttsopt_lib.evaluate.ratings.monitor import standings
    from ttsopt_lib.listening.collect import collect_ratings

    asked = asked_study(study, voice)
    folder, typed = StudyFolder(asked), as_typed(study, voice)
    with working_on(folder, voice):
        evaluated = folder.quality_record.is_file() and current_evaluation(asked, folder) is not None
        collected, rated = collect_ratings(files, asked, folder, key)
        say("ratings", f"{len(collected)} ratings of {len(files)} files in {shown(folder.ratings)}")
        for one in rated.screened:
            say("ratings", f"screened out: {one.words}")
        out.print(ratings_table(rated))
        if rated.rows is None and rated.reason:
            say("ratings", f"no mean opinion score: {rated.reason}")
        margin = abs(asked.targets.mos_change)
        so_far = standings(rated.kept, asked.variant_names, margin)
        if so_far:
            say("ratings", f"against the original, margin {margin:g} points; holds however often you look:")
            out.print(standings_table(so_far))
        if evaluated:
            Pipeline(asked, folder).evaluate()
            say("ratings", f"'ttsopt report {typed}' shows them")
        else:
            say("ratings", f"'ttsopt evaluate {typed}' and 'ttsopt report {typed}' show them")


@app.command()
def power(
    study: StudyArgument = DEFAULT_STUDY,
    voice: VoiceOption = None,
    effect: Annotated[float, typer.Option(help="change of MOS to find, in points", min=0.01, max=4.0)] = 0.1,
) -> None:
    """How many raters and sentences a listening test needs, from the ratings that are there, else from assumptions."""
    from ttsopt_lib.evaluate.keys import ratings_path
    from ttsopt_lib.evaluate.ratings.file import read_ratings
    from ttsopt_lib.evaluate.ratings.means import change_components
    from ttsopt_lib.statistics.power import ASSUMED, MOST_RATERS, raters_needed

    asked = asked_study(study, voice)
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
