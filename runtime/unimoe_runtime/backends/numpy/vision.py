"""The oracle of the vision tower: its graph computed in numpy from the written weights.

P patches · H heads · D head dimension · C hidden
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.numpy.ops import attention, rms_norm, rotate, swiglu
from unimoe_runtime.backends.protocol import Array
from unimoe_runtime.vision.tower import RMS_NORM_EPS, VisionConfig

Floats = NDArray[np.float32]
_erf = np.vectorize(math.erf, otypes=[np.float32])


def tower(
    config: VisionConfig,
    weights: Mapping[str, Floats],
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
    inner = linear(merged, "merger.up")
    inner = inner * (1 + _erf(inner / np.float32(math.sqrt(2)))) / 2  # GELU, exact
    return {"embeddings_VC": linear(inner, "merger.down")}
