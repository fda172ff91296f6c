"""Parts of a graph have inputs of the types that the graph has, and its nodes are in order."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttsopt_lib.voices.graph_part import as_inputs, part_of
from ttsopt_lib.voices.onnx_file import read_model
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import sort_nodes

NODES = [
    helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
    helper.make_node("Gelu", ["half"], ["own"], domain="com.microsoft"),
    helper.make_node("RandomNormalLike", ["own"], ["noise"]),
    helper.make_node("Add", ["own", "noise"], ["sum"]),
    helper.make_node("Greater", ["sum", "zero"], ["above"]),
    helper.make_node("Cast", ["above"], ["y"], to=TensorProto.FLOAT),
]


def graph(nodes=NODES):
    value, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y"))
    zero = numpy_helper.from_array(np.zeros(1, np.float16), "zero")
    made = helper.make_graph(nodes, "graph", [value], [result], [zero])
    domains = [helper.make_opsetid("", 15), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=domains, ir_version=8)


def test_what_is_fed_has_the_type_that_the_graph_has_behind_operators_of_onnx_runtime_too():
    inputs = as_inputs(graph(), ["half", "noise", "above"])
    assert [value.type.tensor_type.elem_type for value in inputs] == [
        TensorProto.FLOAT16,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
    ]
    session = open_session(part_of(graph(), ["y"], inputs[:2]))
    numbers = np.array([[-1, 0, 1]], np.float16)
    (found,) = session.run(None, {"half": numbers, "noise": numbers})
    assert found.tolist() == [[0, 0, 1]]


def test_a_file_whose_nodes_are_in_no_order_is_read_in_order(tmp_path):
    onnx.save(graph(NODES[::-1]), tmp_path / "reversed.onnx")
    assert list(read_model(tmp_path / "reversed.onnx").graph.node) == NODES


def test_a_node_that_was_put_last_comes_before_its_first_reader_and_no_other_moves():
    nodes = [*NODES[1:], NODES[0]]
    model = graph(nodes)
    sort_nodes(model.graph)
    assert list(model.graph.node) == NODES
    branch = helper.make_graph([helper.make_node("Neg", ["late"], ["z"])], "branch", [], [])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    first, late = helper.make_node("Neg", ["x"], ["first"]), helper.make_node("Neg", ["x"], ["late"])
    model = graph([first, choice, late])
    sort_nodes(model.graph)
    assert list(model.graph.node) == [first, late, choice]


def test_nodes_in_a_circle_are_left_to_the_runtime():
    model = graph([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])])
    sort_nodes(model.graph)
    assert len(model.graph.node) == 2
