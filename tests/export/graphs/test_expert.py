"""Experts with and without the guard: which weights need it, and its cost in nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.running import run_graph, save_values
from tests.random_checkpoint import tiny_config
from unimoe_export.checking import random_inputs
from unimoe_export.graphs.expert import can_overflow, expert_graph
from unimoe_runtime.files.safetensors_reader import TensorFile

CONFIG = tiny_config()
HIDDEN, INNER = CONFIG.hidden_size, CONFIG.routed_intermediate_size


def weights(folder: Path, scale: float = 1.0) -> Path:
    random = np.random.default_rng(0)
    values = {
        "gate_up.weight": scale * random.standard_normal((HIDDEN, 2 * INNER), dtype=np.float32),
        "down.weight": random.standard_normal((INNER, HIDDEN), dtype=np.float32),
    }
    return save_values(folder / "expert.safetensors", values)


def test_without_the_guard_the_same_bits_in_two_nodes_less(tmp_path: Path) -> None:
    file, results, counts = weights(tmp_path), [], []
    inputs = random_inputs("layers.0.expert.0", CONFIG, 0)
    for guarded in (True, False):
        path = tmp_path / f"{guarded}.onnx"
        expert_graph(CONFIG, file, guarded=guarded).save(path)
        counts.append(len(onnx.load(path, load_external_data=False).graph.node))
        results.append(run_graph(path, inputs)["new_accumulator_NC"])
    assert counts == [9, 7]
    np.testing.assert_array_equal(results[0], results[1])
    unpicked_N = inputs["weight_N1"][:, 0] == 0
    np.testing.assert_array_equal(results[1][unpicked_N], inputs["accumulator_NC"][unpicked_N])


@pytest.mark.parametrize(("scale", "norm", "overflows"), [(1.0, 100.0, False), (1e20, 100.0, True), (1.0, 1e20, True)])
def test_weights_and_norms_decide(tmp_path: Path, scale: float, norm: float, overflows: bool) -> None:
    assert can_overflow(TensorFile(weights(tmp_path, scale)), norm) == overflows
    assert can_overflow(TensorFile(weights(tmp_path, np.nan)), norm)
