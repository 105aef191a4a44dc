"""A model of one layer for measuring a machine's costs (unimoe_tools.planning.host)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.files.safetensors_writer import write_tensors

from .exporter import export_bundle

_NUM_EXPERTS = 2  # all experts cost the same
_TEXT_IDS = 32
_POOL = 1 << 18  # random numbers that all weights are made of: drawing each takes longer than writing it


def write_probe(folder: Path, model: ModelConfig) -> Path:
    """Write a float32 bundle of random weights to `folder`: one of the model's layers, two of its experts, its head.

    Its router has almost no preference, so that steps launch one or both of the experts.
    """
    config = replace(
        model, num_layers=1, num_routed_experts=min(_NUM_EXPERTS, model.num_routed_experts), text_vocab_size=_TEXT_IDS,
        top_k=min(model.top_k, _NUM_EXPERTS),
    )  # fmt: skip
    random = np.random.default_rng(0)
    pool = random.standard_normal(_POOL, dtype=np.float32)
    shapes = tensor_shapes(config)

    def read(name: str) -> list[np.ndarray]:
        shape = shapes[name]
        if name.endswith("norm.weight"):
            return [np.ones(shape, np.float32)]
        drawn = np.resize(np.roll(pool, random.integers(_POOL)), shape)
        drawn *= np.float32(shape[-1] ** -0.5)
        return [drawn]

    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    write_tensors(checkpoint / "model.safetensors", shapes, read)
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(), "sampling": {}}
    (checkpoint / "config.json").write_text(json.dumps(description), encoding="utf-8")
    return export_bundle(checkpoint, folder / "float32").path
