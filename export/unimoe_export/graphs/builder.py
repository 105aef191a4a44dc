"""Writing an ONNX graph node by node, with its weights as external data in a safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import TensorInfo
from unimoe_runtime.files.safetensors_reader import TensorFile

OPSET = 24
IR_VERSION = 11
_TYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64, "bool": ir.DataType.BOOL}
_STORED_TYPES = {"F32": ir.DataType.FLOAT, "F16": ir.DataType.FLOAT16, "BF16": ir.DataType.BFLOAT16}


class GraphBuilder:
    """Collects inputs, weights, nodes and outputs; `save` writes the graph.

    Weights are tensors of the safetensors file `weights`, which already lies beside the graph: float32, or 16 bits for
    those of products (`linear`).
    """

    def __init__(self, name: str, weights: Path) -> None:
        self._name = name
        self._file = TensorFile(weights)
        self._weights: dict[str, ir.Value] = {}
        self._constants: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self.inputs: list[TensorInfo] = []
        self.outputs: list[TensorInfo] = []

    def input(self, name: str, dtype: str, shape: tuple[int | str, ...]) -> ir.Value:
        value = ir.val(name, _TYPES[dtype], shape)
        self._inputs.append(value)
        self.inputs.append(TensorInfo(name=name, dtype=dtype, shape=shape))
        return value

    def output(self, value: ir.Value, name: str, dtype: str, shape: tuple[int | str, ...]) -> None:
        value.name = name
        value.dtype, value.shape = _TYPES[dtype], ir.Shape(shape)
        self._outputs.append(value)
        self.outputs.append(TensorInfo(name=name, dtype=dtype, shape=shape))

    def weight(self, name: str) -> ir.Value:
        if name not in self._weights:
            entry = self._file.entries[name]
            tensor = ir.ExternalTensor(
                self._file.path.name,
                entry.offset,
                entry.num_bytes,
                _STORED_TYPES[entry.dtype],
                shape=ir.Shape(entry.shape),
                name=name,
                base_dir=self._file.path.parent,
            )
            self._weights[name] = ir.val(name, const_value=tensor, dtype=tensor.dtype, shape=tensor.shape)
        return self._weights[name]

    def has_weight(self, name: str) -> bool:
        return name in self._file

    def linear(self, x: ir.Value, weight: str, addend: ir.Value | None = None) -> ir.Value:
        """x @ weight [in, out], plus an addend of the product's shape; float32 in and out.

        A weight of 16 bits is multiplied in its own type, which strongly typed engines (TensorRT) require the graph to
        state: x is cast down, the product up, and the addend is added in float32. The cast of the weight to its own
        type does nothing, but then every cast to 16 bits names the type of the products, and a backend that computes
        them in float32 changes only those casts (`unimoe_runtime.backends.onnxruntime.sessions.open_session`).
        """
        matrix = self.weight(weight)
        half = matrix.dtype or ir.DataType.FLOAT
        if half == ir.DataType.FLOAT:
            return self.op("Gemm", [x, matrix, addend]) if addend is not None else self.op("MatMul", [x, matrix])
        narrow, matrix = (self.op("Cast", [value], to=int(half)) for value in (x, matrix))
        product = self.op("Cast", [self.op("MatMul", [narrow, matrix])], to=int(ir.DataType.FLOAT))
        return product if addend is None else self.op("Add", [product, addend])

    def constant(self, values: Any, dtype: str = "int64") -> ir.Value:
        array: NDArray[Any] = np.asarray(values, dtype)
        name = f"constant_{len(self._constants)}"
        tensor = ir.tensor(array, name=name)
        value = ir.val(name, const_value=tensor, dtype=tensor.dtype, shape=array.shape)
        self._constants.append(value)
        return value

    def op(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        return self.ops(op_type, inputs, 1, **attributes)[0]

    def ops(self, op_type: str, inputs: Sequence[ir.Value | None], count: int, **attributes: Any) -> Sequence[ir.Value]:
        """As `op`, for a node with several outputs."""
        number = len(self._nodes)
        node = ir.node(op_type, inputs, attributes or None, num_outputs=count, name=f"{op_type}_{number}")
        for index, value in enumerate(node.outputs):
            value.name = f"{op_type}_{number}_{index}"
        self._nodes.append(node)
        return node.outputs

    def save(self, path: Path) -> None:
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._nodes,
            initializers=[*self._weights.values(), *self._constants],
            opset_imports={"": OPSET},
            name=self._name,
        )
        ir.save(ir.Model(graph, ir_version=IR_VERSION, producer_name="unimoe"), path)
