"""Single graphs with quantized experts compute the same model. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import quantized_single_graph
from benchmarks.quantized import write_int8
from benchmarks.turns import markdown, measure
from benchmarks.workload import model_config, write_checkpoint
from unimoe_export.exporter import export_bundle


@pytest.mark.slow
def test_quantized_single_graphs_compute_the_same_model(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", model_config(128, num_layers=2))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    write_int8(tmp_path / "bundle", tmp_path / "int8")
    peers = quantized_single_graph.build(tmp_path, None)
    for picked in (0, 3, 8):
        logits = {}
        for name, peer in peers.items():
            peer.prepare(100)
            logits[name] = peer.step(picked, np.random.default_rng(picked))[1].copy()
        ours = logits["int8, ours"]
        for name, tolerance in (("QMoE, 8 bits", 0.03), ("QMoE, 4 bits", 0.3)):
            assert np.abs(logits[name] - ours).max() < tolerance * np.abs(ours).max(), (name, picked)
    medians = measure(peers, [0, 2], 1)
    assert "| 2 |" in markdown(128, medians)
