"""The command `ttsopt tune`: the smallest file of a voice that is not slower and not worse than asked."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ttsopt_lib.cli.app import app
from ttsopt_lib.records.tune import Asks, TuneRecord
from ttsopt_lib.terminal import duration, figure, out, say, shown


@app.command()
def tune(
    model: Annotated[
        Path,
        typer.Argument(
            help="a voice's .onnx with its .onnx.json beside it, a .yaml that declares a model, or a study's"
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="folder for model.onnx, tune.json and table.csv; run again goes on there")
    ],
    max_loss: Annotated[float, typer.Option(min=0.0, help="predicted MOS that may be lost")] = 0.05,
    max_mb: Annotated[float | None, typer.Option(min=0.01, help="most MB of the file; not given: no limit")] = None,
    min_speedup: Annotated[float, typer.Option(min=0.01, help="how many times as fast it has to be")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="threads that it is timed with")] = 1,
    device: Annotated[
        str | None, typer.Option(help="device that it is timed on: a name in params/, or a file; else this machine")
    ] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="sentences in the voice's language, one a line; else English ones that ship")
    ] = None,
) -> None:
    """The smallest file of a voice that is not slower than it came nor worse than asked; exit code 1 where none is."""
    from ttsopt_lib.tune.tuning import tune as tuned

    asks = Asks(max_loss=max_loss, max_mb=max_mb, min_speedup=min_speedup, threads=threads)
    record = tuned(model, folder, asks, sentences, device=device)
    out.print(_table(record))
    for line in _reasons(record):
        out.print(line)
    out.print(f"timed on {record.timed_on}" + (f" ({record.device})" if record.device else ""))
    for name in ("table.csv", "tune.json"):
        out.print(f"  {shown(folder.absolute() / name)}")
    rows = {row.name: row for row in record.candidates}
    if record.chosen:
        row = rows[record.chosen]
        smaller = 1 - (row.size_bytes or 0) / record.size_bytes
        speed = figure(row.speedup, row.speedup_ci)
        say("tune", f"{row.name}: {smaller:.1%} smaller, {speed} times as fast; in {duration(record.seconds)}")
        out.print(f"  {shown(folder.absolute() / 'model.onnx')}")
        return
    near = rows[record.nearest] if record.nearest else None
    why = f"nearest is {near.name}: {'; '.join(near.missed)}" if near else "none could be made; the table says why"
    say("tune", f"no candidate holds what was asked; {why}")
    raise typer.Exit(1)


def _table(record: TuneRecord) -> Table:
    """Every candidate: what it takes, how fast it is, what it loses, and whether that holds what was asked.

    It fits 80 columns; `_reasons` says the rest.
    """
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("candidate", no_wrap=True)
    for heading in ("MB", "times as fast", "predicted MOS", "holds"):
        table.add_column(heading, no_wrap=True)
    table.add_row("(the voice)", f"{record.size_bytes / 1e6:.2f}", "1", "0", "")
    for row in record.candidates:
        size = "-" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f}"
        holds = "chosen" if row.name == record.chosen else "no" if row.refused or row.missed else "yes"
        speed, change = figure(row.speedup, row.speedup_ci), figure(row.change, row.change_ci, "+")
        table.add_row(row.name + "*" * row.on_front, size, speed, change, holds)
    return table


def _reasons(record: TuneRecord) -> list[str]:
    """What stands below the table: what its signs mean, and why a candidate does not hold what was asked."""
    counts = sorted({row.sentences for row in record.candidates if row.sentences and not row.confirmed})
    first = f" on {' or '.join(map(str, counts))} sentences" if counts else ""
    lines = [f"With 95 % intervals; {record.predictor}{first}. * No other was smaller, faster and better there."]
    for row in record.candidates:
        further = f"scored on {row.sentences} further sentences" if row.confirmed else ""
        if row.name == record.chosen and not row.confirmed:
            further = "scored on the sentences that chose it, which flatters it (there were too few for further ones)"
        why = "; ".join(filter(None, [further, row.refused, *row.missed]))
        lines += [f"{row.name}: {why}"] if why else []
    return lines
