"""A model of one layer for measuring a machine's costs (unimoe_tools.planning.host)."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from unimoe_runtime.bundle.reader import Bundle, open_bundle
from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.safetensors_reader import encode
from unimoe_runtime.files.safetensors_writer import write_tensors

from .exporter import export_bundle

_NUM_EXPERTS = 2  # all experts cost the same
_TEXT_IDS = 32
_ROUTER_SCALE = 1e-3
_POOL = 1 << 18  # random numbers that all weights are made of: drawing each takes longer than writing it


def write_probe(folder: Path, model: ModelConfig) -> Bundle:
    """Write a float32 bundle of random weights to `folder`: one of the model's layers, two of its experts, its head.

    Its router has almost no preference, so that steps launch experts.
    """
    config = replace(
        model, num_layers=1, num_routed_experts=min(_NUM_EXPERTS, model.num_routed_experts), text_vocab_size=_TEXT_IDS,
        top_k=min(model.top_k, _NUM_EXPERTS),
    )  # fmt: skip
    pool = np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)
    shapes = tensor_shapes(config)

    @cache
    def drawn(shape: tuple[int, ...], scale: float) -> np.ndarray:
        return np.resize(encode(pool * np.float32(scale), "BF16"), shape)

    def read(name: str) -> list[np.ndarray]:
        shape = shapes[name]
        if name.endswith("norm.weight"):
            return [np.ones(shape, np.float32)]
        # The router's rows occur in other weights too: without its scale it would have a strong preference.
        return [drawn(shape, shape[-1] ** -0.5 * (_ROUTER_SCALE if name.endswith("router.weight") else 1))]

    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    write_tensors(checkpoint / "model.safetensors", shapes, read, dict.fromkeys(shapes, "BF16"))
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(), "sampling": {}}
    (checkpoint / "config.json").write_text(json.dumps(description), encoding="utf-8")
    return open_bundle(export_bundle(checkpoint, folder / "float32").path)
