"""Dynamic-capacity routing in numpy: the oracle for the graphs and the torch model.

N tokens · R router rows (routed, null, then shared) · E dynamic experts (routed, null) · S shared experts

Selection needs no sort. Expert j comes before i when its probability is larger, or equal with j < i. Top-P
picks i exactly when the probabilities before it add up to less than P: the stable sort's result, ties included.
Probabilities are equal exactly when logits are, so the order is taken from the logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Softmax over the last axis; -inf gives an exact 0."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def comes_before(logits_NE: Floats) -> Bools:
    """before_NEE[n, i, j]: expert j comes before expert i in the stable descending order."""
    own, other = logits_NE[:, :, None], logits_NE[:, None, :]
    index = np.arange(logits_NE.shape[-1])
    lower_index = index[None, :] < index[:, None]
    return np.asarray((other > own) | ((other == own) & lower_index))


def select(logits_NE: Floats, config: ModelConfig) -> Bools:
    """picked_NE: Top-P over the softmax of the dynamic logits, or the first `top_k`."""
    before_NEE = comes_before(logits_NE)
    if config.selection == "top_k":
        return np.asarray(before_NEE.sum(axis=-1) < config.top_k)
    mass_before_NE = np.where(before_NEE, softmax(logits_NE)[:, None, :], 0).sum(axis=-1)
    return np.asarray(mass_before_NE < np.float32(config.top_p))


def _sparsemixer_shares(logits_NE: Floats, picked_NE: Bools, config: ModelConfig) -> Floats:
    """How the published checkpoint distributes the dynamic weight over its picks.

    A pick's multiplier is its value in a softmax over the experts not yet picked that lie within a relative gap of
    twice the jitter noise. The multipliers are then divided by their sum (plus 1e-6).
    """
    own, other = logits_NE[:, :, None], logits_NE[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: there is no gap, and NaN compares as within
        gap = (own - other) / np.maximum(np.abs(other), own)
    within = ~comes_before(logits_NE) & ~(gap > 2 * config.router_jitter_noise)
    multiplier_NE = 1.0 / np.where(within, np.exp(np.minimum(other - own, 0)), 0).sum(axis=-1)
    multiplier_NE = np.where(picked_NE, multiplier_NE, 0)
    return np.asarray(multiplier_NE / (multiplier_NE.sum(axis=-1, keepdims=True) + 1e-6), dtype=np.float32)


def route(router_logits_NR: Floats, config: ModelConfig) -> tuple[Floats, Floats]:
    """Weights of the dynamic experts [N, E] (exact zeros where not picked) and of the shared ones [N, S].

    `probability`: picked probabilities, normalised (paper arXiv 2510.13344, Eq. 2-3); shared experts weigh 1.
    `sparsemixer`: as in the published checkpoint's code.
    """
    num_tokens = router_logits_NR.shape[0]
    num_dynamic, num_shared = config.num_dynamic_experts, config.num_shared_experts
    if not config.num_router_rows:  # a dense model: no selection, shared experts at full weight
        return np.zeros((num_tokens, 0), dtype=np.float32), np.ones((num_tokens, num_shared), dtype=np.float32)
    logits_NE = router_logits_NR[:, :num_dynamic]
    picked_NE = select(logits_NE, config) if num_dynamic else logits_NE.astype(np.bool_)
    masked_NE = np.where(picked_NE, logits_NE, -np.inf)
    if config.weighting == "probability":
        return softmax(masked_NE), np.ones((num_tokens, num_shared), dtype=np.float32)
    mixed_NR = softmax(np.concatenate([masked_NE, router_logits_NR[:, num_dynamic:]], axis=-1))
    dynamic_mass_N1 = mixed_NR[:, :num_dynamic].sum(axis=-1, keepdims=True)
    weights_NE = _sparsemixer_shares(logits_NE, picked_NE, config) * dynamic_mass_N1
    return np.asarray(weights_NE, dtype=np.float32), mixed_NR[:, num_dynamic:]
