"""Small text-to-speech graphs of nobody's in particular: what a user brings who has no Piper voice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SYMBOLS = {symbol: number for number, symbol in enumerate("_ abcdefhijklmnopstuvwxyzæðŋɐɑɔəɚɛɡɪɹʃʊʌʒθˈˌː.,?!")}
RATE, HOP, WIDTH, STYLES = 16_000, 64, 16, 200


def constant(name: str, values: Any, kind: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=kind), name)


def tiny_tts(noise: bool = True, domain: str = "", seed: int = 0) -> onnx.ModelProto:
    """Ids -> embedding -> two convolutions -> as many samples an id as `speed` says; `sound` float32 [1, 1, samples].

    With noise, how long it speaks depends on a first draw and the audio on a second one of that length.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal

    weights = [
        constant("symbols", drawn((len(SYMBOLS), WIDTH))),
        constant("/encoder/conv/w", 0.3 * drawn((WIDTH, WIDTH, 3))),
        constant("/encoder/conv/b", 0.1 * drawn(WIDTH)),
        constant("/decoder/pre/w", 0.3 * drawn((WIDTH, WIDTH, 5))),
        constant("/decoder/out/w", 0.2 * drawn((HOP, WIDTH, 3))),
        constant("/style/w", 0.1 * drawn((8, WIDTH))),
        constant("flat", [1, 1, -1], np.int64),
        constant("one", [1], np.int64),
        constant("unit", [1.0]),
    ]

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [output], name=output, **attributes)

    nodes = [
        node("Gather", ["symbols", "tokens"], "/encoder/emb"),
        node("MatMul", ["style", "/style/w"], "/style/fc"),
        node("Unsqueeze", ["/style/fc", "one"], "/style/fc3"),
        node("Add", ["/encoder/emb", "/style/fc3"], "/encoder/sum"),
        node("Transpose", ["/encoder/sum"], "/encoder/rows", perm=[0, 2, 1]),
        node("Conv", ["/encoder/rows", "/encoder/conv/w", "/encoder/conv/b"], "/encoder/conv", pads=[1, 1]),
        node("Tanh", ["/encoder/conv"], "/encoder/act"),
        node("Div", ["unit", "speed"], "/length/factor"),
        *(
            [
                helper.make_node("RandomUniform", [], ["/length/draw"], shape=[1], low=1.0, high=1.5),
                node("Mul", ["/length/factor", "/length/draw"], "/length/frames"),
            ]
            if noise
            else [node("Identity", ["/length/factor"], "/length/frames")]
        ),
        node("Concat", ["unit", "unit", "/length/frames"], "/length/scales", axis=0),
        node("Resize", ["/encoder/act", "", "/length/scales"], "/decoder/long", mode="nearest"),
        node("Conv", ["/decoder/long", "/decoder/pre/w"], "/decoder/pre", pads=[2, 2]),
        node("Tanh", ["/decoder/pre"], "/decoder/act"),
    ]
    last = "/decoder/act"
    if noise:
        nodes += [
            node("RandomNormalLike", ["/decoder/act"], "/decoder/noise", scale=0.3),
            node("Add", ["/decoder/act", "/decoder/noise"], "/decoder/noisy"),
        ]
        last = "/decoder/noisy"
    nodes += [
        node("Conv", [last, "/decoder/out/w"], "/decoder/out", pads=[1, 1]),
        node("Transpose", ["/decoder/out"], "/decoder/samples", perm=[0, 2, 1]),
        node("Reshape", ["/decoder/samples", "flat"], "/decoder/flat"),
        node("Tanh", ["/decoder/flat"], "sound"),
        node("Shape", ["sound"], "size"),
    ]
    if domain:
        nodes.append(helper.make_node("Vocode", ["sound"], ["more"], domain=domain))
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "ids"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 8]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("size", TensorProto.INT64, [3]),
        helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, 1, "samples"]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def toned() -> onnx.ModelProto:
    """The tiny model with a tone and a language for each id, and a colour of the whole text."""
    model = tiny_tts(noise=False)
    graph = model.graph
    for name, kind, shape in (
        ("tones", TensorProto.INT64, [1, "ids"]),
        ("languages", TensorProto.INT64, [1, "ids"]),
        ("colour", TensorProto.FLOAT, [1, 16]),
    ):
        graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    graph.initializer.append(constant("tone_table", np.random.default_rng(5).standard_normal((9, 16))))
    summed = next(node for node in graph.node if node.output[0] == "/encoder/sum")
    more = [
        helper.make_node("Gather", ["tone_table", "tones"], ["tone"]),
        helper.make_node("Gather", ["tone_table", "languages"], ["language"]),
        helper.make_node("Unsqueeze", ["colour", "one"], ["colours"]),
        helper.make_node("Sum", ["/encoder/emb", "tone", "language", "colours"], ["emb"]),
    ]
    summed.input[0] = "emb"
    for number, node in enumerate(more, 1):
        graph.node.insert(number, node)
    return model


INPUTS: dict[str, Any] = {  # what they are given
    "tokens": "ids",
    "style": {"file": "styles.bin", "shape": [STYLES, 1, 8], "row": "length"},
    "speed": {"value": 0.5},
}
TONED: dict[str, Any] = {
    **INPUTS,
    "tones": {"given": "tones"},
    "languages": {"each": 2},
    "colour": {"given": "colour"},
}
READ = """
def read(text):
    ids = [1 + ord(one) % 40 for one in text]
    return {"ids": ids, "tones": [one % 9 for one in ids], "colour": [len(text) / 100] * 16, "unused": None}
"""


def declaration(**changes: Any) -> dict[str, Any]:
    """What `declare` writes, with other keys."""
    return {
        "model": "tiny.onnx",
        "name": "Tiny",
        "sample_rate": RATE,
        "language": "en",
        "audio": "sound",
        "ids": {"espeak": "en-us", "symbols": "symbols.json", "begin": [0], "end": [0]},
        "inputs": INPUTS,
        **changes,
    }


def declare(folder: Path, graph: onnx.ModelProto | None = None, /, **changes: Any) -> Path:
    """A declared model in a folder; returns the declaration's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.onnx").write_bytes((graph or tiny_tts()).SerializeToString(deterministic=True))
    (folder / "symbols.json").write_text(json.dumps(SYMBOLS), encoding="utf-8")
    np.random.default_rng(1).standard_normal((STYLES, 1, 8)).astype("<f4").tofile(folder / "styles.bin")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(declaration(**changes), allow_unicode=True), encoding="utf-8")
    return path
