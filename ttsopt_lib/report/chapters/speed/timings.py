"""Timings: before and after on each device, every row, lengths of sentences, and the change of runtime.

Every device has a table of its rows. Of many devices, paper has one table that sets them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from matplotlib.axes import Axes

from ttsopt_lib.report import numbers
from ttsopt_lib.report.chapters.doubts import Concern, concerns, marks
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.facts.findings import code, listed
from ttsopt_lib.report.facts.verdict import not_judged
from ttsopt_lib.report.numbers import COUNT, MS, REDUCTION, RTF, counted
from ttsopt_lib.report.printing.html import FEW, escape, not_printed, on_paper
from ttsopt_lib.report.printing.plot_style import (
    BASELINE,
    FOREST_ROW,
    WIDTH,
    Chart,
    axis_label,
    forest,
    look,
    new_figure,
    right_column,
    set_title,
    target_line,
)
from ttsopt_lib.report.printing.table import Column, Table, name_of, printed, reason, row_of
from ttsopt_lib.report.schema import DeviceSummary, Summary
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY

RTF_FORMULA = "real-time factor (RTF) = wall time / audio time; below 1 is faster than real time"
STOPS = {
    "interval": "every interval was narrow enough",
    "budget": "the time budget was spent",
    "max_blocks": "the study asks for no more",
}
RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch",
    "onnxruntime-web": "ONNX Runtime in WebAssembly",
}
MODES = {"buckets": "buckets: lengths rounded up"}
SIDE_BY_SIDE = 4  # devices in a printed table
LESS = "Less time per second of audio"


def improvement(summary: Summary) -> Table:
    """Before and after of the optimized variant (or the one that came closest), one row per device."""
    choices = {choice.device: choice for choice in summary.choices}
    rows = []
    for device in summary.devices:
        choice = choices.get(device.device)
        name = (choice.variant or choice.closest) if choice else None
        optimized = bool(choice and choice.variant)
        rows.append(
            row_of(
                device,
                variant=name,
                optimized=optimized,
                before=summary.timing_of(device, ORIGINAL),
                after=summary.timing_of(device, name) if name else None,
                reason=device.reason or not_judged(device) or ("" if optimized else "no variant qualifies"),
            )
        )
    return Table(
        "improvement",
        "Inference time before and after optimization, ms per sentence",
        [
            Column("device", "Device", of="label", cell=_labelled),
            Column("status"),
            Column("imported", of="imported.file"),
            Column("variant", "Variant", cell=_improved),
            Column("optimized"),
            Column("before_ms", "Before, ms", MS.bare, "before.latency_ms.median"),
            Column("after_ms", "After, ms", MS.bare, "after.latency_ms.median"),
            Column("improvement", "Improvement [95 % interval]", REDUCTION, "after.latency_reduction", interval=True),
            Column("reason"),
        ],
        rows,
        kind="stack",
    )


def _labelled(row: Any) -> str:
    return escape(row.label) + ("<br>" + reason("imported") if row.imported else "")


def _improved(row: Any) -> str:
    if row.variant is None:
        return reason(row.reason)
    return name_of(row) + ("" if row.optimized else "<br>" + reason("came closest, does not qualify"))


def timings(measured: Sequence[DeviceSummary], found: Sequence[Concern] = ()) -> Table:
    """Every timing; a reduction is always against the original in the same runtime with the same threads.

    Rows that `found`, the warnings, are about have marks on the page.
    """

    def name(row: Any) -> str:
        mode = "" if row.mode == "fp32" else "<br>" + reason(MODES.get(row.mode) or row.mode)
        place = row.device.device, row.runtime, row.threads
        return name_of(row) + marks(found, *place, row.variant if not mode else f"{row.variant} {row.mode}") + mode

    return Table(
        "devices",
        "Every timing",
        [
            Column("device", of="device.label"),
            Column("runtime"),
            Column("mode"),
            Column("threads"),
            Column("variant", "Variant", cell=name),
            Column("samples"),
            Column("median_ms", "Median, ms", MS.bare, "latency_ms.estimate", interval=True),
            Column("p95_ms", "p95, ms", MS.bare, "latency_ms.p95"),
            Column("rtf", "RTF", RTF),
            Column("latency_reduction", LESS, REDUCTION, interval=True),
            Column("peak_memory_mb", "Peak memory, MB", COUNT),
            Column("load_ms", "Load, ms", MS.bare),
            Column("first_audio_ms", "First audio, ms", MS.bare, "first_audio_ms.estimate", interval=True),
        ],
        [row_of(row, device=device) for device in measured for row in device.rows],
    )


def section(summary: Summary) -> list[str]:
    """The tables of all measured devices."""
    measured, found = summary.timed_devices, concerns(summary)
    tables = [_of_device(device, found) for device in measured]
    if len(tables) <= FEW:
        return tables
    where = "Everything else that was timed: `report.html` and `tables/devices.csv`."
    beside = [
        _side_by_side(summary, measured[start : start + SIDE_BY_SIDE], start + 1, found)
        for start in range(0, len(measured), SIDE_BY_SIDE)
    ]
    return ['<div class="paper-only">', *beside, "</div>", *not_printed(tables, where)]


def _of_device(device: DeviceSummary, found: Sequence[Concern]) -> str:
    """A body for each runtime and number of threads."""
    places = {conditions(row): (row.runtime, row.threads) for row in device.rows}
    table = timings([device], found)
    memory = any(row.peak_memory_mb is not None for row in device.rows)
    table = replace(
        table,
        columns=[column for column in table.columns if memory or column.field != "peak_memory_mb"],
        caption=f"Every timing on {device.label}: ms per sentence; {RTF_FORMULA}",
        part=device.device,
        group=conditions,
        titles={words: words + marks(found, device.device, *place) for words, place in places.items()},
    )
    return table.html


def conditions(row: Any, mode: str = "") -> str:
    """'ONNX Runtime, 2 threads'; with a mode 'PyTorch, fp16, 1 thread'."""
    return ", ".join(filter(None, (RUNTIMES[row.runtime], mode, counted(row.threads, "thread"))))


def _side_by_side(summary: Summary, shown: Sequence[DeviceSummary], first: int, found: Sequence[Concern]) -> str:
    """Medians and reductions where the targets look, two columns for each device."""

    def columns(device: DeviceSummary) -> list[Column]:
        def median(row: Any) -> str:
            timing = summary.timing_of(device, row.variant)
            place = device.device, device.runtime, device.threads
            return printed(timing and timing.latency_ms.median, MS.bare) + marks(found, *place, row.variant)

        return [
            Column("", f"{device.label}, ms", MS, cell=median),
            Column("", "less", REDUCTION, lambda row: findings.latency_of(summary, device, row.variant)),
        ]

    names = dict.fromkeys(row.variant for device in shown for row in device.rows)
    table = Table(
        "devices",
        "Median ms per sentence, and less time per second of audio, where the targets look",
        [Column("", "Variant", cell=name_of), *(column for device in shown for column in columns(device))],
        [SimpleNamespace(variant=name) for name in names],
        part=f"from-{first}",
        kind="dense",
    )
    return table.html


def runtime_change(summary: Summary) -> Table:
    """PyTorch to ONNX Runtime, the same variant with the same threads."""
    return Table(
        "runtime_change",
        "Change of runtime, PyTorch to ONNX Runtime: no optimization of the voice, and not counted as one",
        [
            Column("device"),
            Column("variant", "Variant", cell=name_of),
            Column("threads", "Device, threads", cell=lambda row: f"{escape(row.device)}, {row.threads}"),
            Column("before"),
            Column("after"),
            Column("before_ms", "PyTorch, ms", MS.bare),
            Column("after_ms", "ONNX Runtime, ms", MS.bare),
            Column("latency_reduction", LESS, REDUCTION, interval=True),
        ],
        [row_of(change, device=device.label) for device in summary.timed_devices for change in device.runtime_changes],
        missing="The change of runtime was not measured.",
    )


def length_classes(measured: Sequence[DeviceSummary]) -> Table:
    """Median time and reduction per length of sentence, where the targets look."""
    return Table(
        "length_classes",
        f"{LESS}, by length of the sentence",
        [
            Column("device"),
            Column("variant"),
            Column("length_class"),
            Column("median_ms"),
            Column("p95_ms"),
            Column("latency_reduction", interval=True),
        ],
        [
            row_of(part, device=device.label, variant=row.variant)
            for device in measured
            for row in device.rows
            if (row.runtime, row.mode, row.threads) == (device.runtime, "fp32", device.threads)
            and row.variant != ORIGINAL_COPY
            for part in row.length_classes
        ],
    )


def reductions_by_length(summary: Summary) -> str:
    """The same for the page: a row per variant, a column per class."""
    rows = [
        SimpleNamespace(
            device=device.label,
            variant=timing.variant,
            classes={part.length_class: part.latency_reduction for part in timing.length_classes},
        )
        for device in summary.measured_devices
        for variant in summary.variants
        if variant.name != ORIGINAL and (timing := summary.timing_of(device, variant.name))
    ]

    def column(name: str) -> Column:
        return Column("", name.replace("_", " "), REDUCTION, lambda row: row.classes.get(name))

    table = replace(
        length_classes([]),
        columns=[
            Column("", "Variant", cell=name_of),
            *(column(name) for name in dict.fromkeys(name for row in rows for name in row.classes)),
        ],
        rows=rows,
        group=lambda row: row.device,
        groups_on_paper=on_paper(summary.measured_devices),
        missing="Lengths of sentences were not told apart.",
    )
    return table.html


def timing_notes(summary: Summary) -> list[str]:
    """How far the timings can be believed: why sampling ended, and the original against itself."""
    notes = []
    for device in summary.timed_devices:
        if device.stops:
            ends = [
                f"{stop.blocks} blocks with {counted(stop.threads, 'thread')} ({STOPS[stop.stopped_by]})"
                for stop in device.stops
            ]
            notes.append(f"{device.label}: timed in {listed(ends)}.")
        at_once = max((sitting.opened_at_once or 1 for sitting in device.sittings), default=1)
        if at_once > 1:
            seconds = sum(sitting.opening_seconds or 0.0 for sitting in device.sittings)
            notes.append(
                f"{device.label}: up to {at_once} rows were opened at the same time, {seconds:.0f} s for all of them, "
                "so load times include waiting for one another. Each was warmed up alone, and all were open before "
                "the first block."
            )
        if names := floating_alone(summary, device):
            notes.append(
                f"{device.label}: PyTorch computes of {code(names)} its network in floating point; int8 products are "
                "for processors."
            )
        copy = summary.timing_of(device, ORIGINAL_COPY)
        if copy and copy.latency_reduction and copy.latency_reduction.ci:
            low, high = copy.latency_reduction.ci
            differs = numbers.REDUCTION.figure(copy.latency_reduction)
            text = f"{device.label}: the original timed against itself differs by {differs}"
            if low <= 0 <= high:
                notes.append(f"{text}, as it should: zero lies inside the interval.")
            else:
                notes.append(
                    f"{text}. Zero lies outside the interval, so the machine was not steady: do not believe "
                    "differences as small as this one."
                )
    return notes


def floating_alone(summary: Summary, device: DeviceSummary) -> list[str]:
    """The variants with int8 products whose network alone PyTorch computes on a GPU."""
    timed = {row.variant for row in device.rows if row.runtime == "pytorch"} if device.kind == "gpu" else set()
    with_products = [v.name for v in summary.variants if any(step.kind == "int8 products" for step in v.steps)]
    return [name for name in with_products if name in timed]


def import_notes(summary: Summary) -> list[str]:
    """Which devices were measured elsewhere, or are not judged."""
    notes = []
    for device in summary.devices:
        source, not_judged = device.imported, f"timings are shown and not judged: {'; '.join(device.doubts)}"
        if source is None:
            if device.doubts:
                notes.append(f"{device.label}: its {not_judged}. Run `ttsopt measure` again.")
            continue
        system = device.system
        machine = system and (system.accelerator or system.board or system.cpu or system.os)
        where = f" ({machine})" if machine else ""
        commit = f" with commit {source.commit[:10]}" if source.commit else ", with which commit is not known"
        said = (
            f"{device.label}: imported from {source.file} on {source.when}; measured on another machine{where} on "
            f"{device.created}{commit}."
        )
        if device.doubts:
            notes.append(f"{said} Its {not_judged}.")
        else:
            notes.append(f"{said} Its voice files are today's, so it is judged like the others.")
    return notes


def first_audio_notes(summary: Summary) -> list[str]:
    """What the time to first audio is the time of."""
    found = {device.first_audio_sentence for device in summary.timed_devices if device.first_audio_sentence}
    return [
        "First audio: a text that is spoken sentence by sentence, as `piper` does, is heard when its first sentence is "
        f"made, however long the rest is. Here it begins with “{sentence}” (the timing sentence of median length)."
        for sentence in sorted(found)
    ]


def latency_chart(summary: Summary, width: float = WIDTH) -> Chart | None:
    """The latency reduction of every variant on every measured device, with its interval."""
    devices = summary.measured_devices
    if not devices:
        return None
    names = [variant.name for variant in summary.variants if variant.name != ORIGINAL]
    if any(summary.timing_of(device, ORIGINAL_COPY) for device in devices):
        names.append(ORIGINAL_COPY)
    columns = min(2 if width == WIDTH else 1, len(devices))
    lines = -(-len(devices) // columns)
    height = 0.6 + lines * (0.62 + FOREST_ROW * len(names))
    figure, grid = new_figure(height, width, nrows=lines, ncols=columns, squeeze=False)
    for index, (axes, device) in enumerate(zip(grid.flat, devices, strict=False)):
        _latency_panel(axes, summary, device, names, alone=len(devices) == 1)
        if index % columns:
            axes.set_yticklabels([])
    for axes in grid.flat[len(devices) :]:
        axes.set_visible(False)
    set_title(figure, findings.latency_title(summary))
    label = axis_label(figure, "less time per second of audio than the original (%)")
    figure.supxlabel(label, fontsize=7, color="#333333")
    alt = "Dots with intervals of the latency reduction. " + " ".join(
        f"On {device.label}: "
        + "; ".join(
            f"{name} {numbers.REDUCTION.figure(row.latency_reduction)}"
            for name in names
            if (row := summary.timing_of(device, name))
        )
        + "."
        for device in devices
    )
    caption = (
        "Reduction of the time per second of audio against the original in the same runtime (ONNX Runtime) with the "
        "same threads; bars are 95 % intervals. original-copy is the original timed against itself: what it shows is "
        "the error of the method. Dashed: the target."
    )
    return Chart("latency", figure, alt, caption)


def _latency_panel(axes: Axes, summary: Summary, device: DeviceSummary, names: list[str], alone: bool) -> None:
    estimates = [findings.latency_of(summary, device, name) for name in names]
    known = {variant.name: look(variant) for variant in summary.variants}
    forest(axes, names, estimates, [known.get(name, BASELINE) for name in names], scale=100)
    right_column(axes, [numbers.percent(one.value) if one else "not measured" for one in estimates])
    target = summary.targets.latency_reduction
    ends = [100 * end for one in estimates if one for end in one.ends]
    axes.set_xlim(min([-5.0, *ends]) - 3, max([100 * target, *ends]) + 5)
    target_line(axes, 100 * target, f"target {numbers.REDUCTION.exact(target)}")
    if not alone:
        axes.set_title(f"{device.label}, {counted(device.threads, 'thread')}", fontsize=7.5, pad=13)
