"""Quantized graphs compute the values of their codes in the engine that runs them, and fuse there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.quantized import RANGE, plan_of, read
from unimoe_calibration.schemes import Engine, LinearPlan, QuantizationPlan, Scheme
from unimoe_calibration.statistics import Linear
from unimoe_calibration.weights import dequantize_weight, round_inputs
from unimoe_calibration.writing import read_weights, write_quantized
from unimoe_runtime.backends.onnxruntime.sessions import open_session
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.model.generation import Prompt

FORMS = [(scheme, engine, False) for engine in Engine for scheme in (Scheme.W8A8, Scheme.W8, Scheme.W4, Scheme.FP8)] + [
    (Scheme.W8A8, engine, True) for engine in Engine
]


def rounded(x: NDArray[np.float32], scheme: Scheme, per_row: bool = False) -> NDArray[np.float32]:
    return round_inputs(x, scheme, None if per_row else RANGE) if scheme.quantizes_inputs else x


@pytest.mark.parametrize(("scheme", "engine", "per_row"), FORMS)
def test_an_expert_computes_with_its_codes(
    one_layer_bundle: Bundle, scheme: Scheme, engine: Engine, per_row: bool, tmp_path: Path
) -> None:
    write_quantized(one_layer_bundle, tmp_path / "out", plan_of(one_layer_bundle, scheme, engine, per_row), {})
    quantized = open_bundle(tmp_path / "out")
    list(quantized.check_all())
    info = quantized.graphs["layers.0.expert.1"]
    assert info.precision == scheme.precision
    assert (info.inputs, info.outputs) == (
        one_layer_bundle.graphs["layers.0.expert.1"].inputs,
        one_layer_bundle.graphs["layers.0.expert.1"].outputs,
    )

    weights = read_weights(one_layer_bundle, "layers.0.expert.1")
    codes = {name: dequantize_weight(values, scheme, engine) for name, values in weights.items()}
    rng = np.random.default_rng(0)
    x, accumulator = (rng.standard_normal((5, 64), dtype=np.float32) for _ in range(2))
    weight = np.array([[0.5], [0.0], [0.2], [1.0], [0.0]], np.float32)
    gate, up = np.split(rounded(x, scheme) @ codes["gate_up.weight"], 2, axis=1)
    inner = gate / (1 + np.exp(-gate)) * up
    product = rounded(inner, scheme, per_row) @ codes["down.weight"]
    feeds = {"accumulator_NC": accumulator, "expert_input_NC": x, "weight_N1": weight}
    (result,) = open_session(quantized.path / info.file).run(None, feeds)
    expected = accumulator + weight * product
    # ONNX Runtime turns either form into MatMulNBits, which rounds its inputs to 8 bits row by row and block by block.
    tolerance = 1e-5 if scheme.quantizes_inputs else 0.03
    near_ties = np.isclose(result, expected, rtol=0, atol=tolerance * np.abs(product).max()).mean()
    assert near_ties > 0.98  # a value may round the other way, which changes its row slightly
    assert np.abs(result - expected).max() < 0.03 * np.abs(product).max()
    np.testing.assert_array_equal(result[[1, 4]], accumulator[[1, 4]])


@pytest.mark.parametrize(("scheme", "engine", "per_row"), FORMS)
def test_a_row_does_not_change_another(
    one_layer_bundle: Bundle, scheme: Scheme, engine: Engine, per_row: bool, tmp_path: Path
) -> None:
    write_quantized(one_layer_bundle, tmp_path / "out", plan_of(one_layer_bundle, scheme, engine, per_row), {})
    session = open_session(tmp_path / "out" / one_layer_bundle.graphs["layers.0.expert.1"].file)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 64), dtype=np.float32)
    x[3] *= 100
    weight, accumulator = np.full((6, 1), 0.5, np.float32), np.zeros((6, 64), np.float32)

    def run(rows: slice) -> NDArray[np.float32]:
        feeds = {"accumulator_NC": accumulator[rows], "expert_input_NC": x[rows], "weight_N1": weight[rows]}
        result: NDArray[np.float32] = session.run(None, feeds)[0]
        return result

    # ONNX Runtime computes float8 products in float32, and sums in another order for one row.
    tolerance = 1e-5 if scheme == Scheme.FP8 else 0.0
    np.testing.assert_allclose(run(slice(2, 3)), run(slice(0, 6))[2:3], rtol=0, atol=tolerance)
    np.testing.assert_allclose(run(slice(2, 4)), run(slice(0, 6))[2:4], rtol=0, atol=tolerance * 100)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("engine", list(Engine))
def test_every_product_but_the_routers_is_an_integer_one(
    one_layer_bundle: Bundle, engine: Engine, per_row: bool, tmp_path: Path
) -> None:
    """An unfused product dequantizes its weights in every run. It is 20 times as slow and has no other symptom."""
    write_quantized(one_layer_bundle, tmp_path / "out", plan_of(one_layer_bundle, Scheme.W8A8, engine, per_row), {})
    quantized = open_bundle(tmp_path / "out")
    for graph, products in (("layers.0.trunk", 4), ("layers.0.expert.0", 2), ("head", 1)):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.use_per_session_threads = False
        options.log_severity_level = 3
        ort.InferenceSession(quantized.path / quantized.graphs[graph].file, options)
        nodes = Counter(
            node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node
        )
        assert nodes["MatMulIntegerToFloat"] == products
        assert not nodes["DequantizeLinear"] and not nodes["Gemm"]
        assert nodes["MatMul"] == (graph == "layers.0.trunk")  # the router


def test_rows_of_any_size_keep_their_precision(one_layer_bundle: Bundle, tmp_path: Path) -> None:
    plan = plan_of(one_layer_bundle, Scheme.W8A8, per_row=True)
    plan = replace(plan, linears={linear: one for linear, one in plan.linears.items() if one.per_row})
    write_quantized(one_layer_bundle, tmp_path / "out", plan, {})
    x = np.random.default_rng(0).standard_normal((4, 64), dtype=np.float32)
    x *= np.array([[0], [1e-3], [1], [100]], np.float32)
    feeds = {"accumulator_NC": np.zeros_like(x), "expert_input_NC": x, "weight_N1": np.ones((4, 1), np.float32)}
    quantized = open_bundle(tmp_path / "out")
    found, expected = (
        open_session(each.path / each.graphs["layers.0.expert.1"].file).run(None, feeds)[0]
        for each in (quantized, one_layer_bundle)
    )
    assert not found[0].any()
    assert (np.linalg.norm(found - expected, axis=1) <= 0.02 * np.linalg.norm(expected, axis=1)).all()
    # The shared experts in the trunk too.
    prompt = Prompt.from_rows([np.arange(7), np.arange(7)], paired=True)
    logits, expected_logits = (read(each, prompt)[0] for each in (quantized, one_layer_bundle))
    assert 0 < np.linalg.norm(logits - expected_logits) < 0.02 * np.linalg.norm(expected_logits)


def test_products_of_one_graph_may_differ(one_layer_bundle: Bundle, tmp_path: Path) -> None:
    plans = dict(plan_of(one_layer_bundle, Scheme.W8A8).linears)
    plans[Linear("layers.0.expert.0", "down.weight")] = LinearPlan(scheme=Scheme.FLOAT)
    plans[Linear("layers.0.expert.1", "down.weight")] = LinearPlan(scheme=Scheme.W8)
    write_quantized(one_layer_bundle, tmp_path / "out", QuantizationPlan(engine=Engine.ONNXRUNTIME, linears=plans), {})
    graphs = open_bundle(tmp_path / "out").graphs
    assert [graphs[f"layers.0.expert.{expert}"].precision for expert in range(3)] == [
        "float32+int8", "int8+int8-weights", "int8",
    ]  # fmt: skip
