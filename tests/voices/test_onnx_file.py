"""What is read of an ONNX file and of the files beside it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.voices.onnx_file import model_sha256, read_model, weight_files
from ttsopt_lib.voices.session import open_session


def branching(values: np.ndarray) -> onnx.ModelProto:
    """A graph whose only weights are those of a branch: an initializer and a constant."""

    def branch(name: str) -> onnx.GraphProto:
        weight = numpy_helper.from_array(values, f"{name} weight")
        constant = helper.make_node("Constant", [], [f"{name} one"], value=numpy_helper.from_array(values + 1))
        added = helper.make_node("Add", [f"{name} weight", f"{name} one"], [f"{name} sum"])
        result = helper.make_tensor_value_info(f"{name} sum", TensorProto.FLOAT, None)
        return helper.make_graph([constant, added], name, [], [result], [weight])

    node = helper.make_node("If", ["asked"], ["sum"], then_branch=branch("then"), else_branch=branch("else"))
    given = helper.make_tensor_value_info("asked", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "branching", [given], [helper.make_tensor_value_info("sum", 1, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weights_of_branches_are_read_from_the_files_beside_them(tmp_path: Path) -> None:
    path, values = tmp_path / "model.onnx", np.arange(8, dtype=np.float32)
    onnx.save(branching(values), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert weight_files(path) == [tmp_path / "weights"]
    session = open_session(read_model(path))
    (found,) = session.run(None, {"asked": np.asarray(True)})
    np.testing.assert_array_equal(found, 2 * values + 1)
    before = model_sha256(path)
    (tmp_path / "weights").write_bytes(bytes(len((tmp_path / "weights").read_bytes())))
    assert model_sha256(path) != before
