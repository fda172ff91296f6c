"""Look at a training while it runs, or after: the validation curve of every stage, from the run's records."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from IPython.display import clear_output, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ttsopt_lib.errors import StudyError
from ttsopt_lib.report.printing.plot_style import BLUE, new_figure
from ttsopt_lib.statistics.intervals import from_standard_error

PANELS = {
    "text_encoder": ("text_error", "text encoder and durations: held-out error"),
    "flow": ("held_out_latent_error", "flow: error of held-out latents (of their variance)"),
    "decoder": ("predicted_mos_change", "decoder: change of predicted MOS"),
    "speech": ("predicted_mos_change", "flow and decoder together: change of predicted MOS"),
    "voice": ("predicted_mos_change", "all together: change of predicted MOS"),
}
"""Stage -> the figure that decides, and what its panel is called."""


def training_records(run: Path) -> dict[str, dict[str, Any]]:
    """The record of every stage of a run folder that has validated at least once.

    Raises:
        StudyError: there is none yet.
    """
    paths = {stage: run / stage / "record.json" for stage in PANELS}
    records = {s: json.loads(p.read_text(encoding="utf-8")) for s, p in paths.items() if p.is_file()}
    if not records:
        raise StudyError(f"{run}: no training has validated there yet; 'ttsopt distill' trains")
    return records


def training_curves(run: Path) -> Figure:
    """One panel for each stage: the deciding figure over the minutes, with its 95 % interval where it has one."""
    records = training_records(run)
    figure, grid = new_figure(1.5 * len(records), nrows=len(records), squeeze=False)
    for axes, (stage, record) in zip(grid[:, 0], records.items(), strict=True):
        _panel(axes, stage, record)
    grid[-1, 0].set_xlabel("minutes of training")
    return figure


def _panel(axes: Axes, stage: str, record: dict[str, Any]) -> None:
    name, title = PANELS[stage]
    curve = record["curve"]
    if name not in record["best"]:  # a run of an earlier version
        raise StudyError(
            f"the training of the {stage.replace('_', ' ')} was recorded by an earlier version: train anew"
        )
    minutes, values = ([entry[key] for entry in curve] for key in ("minutes", name))
    axes.plot(minutes, values, marker="o", markersize=2.5, color=BLUE)
    errors, count = [entry.get(f"{name}_standard_error", 0.0) for entry in curve], record["held_out_utterances"]
    if any(errors):
        ends = [from_standard_error(*pair, count) or pair[:1] * 2 for pair in zip(values, errors, strict=True)]
        low, high = zip(*ends, strict=True)
        axes.fill_between(minutes, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.axhline(0, color="#888888", linewidth=0.7, linestyle=":")
    best = record["best"]
    axes.set_title(f"{title}; best {best[name]:.3f} at step {best['step']}", fontsize=7.5, loc="left", pad=3)


def watch(run: Path, every_seconds: float = 30.0, rounds: int | None = None) -> None:
    """Draw the curves again and again below a notebook's cell, until it is interrupted or `rounds` are over."""
    done = 0
    while rounds is None or done < rounds:
        figure = training_curves(run)
        clear_output(wait=True)
        display(figure)
        done += 1
        try:
            if rounds is None or done < rounds:
                time.sleep(every_seconds)
        except KeyboardInterrupt:
            break
