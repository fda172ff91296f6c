"""The command `ttsopt tune`: the smallest file of a voice that is not slower and not worse than asked."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ttsopt_lib.cli.app import app
from ttsopt_lib.records.tune import Asks, Candidate, TuneRecord
from ttsopt_lib.terminal import duration, out, say, shown


@app.command()
def tune(
    model: Annotated[
        Path, typer.Argument(help="a voice's .onnx with its .onnx.json beside it, or a .yaml that declares a model")
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
    out.print(f"timed on {escape(record.timed_on)}" + (f" ({escape(record.device)})" if record.device else ""))
    for name in ("table.csv", "tune.json"):
        out.print(f"  {shown(folder.absolute() / name)}")
    rows = {row.name: row for row in record.candidates}
    if record.chosen:
        row = rows[record.chosen]
        smaller = 1 - (row.size_bytes or 0) / record.size_bytes
        say("tune", f"{row.name}: {smaller:.1%} smaller, {_speed(row)} times as fast; in {duration(record.seconds)}")
        out.print(f"  {shown(folder.absolute() / 'model.onnx')}")
        return
    near = rows[record.nearest] if record.nearest else None
    why = f"nearest is {near.name}: {'; '.join(near.missed)}" if near else "none could be made; the table says why"
    say("tune", f"no candidate holds what was asked; {why}")
    raise typer.Exit(1)


def _table(record: TuneRecord) -> Table:
    """Every candidate: what it takes, how fast it is, what it loses, and whether that holds what was asked."""
    table = Table("candidate", "MB", "times as fast, 95 %", "predicted MOS, 95 %", "sentences", "holds")
    table.add_row("(the voice)", f"{record.size_bytes / 1e6:.2f}", "1", "0", "", "")
    for row in record.candidates:
        mark = " *" if row.on_front else ""
        size = "-" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f}"
        count = "-" if row.sentences is None else f"{row.sentences}{' further' if row.confirmed else ''}"
        why = row.refused or "; ".join(row.missed)
        holds = f"no: {why}" if why else "yes, chosen" if row.name == record.chosen else "yes"
        table.add_row(row.name + mark, size, _speed(row), _change(row), count, escape(holds))
    table.caption = "* no other is smaller, faster and better at once"
    return table


def _speed(row: Candidate) -> str:
    if row.speedup is None or row.speedup_ci is None:
        return "-"
    return escape(f"{row.speedup:.2f} [{row.speedup_ci[0]:.2f}, {row.speedup_ci[1]:.2f}]")


def _change(row: Candidate) -> str:
    if row.change is None or row.change_ci is None:
        return "-"
    return escape(f"{row.change:+.3f} [{row.change_ci[0]:+.3f}, {row.change_ci[1]:+.3f}]")
