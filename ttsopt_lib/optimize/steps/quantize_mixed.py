"""Int8 where it is harmless: a search that spends an error budget where it saves the most arithmetic.

1. Ranges of every convolution's input and output, over calibration sentences (`ranges`).
2. The error that each group of layers makes alone, in dB of level (`sensitivity`).
3. Groups in order of error per multiply-accumulate saved, the cheapest first, as long as their errors' sum fits the
   budget. Multiply-accumulates stand for time because they are the same on every run: the same voice gives the same
   file.
4. The chosen set is judged as a whole. While it exceeds the budget, the dearest group goes back to
   float32.
5. Every weight that is still float32 is stored as int8 and unpacked while the voice loads (`quantize_weights`).

The last convolution, which makes the waveform itself, and the layers that decide durations compute in float32 always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import ModelProto

from ttsopt_lib.code import code_digest
from ttsopt_lib.files import content_key
from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.graph.int8 import Int8Work, seed_noise
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions, quantize_convolutions, quantized_tensors
from ttsopt_lib.optimize.graph.ranges import histograms
from ttsopt_lib.optimize.graph.sensitivity import SpectralJudge, group_label, layer_groups, sensitivities
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.records.base import read_if_current, write_record
from ttsopt_lib.records.variant import GroupSensitivity, SensitivityRecord
from ttsopt_lib.steps import QuantizeMixed, QuantizeWeights

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext

LAST_LAYERS = ("dec/conv_post",)
RANGE_RULE = "squared_error"  # docs/optimizing.md says what the others gave


class QuantizeMixedWork(Int8Work[QuantizeMixed]):
    settings = QuantizeMixed
    label = "mixed-precision quantization"
    family = "mixed int8"
    kind = "int8 products"
    remedy = "lower its `budget_db`"

    def needs_sentences(self, step: QuantizeMixed) -> bool:
        return True

    def apply(self, model: ModelProto, step: QuantizeMixed, context: BuildContext) -> ModelProto:
        """Search and quantize. The sensitivities that it needs are kept: another budget reuses them."""
        path = context.sensitivity_record
        key = content_key(
            hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            [{name: value.tolist() for name, value in feed.items()} for feed in context.calibration],
            [step.calibration_sentences, step.judged_sentences],
            code_digest("ttsopt_lib.optimize.graph.sensitivity", __name__),
            context.libraries,
        )
        mixed = quantize_mixed(
            model,
            step,
            context.calibration,
            {layer.node: layer.macs for layer in context.inventory.layers},
            context.voice.config.sample_rate,
            known=lambda: read_if_current(path, SensitivityRecord, key),
            key=key,
            variant=context.variant,
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
    known: Callable[[], SensitivityRecord | None] = lambda: None,
    key: str = "",
    variant: str = "",
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
    """
    result = copy_named(model)
    convolutions = quantizable_convolutions(result)
    groups = layer_groups(result)
    seeded = copy_named(result)
    seed_noise(seeded)
    seen = histograms(seeded, quantized_tensors(convolutions), feeds[: step.calibration_sentences])
    ranges = {name: histogram.range(RANGE_RULE) for name, histogram in seen.items()}
    judge = SpectralJudge(result, feeds[: step.judged_sentences], sample_rate)
    record = known() or sensitivities(result, judge, ranges, key, variant)

    saved = {group: sum(macs.get(name, 0) for name in names) for group, names in groups.items()}
    chosen = spend(record.groups, saved, step.budget_db)
    error = 0.0
    quantized = result
    while chosen:
        names = [name for group in chosen for name in groups[group]]
        quantized = quantize_convolutions(result, names, ranges, step.activations == "signed")
        error = judge.judge(quantized)["level_error_db"]
        if error <= step.budget_db:
            break
        chosen, quantized, error = chosen[:-1], result, 0.0
    # In the graph's order, whatever the order in which they were bought.
    kept = [group for group in groups if group in chosen]
    record = record.model_copy(update={"chosen": kept, "error_db": error, "budget_db": step.budget_db})
    return Mixed(
        model=quantize_weights(quantized, QuantizeWeights(step="quantize_weights")),
        record=record,
        note=_note(kept, [group for group in groups if group not in chosen], error, step.budget_db),
    )


def spend(groups: Sequence[GroupSensitivity], saved: Mapping[str, int], budget: float) -> list[str]:
    """The groups that a budget (dB) buys, the cheapest per multiply-accumulate saved first.

    A group that is too dear for what is left is passed over: a cheaper one may follow. Nothing is bought without a
    budget."""
    if budget <= 0:
        return []
    prices = {
        one.group: (one.level_error_db / saved[one.group], one.level_error_db)
        for one in groups
        if saved.get(one.group) and one.group not in LAST_LAYERS
    }
    chosen: list[str] = []
    left = budget
    for group in sorted(prices, key=lambda name: (prices[name][0], name)):
        if prices[group][1] <= left:
            chosen.append(group)
            left -= prices[group][1]
    return chosen


def _note(chosen: Sequence[str], rest: Sequence[str], error: float, budget: float) -> str:
    """What the search chose, in one sentence."""
    if not chosen:
        return f"int8 arithmetic in no layer (a level error of {budget:g} dB allows none); all weights stored as int8"
    return (
        f"int8 arithmetic in {', '.join(map(group_label, chosen))}; float32 in {', '.join(map(group_label, rest))} "
        f"and the duration predictor; level error {error:.2f} dB of {budget:g} dB allowed; all weights stored as int8"
    )
