"""Graphs for ONNX Runtime's CPU provider have the fewest nodes, and compute the same."""

from __future__ import annotations

import onnx_ir as ir

from unimoe_calibration.fusing import fuse_for_cpu


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
