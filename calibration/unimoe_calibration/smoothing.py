"""Moving the spread between an input's channels into the weights, where it costs less (SmoothQuant, Xiao et al.,
https://arxiv.org/abs/2211.10438): x @ w = (x / s) @ (s * w), with one factor s a channel.

The weights that produce x are divided by s: a norm's weight, the value columns of qkv, the up columns of gate_up.
Factors are powers of two, so that folding them in is exact: a router's logits, which share their input with the
experts, keep every bit.

C hidden · K input channels of a product · N outputs · I intermediate size · H heads · G key/value heads
D head dimension
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.config import ModelConfig

from .statistics import Linear

Floats = NDArray[np.float32]

STRENGTHS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
"""The candidates for the share of an input's spread that moves into the weights; 0 moves nothing."""

# Beyond this a channel is nearly dead on one side, and no factor helps it.
_LARGEST_EXPONENT = 10


def balance(input_max_K: Floats, weight_max_K: Floats, strength: float) -> Floats:
    """Factors of an input's channels: max|x|^strength / max|w|^(1 - strength) (SmoothQuant's equation 4), rounded to
    powers of two about their mean. Channels that are 0 on either side keep theirs at 1."""
    alive_K = (input_max_K > 0) & (weight_max_K > 0)
    if not strength or not alive_K.any():
        return np.ones_like(input_max_K)
    exponent_K = strength * np.log2(input_max_K, where=alive_K, out=np.zeros_like(input_max_K))
    exponent_K -= (1 - strength) * np.log2(weight_max_K, where=alive_K, out=np.zeros_like(weight_max_K))
    exponent_K -= exponent_K[alive_K].mean()
    rounded_K = np.clip(np.rint(exponent_K), -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return np.where(alive_K, np.exp2(rounded_K), 1).astype(np.float32)


def fold(
    graph: str, weights: Mapping[str, Floats], smoothing: Mapping[Linear, Floats], bundle: Bundle
) -> dict[str, Floats]:
    """A graph's weights with its factors of `smoothing` folded in."""
    folded = {name: values.copy() for name, values in weights.items()}
    factors = {linear.weight: values for linear, values in smoothing.items() if linear.graph == graph}
    for name, factors_K in factors.items():
        folded[name] *= factors_K[:, None]
    for norm, products in _NORMS.items():
        given = [factors[product] for product in products if product in factors]
        if norm in folded and given:
            folded[norm] /= given[0]
    if "o.weight" in factors:
        values = _value_columns(bundle.model)
        factors_V = value_factors(factors["o.weight"], bundle)
        for name in {"qkv.weight", "qkv.bias"} & folded.keys():
            folded[name][..., values] /= factors_V
    for gate_up, down in (("gate_up.weight", "down.weight"), ("shared.gate_up.weight", "shared.down.weight")):
        if down in factors:
            folded[gate_up][:, len(factors[down]) :] /= factors[down]
    return folded


# Norms, and the products of the same graph that read their outputs.
_NORMS: Mapping[str, tuple[str, ...]] = {
    "attention_norm.weight": ("qkv.weight",),
    "moe_norm.weight": ("router.weight", "shared.gate_up.weight"),
    "norm.weight": ("head.weight",),
}


def _value_columns(model: ModelConfig) -> slice:
    """The columns of qkv that are values."""
    return slice((model.num_heads + model.num_kv_heads) * model.head_dim, None)


def value_factors(factors_K: Floats, bundle: Bundle) -> Floats:
    """Factors [G·D] of the values, from those [H·D] of o's input: the heads of a group read the same value head."""
    return _by_group(factors_K, bundle)[:, 0].reshape(-1)


def share_among_heads(largest_K: Floats, bundle: Bundle) -> Floats:
    """Values [H·D] of o's input, each replaced by the largest over the heads that read the same value head."""
    shared_K = np.empty_like(largest_K)
    largest_GRD = _by_group(largest_K, bundle)
    _by_group(shared_K, bundle)[...] = largest_GRD.max(axis=1, keepdims=True)
    return shared_K


def _by_group(values_K: Floats, bundle: Bundle) -> Floats:
    """A view [G, heads of a group, D] of [H·D]. In bundles of format version 1 the heads of a group lie side by side;
    in later ones each run over all key heads has one of them."""
    groups, size = bundle.model.num_kv_heads, bundle.model.head_dim
    if bundle.format_version == 1:
        return values_K.reshape(groups, -1, size)
    return values_K.reshape(-1, groups, size).swapaxes(0, 1)
