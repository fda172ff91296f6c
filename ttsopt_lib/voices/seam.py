"""Cut a voice in two where it can be streamed: behind the noise of its latent frames.

Before the seam lie text encoder, durations and the spreading of phonemes over frames, which need the whole sentence.
Behind it lie flow and decoder, convolutions that see a few frames to either side: they can work on a piece at a time.
The seam is found by what nodes do (the random node that depends on the durations, and all that depends on it), never by
a name, so that every Piper voice has one: the original, quantized ones, students.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ttsopt_lib.voices.graph_part import as_inputs, part_of
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.vits_graph import NORMAL, VitsGraph, reads

# Nodes that work on each element alone: they are done before the seam where that leaves fewer tensors to hand over.
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Exp", "Cast", "Identity", "Sqrt", "Neg"}


class StreamError(VoiceError):
    """A voice that cannot be spoken piece by piece, or a size of pieces that does not fit; says what would be right."""


def split_voice(
    model: onnx.ModelProto, source: str = "the model"
) -> tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]:
    """Cut a voice behind the noise of its latent frames.

    Args:
        model: the voice; it is left as it is.
        source: what messages call it.

    Returns:
        A graph from the voice's inputs to some tensors, one from these to audio, and the names of the tensors.

    Raises:
        StreamError: it has no such noise.
    """
    graph = VitsGraph(model)
    ceils = [node for node in model.graph.node if node.op_type == "Ceil"]
    before = graph.ancestors(ceils[0]) if len(ceils) == 1 else set()
    random = [node.output[0] for node in model.graph.node if node.op_type in NORMAL]
    priors = [name for name in random if name not in before]
    if len(ceils) != 1 or len(priors) != 1:
        raise StreamError(
            f"{source}: cannot be streamed: it has {len(ceils)} nodes that round durations up and {len(priors)} "
            "sources of noise behind them; a VITS voice has one of each"
        )
    behind = _descendants(model, priors[0])
    _narrow(graph, behind)
    tensors = _handed_over(graph, behind)
    encoder = part_of(model, tensors)
    decoder = part_of(model, [model.graph.output[0].name], as_inputs(model, tensors))
    return encoder, decoder, tensors


def _descendants(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that depend on a tensor, in the graph's order."""
    reached, found = {name}, []
    for node in model.graph.node:
        if reached & set(reads(node)):
            reached |= set(node.output)
            found.append(node)
    return found


def _handed_over(graph: VitsGraph, behind: Iterable[onnx.NodeProto]) -> tuple[str, ...]:
    """What these nodes read of the rest, constants aside, in the order in which they read it."""
    made = {name for node in behind for name in node.output}
    names = dict.fromkeys(name for node in behind for name in reads(node) if name)
    return tuple(name for name in names if name not in made and not graph.is_constant(name))


def _narrow(graph: VitsGraph, behind: list[onnx.NodeProto]) -> None:
    """Move first nodes before the seam, in place, as long as no more tensors have to be handed over by that."""
    count = len(_handed_over(graph, behind))
    while True:
        made = {name for node in behind for name in node.output}
        for index, node in enumerate(behind):
            if node.op_type not in ELEMENTWISE or set(reads(node)) & made:
                continue
            rest = behind[:index] + behind[index + 1 :]
            if (now := len(_handed_over(graph, rest))) <= count:
                behind[:], count = rest, now
                break
        else:
            return
