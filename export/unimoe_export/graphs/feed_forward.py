"""SwiGLU, as trunk and expert graphs share it."""

from __future__ import annotations

import onnx_ir as ir

from .builder import GraphBuilder


def swiglu(builder: GraphBuilder, gate_up: ir.Value) -> ir.Value:
    """silu(gate) * up of the two halves of the last axis.

    x * sigmoid(x) and not the operator Swish: ONNX Runtime fuses the former into one kernel and takes the latter
    apart.
    """
    gate, up = builder.ops("Split", [gate_up], 2, axis=-1, num_outputs=2)
    activated = builder.op("Mul", [gate, builder.op("Sigmoid", [gate])])
    return builder.op("Mul", [activated, up])
