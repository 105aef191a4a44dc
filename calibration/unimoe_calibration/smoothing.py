"""Moving the spread between an input's channels into the weights, where they cost less (SmoothQuant, Xiao et al.,
https://arxiv.org/abs/2211.10438): x @ w = (x / s) @ (s * w), with one factor s a channel.

Whatever makes x is divided by s: a norm's weight, the value columns of qkv, the up columns of gate_up. Factors are
powers of two, so that folding them in is exact: a router's logits, which share their input with the experts, stay
what they were bit by bit.

C hidden · K input channels of a product · N outputs · I intermediate size · H heads · G key/value heads
D head dimension
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig

from .statistics import Linear

Floats = NDArray[np.float32]


def fold(
    graph: str, weights: Mapping[str, Floats], smoothing: Mapping[Linear, Floats], model: ModelConfig
) -> dict[str, Floats]:
    """A graph's weights with the factors folded in, those of `smoothing` that concern it."""
    folded = {name: values.copy() for name, values in weights.items()}
    factors = {linear.weight: values for linear, values in smoothing.items() if linear.graph == graph}
    for name, factors_K in factors.items():
        folded[name] *= factors_K[:, None]
    for norm, products in _NORMS.items():
        given = [factors[product] for product in products if product in factors]
        if norm in folded and given:
            folded[norm] /= given[0]
    if "o.weight" in factors:
        values = _value_columns(model)
        factors_V = value_factors(factors["o.weight"], model)
        for name in {"qkv.weight", "qkv.bias"} & folded.keys():
            folded[name][..., values] /= factors_V
    for gate_up, down in (("gate_up.weight", "down.weight"), ("shared.gate_up.weight", "shared.down.weight")):
        if down in factors:
            folded[gate_up][:, len(factors[down]) :] /= factors[down]
    return folded


# Norms, and the products of the same graph that read what they give.
_NORMS: Mapping[str, tuple[str, ...]] = {
    "attention_norm.weight": ("qkv.weight",),
    "moe_norm.weight": ("router.weight", "shared.gate_up.weight"),
    "norm.weight": ("head.weight",),
}


def _value_columns(model: ModelConfig) -> slice:
    """The columns of qkv that are values."""
    return slice((model.num_heads + model.num_kv_heads) * model.head_dim, None)


def value_factors(factors_K: Floats, model: ModelConfig) -> Floats:
    """[G·D] of the values, from [H·D] of what o reads: the heads of a group read the same value head."""
    return factors_K.reshape(model.num_kv_heads, -1, model.head_dim)[:, 0].reshape(-1)
