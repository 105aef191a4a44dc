"""Graphs for ONNX Runtime's CPU provider have the fewest nodes, and compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from unimoe_calibration.fusing import fuse_for_cpu
from unimoe_runtime.backends.onnxruntime.sessions import open_session


def _graph(nodes: list[ir.Node], inputs: list[ir.Value], initializers: list[ir.Value]) -> ir.Graph:
    return ir.Graph(
        inputs, list(nodes[-1].outputs), nodes=nodes, initializers=initializers, opset_imports={"": 24}, name="g"
    )


def test_a_weighted_sum_becomes_one_node() -> None:
    x, weight, total = (
        ir.val(name, ir.DataType.FLOAT, shape) for name, shape in (("x", ("N", 8)), ("w", ("N", 1)), ("a", ("N", 8)))
    )
    weighted = ir.node("Mul", [x, weight])
    add = ir.node("Add", [weighted.outputs[0], total])
    add.outputs[0].name = "y"
    graph = _graph([weighted, add], [x, weight, total], [])
    fuse_for_cpu(graph)
    (node,) = graph
    assert node.op_type == "GatedAdd" and list(node.inputs) == [total, x, weight]
    assert [output.name for output in graph.outputs] == ["y"]


def test_only_a_weight_of_each_row_is_joined() -> None:
    x, factor, total = (ir.val(name, ir.DataType.FLOAT, ("N", 8)) for name in ("x", "f", "a"))
    weighted = ir.node("Mul", [x, factor])
    add = ir.node("Add", [weighted.outputs[0], total])
    graph = _graph([weighted, add], [x, factor, total], [])
    fuse_for_cpu(graph)
    assert [node.op_type for node in graph] == ["Mul", "Add"]


def _shares_graph() -> ir.Graph:
    x = ir.val("x", ir.DataType.FLOAT, ("N", 9))
    axes = ir.val("axes", ir.DataType.INT64, (1,), const_value=ir.tensor([1], dtype=ir.DataType.INT64, name="axes"))
    total = ir.node("ReduceL1", [x, axes], {"keepdims": 1})
    division = ir.node("Div", [x, total.outputs[0]])
    y = division.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape(("N", 9))
    return _graph([total, division], [x], [axes])


def test_a_rows_shares_become_one_node_with_the_same_bits(tmp_path: Path) -> None:
    graphs = [_shares_graph(), _shares_graph()]
    fuse_for_cpu(graphs[1])
    assert [node.op_type for node in graphs[1]] == ["LpNormalization"]
    sessions = []
    for number, graph in enumerate(graphs):
        ir.save(ir.Model(graph, ir_version=11), tmp_path / f"{number}.onnx")
        sessions.append(open_session(tmp_path / f"{number}.onnx"))
    random = np.random.default_rng(0)
    x_NE = random.random((33, 9), dtype=np.float32) * (random.random((33, 9)) < 0.5)
    x_NE[:, 3] = 0.25
    plain_NE, fused_NE = (session.run(None, {"x": x_NE.astype(np.float32)})[0] for session in sessions)
    assert fused_NE.tobytes() == plain_NE.tobytes()
    for row, expected in enumerate(plain_NE):
        alone_1E = sessions[1].run(None, {"x": x_NE[row : row + 1].astype(np.float32)})[0]
        assert alone_1E.tobytes() == expected.tobytes()
