"""The weights of a Piper graph, as the layers of `StagedVits`.

The graph says what there is: how many layers, of what kernel and dilation. The model is first built without memory for
its weights; then every layer is replaced by one read from the node of the same path. So a voice of irregular widths,
such as a pruned one that we exported ourselves, loads like any other.
"""

import re

import numpy as np
import torch
from onnx import NodeProto
from torch import nn

from ttsopt_lib.networks.config import VitsConfig
from ttsopt_lib.networks.durations import InverseAffine, SplineCoupling
from ttsopt_lib.networks.hifigan import HifiGanConfig
from ttsopt_lib.networks.text_encoder import RelativeAttention
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.voices.vits_graph import VitsGraph, attribute

STAGES = {
    "text_encoder": "enc_p",
    "duration_predictor": "dp",
    "flow": "flow",
    "decoder": "dec",
    "speaker_embedding": "emb_g",
}
"""Our names for the stages, and the names they have in a Piper graph."""


def read_vits(graph: VitsGraph) -> StagedVits:
    """Build the voice a graph holds.

    Raises:
        LookupError: if the graph is quantized, or lacks a layer that a VITS voice has; the message says which.
    """
    _refuse_quantized(graph)
    config = read_config(graph)
    with torch.device("meta"):
        model = StagedVits(config)
    for name, module in list(model.named_modules()):
        stage, _, rest = name.partition(".")
        # `attn_layers.0.conv_q`, as PyTorch names it, is `attn_layers.0/conv_q` in ONNX
        path = re.sub(r"\.(?!\d)", "/", ".".join(filter(None, [STAGES.get(stage, stage), rest])))
        if isinstance(module, nn.Embedding):
            model.set_submodule(name, _embedding(graph, path))
        elif isinstance(module, nn.Linear):
            model.set_submodule(name, _linear(graph, path))
        elif isinstance(module, nn.Conv1d):
            model.set_submodule(name, _conv(graph, path, module))
        elif isinstance(module, nn.ConvTranspose1d):
            model.set_submodule(name, _conv_transpose(graph, path))
        elif isinstance(module, nn.LayerNorm):
            model.set_submodule(name, _layer_norm(graph, path))
        elif isinstance(module, RelativeAttention):
            module.emb_rel_k, module.emb_rel_v = map(_parameter, _relative_embeddings(graph, path))
        elif isinstance(module, InverseAffine):
            module.m, module.scale = map(_parameter, _affine(graph, path))
        elif isinstance(module, SplineCoupling):
            module.bin_scale = _scalar(graph, path, "Div", otherwise=1.0)
    model.text_encoder.embedding_scale = _scalar(graph, "enc_p", "Mul", otherwise=1.0)
    return model.eval()


def _refuse_quantized(graph: VitsGraph) -> None:
    for node in graph.graph.node:
        if "Quantize" in node.op_type or node.op_type.endswith("Integer") or node.op_type.startswith("QLinear"):
            raise LookupError(
                f"the voice is quantized already (node {node.name or node.op_type}): give the float voice it came from"
            )


def read_config(graph: VitsGraph) -> VitsConfig:
    """The shape of the voice, read from the graph.

    Raises:
        LookupError: if a layer that every VITS voice has is missing.
    """
    symbols, hidden = _embedding(graph, "enc_p/emb").weight.shape
    attention = "enc_p/encoder/attn_layers"
    layers = graph.indices(attention)
    if not layers:
        raise LookupError("no layers enc_p/encoder/attn_layers: this is not the text encoder of a VITS voice")
    keys, _ = _relative_embeddings(graph, f"{attention}.0")
    feed_forward = _weight(graph, "enc_p/encoder/ffn_layers.0/conv_1")
    couplings = [number for number in graph.indices("flow/flows") if graph.scopes(f"flow/flows.{number}/enc")]
    if not couplings:
        raise LookupError("no layers flow/flows: this is not the flow of a VITS voice")
    wavenet = f"flow/flows.{couplings[0]}/enc/in_layers"
    in_weight = _weight(graph, f"{wavenet}.0")
    speakers = graph.embedding_rows("sid") or 1
    speaker_channels = _embedding(graph, "emb_g").weight.shape[1] if speakers > 1 else 0

    stochastic = bool(graph.scopes("dp/convs"))
    if stochastic:
        spline_couplings = tuple(n for n in graph.indices("dp/flows") if graph.scopes(f"dp/flows.{n}/convs"))
        proj = f"dp/flows.{spline_couplings[-1]}"
        duration = {
            "duration_kernel": _weight(graph, "dp/convs/convs_sep.0").shape[2],
            "duration_layers": len(graph.indices("dp/convs/convs_sep")),
            "duration_couplings": spline_couplings,
            "duration_bins": (_weight(graph, f"{proj}/proj").shape[0] + 1) // 3,
            "duration_bound": _scalar(graph, proj, "LessOrEqual", otherwise=5.0),
        }
    else:
        weight = _weight(graph, "dp/conv_1")
        duration = {"duration_kernel": weight.shape[2], "duration_inner": weight.shape[0]}

    return VitsConfig(
        symbols=symbols,
        speakers=speakers,
        speaker_channels=speaker_channels,
        latent_channels=_weight(graph, "enc_p/proj").shape[0] // 2,
        hidden_channels=hidden,
        encoder_inner=feed_forward.shape[0],
        encoder_kernel=feed_forward.shape[2],
        encoder_layers=len(layers),
        heads=_linear(graph, f"{attention}.0/conv_q").out_features // keys.shape[-1],
        head_channels=keys.shape[-1],
        window=keys.shape[1] // 2,
        flow_couplings=len(couplings),
        flow_kernel=in_weight.shape[2],
        flow_dilations=_dilations(graph, wavenet),
        flow_channels=in_weight.shape[1],
        stochastic_durations=stochastic,
        decoder=_decoder_config(graph, speaker_channels),
        **duration,
    )


def _decoder_config(graph: VitsGraph, speaker_channels: int) -> HifiGanConfig:
    stages = graph.indices("dec/ups")
    blocks = graph.indices("dec/resblocks")
    if not stages or not blocks or len(blocks) % len(stages):
        raise LookupError("no layers dec/ups and dec/resblocks: this decoder is not a HiFi-GAN")
    two_per_dilation = bool(graph.indices("dec/resblocks.0/convs1"))
    name = "convs1" if two_per_dilation else "convs"
    first_stage = blocks[: len(blocks) // len(stages)]
    ups = [_node(graph, f"dec/ups.{n}", "ConvTranspose") for n in stages]
    pre = _weight(graph, "dec/conv_pre")
    return HifiGanConfig(
        latent_channels=pre.shape[1],
        initial_channels=pre.shape[0],
        upsample_rates=tuple(attribute(node, "strides", [1])[0] for node in ups),
        upsample_kernels=tuple(_weight(graph, f"dec/ups.{n}", "ConvTranspose").shape[2] for n in stages),
        block_type=1 if two_per_dilation else 2,
        block_kernels=tuple(_weight(graph, f"dec/resblocks.{n}/{name}.0").shape[2] for n in first_stage),
        block_dilations=tuple(_dilations(graph, f"dec/resblocks.{n}/{name}") for n in first_stage),
        speaker_channels=speaker_channels,
        slope=_decimal(attribute(next(graph.nodes("dec", "LeakyRelu")), "alpha", 0.01)),
    )


def _dilations(graph: VitsGraph, path: str) -> tuple[int, ...]:
    """Of the convolutions that are numbered under a path."""
    convolutions = (_node(graph, f"{path}.{n}", "Conv") for n in graph.indices(path))
    return tuple(attribute(node, "dilations", [1])[0] for node in convolutions)


def _decimal(value: float) -> float:
    """The number that was meant, where a graph keeps its nearest float32: 0.1 for 0.10000000149."""
    return float(f"{value:.6g}")


def _parameter(array: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array, dtype=np.float32, order="C")))


def _node(graph: VitsGraph, path: str, kind: str) -> NodeProto:
    node = next(graph.nodes(path, kind), None)
    if node is None:
        raise LookupError(f"no {kind} node under /{path}: this is not a VITS voice as Piper exports it")
    return node


def _constant(graph: VitsGraph, path: str, name: str) -> np.ndarray:
    value = graph.value(name)
    if value is None:
        raise LookupError(f"the weight {name} of /{path} is not a constant: this is not a finished voice")
    return value


def _weight(graph: VitsGraph, path: str, kind: str = "Conv") -> np.ndarray:
    return _constant(graph, path, _node(graph, path, kind).input[1])


def _weight_and_bias(graph: VitsGraph, path: str, node: NodeProto) -> tuple[np.ndarray, np.ndarray | None]:
    bias = _constant(graph, path, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return _constant(graph, path, node.input[1]), bias


def _embedding(graph: VitsGraph, path: str) -> nn.Embedding:
    weight = _constant(graph, path, _node(graph, path, "Gather").input[0])
    return nn.Embedding(*weight.shape, _weight=_parameter(weight).data)


def _fill(layer: nn.Module, weight: np.ndarray, bias: np.ndarray | None) -> nn.Module:
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _linear(graph: VitsGraph, path: str) -> nn.Linear:
    """A projection over channels: a convolution of kernel 1 in Piper's graphs, a MatMul and an Add in ours."""
    conv = next(graph.nodes(path, "Conv"), None)
    if conv is not None:
        weight, bias = _weight_and_bias(graph, path, conv)
        weight = weight[:, :, 0]
    else:
        weight = _constant(graph, path, _node(graph, path, "MatMul").input[1]).T
        bias = next((value for _, value in graph.constants(graph.nodes(path, "Add"))), None)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _fill(layer, weight, bias)  # type: ignore[return-value]


def _conv(graph: VitsGraph, path: str, like: nn.Conv1d) -> nn.Conv1d:
    """A convolution. Padding is our layer's, because Piper pads some of its inputs with a node of its own."""
    node = _node(graph, path, "Conv")
    weight, bias = _weight_and_bias(graph, path, node)
    groups = attribute(node, "group", 1)
    dilation = attribute(node, "dilations", [1])[0]
    padding = like.padding if isinstance(like.padding, str) else (weight.shape[2] - 1) * dilation // 2
    layer = nn.Conv1d(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2],
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    return _fill(layer, weight, bias)  # type: ignore[return-value]


def _conv_transpose(graph: VitsGraph, path: str) -> nn.ConvTranspose1d:
    node = _node(graph, path, "ConvTranspose")
    weight, bias = _weight_and_bias(graph, path, node)
    layer = nn.ConvTranspose1d(
        weight.shape[0],
        weight.shape[1],
        weight.shape[2],
        attribute(node, "strides", [1])[0],
        padding=attribute(node, "pads", [0, 0])[0],
        output_padding=attribute(node, "output_padding", [0])[0],
        bias=bias is not None,
        device="meta",
    )
    return _fill(layer, weight, bias)  # type: ignore[return-value]


def _layer_norm(graph: VitsGraph, path: str) -> nn.LayerNorm:
    """A layer norm: one node from opset 17 on, before that nine, of which the last two hold the weights."""
    whole = next(graph.nodes(path, "LayerNormalization"), None)
    if whole is not None:
        weight, bias = (_constant(graph, path, name) for name in whole.input[1:3])
        epsilon = attribute(whole, "epsilon", 1e-5)
    else:
        vectors = {node.op_type: v for node, v in graph.constants(graph.nodes(path, "Mul", "Add")) if v.ndim == 1}
        scalars = [v for _, v in graph.constants(graph.nodes(path, "Add")) if v.ndim == 0]
        if set(vectors) != {"Mul", "Add"}:
            raise LookupError(f"no scale and shift under /{path}: this is not a VITS voice as Piper exports it")
        weight, bias = vectors["Mul"], vectors["Add"]
        epsilon = float(scalars[0]) if scalars else 1e-5
    layer = nn.LayerNorm(weight.shape[0], eps=_decimal(epsilon), device="meta")
    return _fill(layer, weight, bias)  # type: ignore[return-value]


def _relative_embeddings(graph: VitsGraph, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of distances, for keys and values, [1, 2 * window + 1, head_channels] each.

    Piper pads them to the text's length; we multiply by them, by the keys' transposed."""
    found = [(node.op_type, v) for node, v in graph.constants(graph.nodes(path, "Pad", "MatMul")) if v.ndim >= 3]
    if len(found) != 2:
        raise LookupError(f"no relative position embeddings under /{path}: not a VITS voice as Piper exports it")
    (kind, keys), (_, values) = found
    return keys.swapaxes(-2, -1) if kind == "MatMul" else keys, values


def _affine(graph: VitsGraph, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale (already inverted and exponentiated) of the duration predictor's affine layer, [2, 1] each."""
    shift = next((v for _, v in graph.constants(graph.nodes(path, "Sub"))), None)
    scale = next((v for _, v in graph.constants(graph.nodes(path, "Mul"))), None)
    if shift is None or scale is None:
        raise LookupError(f"no shift and scale under /{path}: this is not a VITS voice as Piper exports it")
    # Our own exports keep only the half that is used.
    return np.broadcast_to(shift.reshape(-1, 1), (2, 1)), np.broadcast_to(scale.reshape(-1, 1), (2, 1))


def _scalar(graph: VitsGraph, path: str, kind: str, otherwise: float) -> float:
    """The first constant of one number that nodes of a kind consume."""
    return next((float(v) for _, v in graph.constants(graph.nodes(path, kind)) if v.size == 1), otherwise)
