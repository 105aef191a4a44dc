"""Tiny checkpoints of random weights for tests, dense or routed, in our format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.config import ModelConfig


def tiny_config(**changes: Any) -> ModelConfig:
    """A model of a few thousand parameters."""
    fields: dict[str, Any] = dict(
        text_vocab_size=20, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        num_routed_experts=4, num_null_experts=1, num_shared_experts=1, routed_intermediate_size=12,
        shared_intermediate_size=6, num_codebooks=2, codebook_size=8, delay_pattern=(0, 1), rope_theta=1000.0,
    )  # fmt: skip
    return ModelConfig(**{**fields, **changes})


def write_random_checkpoint(folder: Path, config: ModelConfig, seed: int = 0) -> Path:
    """Write a checkpoint of random float32 weights. Its router is sharp enough that the number of picks varies."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith("norm.weight"):
            tensors[name] = np.ones(shape, np.float32)
        else:
            scale = 1.0 if "router" in name or "embedding" in name else 1.2 / np.sqrt(shape[-1])
            tensors[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(), "sampling": {}}
    (folder / "config.json").write_text(json.dumps(description))
    return folder
