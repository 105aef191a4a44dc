"""The trunk, the part of a layer that always runs: attention over the cache, the router, the shared experts.

B rows · T positions · N = B·T tokens · S cache capacity · H query heads · G key heads · D head dimension · F = D / 2
R = H / G query heads a key head · Q = T·R rows of queries · X = G·D · C hidden · Y router rows
E dynamic experts (routed, then null)

A decode step has few rows, so a node's cost is its launch, not its computation. Therefore q, k and v are one product,
the shared experts are one feed-forward of their joint width, a Gemm adds the residual, and the host does the work that
is common to all layers of a step (`unimoe_runtime.backends.trunk_form`).
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from unimoe_runtime.config import ModelConfig

from .builder import GraphBuilder
from .feed_forward import shared_experts
from .routing import route


def trunk_graph(config: ModelConfig, weights: Path) -> GraphBuilder:
    """The graph of one layer's trunk, over its written weights.

    `write_index_B` is the cache slot of a row's first position; True in `mask_B1QS` lets a query attend to a slot.
    `hidden_NC` is `hidden_BTC` in another shape. Where inputs and outputs share memory, the caches update in place.
    """
    builder = GraphBuilder("trunk", weights)
    hidden, router_rows = config.hidden_size, config.num_router_rows
    residual_NC, new_key, new_value = _attention(builder, config)
    expert_input_NC = _norm(builder, residual_NC, "moe_norm.weight", config)
    if router_rows:
        router_logits_NR = builder.op("MatMul", [expert_input_NC, builder.weight("router.weight")])
    else:
        router_logits_NR = _no_columns(builder, expert_input_NC)
    weights_NE, shared_NS = route(builder, router_logits_NR, config)
    if weights_NE is None:
        weights_NE = _no_columns(builder, expert_input_NC)
    accumulator_NC = shared_experts(builder, residual_NC, expert_input_NC, shared_NS, config)

    builder.output(accumulator_NC, "accumulator_NC", "float32", ("N", hidden))
    builder.output(expert_input_NC, "expert_input_NC", "float32", ("N", hidden))
    builder.output(weights_NE, "weights_NE", "float32", ("N", config.num_dynamic_experts))
    builder.output(router_logits_NR, "router_logits_NR", "float32", ("N", router_rows))
    builder.output(new_key, "new_key_cache_BSX", "float32", _cache_shape(config))
    builder.output(new_value, "new_value_cache_BSX", "float32", _cache_shape(config))
    return builder


def _cache_shape(config: ModelConfig) -> tuple[int | str, ...]:
    return ("B", "S", config.num_kv_heads * config.head_dim)


def _norm(builder: GraphBuilder, x: ir.Value, weight: str, config: ModelConfig) -> ir.Value:
    return builder.op("RMSNormalization", [x, builder.weight(weight)], axis=-1, epsilon=config.rms_norm_eps)


def _no_columns(builder: GraphBuilder, x_NC: ir.Value) -> ir.Value:
    """[N, 0], for a model without router rows or dynamic experts."""
    zero = builder.constant([0])
    return builder.op("Slice", [x_NC, zero, zero, builder.constant([1])])


def _attention(builder: GraphBuilder, config: ModelConfig) -> tuple[ir.Value, ir.Value, ir.Value]:
    """residual_NC = hidden + o(attention(norm(hidden))) over the caches, which take new keys and values first.

    It also returns the new caches. Heads stay side by side in the last axis throughout, so that nothing is transposed.
    The queries that share a key head are rows of one product: with more query heads than key heads, ONNX Runtime would
    multiply head by head, 108 us against 44 us for 16 heads over 2 key heads, 2 rows and 256 slots. Thanks to the order
    of the query heads (`layout`), a reshape alone forms these rows.
    """
    heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
    hidden_BTC = builder.input("hidden_BTC", "float32", ("B", "T", config.hidden_size))
    hidden_NC = builder.input("hidden_NC", "float32", ("N", config.hidden_size))
    cos_BTF = builder.input("cos_BTF", "float32", ("B", "T", size // 2))
    sin_BTF = builder.input("sin_BTF", "float32", ("B", "T", size // 2))
    mask_B1QS = builder.input("mask_B1QS", "bool", ("B", 1, "Q", "S"))
    key_cache_BSX = builder.input("key_cache_BSX", "float32", _cache_shape(config))
    value_cache_BSX = builder.input("value_cache_BSX", "float32", _cache_shape(config))
    write_index_B = builder.input("write_index_B", "int64", ("B",))

    normed_BTC = _norm(builder, hidden_BTC, "attention_norm.weight", config)
    qkv = builder.linear(normed_BTC, "qkv.weight")
    if config.qkv_bias:
        qkv = builder.op("Add", [qkv, builder.weight("qkv.bias")])
    widths = builder.constant([heads * size, kv_heads * size, kv_heads * size])
    query, key, value = builder.ops("Split", [qkv, widths], 3, axis=2)
    query = builder.op("RotaryEmbedding", [query, cos_BTF, sin_BTF], num_heads=heads)
    key = builder.op("RotaryEmbedding", [key, cos_BTF, sin_BTF], num_heads=kv_heads)
    new_key = builder.op("TensorScatter", [key_cache_BSX, key, write_index_B], axis=1)
    new_value = builder.op("TensorScatter", [value_cache_BSX, value, write_index_B], axis=1)
    if heads != kv_heads:
        query = builder.op("Reshape", [query, builder.constant([0, -1, kv_heads * size])])
    attended = builder.op(
        "Attention", [query, new_key, new_value, mask_B1QS], q_num_heads=kv_heads, kv_num_heads=kv_heads
    )
    attended_NX = builder.op("Reshape", [attended, builder.constant([-1, heads * size])])
    residual_NC = builder.linear(attended_NX, "o.weight", hidden_NC)
    return residual_NC, new_key, new_value
