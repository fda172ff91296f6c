"""Voices whose nodes have no paths: torch before 1.13 numbered its nodes and said nothing about layers.

Nodes are in the order in which the network ran, and a VITS runs its layers in one order. So the paths are put back by
walking the convolutions from the first to the last; what stands between two of them (norms, constants, embeddings of
positions) belongs to the layer it follows.
"""

import onnx

from ttsopt_lib.voices.vits_graph import VitsGraph, attribute


def with_scopes(graph: VitsGraph) -> VitsGraph:
    """The same graph with every node named by the path of its layer.

    Raises:
        LookupError: if the convolutions do not come in the order of a VITS voice.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    try:
        paths = _paths(graph, convolutions)
    except (IndexError, StopIteration, ValueError):
        raise LookupError("its layers are not in the order of a VITS voice as Piper exports it") from None

    following = "enc_p"
    layer = iter(paths)
    for index, node in enumerate(model.graph.node):
        if node.op_type in ("Conv", "ConvTranspose"):
            scope = next(layer)
            following = _after(scope)
        elif node.op_type == "Gather" and node.input[1] == "input":
            scope = "enc_p/emb"
        elif node.op_type == "Gather" and node.input[1] == "sid":
            scope = "emb_g"
        elif node.op_type in ("Sub", "Mul") and (2, 1) in _constant_shapes(graph, node):
            scope = "dp/flows.0"
        else:
            scope = following
        node.name = f"/{scope}/{node.op_type}_{index}"
    return VitsGraph(model)


def _constant_shapes(graph: VitsGraph, node: onnx.NodeProto) -> list[tuple[int, ...]]:
    return [value.shape for value in map(graph.value, node.input) if value is not None]


def _after(scope: str) -> str:
    """Where the nodes behind a convolution belong: to the norm that follows it, or to the block it is part of."""
    parent, _, last = scope.rpartition("/")
    kind, _, number = last.partition(".")
    if kind in ("conv_o", "conv_2") and parent.startswith("enc_p"):
        block, _, number = parent.rpartition(".")
        return f"enc_p/encoder/norm_layers_{1 if kind == 'conv_o' else 2}.{number}"
    if kind in ("convs_sep", "convs_1x1"):
        return f"{parent}/norms_{1 if kind == 'convs_sep' else 2}.{number}"
    if parent == "dp" and kind in ("conv_1", "conv_2"):
        return f"dp/norm_{kind[-1]}"
    return parent


def _paths(graph: VitsGraph, convolutions: list[onnx.NodeProto]) -> list[str]:
    """The path of each convolution, in order."""
    ceil = next(node for node in graph.graph.node if node.op_type == "Ceil")
    before_durations = graph.ancestors(ceil)
    # The prior's projection is the first convolution that the durations do not depend on; the encoder ends there.
    encoder = next(i for i, node in enumerate(convolutions) if node.output[0] not in before_durations)
    rest = convolutions[encoder + 1 :]
    durations = [node for node in rest if node.output[0] in before_durations]
    others = [node for node in rest if node.output[0] not in before_durations]
    if encoder == 0 or encoder % 6 or rest != durations + others:
        raise ValueError
    speakers = "sid" in graph.inputs
    first_up = next(i for i, node in enumerate(others) if node.op_type == "ConvTranspose")
    decoder = first_up - (2 if speakers else 1)
    return [
        *_encoder_paths(encoder // 6),
        "enc_p/proj",
        *_duration_paths(durations, speakers),
        *_flow_paths(graph, others[:decoder], speakers),
        *_decoder_paths(graph, others[decoder:], speakers),
    ]


def _encoder_paths(layers: int) -> list[str]:
    attention = ("conv_q", "conv_k", "conv_v", "conv_o")
    paths = []
    for layer in range(layers):
        paths += [f"enc_p/encoder/attn_layers.{layer}/{name}" for name in attention]
        paths += [f"enc_p/encoder/ffn_layers.{layer}/{name}" for name in ("conv_1", "conv_2")]
    return paths


def _duration_paths(convolutions: list[onnx.NodeProto], speakers: bool) -> list[str]:
    condition = ["dp/cond"] if speakers else []
    depthwise = [i for i, node in enumerate(convolutions) if attribute(node, "group", 1) > 1]
    if not depthwise:
        return [*condition, "dp/conv_1", "dp/conv_2", "dp/proj"]
    head = 1 + len(condition)
    layers = next(n for n in range(1, len(depthwise) + 1) if head + 2 * n not in depthwise)
    pairs = [name for n in range(layers) for name in (f"convs/convs_sep.{n}", f"convs/convs_1x1.{n}")]
    blocks, left = divmod(len(convolutions) - len(condition), 2 + len(pairs))
    if left:
        raise ValueError
    paths = ["dp/pre", *condition, *(f"dp/{name}" for name in pairs), "dp/proj"]
    for position in range(2 * blocks - 1, 2, -2):
        paths += [f"dp/flows.{position}/{name}" for name in ("pre", *pairs, "proj")]
    return paths


def _flow_paths(graph: VitsGraph, convolutions: list[onnx.NodeProto], speakers: bool) -> list[str]:
    shapes = [_shape(graph, node) for node in convolutions]
    head = 2 if speakers else 1
    channels = shapes[0][0]
    layers = 0
    while shapes[head + 2 * layers][0] == 2 * channels:
        layers += 1
    names = ["pre", *(["enc/cond_layer"] if speakers else [])]
    names += [name for n in range(layers) for name in (f"enc/in_layers.{n}", f"enc/res_skip_layers.{n}")]
    names += ["post"]
    couplings, left = divmod(len(convolutions), len(names))
    if left or not layers:
        raise ValueError
    return [f"flow/flows.{2 * n}/{name}" for n in reversed(range(couplings)) for name in names]


def _decoder_paths(graph: VitsGraph, convolutions: list[onnx.NodeProto], speakers: bool) -> list[str]:
    paths = ["dec/conv_pre", *(["dec/cond"] if speakers else [])]
    up = block = 0
    pending: list[onnx.NodeProto] = []
    for node in convolutions[len(paths) :]:
        if node.op_type == "ConvTranspose":
            block, found = _block_paths(graph, pending, block)
            paths += [*found, f"dec/ups.{up}"]
            pending, up = [], up + 1
        else:
            pending.append(node)
    _, found = _block_paths(graph, pending[:-1], block)
    return [*paths, *found, "dec/conv_post"]


def _block_paths(graph: VitsGraph, convolutions: list[onnx.NodeProto], first: int) -> tuple[int, list[str]]:
    """Paths of one stage's residual blocks, which have each their own kernel; and the next block's number."""
    blocks: list[list[onnx.NodeProto]] = []
    kernel = None
    for node in convolutions:
        if _shape(graph, node)[2] != kernel:
            kernel = _shape(graph, node)[2]
            blocks.append([])
        blocks[-1].append(node)
    paths = []
    for number, block in enumerate(blocks, first):
        two_per_dilation = all(attribute(node, "dilations", [1])[0] == 1 for node in block[1::2])
        for index in range(len(block)):
            name = f"convs{index % 2 + 1}.{index // 2}" if two_per_dilation else f"convs.{index}"
            paths.append(f"dec/resblocks.{number}/{name}")
    return first + len(blocks), paths


def _shape(graph: VitsGraph, node: onnx.NodeProto) -> tuple[int, ...]:
    weight = graph.value(node.input[1])
    if weight is None:
        raise ValueError
    return weight.shape
