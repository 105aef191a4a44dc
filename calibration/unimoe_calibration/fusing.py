"""Nodes that operators of ONNX Runtime's CPU provider join, for graphs that only ONNX Runtime's CPU provider reads.

A decode step has few rows, so each node that goes saves 1 to 3 us: a twentieth of an expert's time at hidden 384.
"""

from __future__ import annotations

import onnx_ir as ir

DOMAIN = "com.microsoft"


def fuse_for_cpu(graph: ir.Graph) -> None:
    """Join, wherever the pattern occurs:

    - MatMulNBits and the Add of a bias [N]: the operator takes the bias.
    - Mul by a weight of each row [N, 1] and an Add: GatedAdd, which ONNX Runtime has since 1.32.
    - ReduceL1 over a row and the division by it: LpNormalization. It too adds in order, so a row's shares do not depend
      on the other rows. The CUDA provider has no such node, so exported graphs keep the two.
    """
    for node in list(graph):
        if node.op_type == "Div" and (total := _row_sum(node)) is not None:
            joined = ir.node("LpNormalization", [node.inputs[0]], {"axis": -1, "p": 1})
            _replace(graph, node, total, joined)
            continue
        if node.op_type != "Add" or len(node.inputs) != 2:
            continue
        for value, other in (node.inputs, reversed(node.inputs)):
            producer = None if value is None else value.producer()
            if producer is None or other is None or len(list(producer.outputs[0].uses())) != 1:
                continue
            if producer.op_type == "MatMulNBits" and other.is_initializer() and len(other.shape or ()) == 1:
                x, codes, scales = producer.inputs
                inputs = [x, codes, scales, None, None, other]
                _replace(graph, node, producer, ir.node("MatMulNBits", inputs, producer.attributes, domain=DOMAIN))
                break
            if producer.op_type == "Mul" and (gate := _gate(producer)) is not None:
                scaled = next(each for each in producer.inputs if each is not gate)
                _replace(graph, node, producer, ir.node("GatedAdd", [other, scaled, gate], domain=DOMAIN))
                break


def _row_sum(division: ir.Node) -> ir.Node | None:
    """The sum over the last axis of the same matrix that a division divides by; None for another division."""
    divided, divisor = division.inputs
    if divisor is None or len(list(divisor.uses())) != 1:
        return None
    total = divisor.producer()
    if total is None or total.op_type != "ReduceL1" or total.inputs[0] is not divided:
        return None
    axes = total.inputs[1].const_value if total.inputs[1] is not None else None
    shape = axes.numpy().tolist() if axes is not None else []
    return total if shape == [1] and total.attributes.get_int("keepdims", 1) == 1 else None


def _gate(product: ir.Node) -> ir.Value | None:
    """The factor of one column in a product with a matrix: an input of the graph, [N, 1]."""
    gates = [each for each in product.inputs if each is not None and each.is_graph_input() and _is_column(each)]
    return gates[0] if len(gates) == 1 else None


def _is_column(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 2 and value.shape[1] == 1


def _replace(graph: ir.Graph, last: ir.Node, first: ir.Node, joined: ir.Node) -> None:
    """Put `joined` in the place of two nodes, of which `last` reads `first`."""
    if joined.domain:
        graph.opset_imports.setdefault(joined.domain, 1)
    joined.name = last.name
    graph.insert_before(last, joined)
    old, new = last.outputs[0], joined.outputs[0]
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.type, new.shape = old.type, old.shape
    graph.remove([last, first], safe=True)
    new.name = name
