"""Pruning: weights set to zero by magnitude (Han et al. 2015, https://arxiv.org/abs/1506.02626).

One threshold for the whole network, so that a layer with small weights loses more than its share. Reached are the
weights of convolutions, linear and recurrent layers, in every stage; not their biases, the normalizations, the
embeddings (which are looked up, not multiplied) or the relative positions of the attention.

Zeros are stored and multiplied like any other number: neither the file nor the run time gets smaller by this alone.

A voice that is known as an ONNX graph only has no network: `prune_graph` does the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.graph.index import FLOATS, WEIGHT_INPUTS, GraphIndex, copy_named
from ttsopt_lib.optimize.steps.step import NetworkWork
from ttsopt_lib.step_settings import PruneMagnitude

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear)
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


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
        NoLayer: the model has no layer with weights.
    """
    weights = [module.weight for module in model.modules() if isinstance(module, PRUNABLE)]
    for module in model.modules():
        if isinstance(module, RECURRENT):
            weights += [weight for name, weight in module.named_parameters() if name.startswith("weight")]
    pruned, count = _pruned([weight.detach().cpu().numpy() for weight in weights], amount)
    with torch.no_grad():
        for weight, value in zip(weights, pruned, strict=True):
            weight.copy_(torch.from_numpy(value))
    return count


def prune_graph(model: ModelProto, amount: float) -> tuple[ModelProto, int]:
    """The same in a graph; weights that are stored as integers are left alone.

    A weight that several layers share is counted once.

    Returns:
        (a copy with zeros, how many there are new: exactly `round(amount * weights)`)

    Raises:
        NoLayer: the model has no layer with weights.
    """
    result = copy_named(model)
    index = GraphIndex(result.graph)
    found: dict[str, TensorProto] = {}
    for node in result.graph.node:
        if node.op_type in WEIGHT_INPUTS and node.op_type != "Gather":
            for weight in index.weights_of(node):
                if weight is not None and weight.tensor.data_type in FLOATS:
                    found[weight.name] = weight.tensor
    pruned, count = _pruned([numpy_helper.to_array(tensor) for tensor in found.values()], amount)
    for tensor, value in zip(found.values(), pruned, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return result, count


def _pruned(weights: Sequence[np.ndarray], amount: float) -> tuple[list[np.ndarray], int]:
    """The weights with the smallest of all set to zero, and how many these are. Raises `NoLayer` without weights."""
    if not weights:
        raise NoLayer(
            "prune_magnitude: the model has no convolution, linear or recurrent layer whose weights could be pruned"
        )
    flat = np.concatenate([weight.reshape(-1).astype(np.result_type(weight, np.float32)) for weight in weights])
    count = round(amount * flat.size)
    # A partition and not a threshold: where many weights are equally small, exactly `count` of them go.
    flat[np.argpartition(np.abs(flat), count)[:count]] = 0.0
    parts = np.split(flat, np.cumsum([weight.size for weight in weights])[:-1])
    return [part.reshape(weight.shape).astype(weight.dtype) for part, weight in zip(parts, weights, strict=True)], count
