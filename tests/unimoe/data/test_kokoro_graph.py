"""Kokoro's convolutions as matrix products give the same integers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from unimoe.data.kokoro_graph import convolutions_as_products
from unimoe_runtime.backends.onnxruntime.sessions import open_session

sizes = st.integers(1, 6)


def model_of(weight_OCK: np.ndarray, zero: int, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("ConvInteger", ["x", "weight", "x_zero", "zero"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "convolution",
        [
            helper.make_tensor_value_info("x", TensorProto.UINT8, ["B", "C", "T"]),
            helper.make_tensor_value_info("x_zero", TensorProto.UINT8, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["B", "O", "U"])],
        [numpy_helper.from_array(weight_OCK, "weight"), numpy_helper.from_array(np.array(zero, np.uint8), "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        result: np.ndarray = open_session(path).run(None, feeds)[0]
    return result


@given(
    sizes, sizes, st.integers(1, 5), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 255),
    st.integers(0, 255), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_product_over_all_taps_gives_the_sums_of_the_convolution(
    num_in: int, num_out: int, num_taps: int, spacing: int, start: int, end: int, zero: int, x_zero: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight_OCK = rng.integers(0, 256, (num_out, num_in, num_taps)).astype(np.uint8)
    x_BCT = rng.integers(0, 256, (1, num_in, int(rng.integers(15, 24)))).astype(np.uint8)
    feeds = {"x": x_BCT, "x_zero": np.array(x_zero, np.uint8)}
    model = model_of(weight_OCK, zero, kernel_shape=[num_taps], dilations=[spacing], pads=[start, end])
    wanted = outputs(model, feeds)
    assert convolutions_as_products(model) == 1
    assert "ConvInteger" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(outputs(model, feeds), wanted)


@pytest.mark.parametrize("attributes", [{"strides": [2]}, {"group": 2}, {"auto_pad": "SAME_UPPER"}])
def test_other_convolutions_stay(attributes: dict[str, Any]) -> None:
    weight_OCK = np.zeros((4, 2 if "group" in attributes else 4, 3), np.uint8)
    model = model_of(weight_OCK, 7, kernel_shape=[3], **attributes)
    before = model.SerializeToString()
    assert convolutions_as_products(model) == 0
    assert model.SerializeToString() == before
