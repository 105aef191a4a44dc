"""The operators that the oracle's graphs share, computed in numpy as ONNX defines them.

B rows · T positions · S cache capacity · H heads · D head dimension · C hidden
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]
"""A graph's weights by name."""

_erf = np.vectorize(math.erf, otypes=[np.float32])


def rms_norm(x: Floats, weight_C: Floats, epsilon: float) -> Floats:
    """x / rms(x) * weight over the last axis (ONNX RMSNormalization)."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon)) * weight_C)


def swiglu(gate_up: Floats) -> Floats:
    """silu(gate) * up, the two halves of the last axis."""
    gate, up = np.split(gate_up, 2, axis=-1)
    with np.errstate(over="ignore"):  # exp of a large -gate is inf, and gate / inf is the right 0
        return np.asarray(gate / (1 + np.exp(-gate)) * up)


def gelu(x: Floats) -> Floats:
    """x / 2 · (1 + erf(x / √2)), without the tanh approximation (ONNX Gelu)."""
    return np.asarray(x * (1 + _erf(x / np.float32(math.sqrt(2)))) / 2)


def rotate(x_BHTD: Floats, cos_BTD: Floats, sin_BTD: Floats) -> Floats:
    """x · cos + rotate_half(x) · sin (ONNX RotaryEmbedding, not interleaved)."""
    first, second = np.split(x_BHTD, 2, axis=-1)
    rotated_half = np.concatenate([-second, first], axis=-1)
    return np.asarray(x_BHTD * cos_BTD[:, None] + rotated_half * sin_BTD[:, None])


def attention(
    q_BHTD: Floats,
    k_BHSD: Floats,
    v_BHSD: Floats,
    mask_B1TS: NDArray[np.bool_],
    *,
    key_heads_in_turn: bool = False,
) -> Floats:
    """Scaled dot-product attention with grouped queries.

    Consecutive query heads share a key head. With `key_heads_in_turn`, query head i reads key head i modulo the number
    of key heads.
    """
    groups = q_BHTD.shape[1] // k_BHSD.shape[1]
    if key_heads_in_turn:
        k, v = np.tile(k_BHSD, (1, groups, 1, 1)), np.tile(v_BHSD, (1, groups, 1, 1))
    else:
        k, v = np.repeat(k_BHSD, groups, axis=1), np.repeat(v_BHSD, groups, axis=1)
    scores = q_BHTD @ np.swapaxes(k, -1, -2) / np.float32(np.sqrt(q_BHTD.shape[-1]))
    scores = np.where(mask_B1TS, scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True) @ v)
