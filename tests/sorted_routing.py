"""Routing as papers write it, to compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.config import ModelConfig
from unimoe_runtime.model.routing import softmax


def by_sorting(logits_NE: NDArray[np.float32], config: ModelConfig) -> NDArray[np.bool_]:
    """The paper's Eq. 2: a stable sort, a cumulative sum, a count."""
    order_NE = np.argsort(-logits_NE, axis=1, kind="stable")
    sums_NE = np.take_along_axis(softmax(logits_NE).astype(np.float64), order_NE, 1).cumsum(axis=1)
    count_N = (sums_NE < config.top_p).sum(axis=1) + 1
    if config.selection == "top_k":
        count_N = np.full(len(logits_NE), config.top_k)
    picked_NE = np.zeros(logits_NE.shape, dtype=bool)
    np.put_along_axis(picked_NE, order_NE, np.arange(logits_NE.shape[1]) < count_N[:, None], axis=1)
    return picked_NE
