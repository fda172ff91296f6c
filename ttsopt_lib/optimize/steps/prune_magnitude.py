"""Pruning: weights set to zero by magnitude (Han et al. 2015, https://arxiv.org/abs/1506.02626).

One threshold for the whole network, so that a layer with small weights loses more than its share. Reached are the
weights of convolutions, linear and recurrent layers, in every stage; not their biases, the normalizations, the
embeddings (which are looked up, not multiplied) or the relative positions of the attention.

Zeros are stored and multiplied like any other number: neither the file nor the run time gets smaller by this alone.

A voice that is known as an ONNX graph only has no network: `prune_graph` does the same there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.index import FLOATS, WEIGHT_INPUTS, GraphIndex, copy_named
from ttsopt_lib.optimize.steps.step import NetworkWork
from ttsopt_lib.steps import PruneMagnitude

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear)
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
NO_LAYER = "prune_magnitude: the model has no convolution, linear or recurrent layer whose weights could be pruned"


class NoLayer(ValueError):
    """A model without a weight to prune."""


class PruneMagnitudeWork(NetworkWork[PruneMagnitude]):
    settings = PruneMagnitude
    label = "magnitude pruning"
    family = "pruned"
    kind = "zeros"
    remedy = "prune less of it"

    def apply(self, model: StagedVits, step: PruneMagnitude, context: BuildContext | None) -> None:
        prune_magnitude(model, step.amount)

    def in_graph(self, model: ModelProto, step: PruneMagnitude) -> ModelProto:
        try:
            return prune_graph(model, step.amount)[0]
        except NoLayer as error:
            if step.reaches_nothing == "expected":
                return model
            raise StudyError(
                f"{error}; take the step out of the recipe, or, where the weights are integers, write 'as_float: true' "
                "beside the voice"
            ) from None

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
        ValueError: `amount` is not between 0 and 1, or the model has no layer with weights.
    """
    _check(amount)
    weights = [module.weight for module in model.modules() if isinstance(module, PRUNABLE)]
    for module in model.modules():
        if isinstance(module, RECURRENT):
            weights += [weight for name, weight in module.named_parameters() if name.startswith("weight")]
    if not weights:
        raise NoLayer(NO_LAYER)
    with torch.no_grad():
        flat = torch.cat([weight.reshape(-1) for weight in weights])
        smallest = _smallest(flat.abs().cpu().numpy(), amount)
        count = len(smallest)
        flat[torch.from_numpy(smallest)] = 0.0
        for weight, pruned in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.copy_(pruned.view_as(weight))
    return count


def prune_graph(model: ModelProto, amount: float) -> tuple[ModelProto, int]:
    """The same in a graph; weights that are stored as integers are left alone.

    A weight that several layers share is counted once.

    Returns:
        (a copy with zeros, how many there are new: exactly `round(amount * weights)`)

    Raises:
        ValueError: as `prune_magnitude`.
    """
    _check(amount)
    result = copy_named(model)
    index = GraphIndex(result.graph)
    found: dict[str, TensorProto] = {}
    for node in result.graph.node:
        if node.op_type in WEIGHT_INPUTS and node.op_type != "Gather":
            for weight in index.weights_of(node):
                if weight is not None and weight.tensor.data_type in FLOATS:
                    found[weight.name] = weight.tensor
    if not found:
        raise NoLayer(NO_LAYER)
    values = [numpy_helper.to_array(tensor) for tensor in found.values()]
    flat = np.concatenate([value.reshape(-1).astype(np.result_type(value, np.float32)) for value in values])
    smallest = _smallest(np.abs(flat), amount)
    flat[smallest] = 0.0
    parts = np.split(flat, np.cumsum([value.size for value in values])[:-1])
    for tensor, value, part in zip(found.values(), values, parts, strict=True):
        pruned = part.reshape(value.shape).astype(value.dtype)
        tensor.CopyFrom(numpy_helper.from_array(pruned, tensor.name))
    return result, len(smallest)


def _check(amount: float) -> None:
    if not 0.0 < amount < 1.0:
        raise ValueError(f"prune_magnitude: amount must be between 0 and 1, got {amount}")


def _smallest(sizes: np.ndarray, amount: float) -> np.ndarray:
    """Places of the smallest, as many as the fraction says."""
    count = round(amount * sizes.size)
    # A partition and not a threshold: where many weights are equally small, exactly `count` of them go.
    return np.argpartition(sizes, count)[:count]
