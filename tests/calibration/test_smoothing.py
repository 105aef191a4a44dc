"""Smoothing moves the spread of inputs into weights and changes no bit of the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.quantized import read
from unimoe_calibration.schemes import Engine, QuantizationPlan
from unimoe_calibration.smoothing import fold
from unimoe_calibration.statistics import Linear, linears
from unimoe_calibration.writing import read_weights, write_quantized
from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.model.generation import Prompt


def test_smoothing_changes_no_bit(one_layer_bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = one_layer_bundle.model
    smoothing: dict[Linear, NDArray[np.float32]] = {}
    moe = 2.0 ** rng.integers(-3, 4, model.hidden_size).astype(np.float32)
    for linear in (*linears(model), Linear("layers.0.trunk", "router.weight")):
        size: int = read_weights(one_layer_bundle, linear.graph)[linear.weight].shape[0]
        smoothing[linear] = 2.0 ** rng.integers(-3, 4, size).astype(np.float32)
        if linear.weight in ("router.weight", "shared.gate_up.weight", "gate_up.weight"):
            smoothing[linear] = moe
    values = 2.0 ** rng.integers(-3, 4, model.num_kv_heads * model.head_dim).astype(np.float32)
    smoothing[Linear("layers.0.trunk", "o.weight")] = np.tile(values, model.queries_per_key)

    plan = QuantizationPlan(engine=Engine.ONNXRUNTIME, linears={}, smoothing=smoothing)
    write_quantized(one_layer_bundle, tmp_path / "out", plan, {})
    smoothed = open_bundle(tmp_path / "out")
    assert all(info.precision == "float32" for info in smoothed.graphs.values())
    prompt = Prompt.from_rows([rng.integers(0, model.text_vocab_size, 7) for _ in range(2)], paired=True)
    (logits, routing), (expected, expected_routing) = (read(each, prompt) for each in (smoothed, one_layer_bundle))
    assert len(routing) == 2 * model.num_layers
    for found, reference in zip(routing, expected_routing, strict=True):
        np.testing.assert_array_equal(found, reference)
    np.testing.assert_array_equal(logits, expected)


def test_folding_is_exact(one_layer_bundle: Bundle) -> None:
    graph = "layers.0.expert.2"
    weights = read_weights(one_layer_bundle, graph)
    factors = np.float32(2) ** np.arange(-48, 48, dtype=np.float32).clip(-8, 8)
    folded = fold(graph, weights, {Linear(graph, "down.weight"): factors}, one_layer_bundle)
    np.testing.assert_array_equal(folded["down.weight"] / factors[:, None], weights["down.weight"])
    np.testing.assert_array_equal(folded["gate_up.weight"][:, 96:] * factors, weights["gate_up.weight"][:, 96:])
    np.testing.assert_array_equal(folded["gate_up.weight"][:, :96], weights["gate_up.weight"][:, :96])
