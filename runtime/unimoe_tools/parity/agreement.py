"""Metrics of the agreement of two models, the same in every comparison.

L layers · N tokens · E dynamic experts (routed, then null)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RoutingAgreement:
    """`decisions`: the share of equal (token, layer, expert) picks. `sets`: the share of (token, layer) with identical
    sets of picks. Both are 1 for a model without experts."""

    decisions: float
    sets: float


def routing_agreement(
    reference: Sequence[NDArray[np.bool_]], candidate: Sequence[NDArray[np.bool_]]
) -> RoutingAgreement:
    """The agreement of picks [N, E], or [L, N, E], for the same tokens in the same order."""
    equal = [ours == theirs for ours, theirs in zip(reference, candidate, strict=True)]
    return RoutingAgreement(
        decisions=mean(np.concatenate([picks.ravel() for picks in equal])),
        sets=mean(np.concatenate([picks.all(axis=-1).ravel() for picks in equal])),
    )


def token_agreement(reference: NDArray[Any], candidate: NDArray[Any]) -> NDArray[np.bool_]:
    """True where the likeliest code of logits [..., V] is the same."""
    return np.asarray(reference.argmax(axis=-1) == candidate.argmax(axis=-1))


def mean(values: NDArray[np.bool_] | NDArray[np.float64]) -> float:
    """The mean; 1 without any decisions."""
    return float(values.mean()) if values.size else 1.0
