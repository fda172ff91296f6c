"""Pruning: weights set to zero by magnitude (Han et al. 2015, https://arxiv.org/abs/1506.02626).

One threshold for the whole network, so that a layer with small weights loses more than its share. Reached are the
weights of convolutions and linear layers, in every stage; not their biases, the normalizations, the embeddings (which
are looked up, not multiplied) or the relative positions of the attention.

Zeros are stored and multiplied like any other number: neither the file nor the run time gets smaller by this alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ttsopt_lib.optimize.steps.step import NetworkWork
from ttsopt_lib.steps import PruneMagnitude

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear)


class PruneMagnitudeWork(NetworkWork[PruneMagnitude]):
    settings = PruneMagnitude
    label = "magnitude pruning"
    family = "pruned"
    kind = "zeros"
    remedy = "prune less of it"

    def apply(self, model: StagedVits, step: PruneMagnitude, context: BuildContext | None) -> None:
        prune_magnitude(model, step.amount)

    def reaches(self, step: PruneMagnitude, layer: Layer) -> tuple[int, bool]:
        return layer.zeros, False

    def note(self, step: PruneMagnitude, after: Inventory, layers: int) -> str:
        weights = sum(layer.parameters for layer in after.weighted)
        zeros = sum(layer.zeros for layer in after.weighted)
        return (
            f"{zeros / max(weights, 1):.1%} of {weights / 1e6:.2f} M weights are zero; "
            "stored densely, and multiplied by all the same"
        )


def prune_magnitude(model: nn.Module, amount: float) -> int:
    """Set the fraction `amount` of all weights to zero for good, in place: the smallest, over all layers together.

    The same as `torch.nn.utils.prune.global_unstructured` with its masks made permanent, but ten times faster.

    Returns:
        how many weights were set to zero, exactly `round(amount * weights)`.

    Raises:
        ValueError: `amount` is not between 0 and 1, or the model has no convolution or linear layer.
    """
    if not 0.0 < amount < 1.0:
        raise ValueError(f"prune_magnitude: amount must be between 0 and 1, got {amount}")
    weights = [module.weight for module in model.modules() if isinstance(module, PRUNABLE)]
    if not weights:
        raise ValueError("prune_magnitude: the model has no convolution or linear layer whose weights could be pruned")
    with torch.no_grad():
        flat = torch.cat([weight.reshape(-1) for weight in weights])
        count = round(amount * flat.numel())
        # A partition and not a threshold: where many weights are equally small, exactly `count` of them go.
        smallest = np.argpartition(flat.abs().cpu().numpy(), count)[:count]
        flat[torch.from_numpy(smallest)] = 0.0
        for weight, pruned in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.copy_(pruned.view_as(weight))
    return count
