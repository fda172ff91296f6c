"""The step `prune_structured`: whole channels leave the voice (`optimize/channels.py`), and what remains is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.channels import refuse_widths
from ttsopt_lib.optimize.steps.step import NetworkWork, Reached, file_hashes, refuse_other_teacher
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.variant import Coverage
from ttsopt_lib.step_settings import PruneStructured
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
                refuse_widths(whole, step)

    def trains(self, step: PruneStructured) -> bool:
        return step.trained is None or not resolve(step.trained).exists()

    def corpus(self, step: PruneStructured) -> Path | None:
        return step.corpus if step.trained is not None and self.trains(step) else None

    def apply(self, model: StagedVits, step: PruneStructured, context: BuildContext | None) -> None:
        from ttsopt_lib.optimize.finetune import prune_and_train

        prune_and_train(model, step, context)

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
