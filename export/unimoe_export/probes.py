"""Two models of one layer that a machine's costs are measured on (unimoe_runtime.planning.host)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from unimoe_runtime.checkpoint import FORMAT, FORMAT_VERSION, tensor_shapes
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.tensor_writer import write_tensors

from .exporter import export_bundle

# Hidden size, width of the experts, codes of a codebook. The larger one's graphs are 2 to 3 MB each.
_SIZES = ((128, 160, 64), (384, 512, 512))
_NUM_EXPERTS = 2


def write_probes(folder: Path) -> tuple[Path, Path]:
    """Bundles of random weights in `folder`, the small and the large one; every step picks every expert."""
    small, large = (_write(folder / f"probe_{hidden}", hidden, width, codes) for hidden, width, codes in _SIZES)
    return small, large


def _write(folder: Path, hidden: int, width: int, codes: int) -> Path:
    config = ModelConfig(
        text_vocab_size=32,
        hidden_size=hidden,
        num_layers=1,
        num_heads=hidden // 64,
        num_kv_heads=hidden // 128,
        head_dim=64,
        num_routed_experts=_NUM_EXPERTS,
        num_null_experts=1,
        num_shared_experts=1,
        routed_intermediate_size=width,
        shared_intermediate_size=width,
        num_codebooks=4,
        codebook_size=codes,
        delay_pattern=(0, 1, 2, 3),
        selection="top_k",
        top_k=_NUM_EXPERTS + 1,
    )
    random = np.random.default_rng(0)
    shapes = tensor_shapes(config)

    def read(name: str) -> list[np.ndarray]:
        shape = shapes[name]
        if name.endswith("norm.weight"):
            return [np.ones(shape, np.float32)]
        return [random.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)]

    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    write_tensors(checkpoint / "model.safetensors", shapes, read)
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict(), "sampling": {}}
    (checkpoint / "config.json").write_text(json.dumps(description), encoding="utf-8")
    return export_bundle(checkpoint, folder / "bundle").path
