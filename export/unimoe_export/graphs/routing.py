"""Dynamic-capacity routing as graph nodes: which experts a token uses, and with which weights.

N tokens · R router rows (routed, null, then shared) · E dynamic experts (routed, null) · S shared experts

Expert j comes before i when its logit is larger, or equal with j < i. Top-P picks i exactly when the probabilities
before it add up to less than P. With the weighting "probability" the experts are sorted. "sparsemixer" needs every
pair of experts anyway, so it compares pairs and does not sort. No shape depends on data.
`unimoe_runtime.model.routing` explains the formulas and computes the same in numpy.

Sums over experts use ReduceL1; the values are never negative. The order of ONNX Runtime's ReduceSum depends on the
row's address in memory, so a token's weights would depend on the number of rows before it. ReduceL1 adds in order: a
token has the same weights, to the bit, in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from unimoe_runtime.config import ModelConfig

from .builder import GraphBuilder

# The published checkpoint's code adds this to the sum of the multipliers before the division.
_MIXER_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Expert i against expert j: `gap_NEE[n, i, j]` = logit i - logit j; `before_NEE`: j comes before i."""

    own_NE1: ir.Value
    other_N1E: ir.Value
    gap_NEE: ir.Value
    before_NEE: ir.Value


def route(
    builder: GraphBuilder, router_logits_NR: ir.Value, config: ModelConfig
) -> tuple[ir.Value | None, ir.Value | None]:
    """weights_NE, exactly 0 where not picked (None without dynamic experts), and shared_NS (None: all are 1)."""
    num_dynamic, num_shared = config.num_dynamic_experts, config.num_router_rows - config.num_dynamic_experts
    if not num_dynamic:
        shared_NS = builder.op("Softmax", [router_logits_NR], axis=-1) if num_shared else None
        return None, shared_NS
    logits_NE, shared_logits_NS = router_logits_NR, None
    if num_shared:
        sizes = builder.constant([num_dynamic, num_shared])
        logits_NE, shared_logits_NS = builder.ops("Split", [router_logits_NR, sizes], 2, axis=-1)
    if config.weighting == "probability":
        return _sorted_shares(builder, logits_NE, config), None
    pairs = _compare(builder, logits_NE, num_dynamic)
    mass_NE = builder.op("Softmax", [logits_NE], axis=-1) if config.selection == "top_p" else None
    picked_NE = _select(builder, pairs, mass_NE, config)
    mixed_NE = _where_picked(builder, picked_NE, _multipliers(builder, pairs, config))
    sum_N1 = builder.op("Add", [_row_sum(builder, mixed_NE), builder.constant(_MIXER_EPSILON, "float32")])
    if shared_logits_NS is None:
        return builder.op("Div", [mixed_NE, sum_N1]), None
    open_NE = builder.op("Where", [picked_NE, logits_NE, builder.constant(-np.inf, "float32")])
    shares_NR = builder.op("Softmax", [builder.op("Concat", [open_NE, shared_logits_NS], axis=-1)], axis=-1)
    dynamic_NE, shared_NS = builder.ops("Split", [shares_NR, sizes], 2, axis=-1)
    scale_N1 = builder.op("Div", [_row_sum(builder, dynamic_NE), sum_N1])
    return builder.op("Mul", [mixed_NE, scale_N1]), shared_NS


def _sorted_shares(builder: GraphBuilder, logits_NE: ir.Value, config: ModelConfig) -> ir.Value:
    """weights_NE: the picked probabilities divided by their sum (arXiv 2510.13344, Eq. 3).

    This takes eight nodes; comparing pairs takes twelve. TopK sorts; of equal logits the lower index comes first, in
    ONNX and in ONNX Runtime. A softmax over logits of -inf would save a node, but fast exponentials need not return
    exactly 0 for them.
    """
    num_experts = config.num_dynamic_experts
    sorted_NE, expert_NE = builder.ops("TopK", [logits_NE, builder.constant([num_experts])], 2, axis=-1)
    probabilities_NE = builder.op("Softmax", [sorted_NE], axis=-1)
    if config.selection == "top_k":
        picked_NE = builder.constant(np.arange(num_experts) < config.top_k, "bool")
    else:
        before_NE = builder.op("CumSum", [probabilities_NE, builder.constant(1)], exclusive=1)
        picked_NE = builder.op("Less", [before_NE, builder.constant(config.top_p, "float32")])
    kept_NE = _where_picked(builder, picked_NE, probabilities_NE)
    shares_NE = builder.op("Div", [kept_NE, _row_sum(builder, kept_NE)])
    return builder.op("ScatterElements", [logits_NE, expert_NE, shares_NE], axis=1)


def _compare(builder: GraphBuilder, logits_NE: ir.Value, num_experts: int) -> _Pairs:
    own_NE1 = builder.op("Unsqueeze", [logits_NE, builder.constant([2])])
    other_N1E = builder.op("Unsqueeze", [logits_NE, builder.constant([1])])
    gap_NEE = builder.op("Sub", [own_NE1, other_N1E])
    # One comparison covers both the larger and the tied logit. For j < i a gap of 0 counts as before, so the bound is
    # the smallest normal number there: two different logits lie no closer together, unless both are below 1e-30.
    # Smaller bounds are denormal, and some devices flush those to 0.
    tie_EE = np.tril(np.ones((num_experts, num_experts), dtype=bool), -1)
    bound_EE = np.where(tie_EE, np.finfo(np.float32).tiny, np.float32(0))
    before_NEE = builder.op("Less", [gap_NEE, builder.constant(bound_EE, "float32")])
    return _Pairs(own_NE1=own_NE1, other_N1E=other_N1E, gap_NEE=gap_NEE, before_NEE=before_NEE)


def _select(builder: GraphBuilder, pairs: _Pairs, probabilities_NE: ir.Value | None, config: ModelConfig) -> ir.Value:
    """picked_NE: Top-P, or the first `top_k`."""
    if config.selection == "top_k":
        counted, limit = builder.constant(1.0, "float32"), float(config.top_k)
    else:
        counted, limit = builder.op("Unsqueeze", [probabilities_NE, builder.constant([1])]), config.top_p
    before_NEE = builder.op("Where", [pairs.before_NEE, counted, builder.constant(0.0, "float32")])
    mass_before_NE = builder.op("ReduceL1", [before_NEE, builder.constant([2])], keepdims=0)
    return builder.op("Less", [mass_before_NE, builder.constant(limit, "float32")])


def _multipliers(builder: GraphBuilder, pairs: _Pairs, config: ModelConfig) -> ir.Value:
    """multiplier_NE: 1 / sum of exp(logit j - logit i) over the j within the gap that do not come before i.

    The relative gap is (i - j) / max(|j|, i), compared without the division, so that two zeros have no gap.
    """
    infinity, zero = builder.constant(np.inf, "float32"), builder.constant(0.0, "float32")
    gap_NEE = builder.op("Where", [pairs.before_NEE, infinity, pairs.gap_NEE])
    magnitude_NEE = builder.op("Max", [builder.op("Abs", [pairs.other_N1E]), pairs.own_NE1])
    width = builder.constant(2 * config.router_jitter_noise, "float32")
    within_NEE = builder.op("LessOrEqual", [gap_NEE, builder.op("Mul", [magnitude_NEE, width])])
    ratio_NEE = builder.op("Exp", [builder.op("Neg", [gap_NEE])])
    rivals_NEE = builder.op("Where", [within_NEE, ratio_NEE, zero])
    sum_NE = builder.op("ReduceL1", [rivals_NEE, builder.constant([2])], keepdims=0)
    return builder.op("Reciprocal", [sum_NE])


def _where_picked(builder: GraphBuilder, picked_NE: ir.Value, values_NE: ir.Value) -> ir.Value:
    return builder.op("Where", [picked_NE, values_NE, builder.constant(0.0, "float32")])


def _row_sum(builder: GraphBuilder, values_NE: ir.Value) -> ir.Value:
    return builder.op("ReduceL1", [values_NE, builder.constant([1])], keepdims=1)
