"""Int8 where it is harmless: a search that spends an error budget where it saves the most arithmetic.

1. Ranges of every convolution's input and output, over calibration sentences (`ranges`).
2. The error that each group of layers makes alone, in dB of level (`sensitivity`).
3. Groups in order of error per multiply-accumulate saved, the cheapest first, as long as their errors' sum fits the
   budget. Multiply-accumulates stand for time because they are the same on every run: the same voice gives the same
   file.
4. The chosen set is judged as a whole. While it exceeds the budget, the dearest group goes back to
   float32.
5. Every weight that is still float32 is stored as int8 and unpacked while the voice loads (`quantize_weights`).

With `clock: true` this machine, or the `clock_device`, has the last word (`clock`). Each group is cut out of the voice
and timed in float32 and in int8, and only one that is surely faster in int8 is bought; seconds stand in place of
multiply-accumulates. The chosen set is timed as a whole voice, and while it is not surely faster than float32, the
group that saves least goes back. The timings are kept with the sensitivities, so that the same record gives the same
file.

The last convolution, which makes the waveform itself, and the layers that decide durations compute in float32 always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import ModelProto
from tqdm.auto import tqdm

from ttsopt_lib.code_hash import code_digest
from ttsopt_lib.files import content_key
from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.clock import Clock, Graphs
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import Int8Work, seed_noise
from ttsopt_lib.optimize.graph.part import part_around
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions, quantize_convolutions, quantized_tensors, with_int8
from ttsopt_lib.optimize.graph.ranges import histograms
from ttsopt_lib.optimize.graph.sensitivity import SpectralJudge, group_label, is_vits, layer_groups, sensitivities
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.params import read_devices
from ttsopt_lib.records.base import read_if_current, write_record
from ttsopt_lib.records.variant import GroupSensitivity, SensitivityRecord, TimedSet
from ttsopt_lib.step_settings import QuantizeMixed, QuantizeWeights
from ttsopt_lib.voices.adapters.model import Speaker
from ttsopt_lib.voices.paired import PairedSession

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext

LAST_LAYERS = ("dec/conv_post",)  # of a VITS; of another voice the last group is the last layer
RANGE_RULE = "squared_error"  # docs/optimizing.md says what the others gave


class QuantizeMixedWork(Int8Work[QuantizeMixed]):
    settings = QuantizeMixed
    label = "mixed-precision quantization"
    family = "mixed int8"
    kind = "int8 products"
    remedy = "lower its `budget_db`"

    def needs_sentences(self, step: QuantizeMixed) -> bool:
        return True

    def files(self, step: QuantizeMixed) -> dict[str, str]:
        if step.clock_device is None:
            return {}
        return {step.clock_device: content_key(read_devices([step.clock_device]))}

    def check(self, step: QuantizeMixed, voice: Path | None) -> None:
        _clock_of(step)

    def times(self, step: QuantizeMixed) -> bool:
        clock = _clock_of(step)
        return clock is not None and clock.is_here

    def apply(self, model: ModelProto, step: QuantizeMixed, context: BuildContext) -> ModelProto:
        """Search and quantize. The sensitivities that it needs are kept: another budget reuses them."""
        path, clock = context.folder.sensitivity_record(context.variant), _clock_of(step)
        key = content_key(
            hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            [{name: value.tolist() for name, value in feed.items()} for feed in context.calibration],
            [step.calibration_sentences, step.judged_sentences, step.weight_bits],
            code_digest(__name__),
            context.libraries,
            [clock.where, step.clock_threads, step.activations] if clock else None,
        )
        mixed = quantize_mixed(
            model,
            step,
            context.calibration,
            {layer.node: layer.macs for layer in context.inventory.layers},
            context.voice.sample_rate,
            known=_known(path, key, context.variant),
            key=key,
            variant=context.variant,
            clock=clock,
            opened=context.voice.open,
            outputs=context.voice.outputs,
        )
        write_record(path, mixed.record)
        context.note = mixed.note
        return mixed.model


@dataclass(frozen=True)
class Mixed:
    """A voice in mixed precision and how it came to be.

    Attributes:
        model: the quantized voice.
        record: the sensitivities, with the chosen groups.
        note: one sentence for the variant's record.
    """

    model: ModelProto
    record: SensitivityRecord
    note: str


def quantize_mixed(
    model: ModelProto,
    step: QuantizeMixed,
    feeds: Sequence[Feed],
    macs: Mapping[str, int],
    sample_rate: int,
    known: SensitivityRecord | None = None,
    key: str = "",
    variant: str = "",
    clock: Clock | None = None,
    opened: Callable[[ModelProto], Speaker] = PairedSession,
    outputs: Sequence[str] = (),
) -> Mixed:
    """Search and quantize.

    Args:
        model: the voice in float32.
        step: the budget, and how many sentences to use.
        feeds: calibration utterances; the first are the ones that spectra are compared on.
        macs: multiply-accumulates of each node of an utterance.
        sample_rate: of the voice, Hz.
        known: the record of an earlier search over the same, if there is one.
        key: of the new record.
        variant: whose recipe asked.
        clock: that has the last word; None: the search goes without one.
        opened: makes a graph of the voice ready to speak (`TtsModel.open`).
        outputs: of the voice, as the clock computes them.
    """
    result = with_int8(copy_named(model))
    convolutions = quantizable_convolutions(result)
    groups = layer_groups(result)
    seeded = copy_named(result)
    seed_noise(seeded)
    seen = histograms(seeded, quantized_tensors(convolutions), feeds[: step.calibration_sentences])
    ranges = {name: histogram.range(RANGE_RULE) for name, histogram in seen.items()}
    judge = SpectralJudge(result, feeds[: step.judged_sentences], sample_rate, opened)
    never = LAST_LAYERS if is_vits(result) else tuple(groups)[-1:]
    record = known or sensitivities(result, judge, ranges, key, variant, groups, step.weight_bits)

    def in_int8(chosen: Sequence[str], whole: ModelProto = result) -> ModelProto:
        names = [name for group in chosen for name in groups[group]]
        return quantize_convolutions(whole, names, ranges, step.activations == "signed", step.weight_bits)

    group_clock = None
    saved: Mapping[str, float] = {group: sum(macs.get(name, 0) for name in names) for group, names in groups.items()}
    if clock:
        judged = feeds[: step.judged_sentences]
        group_clock = _GroupClock(clock, step.clock_threads, result, in_int8, judged, outputs)
        record = group_clock.time_groups(
            record, {group: names for group, names in groups.items() if group not in never}
        )
        saved = time_saved(record.groups)
    chosen = spend(record.groups, saved, step.budget_db, never)
    error = 0.0
    quantized = result
    whole = None
    while chosen:
        quantized = in_int8(chosen)
        error = judge.judge(quantized)["level_error_db"]
        if error <= step.budget_db:
            if group_clock is None:
                break
            record, whole = group_clock.time_set(record, [group for group in groups if group in chosen], quantized)
            if whole.speedup_ci[0] > 1:
                break
            least = min(chosen, key=lambda group: (saved[group], group))
            chosen = [group for group in chosen if group != least]
        else:
            chosen = chosen[:-1]
        quantized, error, whole = result, 0.0, None
    # In the graph's order, whatever the order in which they were bought.
    kept = [group for group in groups if group in chosen]
    record = record.model_copy(update={"chosen": kept, "error_db": error, "budget_db": step.budget_db})
    rest = [group_label(group) for group in groups if group not in chosen]
    note = _note(kept, [*rest, "the duration predictor"] if is_vits(result) else rest, error, step.budget_db)
    return Mixed(
        model=quantize_weights(quantized, QuantizeWeights(step="quantize_weights")),
        record=record,
        note=f"{note}; {_clock_note(record, whole)}" if clock else note,
    )


def _clock_of(step: QuantizeMixed) -> Clock | None:
    """The step's clock, where it has one. Raises StudyError for a device that is not there, or a GPU."""
    if not step.clock:
        return None
    return Clock(read_devices([step.clock_device])[0] if step.clock_device else None)


@dataclass(frozen=True)
class _GroupClock:
    """Times groups of layers in int8 beside the same in float32."""

    clock: Clock
    threads: int  # within an operator
    model: ModelProto  # the voice in float32
    in_int8: Callable[[Sequence[str], ModelProto], ModelProto]  # makes these groups int8 in the voice or a part of it
    feeds: Sequence[Feed]  # utterances; groups are timed on the first, sets on all
    outputs: Sequence[str]  # of the whole voice

    def time_groups(self, record: SensitivityRecord, layers: Mapping[str, Sequence[str]]) -> SensitivityRecord:
        """The record with how fast each group of `layers` (group -> names of its nodes) is; those timed before stay."""
        left = [one.group for one in record.groups if one.speedup is None and one.group in layers]
        if not left:
            return record
        parts = (self._part(group, layers[group]) for group in tqdm(left, desc="clock", leave=False))
        compared = self.clock.compare(parts, self.threads)
        found = {group: speeds[group] for group, speeds in zip(left, compared.speeds, strict=True)}
        groups = []
        for one in record.groups:
            if speed := found.get(one.group):
                saved = speed.reference_seconds * (1 - 1 / speed.speedup)
                one = one.model_copy(update={"speedup": speed.speedup, "speedup_ci": speed.ci, "seconds_saved": saved})
            groups.append(one)
        return record.model_copy(update={"groups": groups, "machine": record.machine or compared.machine})

    def _part(self, group: str, names: Sequence[str]) -> Graphs:
        part = part_around(self.model, names, self.feeds[:1])
        return Graphs({group: self.in_int8([group], part.model)}, part.model, part.feeds)

    def time_set(
        self, record: SensitivityRecord, chosen: list[str], quantized: ModelProto
    ) -> tuple[SensitivityRecord, TimedSet]:
        """How fast the voice is with these groups in int8, and the record with that in it."""
        for known in record.timed_sets:
            if known.groups == chosen:
                return record, known
        name = "+".join(chosen)
        graphs = Graphs({name: quantized}, self.model, self.feeds, self.outputs)
        (found,) = self.clock.compare([graphs], self.threads).speeds
        made = TimedSet(groups=chosen, speedup=found[name].speedup, speedup_ci=found[name].ci)
        return record.model_copy(update={"timed_sets": [*record.timed_sets, made]}), made


def time_saved(groups: Sequence[GroupSensitivity]) -> dict[str, float]:
    """Group -> seconds that int8 in it saves in an utterance; only those that are surely faster so."""
    return {
        one.group: one.seconds_saved
        for one in groups
        if one.seconds_saved is not None and one.speedup_ci is not None and one.speedup_ci[0] > 1
    }


def _known(path: Path, key: str, variant: str) -> SensitivityRecord | None:
    """The record of an earlier search over the same: this variant's own, else that of another one with another budget.

    Every variant has a record of its own; one from another variant is taken over in this one's name."""
    for file in (path, *sorted(path.parent.glob("*.json"))):
        if record := read_if_current(file, SensitivityRecord, key):
            return record.model_copy(update={"variant": variant})
    return None


def spend(
    groups: Sequence[GroupSensitivity], saved: Mapping[str, float], budget: float, never: Sequence[str] = LAST_LAYERS
) -> list[str]:
    """The groups that a budget (dB) buys, the cheapest for what each saves first: products, or time.

    A group that is too dear for what is left is passed over: a cheaper one may follow. Nothing is bought without a
    budget."""
    if budget <= 0:
        return []
    for_sale = [one for one in groups if saved.get(one.group) and one.group not in never]
    chosen: list[str] = []
    left = budget
    for one in sorted(for_sale, key=lambda one: (one.level_error_db / saved[one.group], one.group)):
        if one.level_error_db <= left:
            chosen.append(one.group)
            left -= one.level_error_db
    return chosen


def _note(chosen: Sequence[str], rest: Sequence[str], error: float, budget: float) -> str:
    """What the search chose, in one sentence."""
    if not chosen:
        return f"int8 arithmetic in no layer (a level error of {budget:g} dB allows none); all weights stored as int8"
    return (
        f"int8 arithmetic in {', '.join(map(group_label, chosen))}; float32 in {', '.join(rest)}; "
        f"level error {error:.2f} dB of {budget:g} dB allowed; all weights stored as int8"
    )


def _clock_note(record: SensitivityRecord, whole: TimedSet | None) -> str:
    """What the clock found, in half a sentence."""
    timed = [one for one in record.groups if one.speedup is not None]
    faster = len(time_saved(record.groups))
    found = f"timed on {record.machine}: {faster} of {len(timed)} groups are surely faster in int8"
    if whole is None:
        return found
    low, high = whole.speedup_ci
    return f"{found}, the chosen ones together {whole.speedup:.2f} [{low:.2f}, {high:.2f}] times as fast as in float32"
