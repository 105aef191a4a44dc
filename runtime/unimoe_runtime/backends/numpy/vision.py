"""The oracle of the vision tower: its graph computed in numpy from a bundle's weights.

P patches · H heads · D head dimension · C hidden
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unimoe_runtime.backends.numpy.ops import Floats, Weights, attention, gelu, rms_norm, rotate, swiglu
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.vision.tower import RMS_NORM_EPS, VisionConfig


def tower(
    config: VisionConfig,
    weights: Weights,
    inputs: Mapping[str, Array],
    *,
    blocks: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The vision graph's output for its inputs, both by the graph's names. With `blocks` only those blocks run."""

    def linear(x: Floats, name: str) -> Floats:
        return np.asarray(x @ weights[name + ".weight"] + weights[name + ".bias"])

    def norm(x: Floats, name: str) -> Floats:
        return rms_norm(x, weights[name + ".weight"], RMS_NORM_EPS)

    cos_1PD, sin_1PD = inputs["cos_PD"][None], inputs["sin_PD"][None]
    hidden_PC: Floats = inputs["patches_PM"] @ weights["patch_embed.weight"]
    for block in range(config.num_blocks) if blocks is None else blocks:
        prefix = f"blocks.{block}."
        qkv = linear(norm(hidden_PC, prefix + "attention_norm"), prefix + "qkv")
        qkv_1HPD = np.swapaxes(qkv.reshape(1, len(qkv), -1, config.head_dim), 1, 2)
        q, k, v = np.split(qkv_1HPD, 3, axis=1)
        mask_11PP = inputs["full_mask_11PP" if block in config.full_attention_blocks else "window_mask_11PP"]
        attended_1HPD = attention(rotate(q, cos_1PD, sin_1PD), rotate(k, cos_1PD, sin_1PD), v, mask_11PP)
        attended_PC = np.swapaxes(attended_1HPD, 1, 2).reshape(hidden_PC.shape)
        hidden_PC = hidden_PC + linear(attended_PC, prefix + "o")
        inner = swiglu(linear(norm(hidden_PC, prefix + "mlp_norm"), prefix + "gate_up"))
        hidden_PC = hidden_PC + linear(inner, prefix + "down")
    merged = norm(hidden_PC, "merger.norm").reshape(-1, config.merge_unit * config.hidden_size)
    return {"embeddings_VC": linear(gelu(linear(merged, "merger.up")), "merger.down")}
