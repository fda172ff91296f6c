"""How each table of :mod:`~ttsopt_lib.report.frames` is printed: headings with units, figures with their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from ttsopt_lib.report import numbers
from ttsopt_lib.report.html import Column, escape, mark
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL

BASELINE = '<span class="none">baseline</span>'
NONE = '<span class="none">not measured</span>'
NONE_FASTER = '<span class="none">none</span>'
CLAIMS = {
    "size_reduction": "Size reduction",
    "latency_reduction": "Latency reduction",
    "predicted_mos_change": "Predicted MOS change",
    "mos_change": "MOS change (listeners)",
}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}


def given(value: Any) -> bool:
    """Whether a cell of a frame holds something (pandas knows several kinds of nothing)."""
    return value is not None and not (isinstance(value, float) and pd.isna(value)) and value is not pd.NA


def _ends(row: Any, name: str) -> tuple[float, float] | None:
    low, high = getattr(row, f"{name}_low", None), getattr(row, f"{name}_high", None)
    return (float(low), float(high)) if given(low) and given(high) else None  # type: ignore[arg-type]


def _with_interval(text: str, interval: str) -> str:
    figure = f'<span class="figure">{text}</span>'
    return f'{figure} <span class="interval">{interval}</span>' if interval else figure


def name_of(row: Any) -> str:
    return f"<code>{escape(row.variant)}</code>"


def reduction_cell(row: Any, name: str, digits: int = 0) -> str:
    """'64 % [63, 65]'."""
    value = getattr(row, name)
    if not given(value):
        return NONE
    if row.variant == ORIGINAL and value == 0.0:  # by definition; a change of runtime is not
        return BASELINE
    return _with_interval(numbers.percent(value, digits), numbers.percent_interval(_ends(row, name)))


def change_cell(row: Any, name: str, digits: int = 2) -> str:
    """'−0.10 [−0.18, −0.02]'."""
    value, ends = getattr(row, name), _ends(row, name)
    if not given(value):
        return NONE
    if row.variant == ORIGINAL:
        return BASELINE
    interval = f"[{numbers.signed(ends[0], digits)}, {numbers.signed(ends[1], digits)}]" if ends else ""
    return _with_interval(numbers.signed(value, digits), interval)


def evaluation_cell(row: Any) -> str:
    """The change on the evaluation sentences; with their number where the first ones decided."""
    cell = change_cell(row, "change")
    decided = f' <span class="interval">n = {numbers.number(row.sentences)}</span>'
    return cell if row.change_level == 0.95 else cell + decided


def held_out_cell(row: Any) -> str:
    """The change on the sentences that did not choose; with their number where they are not the odd-numbered ones."""
    cell = change_cell(row, "change_held_out")
    more = row.variant != ORIGINAL and row.sentences_held_out != row.sentences // 2
    return f'{cell} <span class="interval">n = {row.sentences_held_out}</span>' if more else cell


def score_cell(row: Any, name: str) -> str:
    """'4.03 [3.98, 4.08]'."""
    value, ends = getattr(row, name), _ends(row, name)
    if not given(value):
        return NONE
    interval = f"[{numbers.number(ends[0], 2)}, {numbers.number(ends[1], 2)}]" if ends else ""
    return _with_interval(numbers.number(value, 2), interval)


def error_rates_cell(row: Any) -> str:
    """'7.7 % [4.5, 12.1] / 3.0 %': of words, with the interval, and of characters, whose interval is in the CSV."""
    if not given(row.wer):
        return NONE
    ends = _ends(row, "wer")
    interval = f"[{numbers.number(100 * ends[0], 1)}, {numbers.number(100 * ends[1], 1)}]" if ends else ""
    words = f'<span class="figure">{numbers.percent(row.wer, 1)}</span>'
    characters = f" / {numbers.percent(row.cer, 1)}" if given(row.cer) else ""
    # a narrow cell breaks before the interval and nowhere else
    return f'{words} <span class="figure-text"><span class="interval">{interval}</span>{characters}</span>'


def plain_cell(value: Any, print_with: Any) -> str:
    """A figure without an interval."""
    return print_with(value) if given(value) else NONE


def verdict(summary: Summary) -> list[Column]:
    """Claims against targets; the page's most important table."""

    def target(row: Any) -> str:
        if row.claim.endswith("change"):
            return f"no worse than {numbers.signed(row.target)}"
        return f"at least {numbers.percent(row.target)}"

    def measured(row: Any) -> str:
        cell = change_cell if row.claim.endswith("change") else reduction_cell
        if not given(row.measured):
            reason = row.reason
            if given(row.closest):  # the lead says why
                reason = f"no variant qualifies; `{row.closest}` came closest"
            return f'<span class="reason">{escape(reason)}</span>'
        near = row.status == "fail" and row.measured >= row.target
        why = '<br><span class="reason">the interval\'s worse end misses the target</span>' if near else ""
        return f"{cell(row, 'measured')} {name_of(row)}{why}"

    def nowrap(row: Any) -> str:
        return f'<span class="figure-text">{target(row)}</span>'

    return [
        Column("Claim", lambda row: escape(CLAIMS[row.claim])),
        Column("Device", lambda row: escape(row.device or "any")),
        Column("Target", nowrap),
        Column("Measured [95 % interval]", measured),
        Column("Verdict", lambda row: mark(row.status)),
    ]


def sizes() -> list[Column]:
    def made_by(row: Any) -> str:
        note = f'<br><span class="reason note-text">{escape(row.note)}</span>' if row.note else ""
        return escape(row.made_by) + note

    return [
        Column("Variant", name_of),
        Column("Made by", made_by),
        Column("File, MB", lambda row: numbers.megabytes(row.size_bytes), True),
        Column("Smaller by", lambda row: reduction_cell(row, "size_reduction"), True),
        Column("Compressed, MB", lambda row: numbers.megabytes(row.compressed_bytes), True),
        Column("Parameters, M", lambda row: numbers.millions(row.parameters), True),
        Column("of these not zero, M", lambda row: numbers.millions(row.parameters_nonzero), True),
    ]


def coverage() -> list[Column]:
    def step(row: Any) -> str:
        small = "; ".join(text for text in (row.settings, row.note) if text)
        return escape(row.step) + (f'<br><span class="reason">{escape(small)}</span>' if small else "")

    return [
        Column("Variant", name_of),
        Column("Step", step),
        Column("Layers reached", lambda row: numbers.number(row.layers), True),
        Column("of the parameters", lambda row: numbers.percent(row.parameters, 1), True),
        Column("of the multiply-accumulates", lambda row: numbers.percent(row.macs, 1), True),
    ]


def sensitivity() -> list[Column]:
    return [
        Column("Layers", lambda row: escape(row.label)),
        Column("of the weights", lambda row: numbers.percent(row.parameters, 1), True),
        Column("of the time", lambda row: numbers.percent(row.time, 1), True),
        Column("Level error, dB", lambda row: numbers.number(row.level_error_db, 2), True),
        Column("Spectral distance, dB", lambda row: numbers.number(row.spectral_distance_db, 1), True),
        Column("Level above 8 kHz, dB", lambda row: numbers.signed(row.level_above_8khz_db, 1), True),
        Column("Arithmetic chosen", lambda row: "int8" if row.int8 else "float32"),
    ]


def improvement() -> list[Column]:
    def milliseconds(row: Any, name: str) -> str:
        return plain_cell(getattr(row, name), numbers.milliseconds)

    def variant(row: Any) -> str:
        if not given(row.variant):
            return f'<span class="reason">{escape(row.reason)}</span>'
        return name_of(row) + (
            "" if row.optimized else '<br><span class="reason">came closest, does not qualify</span>'
        )

    return [
        Column("Device", lambda row: escape(row.device)),
        Column("Variant", variant),
        Column("Before, ms", lambda row: milliseconds(row, "before_ms"), True),
        Column("After, ms", lambda row: milliseconds(row, "after_ms"), True),
        Column("Improvement [95 % interval]", lambda row: reduction_cell(row, "improvement"), True),
    ]


def milliseconds_cell(row: Any, name: str) -> str:
    """'42.0 [41.2, 43.1]'."""
    value, ends = getattr(row, name), _ends(row, name)
    if not given(value):
        return NONE
    interval = f"[{numbers.milliseconds(ends[0])}, {numbers.milliseconds(ends[1])}]" if ends else ""
    return _with_interval(numbers.milliseconds(value), interval)


def devices(doubts: Callable[[Any], str]) -> list[Column]:
    """``doubts`` gives the marks of a row that warnings are about, as HTML."""

    def name(row: Any) -> str:
        mode = "" if row.mode == "fp32" else f'<br><span class="reason">{escape(row.mode)}</span>'
        return name_of(row) + doubts(row) + mode

    return [
        Column("Variant", name),
        Column("Median, ms", lambda row: milliseconds_cell(row, "median_ms"), True),
        Column("p95, ms", lambda row: numbers.milliseconds(row.p95_ms), True),
        Column("RTF", lambda row: numbers.number(row.rtf, 3), True),
        Column("Less time per second of audio", lambda row: reduction_cell(row, "latency_reduction"), True),
        Column("Peak memory, MB", lambda row: numbers.number(row.peak_memory_mb), True),
        Column("Load, ms", lambda row: plain_cell(row.load_ms, numbers.milliseconds), True),
        Column("First audio, ms", lambda row: milliseconds_cell(row, "first_audio_ms"), True),
    ]


def side_by_side(labels: list[str]) -> list[Column]:
    """Two columns per device, in fields median0, doubts0 (marks, as HTML), less0, median1 ..."""

    def median(number: int):
        return lambda row: (
            plain_cell(getattr(row, f"median{number}"), numbers.milliseconds) + getattr(row, f"doubts{number}")
        )

    def less(field: str):
        return lambda row: reduction_cell(row, field)

    found = [Column("Variant", name_of)]
    for number, label in enumerate(labels):
        found += [Column(f"{label}, ms", median(number), True), Column("less", less(f"less{number}"), True)]
    return found


def runtime_change() -> list[Column]:
    return [
        Column("Variant", name_of),
        Column("Device, threads", lambda row: f"{escape(row.device)}, {row.threads}"),
        Column("PyTorch, ms", lambda row: numbers.milliseconds(row.before_ms), True),
        Column("ONNX Runtime, ms", lambda row: numbers.milliseconds(row.after_ms), True),
        Column("Less time per second of audio", lambda row: reduction_cell(row, "latency_reduction"), True),
    ]


def length_classes(classes: list[str]) -> list[Column]:
    """One column per class, in fields class0, class1 ... (a class may be called anything)."""

    def cell(field: str):
        return lambda row: reduction_cell(row, field)

    found = [Column(name.replace("_", " "), cell(f"class{i}"), True) for i, name in enumerate(classes)]
    return [Column("Variant", name_of), *found]


def quality() -> list[Column]:
    return [
        Column("Variant", name_of),
        Column("Predicted MOS", lambda row: score_cell(row, "predicted_mos"), True),
        Column("Change, evaluation", evaluation_cell, True),
        Column("Change, held out", held_out_cell, True),
        Column("WER / CER", error_rates_cell, True),
        Column("Level above 8 kHz, dB", lambda row: change_cell(row, "level_above_8khz_change_db", 1), True),
    ]


def mos() -> list[Column]:
    def raters(row: Any) -> str:
        return f"{row.raters:.0f} ({row.ratings:.0f})" if given(row.raters) else NONE

    return [
        Column("Condition", lambda row: f"{escape(row.condition)} <br>{name_of(row)}"),
        Column("MOS (listeners)", lambda row: score_cell(row, "mos"), True),
        Column("Change", lambda row: change_cell(row, "mos_change"), True),
        Column("Raters (ratings)", raters, True),
        Column("Predicted MOS change", lambda row: change_cell(row, "predicted_mos_change"), True),
    ]


def comparisons() -> list[Column]:
    return [
        Column("Variant", name_of),
        Column("Mean", lambda row: change_cell(row, "score") if row.test == "ccr" else score_cell(row, "score"), True),
        Column("Raters", lambda row: numbers.number(row.raters), True),
        Column("Sentences", lambda row: numbers.number(row.sentences), True),
        Column("Ratings", lambda row: numbers.number(row.ratings), True),
    ]


def amdahl() -> list[Column]:
    def bound(row: Any) -> str:
        if not row.bound:
            return NONE_FASTER
        if pd.isna(row.bound_speedup):
            return "none: every stage became faster"
        return f"{numbers.percent(row.bound, 1)} ({numbers.number(row.bound_speedup, 1)} times)"

    return [
        Column("Variant", name_of),
        Column("Stages that became faster", lambda row: escape(row.faster_stages) or NONE_FASTER),
        Column("Bound: if they cost nothing", bound, True),
        Column("Measured reduction", lambda row: reduction_cell(row, "measured", 1), True),
    ]


def stages(names: list[str]) -> list[Column]:
    """A column per stage: its share of the original's time, then of the variant's."""

    def share(number: int) -> Column:
        def cell(row: Any) -> str:
            return plain_cell(getattr(row, f"stage{number}"), numbers.percent)

        return Column(names[number].capitalize(), cell, True)

    return [Column("Variant", name_of), *(share(number) for number in range(len(names)))]


def machines() -> list[Column]:
    def heat(row: Any) -> str:
        ends = (row.temperature_before_c, row.temperature_after_c)
        degrees = " to ".join(f"{end:.0f}" for end in ends if given(end))
        held_back = f"<br>throttling: {escape(row.throttling_after)}" if given(row.throttling_after) else ""
        return f"{degrees}{held_back}" if degrees or held_back else NONE

    def machine(row: Any) -> str:
        accelerator = f"<br>{escape(row.accelerator)}" if given(row.accelerator) else ""
        return f"{escape(row.machine)}, {escape(row.cpu)}{accelerator}"

    return [
        Column("Device", lambda row: escape(row.device)),
        Column("Machine", machine),
        Column("Cores", lambda row: numbers.number(row.logical_cores), True),
        Column("Memory, GB", lambda row: numbers.number(row.memory_mb / 1024, 1), True),
        Column("Instruction sets", lambda row: escape(row.instruction_sets)),
        Column("System", lambda row: escape(row.os)),
        Column("Temperature, °C", heat),
        Column("Software", lambda row: escape(f"Python {row.python}, {row.packages}")),
    ]


def files() -> list[Column]:
    return [
        Column("Variant", name_of),
        Column("SHA-256", lambda row: f'<code class="hash">{escape(row.sha256)}</code>'),
    ]
