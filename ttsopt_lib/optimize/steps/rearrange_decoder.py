"""Rearrange a decoder's convolutions so that the same arithmetic runs faster. Nothing is approximated.

ONNX Runtime has its fastest float32 kernels (a blocked channel layout) for two-dimensional convolutions only, and a
vocoder's are one-dimensional. Three changes, each equal to what it replaces up to the rounding of sums:

* The decoder runs on [batch, channels, 1, time] instead of [batch, channels, time]: kernels become 1 high.
* A transposed convolution of stride s becomes a convolution with s times the channels, one for each phase of the
  output, and an interleave (a polyphase filter). It has as many multiply-accumulates, and int8 kernels exist for it.
* The mean over residual blocks (a division between two layers) moves into the weights that follow it, because a leaky
  ReLU of x / n is the leaky ReLU of x, divided by n.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from ttsopt_lib.optimize.graph.index import (
    DECODER,
    GraphIndex,
    free_name,
    inline_identities,
    read_in_branches,
    refill,
    remove_unread,
    tensor_names,
)
from ttsopt_lib.optimize.steps.step import GraphWork
from ttsopt_lib.step_settings import RearrangeDecoder
from ttsopt_lib.voices.vits_graph import attribute, reads

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer

ELEMENTWISE = ("LeakyRelu", "Relu", "Tanh", "Sigmoid", "Neg")
PAIRWISE = ("Add", "Sub", "Mul", "Div")


class RearrangeDecoderWork(GraphWork[RearrangeDecoder]):
    settings = RearrangeDecoder
    label = "the rearranged decoder"
    family = "rearranged"
    kind = "order"
    optimizes = False

    def apply(self, model: ModelProto, step: RearrangeDecoder, context: BuildContext) -> ModelProto:
        return rearrange_decoder(model)

    def reaches(self, step: RearrangeDecoder, layer: Layer) -> tuple[int, bool]:
        return layer.parameters if layer.two_dimensional else 0, layer.two_dimensional

    def note(self, step: RearrangeDecoder, after: Inventory, layers: int) -> str:
        return f"{layers} of the decoder's convolutions in two dimensions: the same arithmetic, faster kernels"


def rearrange_decoder(model: ModelProto) -> ModelProto:
    """The voice with its decoder's convolutions in two dimensions; equal to `model` where it upsamples in no layer.

    A decoder without transposed convolutions (an inverse-STFT student) is left alone: it runs at the rate of frames,
    and its layers alternate with operators that would have to change back each time.
    """
    result = deepcopy(model)
    inline_identities(result.graph)
    decoder = [node for node in result.graph.node if DECODER.match(node.name)]
    if not any(node.op_type == "ConvTranspose" for node in decoder):
        return result
    _fold_means(result, decoder)
    _Lift(result).run()
    return result


def _fold_means(model: ModelProto, decoder: list[NodeProto]) -> None:
    """Move each division by a positive number into the next layer, where only a leaky ReLU stands between them."""
    index = GraphIndex(model.graph)
    kept = {output.name for output in model.graph.output} | read_in_branches(model.graph)
    for division in decoder:
        divisor = _positive_number(index, division.input[1]) if division.op_type == "Div" else None
        readers = index.readers[division.output[0]]
        if divisor is None or len(readers) != 1 or readers[0].op_type not in ("LeakyRelu", "Relu"):
            continue
        layers = index.readers[readers[0].output[0]]
        if len(layers) != 1 or layers[0].op_type not in ("Conv", "ConvTranspose"):
            continue
        weight = index.constants.get(layers[0].input[1])
        if weight is None or len(index.readers[weight.name]) != 1:
            continue
        if kept & {division.output[0], readers[0].output[0], weight.name}:
            continue
        scaled = (numpy_helper.to_array(weight) / np.float32(divisor)).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(scaled, weight.name))
        readers[0].input[0] = division.input[0]
        model.graph.node.remove(division)


def _positive_number(index: GraphIndex, name: str) -> float | None:
    """The positive scalar that a tensor always is, else None."""
    maker = index.producers.get(name)
    tensor = index.constants.get(name)
    if tensor is None and maker is not None and maker.op_type == "Constant":
        tensor = attribute(maker, "value", None)
    if tensor is None:
        return None
    value = numpy_helper.to_array(tensor)
    return float(value.reshape(())) if value.size == 1 and value > 0 else None


class _Lift:
    """One pass over the graph, from its inputs on, that carries the decoder's tensors in four dimensions."""

    def __init__(self, model: ModelProto):
        self.graph = model.graph
        self.index = GraphIndex(model.graph)
        self.nodes: list[NodeProto] = []
        self.flat_outputs = {output.name for output in model.graph.output}
        self.taken, self.named = tensor_names(model.graph), {node.name for node in model.graph.node}
        self.axes = self.constant("layout_time_axes", np.array([2], np.int64))
        self.lifted: dict[str, str] = {}  # tensor -> its name in four dimensions
        self.weights: dict[tuple[str, tuple[int, ...]], str] = {}  # the same of weights, by their new shape
        self.flat: set[str] = set()  # lifted tensors that were brought back to three as well

    def run(self) -> None:
        for node in list(self.graph.node):
            if DECODER.match(node.name) and self._lift(node):
                continue
            for name in reads(node):
                self._flatten(name)
            self.nodes.append(node)
        for name in self.flat_outputs:
            self._flatten(name)
        read = {name for node in self.nodes for name in reads(node)} | self.flat_outputs
        refill(self.graph.node, (node for node in self.nodes if node.op_type != "Constant" or node.output[0] in read))
        remove_unread(self.graph)

    def constant(self, name: str, value: np.ndarray) -> str:
        name = free_name(name, self.taken)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _lift(self, node: NodeProto) -> bool:
        """Put the node's counterpart in four dimensions into the graph; False where it has none."""
        data = list(node.input)
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = self.index.constants.get(node.input[1])
            if weight is None or len(weight.dims) != 3 or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
                return False
            if node.op_type == "Conv":
                self._convolution(node, numpy_helper.to_array(weight))
                return True
            if attribute(node, "group", 1) != 1 or attribute(node, "dilations", [1]) != [1]:
                return False
            if any(attribute(node, "output_padding", [0])) or not self.index.constants.keys() >= set(node.input[2:]):
                return False
            self._upsampling(node, numpy_helper.to_array(weight))
            return True
        if node.op_type in ELEMENTWISE:
            liftable = data[0] in self.lifted
        else:
            liftable = node.op_type in PAIRWISE and all(
                name in self.lifted or _positive_number(self.index, name) is not None for name in data
            )
        if not liftable or not any(name in self.lifted for name in data):
            return False
        self._add(node, [self.lifted.get(name, name) for name in data], helper_attributes(node))
        return True

    def _add(self, node: NodeProto, inputs: list[str], attributes: dict) -> None:
        """The node in four dimensions, under its own name."""
        output = self.lifted[node.output[0]] = free_name(f"{node.output[0]}_4d", self.taken)
        self.nodes.append(helper.make_node(node.op_type, inputs, [output], name=node.name, **attributes))

    def _convolution(self, node: NodeProto, weight: np.ndarray) -> None:
        pads = list(attribute(node, "pads", [0, 0]))
        self._add(
            node,
            [self._four(node.input[0]), self._weight(node, weight[:, :, None]), *node.input[2:]],
            {
                "group": attribute(node, "group", 1),
                "kernel_shape": [1, weight.shape[-1]],
                "dilations": [1, *attribute(node, "dilations", [1])],
                "strides": [1, *attribute(node, "strides", [1])],
                "pads": [0, pads[0], 0, pads[1]],
            },
        )

    def _upsampling(self, node: NodeProto, weight: np.ndarray) -> None:
        """Phase r of the output at frame m is the sum over taps t of x[m - t] * weight[..., t * stride + r]."""
        stride = attribute(node, "strides", [1])[0]
        first, last = attribute(node, "pads", [0, 0])
        channels_in, channels, kernel = weight.shape
        taps = -(-kernel // stride)
        padded = np.zeros((channels_in, channels, taps * stride), np.float32)
        padded[..., :kernel] = weight
        # [in, out, tap, phase] -> [out, phase, in, tap], the taps turned round as a convolution reads them
        phases = padded.reshape(channels_in, channels, taps, stride)[:, :, ::-1].transpose(1, 3, 0, 2)
        stem, name = node.name.rpartition("/")[0], node.output[0]

        def add(operator: str, what: str, inputs: list[str], output: str, **attributes: Any) -> str:
            label, made = free_name(f"{stem}/{operator}_{what}", self.named), free_name(output, self.taken)
            self.nodes.append(helper.make_node(operator, inputs, [made], name=label, **attributes))
            return made

        def integers(what: str, *values: int) -> str:
            return self.constant(f"{name}_{what}", np.array(values, np.int64))

        inputs = [
            self._four(node.input[0]),
            self._weight(node, phases.reshape(channels * stride, channels_in, 1, taps)),
        ]
        if len(node.input) > 2:
            bias = numpy_helper.to_array(self.index.constants[node.input[2]])
            inputs.append(self.constant(f"{node.input[2]}_phases", np.repeat(bias, stride)))
        pads = [0, taps - 1, 0, taps - 1]
        settings = {"kernel_shape": [1, taps], "pads": pads, "strides": [1, 1], "dilations": [1, 1], "group": 1}
        made = add("Conv", "phases", inputs, f"{name}_phases", **settings)
        made = add("Reshape", "split", [made, integers("split", 0, channels, stride, -1)], f"{name}_split_4d")
        made = add("Transpose", "turned", [made], f"{name}_turned_4d", perm=[0, 1, 3, 2])
        made = add("Reshape", "joined", [made, integers("joined", 0, channels, 1, -1)], f"{name}_joined_4d")
        end = -(taps * stride - kernel + last) or np.iinfo(np.int64).max
        bounds = [integers("start", first), integers("end", end), integers("axis", 3)]
        self.lifted[name] = add("Slice", "cut", [made, *bounds], f"{name}_4d")

    def _weight(self, node: NodeProto, value: np.ndarray) -> str:
        """A weight in its new shape; layers that share one go on sharing it."""
        key = (node.input[1], value.shape)
        if key not in self.weights:
            self.weights[key] = self.constant(f"{node.input[1]}_4d", value)
        return self.weights[key]

    def _four(self, name: str) -> str:
        """A tensor in four dimensions."""
        if name not in self.lifted:
            self.lifted[name] = four = free_name(f"{name}_4d", self.taken)
            label = free_name(f"/dec/Lift{name}", self.named)
            self.nodes.append(helper.make_node("Unsqueeze", [name, self.axes], [four], name=label))
            self.flat.add(name)
        return self.lifted[name]

    def _flatten(self, name: str) -> None:
        """Make sure that a tensor is there in three dimensions too."""
        if name in self.lifted and name not in self.flat:
            label = free_name(f"/dec/Flat{name}", self.named)
            self.nodes.append(helper.make_node("Squeeze", [self.lifted[name], self.axes], [name], name=label))
            self.flat.add(name)


def helper_attributes(node: NodeProto) -> dict:
    """A node's attributes as keyword arguments of `make_node`."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
