"""The vision tower's tensors of a checkpoint, as a bundle's graph reads them.

As in `layout`: weights [in, out], the gate and up of a block in one, gate first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.checkpoint import Checkpoint

Floats = NDArray[np.float32]
_SOURCES = {
    "qkv": "attention.qkv_proj", "o": "attention.o_proj", "down": "mlp.down_proj",
    "merger.up": "merger.up_proj", "merger.down": "merger.down_proj",
    "attention_norm": "attention_norm", "mlp_norm": "mlp_norm", "merger.norm": "merger.norm",
}  # fmt: skip


def vision_tensor(checkpoint: Checkpoint, name: str) -> Floats:
    """A tensor of `vision.vision_weight_shapes`. Raises CheckpointError where the checkpoint has no vision tower."""
    if name == "patch_embed.weight":
        # Stored as a convolution's: [out, colours · frames, rows, columns], the order of a patch's values.
        weight = checkpoint.tensor("vision.patch_embed.weight")
        return weight.reshape(len(weight), -1).T
    module, kind = name.rsplit(".", 1)
    prefix = "vision."
    if module.startswith("blocks."):
        _, block, module = module.split(".")
        prefix += f"blocks.{block}."
    if module == "gate_up":
        parts = [checkpoint.tensor(f"{prefix}mlp.{half}_proj.{kind}") for half in ("gate", "up")]
        return np.concatenate(parts).T
    return checkpoint.tensor(f"{prefix}{_SOURCES[module]}.{kind}").T
