"""A voice that ONNX Runtime opens at once: timing asks for the inputs of a Piper voice and for audio, and no more.

A random voice of Piper's own network takes ONNX Runtime most of a second to open, three times in every worker.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SYMBOLS, WIDTH, SAMPLES = 64, 256, 256  # samples for each phoneme
PRODUCTS = 6  # some milliseconds for a sentence


def write_quick_voice(path: Path, config: dict) -> Path:
    """Write the voice, and `config` beside it; every phoneme becomes 256 equal samples after some matrix products."""
    rng = np.random.default_rng(0)
    constants = {
        "embedding": rng.normal(0, 0.1, (SYMBOLS, 1)),
        "widen": np.ones((1, WIDTH)),
        "matrix": np.eye(WIDTH),
        "spread": np.ones((1, 1, SAMPLES)),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "input"], ["symbols"], "/enc_p/emb/Gather"),  # [1, T, 1]
        helper.make_node("Ceil", ["symbols"], ["durations"], "/dp/Ceil"),
        helper.make_node("MatMul", ["symbols", "widen"], ["wide_0"], "/flow/widen/MatMul"),
        *(
            helper.make_node("MatMul", [f"wide_{step}", "matrix"], [f"wide_{step + 1}"], f"/dec/{step}/MatMul")
            for step in range(PRODUCTS)
        ),
        helper.make_node("ReduceMean", [f"wide_{PRODUCTS}"], ["mean"], "/dec/ReduceMean", axes=[2], keepdims=1),
        helper.make_node("Mul", ["mean", "spread"], ["frames"], "/dec/Mul"),  # [1, T, samples]
        helper.make_node("Reshape", ["frames", "row"], ["output"], "/dec/Reshape"),
    ]
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([1, 1, -1], dtype=np.int64), "row"))
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, "time"])]
    graph = helper.make_graph(nodes, "quick", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), str(path))
    Path(f"{path}.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    return path
