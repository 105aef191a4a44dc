"""Looking ahead: which experts the next layer will likely pick, so that they can be loaded before it needs them.

N tokens · C hidden · R router rows, or routed experts · E dynamic experts (routed, then null)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle, trunk_name
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.expert_cache.cache import ExpertCache
from unimoe_runtime.model.routing import select, softmax

Floats = NDArray[np.float32]


class ExpertPrefetcher:
    """One forward's reports to the cache: a layer's likely picks, and its actual picks.

    A layer's router is evaluated before its attention has run, on the hidden state of the previous layer.
    benchmarks/expert_policies.py prints how many picks this predicts. Missing experts are loaded while the trunk runs.
    """

    def __init__(self, cache: ExpertCache[Any], routers: Sequence[Floats], config: ModelConfig) -> None:
        self._cache, self._routers, self._config = cache, routers, config
        self._predicted: set[int] = set()
        self._step_bytes = 0

    def before_trunk(self, layer: int, hidden_NC: Floats) -> None:
        """Called before each trunk with its input."""
        if layer and self._routers and self._cache.looks_ahead(layer):
            shares = self.shares(layer, hidden_NC)
            self._predicted = {expert for expert, share in enumerate(shares) if share}
            self._cache.expect(layer, shares)

    def after_trunk(self, layer: int, weights_NE: Floats, *, decoding: bool) -> None:
        """Called after each trunk with its weights."""
        cache = self._cache
        rows: list[list[float]] = weights_NE[:, : self._config.num_routed_experts].tolist()
        counts_R = [len(rows) - column.count(0.0) for column in zip(*rows, strict=True)]
        picked = {expert for expert, count in enumerate(counts_R) if count}
        # A prompt picks nearly every expert, so there the frequency counts.
        cache.note(layer, [min(count, 1) if decoding else count / len(rows) for count in counts_R])
        if self._predicted:
            cache.note_predictions(self._predicted, picked)
            self._predicted = set()
        self._step_bytes = (self._step_bytes if layer else 0) + sum(cache.bytes_of[layer, expert] for expert in picked)
        if decoding and layer == self._config.num_layers - 1:
            cache.note_step(self._step_bytes)

    def shares(self, layer: int, hidden_NC: Floats) -> list[float]:
        """Largest probability, over the tokens that pick it, of each routed expert of a layer."""
        config = self._config
        square_N1 = np.einsum("nc,nc->n", hidden_NC, hidden_NC)[:, None] / np.float32(config.hidden_size)
        logits_NE = hidden_NC @ self._routers[layer] / np.sqrt(square_N1 + np.float32(config.rms_norm_eps))
        shares_NE = np.where(select(logits_NE, config), softmax(logits_NE), 0)
        shares: list[float] = shares_NE[:, : config.num_routed_experts].max(axis=0).tolist()
        return shares


def prefetch_routers(bundle: Bundle) -> list[Floats]:
    """router_CE of each layer with its norm's weight folded in; empty where a trunk keeps them in another form."""
    routers = []
    for layer in range(bundle.model.num_layers):
        tensors = bundle.weights(trunk_name(layer))
        if not {"moe_norm.weight", "router.weight"} <= tensors.entries.keys():
            return []
        norm_C, router_CR = tensors.read("moe_norm.weight"), tensors.read("router.weight")
        routers.append(np.ascontiguousarray(norm_C[:, None] * router_CR[:, : bundle.model.num_dynamic_experts]))
    return routers
