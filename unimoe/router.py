"""Router of the Dynamic-Capacity MoE: Top-P or Top-K selection and two weightings.

Shape suffixes: N tokens, C hidden, R router rows, E dynamic experts (routed, then null), S shared experts.

Selection needs no sort: expert j comes before i if its logit is larger, or equal with j < i. Top-P picks i while the
probability mass before it is below P (paper arXiv 2510.13344, Eq. 2). Top-K picks i while fewer than k come before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import ModelConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """A router's decision for N tokens.

    `picked_NE` are the picks that run. `weights_NE` are exactly 0 for all other experts. `shared_weights_NS` is None
    where every shared expert has weight 1. `aux_loss` is the load-balancing loss of these tokens, a scalar.
    """

    logits_NR: Tensor
    picked_NE: Tensor
    weights_NE: Tensor
    shared_weights_NS: Tensor | None
    aux_loss: Tensor


class Router(nn.Module):
    """Scores tokens and picks experts. It computes in float32, whatever the model's precision."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_router_rows, config.hidden_size))

    def forward(
        self, hidden_NC: Tensor, routable_N: Tensor | None = None, aux_weight_N: Tensor | None = None
    ) -> Routing:
        """Route tokens. No dynamic expert is picked where `routable_N` is False (padding).

        `aux_weight_N` weights the routable tokens in the auxiliary loss. By default they count equally.
        """
        with torch.autocast(hidden_NC.device.type, enabled=False):
            logits_NR = hidden_NC.float() @ self.weight.float().t()
            return route(logits_NR, self.config, routable_N, aux_weight_N)


def route(
    logits_NR: Tensor, config: ModelConfig, routable_N: Tensor | None = None, aux_weight_N: Tensor | None = None
) -> Routing:
    """Selection, weights and auxiliary loss of router logits (rows: routed, null, and with sparsemixer shared)."""
    num_dynamic = config.num_dynamic_experts
    logits_NE = logits_NR[:, :num_dynamic]
    before_NEE = comes_before(logits_NE.detach())
    picked_NE = select(logits_NE.detach(), before_NEE, config)
    if routable_N is not None:
        picked_NE = picked_NE & routable_N[:, None]
    # Softmax over the picked experts: the paper's weights (Eq. 3), which the auxiliary loss balances.
    picked_probs_NE = _masked_softmax(logits_NE, picked_NE)
    kept_NE = keep_within_capacity(logits_NE.detach(), picked_NE, config) if config.token_drop else picked_NE
    shared_weights_NS = None
    if config.weighting == "sparsemixer":
        weights_NE, shared_weights_NS = _sparsemixer_weights(logits_NR, before_NEE, kept_NE, config)
    else:
        weights_NE = _masked_softmax(logits_NE, kept_NE) if config.token_drop else picked_probs_NE
    if routable_N is not None:
        real_N = routable_N.to(logits_NR.dtype)
        aux_weight_N = real_N if aux_weight_N is None else real_N * aux_weight_N
    return Routing(
        logits_NR=logits_NR,
        picked_NE=kept_NE,
        weights_NE=weights_NE,
        shared_weights_NS=shared_weights_NS,
        aux_loss=balance_loss(picked_NE, picked_probs_NE, aux_weight_N),
    )


def comes_before(logits_NE: Tensor) -> Tensor:
    """before_NEE[n, i, j]: expert j ranks before expert i. Ties go to the lowest index, as in a stable sort."""
    index_E = torch.arange(logits_NE.shape[1], device=logits_NE.device)
    own_NE1, other_N1E = logits_NE.unsqueeze(2), logits_NE.unsqueeze(1)
    lower_EE = index_E[None, :] < index_E[:, None]
    return (other_N1E > own_NE1) | ((other_N1E == own_NE1) & lower_EE)


def select(logits_NE: Tensor, before_NEE: Tensor, config: ModelConfig) -> Tensor:
    """The dynamic experts that a token uses, bool [N, E]."""
    if config.selection == "top_k":
        return before_NEE.sum(dim=2) < config.top_k
    probs_NE = logits_NE.softmax(dim=1)
    mass_before_NE = (before_NEE * probs_NE.unsqueeze(1)).sum(dim=2)
    return mass_before_NE < config.top_p


def keep_within_capacity(logits_NE: Tensor, picked_NE: Tensor, config: ModelConfig) -> Tensor:
    """The picks that remain when no expert may have more tokens than its capacity (`ModelConfig.token_drop`).

    A token that loses all of its experts keeps its shared experts. With the policy "position", the public code drops
    those as well, and such rows become NaN there.
    """
    num_tokens, num_experts = picked_NE.shape
    capacity = max(config.min_capacity, math.ceil(num_tokens / max(num_experts, 1) * config.capacity_factor))
    if capacity >= num_tokens:
        return picked_NE
    if config.drop_policy == "position":
        return picked_NE & (picked_NE.long().cumsum(dim=0) <= capacity)
    largest = logits_NE.masked_fill(~picked_NE, -torch.inf).topk(capacity, dim=0).indices
    return picked_NE & torch.zeros_like(picked_NE).scatter(0, largest, True)


def _masked_softmax(logits_NE: Tensor, mask_NE: Tensor) -> Tensor:
    """Softmax over the entries in the mask. Rows without one have zeros with zero gradient."""
    empty_N1 = ~mask_NE.any(dim=1, keepdim=True)
    probs_NE = logits_NE.masked_fill(~(mask_NE | empty_N1), -torch.inf).softmax(dim=1)
    return probs_NE.masked_fill(~mask_NE, 0.0)


def _sparsemixer_weights(
    logits_NR: Tensor, before_NEE: Tensor, picked_NE: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Weights as in the public checkpoint's training: near ties share, otherwise picks have equal weights.

    Each pick's multiplier is its softmax over the experts that do not rank before it and lie within a relative gap of
    2 · router_jitter_noise. The normalised multipliers divide the picked experts' part of a softmax over the picked
    dynamic and all shared experts.
    """
    num_dynamic = picked_NE.shape[1]
    logits_NE = logits_NR[:, :num_dynamic]
    own_NE1, other_N1E = logits_NE.unsqueeze(2), logits_NE.unsqueeze(1)
    with torch.no_grad():
        # A product, not a quotient: two logits of 0 are a tie, not 0/0.
        gap_NEE = 2.0 * config.router_jitter_noise * torch.maximum(own_NE1.abs(), other_N1E.abs())
        near_NEE = ~before_NEE & (own_NE1 - other_N1E <= gap_NEE)
    tied_NEE = (other_N1E - own_NE1).masked_fill(~near_NEE, -torch.inf)
    multiplier_NE = tied_NEE.softmax(dim=2).diagonal(dim1=1, dim2=2) * picked_NE
    share_NE = multiplier_NE / (multiplier_NE.sum(dim=1, keepdim=True) + 1e-6)
    everyone_NR = torch.cat([picked_NE, picked_NE.new_ones(len(picked_NE), logits_NR.shape[1] - num_dynamic)], dim=1)
    mixed_NR = _masked_softmax(logits_NR, everyone_NR)
    dynamic_N1 = mixed_NR[:, :num_dynamic].sum(dim=1, keepdim=True)
    return share_NE * dynamic_N1, mixed_NR[:, num_dynamic:]


def balance_loss(picked_NE: Tensor, probs_NE: Tensor, weight_N: Tensor | None = None) -> Tensor:
    """E · Σ f_i · P_i over the dynamic experts, null included (public model: f is not divided by the picks a token).

    f_i: share of the tokens that picked i. P_i: mean softmax over a token's picks. `weight_N` weights both.
    """
    num_tokens, num_experts = probs_NE.shape
    if not num_experts or not num_tokens:
        return probs_NE.sum()
    picked_NE = picked_NE.to(probs_NE.dtype)
    if weight_N is None:
        fraction_E, mean_probs_E = picked_NE.mean(dim=0), probs_NE.mean(dim=0)
    else:
        weight_N = weight_N / weight_N.sum().clamp_min(1e-9)
        fraction_E, mean_probs_E = weight_N @ picked_NE, weight_N @ probs_NE
    return num_experts * (fraction_E * mean_probs_E).sum()
