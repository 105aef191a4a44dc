"""The head: final norm and one product for the logits of all codebooks.

N tokens · C hidden · K codebooks · V codec vocabulary
"""

from __future__ import annotations

from pathlib import Path

from unimoe_runtime.config import ModelConfig

from .builder import GraphBuilder


def head_graph(config: ModelConfig, weights: Path) -> GraphBuilder:
    """The graph of the head, over its written weights."""
    builder = GraphBuilder("head", weights)
    codebooks, vocabulary = config.num_codebooks, config.codec_vocab_size
    hidden_NC = builder.input("hidden_NC", "float32", ("N", config.hidden_size))
    normed_NC = builder.op(
        "RMSNormalization", [hidden_NC, builder.weight("norm.weight")], axis=-1, epsilon=config.rms_norm_eps
    )
    logits = builder.linear(normed_NC, "head.weight")
    logits_NKV = builder.op("Reshape", [logits, builder.constant([-1, codebooks, vocabulary])])
    builder.output(logits_NKV, "logits_NKV", "float32", ("N", codebooks, vocabulary))
    return builder
