"""A bundle against the torch model of its checkpoint: graph by graph, forced logits, routing, greedy codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe.parity.checkpoint import compare_with_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.factory import open_backend
from unimoe_runtime.bundle.reader import language_model_graphs, open_bundle
from unimoe_runtime.config import SamplingConfig
from unimoe_runtime.errors import CheckpointError
from unimoe_runtime.model.generation import Prompt

VARIANTS: dict[str, dict[str, Any]] = {
    "probability": {},
    "sparsemixer": {"weighting": "sparsemixer", "num_shared_experts": 2},
    "top_k": {"selection": "top_k"},
    "dense": {"num_routed_experts": 0, "num_null_experts": 0},
    "no shared, no bias": {"num_shared_experts": 0, "qkv_bias": False},
}


def prompt(vocabulary: int) -> Prompt:
    ids = np.random.default_rng(0).integers(vocabulary, size=10)
    return Prompt.from_rows([ids[:6], ids[6:]], paired=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bundle_agrees_with_torch(tmp_path: Path, variant: str) -> None:
    config = tiny_config(**VARIANTS[variant])
    folder = write_random_checkpoint(tmp_path / "checkpoint", config)
    export_bundle(folder, tmp_path / "bundle")
    backend = open_backend("onnxruntime", open_bundle(tmp_path / "bundle"))
    graphs, agreement = compare_with_checkpoint(backend, folder, prompt(20), SamplingConfig(), steps=12)
    assert {graph.graph for graph in graphs} == set(language_model_graphs(config))
    assert max(graph.max_abs_error for graph in graphs) < 2e-5
    assert agreement.max_logit_error < 2e-5
    assert agreement.equal_sets == agreement.router_agreement == agreement.token_agreement == 1.0
    assert agreement.first_difference is None


def test_published_format(reference_bundle: Path, reference_checkpoint: Path) -> None:
    backend = open_backend("onnxruntime", open_bundle(reference_bundle))
    graphs, agreement = compare_with_checkpoint(backend, reference_checkpoint, prompt(290), SamplingConfig(), steps=12)
    assert all(graph.max_abs_error <= 1e-4 + 1e-5 * graph.max_abs_value for graph in graphs)
    assert agreement.max_logit_error < 1e-4 and agreement.equal_sets == 1.0


def test_another_checkpoint_shows(tmp_path: Path) -> None:
    """Weights of another seed differ everywhere; another configuration is refused."""
    export_bundle(write_random_checkpoint(tmp_path / "first", tiny_config()), tmp_path / "bundle")
    backend = open_backend("onnxruntime", open_bundle(tmp_path / "bundle"))
    other = write_random_checkpoint(tmp_path / "second", tiny_config(), seed=1)
    graphs, agreement = compare_with_checkpoint(backend, other, prompt(20), SamplingConfig(), steps=4)
    assert min(graph.max_abs_error for graph in graphs) > 1e-2
    assert agreement.max_logit_error > 1e-2
    wider = write_random_checkpoint(tmp_path / "third", tiny_config(hidden_size=32))
    with pytest.raises(CheckpointError, match="its configuration is not that of"):
        compare_with_checkpoint(backend, wider, prompt(20), SamplingConfig(), steps=4)
