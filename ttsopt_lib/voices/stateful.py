"""A decoder that goes on where it stopped: every piece costs what its own frames cost.

Cut into pieces, a decoder needs frames of context beside each, and computes them again for every piece. Here it keeps
instead what its convolutions will need of the past, as inputs and outputs of the graph: the last entries of what each
convolution has seen, and entries that arrive at a node earlier than what they are added to. Only the first piece waits
for frames after its own, and only the last one is filled up with zeros, as the whole utterance is at its end. So each
convolution works on the same numbers as in the whole voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ttsopt_lib.voices.pieces import FIRST, LAST, StateLayout
from ttsopt_lib.voices.time_axes import CONVOLUTIONS, Kernel, NotLocal, TimeAxes, cut, kernel, pads
from ttsopt_lib.voices.vits_graph import attribute

EVERYTHING = int(np.iinfo(np.int64).max)
# ONNX Runtime's matrix product adds up in another order where it has fewer columns. That moves the last bit of a sum,
# and a number that is rounded to int8 afterwards by a whole step.
LEAST_COLUMNS = 65


@dataclass(frozen=True)
class Stateful:
    """A decoder with states.

    Attributes:
        model: inputs are those of the decoder, `FIRST`, `LAST` and the states; outputs are audio and the next states.
        states: what is kept from piece to piece, by the input's name, in the order of the outputs `NAME_next`.
        wait: frames after its own that the first piece needs.
        shortest: frames of the longest utterance that has to be one piece to equal the whole voice's.
        free: frames of a piece that take no longer than fewer, because of what is computed at least.
    """

    model: onnx.ModelProto
    states: dict[str, StateLayout]
    wait: int
    shortest: int
    free: int


def with_states(model: onnx.ModelProto, times: TimeAxes, tensors: Mapping[str, NDArray]) -> Stateful:
    """Make a decoder go on where it stopped.

    Args:
        model: a graph from frames to audio.
        times: how time goes through it.
        tensors: its inputs for one utterance, which tell their types, and which of them are one everywhere (masks).

    Raises:
        NotLocal: a node mixes all moments, or leaves them out in a way that is not known here.
    """
    return _Builder(model, times, tensors).build()


class _Builder:
    """Nodes of the new graph, made one after the other."""

    def __init__(self, model: onnx.ModelProto, times: TimeAxes, tensors: Mapping[str, NDArray]):
        self.model, self.times, self.tensors = model, times, tensors
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray] = {}
        self.states: dict[str, StateLayout] = {}
        # How many entries a tensor still lacks of those that belong to the frames seen so far.
        self.lags: dict[str, Fraction] = {}
        self._made: set[str] = set()  # results that several nodes share
        self.widened: list[Fraction] = []  # entries a frame of what is computed on `LEAST_COLUMNS` at least
        self.rounds = any(node.op_type == "QuantizeLinear" for node in times.moving_nodes)

    def build(self) -> Stateful:
        graph, moving = self.model.graph, {id(node) for node in self.times.moving_nodes}
        masks = [name for name in self.times.axes if name in self.tensors and (self.tensors[name] == 1).all()]
        for name in self.times.graph.inputs:
            if name in self.times.axes:
                self.lags[name] = Fraction(0)
        for name in masks:  # an utterance that is alone has no padding: its mask changes nothing
            self.constants[name] = np.ones([1] * len(self.times.shapes[name]), self.tensors[name].dtype)
            del self.lags[name]
        for node in graph.node:
            if id(node) in moving and any(name in self.lags for name in node.input):
                self._rebuild(node)
            elif node.op_type == "ConstantOfShape" and node.output[0] in self.times.axes:  # the same at every moment
                fill = numpy_helper.to_array(attribute(node, "value", numpy_helper.from_array(np.zeros(1, np.float32))))
                self.constants[node.output[0]] = fill.reshape([1] * len(self.times.shapes[node.output[0]]))
            elif node.op_type == "Range" and node.output[0] in self.times.axes:
                raise NotLocal(f"{node.op_type} {node.name} counts the moments")
            else:
                self.nodes.append(node)
        return self._finished(masks)

    def _rebuild(self, node: NodeProto) -> None:
        kind = node.op_type
        if kind == "Conv":
            self._convolution(node)
        elif kind in CONVOLUTIONS:
            raise NotLocal(f"{kind} {node.name}: its zeros are other numbers than zero")
        elif kind == "ConvTranspose":
            self._transposed(node)
        elif kind == "Pad":
            self._pad(node)
        elif kind == "Slice" and any(cut(node, self.times)):
            self._slice(node)
        else:
            self._aligned(node)

    # --- kinds of nodes ---

    def _convolution(self, node: NodeProto) -> None:
        """Zeros before the first piece and after the last; in between the last entries of the piece before."""
        over = kernel(node, self.times)
        span, left, right = over.span, over.left, over.right
        lag, inside = self.lags[node.input[0]], node.input[0]
        back = self.times.graph.producers.get(inside)
        rounding = back if back is not None and back.op_type == "DequantizeLinear" else None
        if span:
            # Beside a convolution of int8, entries are kept as integers, so that runtimes find their int8 kernel.
            source, zero = (rounding.input[0], self._zero_point(rounding)) if rounding else (inside, 0)
            state = self._state(source, left, zero)
            parts = [state, source]
            if right:
                parts.append(self._zeros_in(LAST, source, right, zero))
            inside = self._joined(parts, source)
            self._last(f"{state}_next", inside, source, span)
            if rounding:
                self._copy(rounding, [inside, *rounding.input[1:]], [f"{state}_floats"])
                inside = f"{state}_floats"
        if self.rounds and not rounding and attribute(node, "group", 1) == 1:
            self._wide_convolution(node, inside, over)
        else:
            self._copy(node, [inside, *node.input[1:]], pads=over.other_pads)
        self.lags[node.output[0]] = lag + span - left

    def _wide_convolution(self, node: NodeProto, inside: str, over: Kernel) -> None:
        """A convolution over `LEAST_COLUMNS` at least, whose surplus is cut off again."""
        output = node.output[0]
        wide, length = self._widened(inside, node.input[0], output, LEAST_COLUMNS + over.span)
        self._copy(node, [wide, *node.input[1:]], [f"{output}_wide"], pads=over.other_pads)
        self.nodes.append(helper.make_node("Sub", [length, self._number(over.span)], [f"{output}_end"]))
        self._cut_into(output, f"{output}_wide", self.times.axes[output], self._number(0), f"{output}_end")

    def _widened(self, inside: str, like: str, where: str, least: int) -> tuple[str, str]:
        """A tensor with zeros after it in time, so that it has so many entries at least, and its own length."""
        axis, rank = self.times.axes[like], len(self.times.shapes[like])
        if least:
            self.widened.append(self.times.rates[like])
        wide, length, missing = (f"{where}_{what}" for what in ("widened", "length", "missing"))
        least_here = f"least_{least}"
        if least_here not in self._made:  # an utterance that is one piece is computed as the whole voice does
            self._made.add(least_here)
            either = self._constant(f"{least_here}_or_none", np.array([least, 0]))
            self.nodes += [
                helper.make_node("Mul", [FIRST, LAST], [f"{least_here}_alone"]),
                helper.make_node("Gather", [either, f"{least_here}_alone"], [least_here], axis=0),
            ]
        before = self._constant(f"none_{rank + axis}", np.zeros(rank + axis, np.int64))
        after = self._constant(f"none_{rank - axis - 1}", np.zeros(rank - axis - 1, np.int64))
        self.nodes += [
            helper.make_node("Shape", [inside], [f"{where}_shape"]),
            helper.make_node("Gather", [f"{where}_shape", self._number(axis)], [length], axis=0),
            helper.make_node("Sub", [least_here, length], [f"{missing}_or_less"]),
            helper.make_node("Max", [f"{missing}_or_less", self._number(0)], [missing]),
            helper.make_node("Concat", [before, missing, after], [f"{where}_pads"], axis=0),
            helper.make_node("Pad", [inside, f"{where}_pads"], [wide]),
        ]
        return wide, length

    def _zero_point(self, node: NodeProto) -> int:
        """The integer that stands for zero."""
        value = self.times.graph.value(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        if value is None or np.size(value) != 1:
            raise NotLocal(f"{node.op_type} {node.name} has no one zero")
        return int(np.reshape(value, -1)[0])

    def _transposed(self, node: NodeProto) -> None:
        source, output = node.input[0], node.output[0]
        span, left, right, stride, other_pads = kernel(node, self.times)
        if any(attribute(node, "output_padding", [0])):
            raise NotLocal(f"{node.op_type} {node.name} makes more than its kernel covers")
        kept, hold = -(-span // stride), span + 1 - stride  # frames still to come add to `hold` entries
        if hold < 0:
            raise NotLocal(f"{node.op_type} {node.name} leaves moments empty")
        whole = self._with_past(source, kept)
        wide, length = self._widened(whole, source, output, LEAST_COLUMNS if self.rounds else 0)
        self._copy(node, [wide, *node.input[1:]], [f"{output}_raw"], pads=other_pads)
        start = self._chosen(FIRST, kept * stride, left)
        self.nodes += [
            helper.make_node("Mul", [length, self._number(stride)], [f"{output}_made"]),
            helper.make_node("Add", [f"{output}_made", self._chosen(LAST, 0, hold - right)], [f"{output}_end"]),
        ]
        self._cut_into(output, f"{output}_raw", self.times.axes[output], start, f"{output}_end")
        self.lags[output] = self.lags[source] * stride + left

    def _pad(self, node: NodeProto) -> None:
        source, output = node.input[0], node.output[0]
        begin, end = pads(node, self.times)
        if begin < 0 or end < 0:
            raise NotLocal(f"{node.op_type} {node.name} takes entries away")
        parts = [self._zeros_in(FIRST, source, begin)] if begin else []
        parts.append(source)
        parts += [self._zeros_in(LAST, source, end)] if end else []
        self.nodes.append(helper.make_node("Concat", parts, [output], axis=self.times.axes[source]))
        self.lags[output] = self.lags[source] - begin

    def _slice(self, node: NodeProto) -> None:
        """Entries that the end would cut off are held back, until it is known that more follow."""
        source, output = node.input[0], node.output[0]
        start, end = cut(node, self.times)
        lag = self.lags[source] + start
        if end:
            source = self._with_past(source, end)
            lag += end
        first = self._chosen(FIRST, 0, start)
        last = self._chosen(LAST, -end if end else EVERYTHING, -end if end else EVERYTHING)
        self._cut_into(output, source, self.times.axes[node.input[0]], first, last)
        self.lags[output] = lag

    def _aligned(self, node: NodeProto) -> None:
        """What arrives earlier than the rest waits for it."""
        moving = [name for name in dict.fromkeys(node.input) if name in self.lags]
        lag = max(self.lags[name] / self.times.rates[name] for name in moving)
        inputs = {}
        for name in moving:
            early = lag * self.times.rates[name] - self.lags[name]
            if early.denominator != 1:
                raise NotLocal(f"{node.op_type} {node.name} joins what is not in step")
            inputs[name] = self._waiting(name, int(early), node.output[0]) if early else name
        self._copy(node, [inputs.get(name, name) for name in node.input])
        for name in node.output:
            if name:
                self.lags[name] = lag * self.times.rates[name]

    def _waiting(self, name: str, early: int, where: str) -> str:
        whole = self._with_past(name, early)
        used = f"{name}_until_{where}"
        end = self._chosen(LAST, -early, EVERYTHING)
        self._cut_into(used, whole, self.times.axes[name], self._number(0), end)
        return used

    # --- parts of nodes ---

    def _copy(self, node: NodeProto, inputs: Sequence[str], outputs: Sequence[str] | None = None, **changed) -> None:
        copied = NodeProto()
        copied.CopyFrom(node)
        del copied.input[:]
        copied.input.extend(inputs)
        if outputs:
            del copied.output[:]
            copied.output.extend(outputs)
            copied.name = outputs[0]
        for attribute_name, value in changed.items():
            for old in [one for one in copied.attribute if one.name == attribute_name]:
                copied.attribute.remove(old)
            copied.attribute.append(helper.make_attribute(attribute_name, value))
        self.nodes.append(copied)

    def _state(self, source: str, zeros: int, zero: int = 0) -> str:
        """A new input that begins as so many zeros; `zero` is the number that stands for it."""
        name = f"state_{len(self.states)}"
        start = self._nothing(source, zeros, zero)
        self.states[name] = StateLayout(shape=list(start.shape), type=start.dtype.name, fill=zero if start.size else 0)
        return name

    def _nothing(self, like: str, count: int, zero: int) -> NDArray:
        """So many entries of zeros in time."""
        shape = list(self.times.shapes[like])
        shape[self.times.axes[like]] = count
        return np.full(shape, zero, self.times.types[like])

    def _with_past(self, source: str, count: int) -> str:
        """A tensor behind its last entries in the pieces before, of which the first piece has none."""
        state = self._state(source, 0)
        whole = self._joined([state, source], source)
        self._last(f"{state}_next", whole, source, count)
        return whole

    def _joined(self, parts: Sequence[str], like: str) -> str:
        output = f"{parts[0]}_and_{parts[1]}"
        self.nodes.append(helper.make_node("Concat", list(parts), [output], axis=self.times.axes[like]))
        return output

    def _last(self, output: str, whole: str, like: str, count: int) -> None:
        """The last entries of a tensor: the next piece's state."""
        self._cut_into(output, whole, self.times.axes[like], self._number(-count), self._number(EVERYTHING))

    def _cut_into(self, output: str, source: str, axis: int, start: str, end: str) -> None:
        self.nodes.append(helper.make_node("Slice", [source, start, end, self._number(axis)], [output]))

    def _zeros_in(self, when: str, like: str, count: int, zero: int = 0) -> str:
        """So many zeros in the first or last piece, none in the others."""
        value = self._nothing(like, count, zero)
        zeros = self._constant(f"zeros_{'x'.join(map(str, value.shape))}_{value.dtype.name}_{zero}", value)
        output = f"{zeros}_{when}"
        if output not in self._made:
            self._made.add(output)
            self._cut_into(output, zeros, self.times.axes[like], self._number(0), self._chosen(when, 0, count))
        return output

    def _chosen(self, when: str, otherwise: int, then: int) -> str:
        """A number for pieces that are the first or last, and one for the others, int64 [1]."""
        if otherwise == then:
            return self._number(then)
        output = f"{when}_{otherwise}_{then}".replace("-", "m")
        if output not in self._made:
            self._made.add(output)
            table = self._constant(f"{output}_table", np.array([otherwise, then]))
            self.nodes.append(helper.make_node("Gather", [table, when], [output], axis=0))
        return output

    def _number(self, value: int) -> str:
        return self._constant(f"number_{value}".replace("-", "m"), np.array([value]))

    def _constant(self, name: str, value: NDArray) -> str:
        self.constants[f"streaming_{name}"] = value
        return f"streaming_{name}"

    def _finished(self, masks: Sequence[str]) -> Stateful:
        """The new graph. What an utterance must have before a first piece can be made is told by the output's lag."""
        model, output = onnx.ModelProto(), self.model.graph.output[0].name
        model.CopyFrom(self.model)
        graph = model.graph
        for field in (graph.node, graph.input):
            del field[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in self.constants.items()
        )
        for value in self.model.graph.input:
            if value.name not in masks:
                graph.input.append(value)
        for name in (FIRST, LAST):
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [1]))
        for name, state in self.states.items():
            kind, shape = helper.np_dtype_to_tensor_dtype(np.dtype(state.type)), [None] * len(state.shape)
            graph.input.append(helper.make_tensor_value_info(name, kind, shape))
            graph.output.append(helper.make_tensor_value_info(f"{name}_next", kind, shape))
        wait = self.lags[output] / self.times.rates[output]
        shortest = LEAST_COLUMNS if self.rounds else 0
        free = int(LEAST_COLUMNS // max(self.widened)) if self.widened else 0
        return Stateful(model, self.states, -int(-wait // 1), shortest, free)
