"""The changes that a graph needs before TensorRT builds it. Inputs and outputs keep their names, types and content.

The changes are not written back: every backend reads the bundle's own graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_AXIS = "axis_of_the_taps"
_HEAD_AXIS = "axis_of_the_one_head"
HALF_TYPES: Mapping[str, int] = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def fix_dimensions(model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Give symbolic dimensions a size. An in-place update of a cache requires a known capacity S."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]


def lift_caches(model: onnx.ModelProto) -> None:
    """Give caches [B, S, X] the axis of one wide head, [B, 1, S, X]: TensorRT's cache update accepts only this.

    Attention still reads [B, S, X]. The engine's inputs and outputs have four axes (`lifted_shape`).
    """
    updates = [node for node in model.graph.node if node.op_type == "TensorScatter" and _axis(node) == 1]
    if not updates:
        return
    caches = {node.input[0] for node in updates} | {node.output[0] for node in updates}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in caches:
            dimensions = list(value.type.tensor_type.shape.dim)
            del value.type.tensor_type.shape.dim[:]
            one = onnx.TensorShapeProto.Dimension(dim_value=1)
            value.type.tensor_type.shape.dim.extend([dimensions[0], one, *dimensions[1:]])

    flat = {node.output[0]: f"{node.output[0]}_flat" for node in updates}

    def rewrite(node: NodeProto) -> Iterable[NodeProto]:
        if node not in updates:
            node.input[:] = [flat.get(name, name) for name in node.input]
            return (node,)
        cache, update, index = node.input
        lifted, output = f"{update}_lifted", node.output[0]
        return (
            _node("Unsqueeze", [update, _HEAD_AXIS], lifted),
            _node("TensorScatter", [cache, lifted, index], output, axis=2),
            _node("Squeeze", [output, _HEAD_AXIS], flat[output]),
        )

    _rewrite_nodes(model, rewrite)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), _HEAD_AXIS))


def lifted_shape(name: str, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape of a graph's input in an engine."""
    return (shape[0], 1, *shape[1:]) if name.endswith("_cache_BSX") else shape


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -2)


def narrow_attention(model: onnx.ModelProto, dtype: str) -> None:
    """Attend in 16 bits, float32 in and out: TensorRT uses one kernel for it in 16 bits, and five in float32.

    The cast of keys and values costs nothing extra, because the kernel needs them in another layout anyway.
    """

    def rewrite(node: NodeProto) -> Iterable[NodeProto]:
        if node.op_type != "Attention":
            return (node,)
        narrow = [f"{name}_narrow" for name in node.input[:3]]
        casts = [
            _node("Cast", [wide], name, to=HALF_TYPES[dtype]) for wide, name in zip(node.input, narrow, strict=False)
        ]
        node.input[:3] = narrow
        output = node.output[0]
        node.output[0] = f"{output}_narrow"
        return (*casts, node, _node("Cast", [node.output[0]], output, to=TensorProto.FLOAT))

    _rewrite_nodes(model, rewrite)


def convolve_products(model: onnx.ModelProto) -> None:
    """Write float32 products with a constant matrix as convolutions of one tap.

    On Turing (compute capability 7.5) TensorRT-RTX has float32 convolutions, but no float32 products.
    """
    matrices = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    matrices |= {
        node.output[0] for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in matrices
    }
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }

    def rewrite(node: NodeProto) -> Iterable[NodeProto]:
        is_product = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attribute)
        if not is_product or node.input[1] not in matrices or ranks.get(node.input[0]) not in (2, 3):
            return (node,)
        x, matrix, *addend = node.input
        output = node.output[0]
        columns, taps, channels, product = (f"{output}_{part}" for part in ("columns", "taps", "channels", "product"))
        result = f"{output}_result" if addend else output
        if ranks[x] == 2:
            around = _node("Unsqueeze", [x, _AXIS], channels), _node("Squeeze", [product, _AXIS], result)
        else:
            around = (
                _node("Transpose", [x], channels, perm=[0, 2, 1]),
                _node("Transpose", [product], result, perm=[0, 2, 1]),
            )
        return (
            _node("Transpose", [matrix], columns, perm=[1, 0]),
            _node("Unsqueeze", [columns, _AXIS], taps),
            around[0],
            _node("Conv", [channels, taps], product),
            around[1],
            *[_node("Add", [result, one], output) for one in addend],
        )

    _rewrite_nodes(model, rewrite)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), _AXIS))


def _rewrite_nodes(model: onnx.ModelProto, rewrite: Callable[[NodeProto], Iterable[NodeProto]]) -> None:
    nodes = [new for node in list(model.graph.node) for new in rewrite(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)
