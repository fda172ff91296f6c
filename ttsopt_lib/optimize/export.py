"""Write a voice as a drop-in Piper voice: `model.onnx` and its config beside it.

Inputs, output and config are Piper's, so the unmodified `piper` command speaks with the file; the metadata is
sherpa-onnx's, so that runtime does too. Nodes carry the path of the layer they came from, under Piper's names for the
stages (`/enc_p`, `/dp`, `/flow`, `/dec`), so that the original and every variant can be profiled and read alike, and
an exported voice can be loaded again.
"""

import io
import json
import re
import warnings
from copy import deepcopy
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ttsopt_lib.files import atomic_path
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.graph.index import refill
from ttsopt_lib.voices.piper import VoiceConfig, piper_json
from ttsopt_lib.voices.weights import STAGES

OPSET = 15  # as Piper itself writes
EXAMPLE_PHONEMES = 23  # that the graph is traced with; any number does, because nothing in the network depends on it


class _PiperInterface(nn.Module):
    """The voice with nothing but the inputs of a Piper graph: the exporter takes every argument for an input."""

    def __init__(self, voice: StagedVits):
        super().__init__()
        self.voice = voice

    def forward(self, ids: Tensor, lengths: Tensor, scales: Tensor, sid: Tensor | None = None) -> Tensor:
        return self.voice(ids, lengths, scales, sid)


def export_piper(model: StagedVits, voice_config: VoiceConfig, path: str | Path) -> Path:
    """Write a voice and its config. Both appear whole or not at all, and the same model gives the same bytes.

    Args:
        model: the voice, with its own decoder or a student in its place.
        voice_config: what it is called, speaks and expects; written to `path` with `.json` appended.
        path: where to write the `.onnx` file; its folder is created.

    Returns:
        the path of the `.onnx` file.
    """
    path = Path(path)
    graph = to_onnx(model, voice_config)
    config = json.dumps(piper_json(voice_config, model.hop_length), ensure_ascii=False, indent=2) + "\n"
    with atomic_path(path) as model_part, atomic_path(Path(f"{path}.json")) as config_part:
        model_part.write_bytes(graph.SerializeToString(deterministic=True))
        config_part.write_text(config, encoding="utf-8")
    return path


def to_onnx(model: StagedVits, voice_config: VoiceConfig) -> onnx.ModelProto:
    """The voice as an ONNX model, checked, with Piper's inputs and output. Arguments as of `export_piper`."""
    speakers = model.speaker_embedding is not None
    example = (
        torch.arange(EXAMPLE_PHONEMES).unsqueeze(0) % model.text_encoder.emb.num_embeddings,
        torch.tensor([EXAMPLE_PHONEMES]),
        torch.tensor([0.667, 1.0, 0.8]),
    ) + ((torch.tensor([0]),) if speakers else ())
    buffer = io.BytesIO()
    training = model.training
    try:
        # Tracing draws noise; the caller's random numbers must not depend on whether something was exported.
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _PiperInterface(model).eval(),
                example,
                buffer,  # type: ignore[arg-type]
                opset_version=OPSET,
                input_names=["input", "input_lengths", "scales", "sid"][: len(example)],
                output_names=["output"],
                dynamic_axes={
                    "input": {0: "batch_size", 1: "phonemes"},
                    "input_lengths": {0: "batch_size"},
                    "sid": {0: "batch_size"},
                    "output": {0: "batch_size", 3: "time"},
                },
                dynamo=False,
            )
    finally:
        model.train(training)
    graph = onnx.load_model_from_string(buffer.getvalue())
    _name_like_piper(graph)
    _share_constants(graph)
    onnx.helper.set_model_props(graph, sherpa_metadata(voice_config))
    onnx.checker.check_model(graph)
    return graph


def sherpa_metadata(config: VoiceConfig) -> dict[str, str]:
    """The metadata by which sherpa-onnx recognises a Piper voice and learns how to speak with it."""
    return {
        "model_type": "vits",
        "comment": "piper",
        "language": config.language.name_english or config.language_code,
        "voice": config.espeak.voice,
        "has_espeak": str(int(config.phoneme_type == "espeak")),
        "n_speakers": str(config.num_speakers),
        "sample_rate": str(config.sample_rate),
        "version": "1",
    }


def _share_constants(model: onnx.ModelProto) -> None:
    """Keep one Constant node of each value: tracing writes a new one wherever a number is used, 100 kB in all."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        refill(node.input, [same.get(name, name) for name in node.input])
        if node.op_type == "Constant":
            value = deepcopy(node.attribute[0])
            value.t.name = ""
            output = first.setdefault(value.SerializeToString(deterministic=True), node.output[0])
            if output != node.output[0]:
                same[node.output[0]] = output
                continue
        nodes.append(node)
    refill(model.graph.node, nodes)


def _name_like_piper(model: onnx.ModelProto) -> None:
    """Give nodes, tensors and weights the stage names of a Piper graph, and name the weights that have none."""
    stages = "|".join(STAGES)
    path = re.compile(rf"^(/?)voice[./](?:({stages})(?=[./]))?")

    def renamed(name: str) -> str:
        return path.sub(lambda match: match[1] + STAGES.get(match[2], ""), name)

    weights = {tensor.name for tensor in model.graph.initializer if "::" in tensor.name}
    named: dict[str, str] = {}
    for node in model.graph.node:
        scope = renamed(node.name).rpartition("/")[0].strip("/").replace("/", ".")
        for name in node.input:
            if name in weights and name not in named and scope:
                # Folding leaves transposed and summed weights anonymous; the layer that uses one is its best name.
                named[name] = f"{scope}.{node.op_type.lower()}.{len(named)}"
    for node in model.graph.node:
        node.name = renamed(node.name)
        for names in (node.input, node.output):
            refill(names, [named.get(name) or renamed(name) for name in names])
    for tensor in model.graph.initializer:
        tensor.name = named.get(tensor.name) or renamed(tensor.name)
