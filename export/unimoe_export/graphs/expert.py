"""One routed expert with its combine: accumulator + weight * expert(x) where the weight is above 0.

N tokens · C hidden · I intermediate size
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.safetensors_reader import TensorFile

from .builder import GraphBuilder
from .feed_forward import swiglu

# Far below float32's largest value (3.4e38), and far above the values of a trained model.
_SAFE = 1e30


def expert_graph(config: ModelConfig, weights: Path, *, guarded: bool = True) -> GraphBuilder:
    """The graph of one routed expert, over its written weights. All experts of a model share its shape.

    A token of weight 0 keeps its accumulator bit for bit; with `guarded` even where the expert's output overflows.
    0 * inf is NaN, so the guard selects the product instead of only weighting it, which takes two more nodes
    (`can_overflow`).
    """
    builder = GraphBuilder("expert", weights)
    hidden = config.hidden_size
    accumulator_NC = builder.input("accumulator_NC", "float32", ("N", hidden))
    expert_input_NC = builder.input("expert_input_NC", "float32", ("N", hidden))
    weight_N1 = builder.input("weight_N1", "float32", ("N", 1))

    # Weighting the inner activation lets the second product add to the accumulator.
    inner = swiglu(builder, builder.linear(expert_input_NC, "gate_up.weight"))
    weighted = builder.op("Mul", [inner, weight_N1])
    if guarded:
        zero = builder.constant(0.0, "float32")
        weighted = builder.op("Where", [builder.op("Greater", [weight_N1, zero]), weighted, zero])
    new_accumulator_NC = builder.linear(weighted, "down.weight", accumulator_NC)
    builder.output(new_accumulator_NC, "new_accumulator_NC", "float32", ("N", hidden))
    return builder


def can_overflow(weights: TensorFile, largest_norm: float) -> bool:
    """Whether an input of at most this Euclidean norm could make the expert overflow float32, by its weights' norms.

    Cauchy-Schwarz bounds gate and up by the norm of the input times that of a column of gate_up; |silu(gate)| is at
    most |gate|. Products in float16 overflow much earlier: for float16 weights the answer is always yes.
    """
    if any(entry.dtype == "F16" for entry in weights.entries.values()):
        return True
    gate_up, down_IC = weights.float32("gate_up.weight"), weights.float32("down.weight")
    column = float(np.sqrt(np.square(gate_up, dtype=np.float64).sum(axis=0).max(initial=0.0)))
    output = len(down_IC) * (largest_norm * column) ** 2 * float(np.abs(down_IC).max(initial=0.0))
    return not output < _SAFE  # NaN counts as an overflow
