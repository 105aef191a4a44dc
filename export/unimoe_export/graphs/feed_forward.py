"""SwiGLU, common to trunk and expert graphs, and the shared experts.

N tokens · C hidden · S shared experts · I intermediate size
"""

from __future__ import annotations

import onnx_ir as ir

from unimoe_runtime.config import ModelConfig

from .builder import GraphBuilder


def swiglu(builder: GraphBuilder, gate_up: ir.Value) -> ir.Value:
    """silu(gate) * up of the two halves of the last axis.

    It uses x * sigmoid(x) instead of the operator Swish, because ONNX Runtime fuses the former into one kernel and
    decomposes the latter.
    """
    gate, up = builder.ops("Split", [gate_up], 2, axis=-1, num_outputs=2)
    activated = builder.op("Mul", [gate, builder.op("Sigmoid", [gate])])
    return builder.op("Mul", [activated, up])


def shared_experts(
    builder: GraphBuilder,
    residual_NC: ir.Value,
    expert_input_NC: ir.Value,
    shared_NS: ir.Value | None,
    config: ModelConfig,
) -> ir.Value:
    """residual + sum of the weighted shared experts, computed as one feed-forward of width S·I."""
    num_shared, size = config.num_shared_experts, config.shared_intermediate_size
    if not num_shared:
        return residual_NC
    inner = swiglu(builder, builder.linear(expert_input_NC, "shared.gate_up.weight"))
    if shared_NS is not None:
        inner_NSI = builder.op("Reshape", [inner, builder.constant([-1, num_shared, size])])
        weight_NS1 = builder.op("Unsqueeze", [shared_NS, builder.constant([2])])
        weighted_NSI = builder.op("Mul", [inner_NSI, weight_NS1])
        inner = builder.op("Reshape", [weighted_NSI, builder.constant([-1, num_shared * size])])
    return builder.linear(inner, "shared.down.weight", residual_NC)
