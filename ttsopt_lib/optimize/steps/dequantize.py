"""The step `dequantize`: the integer arithmetic of a file that was quantized before, turned back into float32."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from onnx import ModelProto

from ttsopt_lib.optimize.graph.float_form import INTEGER, float_form
from ttsopt_lib.optimize.steps.step import GraphWork, Reached
from ttsopt_lib.steps import Dequantize

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer


class DequantizeWork(GraphWork[Dequantize]):
    settings = Dequantize
    label = "the return to float arithmetic"
    family = "float arithmetic"
    optimizes = False

    def apply(self, model: ModelProto, step: Dequantize, context: BuildContext) -> ModelProto:
        result, found = float_form(model)
        left = Counter(node.op_type for node in result.graph.node if node.op_type in INTEGER)
        context.note = words(found, left)
        return result

    def reaches(self, step: Dequantize, layer: Layer) -> tuple[int, bool]:
        return (0, False) if layer.computes_int8 else (layer.parameters, True)

    def reached(self, step: Dequantize, after: Inventory, before: Inventory) -> Reached:
        """Layers that computed in integers before, and do no more."""
        layers = sum(layer.computes_int8 for layer in before.layers) - sum(
            layer.computes_int8 for layer in after.layers
        )
        return Reached(self.coverage(step, after), layers)

    def note(self, step: Dequantize, after: Inventory, layers: int) -> str:
        return ""


def words(found: Counter[str], left: Counter[str]) -> str:
    """What was turned back, and what was not, in one sentence."""
    if not found and not left:
        return "no integer arithmetic was there to turn back"
    done = ", ".join(f"{count} {operator}" for operator, count in found.most_common()) or "nothing"
    rest = ", ".join(f"{count} {operator}" for operator, count in left.most_common())
    return f"computed in float32 again: {done}" + (f"; still in integers: {rest}" if left else "")
