"""One routed expert, its combine inside: accumulator + weight * expert(x) where the weight is above 0.

N tokens · C hidden
"""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.config import ModelConfig

from .builder import GraphBuilder
from .feed_forward import swiglu


def expert_graph(config: ModelConfig, weights: Path) -> GraphBuilder:
    """The graph of one routed expert, over its written weights. All experts of a model share its shape.

    A token of weight 0 keeps its accumulator bit for bit, even where the expert's output overflows: 0 * inf is NaN,
    so the product is selected and not just weighted.
    """
    builder = GraphBuilder("expert", weights)
    hidden = config.hidden_size
    accumulator_NC = builder.input("accumulator_NC", "float32", ("N", hidden))
    expert_input_NC = builder.input("expert_input_NC", "float32", ("N", hidden))
    weight_N1 = builder.input("weight_N1", "float32", ("N", 1))

    # Weighing the inner activation lets the second product add to the accumulator.
    inner = swiglu(builder, builder.linear(expert_input_NC, "gate_up.weight"))
    zero = builder.constant(0.0, "float32")
    picked_N1 = builder.op("Greater", [weight_N1, zero])
    weighted = builder.op("Where", [picked_N1, builder.op("Mul", [inner, weight_N1]), zero])
    new_accumulator_NC = builder.linear(weighted, "down.weight", accumulator_NC)
    builder.output(new_accumulator_NC, "new_accumulator_NC", "float32", ("N", hidden))
    return builder
