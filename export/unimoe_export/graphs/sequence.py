"""The front end's sequence network as a graph; `unimoe_runtime.frontend.sequence_network` defines it.

P symbols · C channels · O outputs
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from unimoe_runtime.frontend.sequence_network import NORM_EPSILON, SequenceNetworkConfig

from .builder import GraphBuilder


def sequence_graph(config: SequenceNetworkConfig, weights: Path, inputs: tuple[str, ...], output: str) -> GraphBuilder:
    """The graph over its written weights. `inputs`: a name for each table's ids [P]; `output`: the result's name."""
    builder = GraphBuilder(weights.stem, weights)

    def float_weight(name: str) -> ir.Value:
        return builder.op("Cast", [builder.weight(name)], to=int(ir.DataType.FLOAT))

    def norm(x_PC: ir.Value, name: str) -> ir.Value:
        return builder.op("RMSNormalization", [x_PC, float_weight(name)], axis=-1, epsilon=NORM_EPSILON)

    x_PC: ir.Value | None = None
    for at, name in enumerate(inputs):
        ids_P = builder.input(name, "int64", ("P",))
        rows_PC = builder.op("Gather", [float_weight(f"table.{at}"), ids_P], axis=0)
        x_PC = rows_PC if x_PC is None else builder.op("Add", [x_PC, rows_PC])
    assert x_PC is not None
    first = builder.constant([0])
    for at, dilation in enumerate(config.dilations):
        reach = config.taps // 2 * dilation
        inner_PC = builder.op("Relu", [norm(x_PC, f"block.{at}.norm")])
        inner_1CP = builder.op("Unsqueeze", [builder.op("Transpose", [inner_PC], perm=[1, 0]), first])
        kernel, bias = float_weight(f"block.{at}.kernel"), float_weight(f"block.{at}.bias")
        made_1CP = builder.op("Conv", [inner_1CP, kernel, bias], pads=[reach, reach], dilations=[dilation])
        made_PC = builder.op("Transpose", [builder.op("Squeeze", [made_1CP, first])], perm=[1, 0])
        x_PC = builder.op("Add", [x_PC, made_PC])
    product = builder.op("MatMul", [norm(x_PC, "norm"), float_weight("head")])
    builder.output(builder.op("Add", [product, float_weight("bias")]), output, "float32", ("P", config.outputs))
    return builder
