"""The step `dequantize`: the integer arithmetic of a graph that somebody else quantized, in float32 again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import ModelProto

from ttsopt_lib.optimize.graph.to_float import to_float
from ttsopt_lib.optimize.steps.step import GraphWork, Reached
from ttsopt_lib.step_settings import Dequantize

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer


class DequantizeWork(GraphWork[Dequantize]):
    settings = Dequantize
    label = "dequantization"
    family = "float32 again"
    optimizes = False

    def apply(self, model: ModelProto, step: Dequantize, context: BuildContext) -> ModelProto:
        found = to_float(model)
        context.note = found.note
        return found.model

    def reaches(self, step: Dequantize, layer: Layer) -> tuple[int, bool]:
        """What is int8: this step is to take it away."""
        return layer.parameters if layer.stored_int8 or layer.computes_int8 else 0, layer.computes_int8

    def reached(self, step: Dequantize, after: Inventory, before: Inventory) -> Reached:
        """What was int8 before and is not any more."""
        coverage, layers = self.gained(step, before, after)
        return Reached(coverage, layers, self.note(step, after, layers))

    def note(self, step: Dequantize, after: Inventory, layers: int) -> str:
        return f"{layers} of {len(after.weighted)} layers with weights compute in float32 on the weights they had"
