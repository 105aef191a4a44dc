"""The vision tower (Qwen2.5-VL, arXiv 2502.13923): patches of frames in the order of windows, video tokens out.

P patches · M values of a patch · V video tokens · H heads · D head dimension · C hidden · I intermediate size
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from unimoe_runtime.vision.tower import RMS_NORM_EPS, VisionConfig

from .builder import GraphBuilder
from .feed_forward import swiglu


def vision_graph(config: VisionConfig, weights: Path, *, blocks: Sequence[int] | None = None) -> GraphBuilder:
    """The graph of the tower over its written weights (`tower.vision_weight_shapes`).

    `tower.tower_inputs` makes the inputs; output i of embeddings_VC is the i-th token in the order of windows.
    With `blocks` the graph has only these blocks, so that a large tower can be checked in parts.
    """
    builder = GraphBuilder("vision", weights)
    size = config.head_dim
    patches_PM = builder.input("patches_PM", "float32", ("P", config.patch_values))
    tables = [builder.input(name, "float32", ("P", size)) for name in ("cos_PD", "sin_PD")]
    window_mask = builder.input("window_mask_11PP", "bool", (1, 1, "P", "P"))
    full_mask = builder.input("full_mask_11PP", "bool", (1, 1, "P", "P"))
    # RotaryEmbedding rotates both halves by the same angles: it needs half of the host's values.
    begin, end, axis = builder.constant([0]), builder.constant([size // 2]), builder.constant([1])
    cos, sin = (builder.op("Unsqueeze", [builder.op("Slice", [table, begin, end, axis]), begin]) for table in tables)

    hidden_PC = builder.linear(patches_PM, "patch_embed.weight")
    for block in range(config.num_blocks) if blocks is None else blocks:
        mask = full_mask if block in config.full_attention_blocks else window_mask
        prefix = f"blocks.{block}."
        normed_PC = _norm(builder, hidden_PC, prefix + "attention_norm")
        attended_PC = _attention(builder, normed_PC, (cos, sin), mask, prefix, config)
        hidden_PC = builder.op("Add", [hidden_PC, attended_PC])
        normed_PC = _norm(builder, hidden_PC, prefix + "mlp_norm")
        inner_PI = swiglu(builder, _linear(builder, normed_PC, prefix + "gate_up"))
        hidden_PC = builder.op("Add", [hidden_PC, _linear(builder, inner_PI, prefix + "down")])

    normed_PC = _norm(builder, hidden_PC, "merger.norm")
    merged = builder.op("Reshape", [normed_PC, builder.constant([-1, config.merge_unit * config.hidden_size])])
    inner = builder.op("Gelu", [_linear(builder, merged, "merger.up")])
    embeddings_VC = _linear(builder, inner, "merger.down")
    builder.output(embeddings_VC, "embeddings_VC", "float32", ("V", config.out_hidden_size))
    return builder


def _norm(builder: GraphBuilder, x_PC: ir.Value, name: str) -> ir.Value:
    return builder.op("RMSNormalization", [x_PC, builder.weight(name + ".weight")], axis=-1, epsilon=RMS_NORM_EPS)


def _linear(builder: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    return builder.linear(x, name + ".weight", builder.weight(name + ".bias"))


def _attention(
    builder: GraphBuilder,
    normed_PC: ir.Value,
    angles: tuple[ir.Value, ir.Value],
    mask_11PP: ir.Value,
    prefix: str,
    config: VisionConfig,
) -> ir.Value:
    """One block's attention; `angles` are cosines and sines."""
    heads, size = config.num_heads, config.head_dim
    qkv = _linear(builder, normed_PC, prefix + "qkv")
    qkv_1PHD = builder.op("Reshape", [qkv, builder.constant([1, -1, 3 * heads, size])])
    qkv_1HPD = builder.op("Transpose", [qkv_1PHD], perm=[0, 2, 1, 3])
    query, key, value = builder.ops("Split", [qkv_1HPD], 3, axis=1, num_outputs=3)
    query = builder.op("RotaryEmbedding", [query, *angles])
    key = builder.op("RotaryEmbedding", [key, *angles])
    attended_1HPD = builder.op("Attention", [query, key, value, mask_11PP])
    attended_1PHD = builder.op("Transpose", [attended_1HPD], perm=[0, 2, 1, 3])
    attended_PC = builder.op("Reshape", [attended_1PHD, builder.constant([-1, config.hidden_size])])
    return _linear(builder, attended_PC, prefix + "o")
