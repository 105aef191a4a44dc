"""Rewrites the convolutions of Kokoro's 8-bit graph as matrix products, which ONNX Runtime computes faster.

ONNX Runtime has no fast kernel for `ConvInteger` with 8-bit signed weights, and none that packs weights once. The same
sums as one `MatMulInteger` over all taps use both. They are sums of integers, so the graph's outputs keep every bit.

Shapes: B clips, C input channels, O output channels, K taps, T time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_SHIFT: Final = 128  # from unsigned to signed weights; weight and zero point move together
_TO_THE_END: Final = np.iinfo(np.int64).max


def convolutions_as_products(model: Any) -> int:
    """Replace each `ConvInteger` over time of stride 1, in place. Returns how many were replaced.

    A convolution stays as it is where its weights are not unsigned constants, or where it has groups or steps.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[Any] = []
    added: dict[str, np.ndarray] = {}
    count = 0
    for node in graph.node:
        if node.op_type != "ConvInteger" or not _is_plain(node, constants):
            nodes.append(node)
            continue
        weight_OCK, zero = (numpy_helper.to_array(constants[node.input[at]]) for at in (1, 3))
        nodes += _product(node, weight_OCK, zero, added)
        count += 1
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [constant for constant in graph.initializer if constant.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in added.items())
    return count


def _is_plain(node: Any, constants: dict[str, Any]) -> bool:
    """Whether a `ConvInteger` is over time alone, without groups or steps, with unsigned constant weights."""
    from onnx import TensorProto

    if len(node.input) < 4 or any(node.input[at] not in constants for at in (1, 3)):
        return False
    weight, given = constants[node.input[1]], _attributes(node)
    return bool(
        weight.data_type == TensorProto.UINT8
        and len(weight.dims) == 3
        and given.get("strides", [1]) == [1]
        and given.get("group", 1) == 1
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _product(node: Any, weight_OCK: np.ndarray, zero: np.ndarray, constants: dict[str, np.ndarray]) -> list[Any]:
    """The nodes of one convolution. Adds what they read to `constants`."""
    from onnx import helper

    num_out, num_in, num_taps = weight_OCK.shape
    given = _attributes(node)
    start, end = given.get("pads", [0, 0])
    spacing = given.get("dilations", [1])[0]
    name = node.output[0]

    def constant(kind: str, value: Any) -> str:
        constants[f"{name}/{kind}"] = np.ascontiguousarray(value)
        return f"{name}/{kind}"

    nodes: list[Any] = []

    def add(op: str, kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}/{kind}"], **attributes))
        return f"{name}/{kind}"

    signed_KCO = (weight_OCK.astype(np.int16) - _SHIFT).astype(np.int8).transpose(2, 1, 0)
    weight = constant("weight_KCO", signed_KCO.reshape(num_taps * num_in, num_out))
    signed_zero = constant("zero", np.array(int(zero.reshape(-1)[0]) - _SHIFT, np.int8))
    frames_BTC = add("Transpose", "frames_BTC", node.input[0], perm=[0, 2, 1])
    if start or end:
        frames_BTC = add("Pad", "padded_BTC", frames_BTC, constant("pads", [0, start, 0, 0, end, 0]), node.input[2])
    if num_taps > 1:
        axis = constant("axis", [1])
        ends = [(tap + 1 - num_taps) * spacing or _TO_THE_END for tap in range(num_taps)]
        shifted = [
            add("Slice", f"tap_{tap}", frames_BTC, constant(f"first_{tap}", [tap * spacing]),
                constant(f"last_{tap}", [ends[tap]]), axis)
            for tap in range(num_taps)
        ]  # fmt: skip
        frames_BTC = add("Concat", "taps_BTC", *shifted, axis=2)
    sums_BTO = add("MatMulInteger", "sums_BTO", frames_BTC, weight, node.input[2], signed_zero)
    nodes.append(helper.make_node("Transpose", [sums_BTO], [name], name=node.name, perm=[0, 2, 1]))
    return nodes
