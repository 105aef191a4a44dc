"""The prediction of the next layer's picks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.random_checkpoint import tiny_config, write_random_checkpoint
from unimoe_export.exporter import export_bundle
from unimoe_runtime.backends.numpy.ops import rms_norm
from unimoe_runtime.backends.onnxruntime.expert_loader import Loader, ResidentExpert
from unimoe_runtime.backends.onnxruntime.sessions import CPU_ONLY
from unimoe_runtime.bundle.reader import open_bundle
from unimoe_runtime.expert_cache.cache import ExpertCache
from unimoe_runtime.expert_cache.prefetch import ExpertPrefetcher, prefetch_routers
from unimoe_runtime.model.routing import route


def test_looking_ahead_asks_the_layer_s_own_router(tmp_path: Path) -> None:
    """With zero attention output, a trunk's router receives only the norm of the hidden state."""
    config = tiny_config(hidden_size=32, num_layers=2, num_routed_experts=4)
    export_bundle(write_random_checkpoint(tmp_path / "checkpoint", config), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    routers = prefetch_routers(bundle)
    weights = bundle.weights("layers.1.trunk")
    look_ahead = ExpertPrefetcher(
        ExpertCache[ResidentExpert](Loader(bundle, CPU_ONLY), {}, 0, {}, ahead=False), routers, bundle.model
    )
    hidden_NC = np.random.default_rng(0).standard_normal((2, 32), dtype=np.float32)
    normed_NC = rms_norm(hidden_NC, weights.float32("moe_norm.weight"), bundle.model.rms_norm_eps)
    weights_NE, _ = route(normed_NC @ weights.float32("router.weight"), bundle.model)
    shares = look_ahead.shares(1, hidden_NC)
    assert [share > 0 for share in shares] == (weights_NE[:, :4] > 0).any(axis=0).tolist()
