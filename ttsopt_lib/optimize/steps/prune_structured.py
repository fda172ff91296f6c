"""The step `prune_structured`: whole channels leave the voice (`optimize/channels.py`), and what remains is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.channels import PruningError, refuse_widths
from ttsopt_lib.optimize.steps.step import NetworkWork, Reached, file_hashes, refuse_other_teacher
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.variant import Coverage
from ttsopt_lib.steps import PruneStructured
from ttsopt_lib.voices.piper import load_piper, open_piper

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory


class PruneStructuredWork(NetworkWork[PruneStructured]):
    settings = PruneStructured
    label = "structured pruning"
    family = "fewer channels"
    kind = "removal"

    def needs_sentences(self, step: PruneStructured) -> bool:
        return step.trained is None

    def files(self, step: PruneStructured) -> dict[str, str]:
        """Of a decoder that was fine-tuned before; nothing where it has yet to be trained."""
        return {} if step.trained is None else file_hashes(resolve(step.trained), ".safetensors")

    def check(self, step: PruneStructured, voice: Path | None) -> None:
        if not self.trains(step):
            from ttsopt_lib.optimize.finetune import check_asked, load_pruned

            assert step.trained is not None
            decoder, record = load_pruned(resolve(step.trained))
            instead = "name a new folder in 'trained', to train one of this one"
            refuse_other_teacher(resolve(step.trained), record, voice, instead)
            with torch.device("meta"):  # counts, and computes nothing
                check_asked(step, HifiGanDecoder(decoder.config), decoder.to("meta"))
        elif step.decoder_widths is not None and voice is not None:
            whole = load_piper(open_piper(voice)).decoder
            if isinstance(whole, HifiGanDecoder):  # a student is refused by the step itself
                _check_widths(whole, step)

    def trains(self, step: PruneStructured) -> bool:
        return not self.files(step)

    def corpus(self, step: PruneStructured) -> Path | None:
        return step.corpus if step.trained is not None and self.trains(step) else None

    def apply(self, model: StagedVits, step: PruneStructured, context: BuildContext | None) -> None:
        from ttsopt_lib.optimize.finetune import PruningInputs, prune_and_train

        inputs = context and PruningInputs(context.voice.path, context.calibration, context.folder.path)
        prune_and_train(model, step, inputs)

    def reached(self, step: PruneStructured, after: Inventory, before: Inventory) -> Reached:
        coverage = Coverage(
            parameters=max(1 - after.parameters_stored / before.parameters_stored, 0.0),
            macs=max(1 - after.macs / max(before.macs, 1), 0.0),
        )
        was = {layer.node: layer.parameters for layer in before.weighted}
        layers = sum(layer.parameters < was.get(layer.node, 0) for layer in after.weighted)
        in_decoder = [sum(layer.macs for layer in voice.layers if layer.in_decoder) for voice in (before, after)]
        note = (
            f"{layers} layers have fewer channels: {coverage.parameters:.1%} of the parameters and {coverage.macs:.1%} "
            f"of the multiply-accumulates are gone ({1 - in_decoder[1] / max(in_decoder[0], 1):.1%} of the decoder's)"
        )
        return Reached(coverage, layers, note)


def _check_widths(whole: HifiGanDecoder, step: PruneStructured) -> None:
    """Raises `PruningError` where the asked widths cannot be this decoder's, or remove too little of it."""
    from ttsopt_lib.optimize.finetune import share_gone

    assert step.decoder_widths is not None
    refuse_widths(whole, step.decoder_widths)
    with torch.device("meta"):
        share = share_gone(HifiGanDecoder(whole.config), of_widths(whole.config, step.decoder_widths), step.of)
    if share < step.amount:
        raise PruningError(
            f"prune_structured: decoder_widths remove {share:.1%} of the {step.of}, amount asks for "
            f"{step.amount:.0%}: make them smaller, or lower 'amount'"
        )


def of_widths(config: HifiGanConfig, widths: tuple[int, ...]) -> HifiGanDecoder:
    """A decoder without values that has these channels after the first convolution and each upsampling."""
    from ttsopt_lib.optimize.finetune import with_weights

    whole = HifiGanDecoder(config)
    new = {layer.out_channels: width for layer, width in zip((whole.conv_pre, *whole.ups), widths, strict=True)}
    weights = {}
    for name, layer in whole.named_modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            into = layer.in_channels if name in ("conv_pre", "cond") else new[layer.in_channels]
            out = layer.out_channels if name == "conv_post" else new[layer.out_channels]
            shape = (into, out) if isinstance(layer, nn.ConvTranspose1d) else (out, into)
            weights[f"{name}.weight"] = torch.empty(*shape, *layer.kernel_size)
            if layer.bias is not None:
                weights[f"{name}.bias"] = torch.empty(out)
    return with_weights(config, weights)
