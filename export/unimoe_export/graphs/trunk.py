"""The trunk: what a layer always runs. Attention over the cache, the router's decision, the shared experts.

B rows · T positions · N = B·T tokens · S cache capacity · H heads · G key/value heads · D head dimension · C hidden
R router rows · E dynamic experts (routed, then null)

A decode step has two rows, where a node costs what its launch costs, so everything that can be one node is: q, k
and v are one product, the shared experts are one feed-forward of their joint width, and a Gemm adds the residual.
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

    `write_index_B` is the cache slot of a row's first position; True in `mask_B1TS` lets a position attend to a
    slot. Bound to the same memory, the caches are updated in place.
    """
    builder = GraphBuilder("trunk", weights)
    hidden, router_rows = config.hidden_size, config.num_router_rows
    hidden_BTC = builder.input("hidden_BTC", "float32", ("B", "T", hidden))
    residual_NC, new_key, new_value = _attention(builder, hidden_BTC, config)
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
    builder.output(new_key, "new_key_cache_BHSD", "float32", _cache_shape(config))
    builder.output(new_value, "new_value_cache_BHSD", "float32", _cache_shape(config))
    return builder


def _cache_shape(config: ModelConfig) -> tuple[int | str, ...]:
    return ("B", config.num_kv_heads, "S", config.head_dim)


def _norm(builder: GraphBuilder, x: ir.Value, weight: str, config: ModelConfig) -> ir.Value:
    return builder.op("RMSNormalization", [x, builder.weight(weight)], axis=-1, epsilon=config.rms_norm_eps)


def _no_columns(builder: GraphBuilder, x_NC: ir.Value) -> ir.Value:
    """[N, 0], for a model without router rows or dynamic experts."""
    zero = builder.constant([0])
    return builder.op("Slice", [x_NC, zero, zero, builder.constant([1])])


def _attention(builder: GraphBuilder, hidden_BTC: ir.Value, config: ModelConfig) -> tuple[ir.Value, ir.Value, ir.Value]:
    """hidden_NC + o(attention(norm(hidden))) over the cache, which takes the new keys and values first; the caches."""
    heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
    cos_BTD = builder.input("cos_BTD", "float32", ("B", "T", size))
    sin_BTD = builder.input("sin_BTD", "float32", ("B", "T", size))
    mask_B1TS = builder.input("mask_B1TS", "bool", ("B", 1, "T", "S"))
    key_cache_BHSD = builder.input("key_cache_BHSD", "float32", _cache_shape(config))
    value_cache_BHSD = builder.input("value_cache_BHSD", "float32", _cache_shape(config))
    write_index_B = builder.input("write_index_B", "int64", ("B",))

    normed_BTC = _norm(builder, hidden_BTC, "attention_norm.weight", config)
    qkv = builder.linear(normed_BTC, "qkv.weight")
    if config.qkv_bias:
        qkv = builder.op("Add", [qkv, builder.weight("qkv.bias")])
    qkv_BTHD = builder.op("Reshape", [qkv, builder.constant([0, 0, heads + 2 * kv_heads, size])])
    qkv_BHTD = builder.op("Transpose", [qkv_BTHD], perm=[0, 2, 1, 3])
    counts = builder.constant([heads, kv_heads, kv_heads])
    query, key, value = builder.ops("Split", [qkv_BHTD, counts], 3, axis=1)
    # RotaryEmbedding turns halves by one angle each: it wants one half of what the host gives for both.
    begin, end, axis = builder.constant([0]), builder.constant([size // 2]), builder.constant([2])
    cos, sin = (builder.op("Slice", [table, begin, end, axis]) for table in (cos_BTD, sin_BTD))
    query = builder.op("RotaryEmbedding", [query, cos, sin])
    key = builder.op("RotaryEmbedding", [key, cos, sin])
    new_key = builder.op("TensorScatter", [key_cache_BHSD, key, write_index_B], axis=2)
    new_value = builder.op("TensorScatter", [value_cache_BHSD, value, write_index_B], axis=2)
    attended_BHTD = _attend(builder, query, new_key, new_value, mask_B1TS, config)
    attended_BTHD = builder.op("Transpose", [attended_BHTD], perm=[0, 2, 1, 3])
    attended_NX = builder.op("Reshape", [attended_BTHD, builder.constant([-1, heads * size])])
    hidden_NC = builder.op("Reshape", [hidden_BTC, builder.constant([-1, config.hidden_size])])
    residual_NC = builder.linear(attended_NX, "o.weight", hidden_NC)
    return residual_NC, new_key, new_value


def _attend(
    builder: GraphBuilder,
    query_BHTD: ir.Value,
    key_BGSD: ir.Value,
    value_BGSD: ir.Value,
    mask_B1TS: ir.Value,
    config: ModelConfig,
) -> ir.Value:
    """attended_BHTD. The queries of the heads that share a key head are rows (X) of one product.

    Attention would take fewer key heads than query heads as they are, but ONNX Runtime then multiplies head by head,
    one row at a time: 190 us against 76 us for 16 heads over 2 key heads, 2 rows and 256 slots.
    """
    heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
    if heads == kv_heads:
        return builder.op("Attention", [query_BHTD, key_BGSD, value_BGSD, mask_B1TS])
    query_BGXD = builder.op("Reshape", [query_BHTD, builder.constant([0, kv_heads, -1, size])])
    # Not Tile: ONNX Runtime's CUDA provider has none of bool, and a node on the CPU is a copy each way.
    mask_B1XS = builder.op("Concat", [mask_B1TS] * (heads // kv_heads), axis=2)
    attended_BGXD = builder.op("Attention", [query_BGXD, key_BGSD, value_BGSD, mask_B1XS])
    return builder.op("Reshape", [attended_BGXD, builder.constant([0, heads, -1, size])])
