"""Rewriting a bundle's ONNX graphs: products with a weight become quantized products.

A node is found by its role, a product with a named weight, and not by its position in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from unimoe_runtime.bundle.manifest import HALVED
from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.hashes import FileInfo
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.files.safetensors_writer import write_tensors

from .fusing import DOMAIN, fuse_for_cpu
from .schemes import Engine, LinearPlan, Scheme
from .weights import SMALLEST_ROW_MAX, QuantizedWeight, StoredTensor, arbitrary_weight, floats, quantize_weight, stored

Floats = NDArray[np.float32]

_CODES, _SCALES, _INPUT_SCALE = ".codes", ".scales", ".input_scale"
_SMALLEST_HALVED = 1024  # values: below this nothing is gained


class GraphSurgery:
    """One float32 graph of a bundle, rewritten step by step into a quantized one.

    `tensors`: the content of the graph's weights' file, in order. Raises BundleError for a graph that has no product
    with one of the weights to quantize.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = ir.load(path)
        self._graph = self._model.graph
        self.tensors: dict[str, StoredTensor] = {}

    def quantize(
        self, weights: Mapping[str, Floats], plans: Mapping[str, LinearPlan], engine: Engine, *, arbitrary: bool = False
    ) -> None:
        """Replace the products with the weights named in `plans`. `weights` are all of the graph's, smoothed.

        `arbitrary`: with codes that compute nonsense but take little time to make.
        """
        code = arbitrary_weight if arbitrary else quantize_weight
        for name, values in weights.items():
            plan = plans.get(name)
            if plan is None:
                self.tensors[name] = floats(values)
                continue
            weight = code(values, plan.scheme, engine)
            self.tensors[name + _CODES], self.tensors[name + _SCALES] = weight.codes, weight.scales
            if plan.scheme.quantizes_inputs:
                self.tensors[name + _INPUT_SCALE] = floats(np.asarray(plan.input_scale))
            self._replace(self._product(name), name, plan, engine, weight)
        if engine == Engine.ONNXRUNTIME:
            fuse_for_cpu(self._graph)

    def store_in_half(self, weights: TensorFile) -> None:
        """Store matrices and larger float32 tensors in 16 bits, with a cast to float32 at the graph's beginning."""
        for name, entry in weights.entries.items():
            values = weights.read(name)
            if entry.dtype != "F32" or values.size < _SMALLEST_HALVED:
                onnx_type = self._graph.initializers[name].dtype
                assert onnx_type is not None
                self.tensors[name] = stored(values, entry.dtype, onnx_type.name)
                continue
            half = name + HALVED
            self.tensors[half] = stored(values.astype(np.float16), "F16", "FLOAT16")
            cast = ir.node("Cast", [self._initializer(half)], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
            cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(values.shape)
            ir.convenience.replace_all_uses_with(self._graph.initializers[name], cast.outputs[0])
            self._graph.insert_before(self._graph[0], cast)

    def save(self, path: Path) -> FileInfo:
        """Write the graph to `path` and `tensors` beside it with the suffix .safetensors. Returns the latter's hash."""
        weights = path.with_suffix(".safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        written = write_tensors(
            weights,
            {name: tensor.values.shape for name, tensor in self.tensors.items()},
            lambda name: [self.tensors[name].values],
            {name: tensor.dtype for name, tensor in self.tensors.items()},
        )
        file = TensorFile(weights)
        values = self._graph.initializers
        for name in [name for name, value in values.items() if isinstance(value.const_value, ir.ExternalTensor)]:
            if name not in self.tensors:
                del values[name]
        for name, tensor in self.tensors.items():
            entry = file.entries[name]
            onnx_type, shape = ir.DataType[tensor.onnx_type], ir.Shape(tensor.shape)
            value = self._initializer(name)
            value.dtype, value.shape = onnx_type, shape
            value.const_value = ir.ExternalTensor(
                weights.name, entry.offset, entry.num_bytes, onnx_type,
                shape=shape, name=name, base_dir=path.parent,
            )  # fmt: skip
        ir.save(self._model, path)
        return written

    def _initializer(self, name: str) -> ir.Value:
        if name not in self._graph.initializers:
            # The tensor itself follows when its file is written.
            tensor = self.tensors[name]
            value = ir.val(name, ir.DataType[tensor.onnx_type], tensor.shape)
            value.const_value = ir.tensor(np.zeros(0, np.float32), name=name)
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def _constant(self, name: str, values: NDArray[Any], onnx_type: str) -> ir.Value:
        if name not in self._graph.initializers:
            dtype = ir.DataType[onnx_type]
            tensor = ir.tensor(values.astype(dtype.numpy()), dtype=dtype, name=name)
            self._graph.register_initializer(ir.val(name, dtype, values.shape, const_value=tensor))
        return self._graph.initializers[name]

    def _product(self, weight: str) -> ir.Node:
        value = self._graph.initializers.get(weight)
        uses = [node for node, index in value.uses() if index == 1] if value is not None else []
        if len(uses) != 1 or uses[0].op_type not in ("MatMul", "Gemm"):
            raise BundleError(f"{self._path}: has no product with {weight!r}; export the bundle again")
        return uses[0]

    def _replace(self, product: ir.Node, name: str, plan: LinearPlan, engine: Engine, weight: QuantizedWeight) -> None:
        before = _Insertion(self._graph, product, name)
        x, addend = product.inputs[0], product.inputs[2] if len(product.inputs) > 2 else None
        assert x is not None
        weighting = _routing_weight(x)
        by_block = engine == Engine.ONNXRUNTIME and not plan.scheme.quantizes_inputs
        if by_block and weighting is not None and weighting.picked is not None:
            # MatMulNBits scales every row by itself, so a row's weight changes none of its codes. The guard stays
            # before the product.
            weighting = None
        if weighting is not None:
            x = weighting.inner
        factor = None if weighting is None else weighting.weight
        if plan.per_row:
            row_max = self._row_max(before, x)
            x = before.op("Div", [x, row_max])
            factor = row_max if factor is None else before.op("Mul", [factor, row_max])
        y = self._quantized(before, x, name, plan.scheme, engine, weight)
        if factor is not None:
            # The routing weight comes after the product: ONNX Runtime turns a product directly followed by an Add
            # into a float Gemm and dequantizes the weights in every run. This order also keeps the input's range
            # free of the routing weights.
            y = before.op("Mul", [y, factor])
        if weighting is not None and weighting.picked is not None:
            assert weighting.zero is not None
            y = before.op("Where", [weighting.picked, y, weighting.zero])
        if addend is not None:
            y = before.op("Add", [y, addend])
        old = product.outputs[0]
        output_name = old.name
        old.replace_all_uses_with(y, replace_graph_outputs=True)
        y.type, y.shape = old.type, old.shape
        self._graph.remove(product, safe=True)
        y.name = output_name
        if weighting is not None:
            for node in weighting.nodes:
                self._graph.remove(node, safe=True)

    def _row_max(self, before: _Insertion, x: ir.Value) -> ir.Value:
        """The largest absolute value of each row, [N, 1], always above 0, because the next nodes divide by it."""
        smallest = self._constant("smallest_row_max", np.asarray(SMALLEST_ROW_MAX), "FLOAT")
        last_axis = self._constant("last_axis", np.asarray([-1]), "INT64")
        largest = before.op("ReduceMax", [before.op("Abs", [x]), last_axis], keepdims=1)
        return before.op("Max", [largest, smallest])

    def _quantized(
        self, before: _Insertion, x: ir.Value, name: str, scheme: Scheme, engine: Engine, weight: QuantizedWeight
    ) -> ir.Value:
        """The product of x with the quantized weight."""
        codes, scales = self._initializer(name + _CODES), self._initializer(name + _SCALES)
        if engine == Engine.ONNXRUNTIME and not scheme.quantizes_inputs:
            self._graph.opset_imports.setdefault(DOMAIN, 1)
            assert weight.block is not None
            num_inputs, num_outputs = weight.shape
            return before.op(
                "MatMulNBits", [x, codes, scales], domain=DOMAIN, K=num_inputs, N=num_outputs,
                bits=8 * weight.codes.shape[2] // weight.block, block_size=weight.block, accuracy_level=4,
            )  # fmt: skip
        if scheme.quantizes_inputs:
            # ONNX lets zero points of 0 be left out, but ONNX Runtime fuses only nodes that name theirs.
            onnx_type = weight.codes.onnx_type
            scale = self._initializer(name + _INPUT_SCALE)
            zero = self._constant(f"zero_{onnx_type.lower()}", np.zeros(()), onnx_type)
            x = before.op("DequantizeLinear", [before.op("QuantizeLinear", [x, scale, zero]), scale, zero])
        if weight.block is None:
            restored = before.op("DequantizeLinear", [codes, scales], axis=1)
        else:
            restored = before.op("DequantizeLinear", [codes, scales], axis=0, block_size=weight.block)
        return before.op("MatMul", [x, restored])


class _Insertion:
    """Makes nodes, names them after the weight that they serve, and inserts them before another node."""

    def __init__(self, graph: ir.Graph, place: ir.Node, name: str) -> None:
        self._graph, self._place, self._name, self._count = graph, place, name, 0

    def op(self, op_type: str, inputs: list[ir.Value], *, domain: str = "", **attributes: int) -> ir.Value:
        name = f"{self._name}/{op_type}_{self._count}"
        self._count += 1
        node = ir.node(op_type, inputs, attributes or None, domain=domain, name=name)
        node.outputs[0].name = name + "_0"
        self._graph.insert_before(self._place, node)
        return node.outputs[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _RoutingWeight:
    """An expert's weighted inner activation: inner * weight or, with a guard, Where(picked, inner * weight, zero).

    `nodes` compute it, the last one first.
    """

    nodes: tuple[ir.Node, ...]
    inner: ir.Value
    weight: ir.Value
    picked: ir.Value | None = None
    zero: ir.Value | None = None


def _routing_weight(x: ir.Value) -> _RoutingWeight | None:
    """The weighting whose result is x; None where x has another origin. The weight is an input of the graph."""
    node = x.producer()
    guard = node if node is not None and node.op_type == "Where" else None
    picked = zero = None
    if guard is not None:
        picked, product, zero = guard.inputs
        node = None if product is None else product.producer()
    if node is None or node.op_type != "Mul":
        return None
    inner, weight = sorted((value for value in node.inputs if value is not None), key=ir.Value.is_graph_input)
    if not weight.is_graph_input():
        return None
    nodes = (node,) if guard is None else (guard, node)
    return _RoutingWeight(nodes=nodes, inner=inner, weight=weight, picked=picked, zero=zero)
