"""Which tensors of a checkpoint go into which file of a bundle, and in what layout.

Checkpoints hold weights as [out, in], one tensor a projection; graphs multiply from the right, [in, out], and read
q, k, v at once, and gate and up at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle import weight_shapes
from unimoe_runtime.checkpoint import Checkpoint
from unimoe_runtime.tensorfile import widen

from .tensor_writer import write_tensors

Floats = NDArray[np.float32]

# Rows of an embedding that are converted at a time: the text embedding is larger than any layer.
_BLOCK_ROWS = 4096


def write_graph_weights(path: Path, checkpoint: Checkpoint, graph: str) -> None:
    """Write the tensors of one language-model graph, as `bundle.weight_shapes` names them."""
    shapes = weight_shapes(graph, checkpoint.model)
    assert shapes is not None, f"{graph} is no graph of the language model"
    write_tensors(path, shapes, lambda name: [_graph_tensor(checkpoint, graph, name)])


def write_embeddings(path: Path, checkpoint: Checkpoint) -> None:
    """Write `text.weight` [text vocabulary, hidden] and `codec.weight` [codebooks, codec vocabulary, hidden]."""
    model = checkpoint.model
    shapes = {
        "text.weight": (model.text_vocab_size, model.hidden_size),
        "codec.weight": (model.num_codebooks, model.codec_vocab_size, model.hidden_size),
    }

    def read(name: str) -> Iterator[Floats]:
        if name == "text.weight":
            yield from _blocks(checkpoint, "text_embedding.weight")
        else:
            for codebook in range(model.num_codebooks):
                yield from _blocks(checkpoint, f"codec_embedding.{codebook}.weight")

    write_tensors(path, shapes, read)


def _blocks(checkpoint: Checkpoint, name: str) -> Iterator[Floats]:
    file, stored_name = checkpoint.locations[name]
    stored = file.raw(stored_name)
    is_bfloat16 = file.entries[stored_name].dtype == "BF16"
    for begin in range(0, len(stored), _BLOCK_ROWS):
        block = stored[begin : begin + _BLOCK_ROWS]
        yield widen(block) if is_bfloat16 else np.asarray(block, dtype=np.float32)


def _graph_tensor(checkpoint: Checkpoint, graph: str, name: str) -> Floats:
    match graph.split("."):
        case ["layers", layer, "trunk"]:
            return _trunk_tensor(checkpoint, f"layers.{layer}.", name)
        case ["layers", layer, "expert", expert]:
            return _feed_forward_tensor(checkpoint, [f"layers.{layer}.moe.experts.{expert}."], name)
    sources = {"norm.weight": "final_norm.weight", "head.weight": "codec_head.weight"}
    return checkpoint.tensor(sources[name]).T


def _trunk_tensor(checkpoint: Checkpoint, prefix: str, name: str) -> Floats:
    match name:
        case "attention_norm.weight" | "moe_norm.weight":
            return checkpoint.tensor(prefix + name)
        case "qkv.weight" | "qkv.bias":
            kind = name.removeprefix("qkv.")
            parts = [checkpoint.tensor(f"{prefix}attention.{part}_proj.{kind}") for part in "qkv"]
            return np.concatenate(parts).T
        case "o.weight":
            return checkpoint.tensor(prefix + "attention.o_proj.weight").T
        case "router.weight":
            return checkpoint.tensor(prefix + "moe.router.weight").T
    shared = [f"{prefix}moe.shared.{index}." for index in range(checkpoint.model.num_shared_experts)]
    return _feed_forward_tensor(checkpoint, shared, name.removeprefix("shared."))


def _feed_forward_tensor(checkpoint: Checkpoint, experts: list[str], name: str) -> Floats:
    """`gate_up.weight` (the gates of all experts, then their ups) or `down.weight` of experts fused into one."""
    if name == "gate_up.weight":
        parts = [checkpoint.tensor(f"{expert}{half}_proj.weight") for half in ("gate", "up") for expert in experts]
        return np.concatenate(parts).T
    return np.concatenate([checkpoint.tensor(f"{expert}down_proj.weight") for expert in experts], axis=1).T
