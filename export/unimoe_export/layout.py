"""Which tensors of a checkpoint go into which file of a bundle, in what layout and precision.

Checkpoints hold weights as [out, in], one tensor for each projection. Graphs multiply from the right, [in, out], and
fuse q, k, v into one matrix, and gate and up into another. The matrices of products and the embeddings have the
bundle's precision; norms, biases and the router stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import DTYPES, weight_shapes
from unimoe_runtime.checkpoint.folder import Checkpoint
from unimoe_runtime.files.hashes import FileInfo
from unimoe_runtime.files.safetensors_reader import widen
from unimoe_runtime.files.safetensors_writer import write_tensors

Stored = NDArray[Any]

# Rows of an embedding in one read: the text embedding is larger than any layer.
_BLOCK_ROWS = 1024
# Rows transposed at a time. They stay in the CPU's cache, so this is 3 to 6 times as fast as the whole matrix.
_STRIP_ROWS = 128


def write_graph_weights(path: Path, checkpoint: Checkpoint, graph: str, precision: str) -> FileInfo:
    """Write the tensors of one language-model graph, as `bundle.reader.weight_shapes` names them."""
    shapes = weight_shapes(graph, checkpoint.model)
    assert shapes is not None, f"{graph} is no graph of the language model"
    dtypes = {name: DTYPES[precision] for name, shape in shapes.items() if len(shape) == 2 and name != "router.weight"}
    source = _Source(checkpoint, graph, dtypes)
    return write_tensors(path, shapes, lambda name: [source.tensor(name)], dtypes)


def write_embeddings(path: Path, checkpoint: Checkpoint, precision: str) -> FileInfo:
    """Write `text.weight` [text vocabulary, hidden] and `codec.weight` [codebooks, codec vocabulary, hidden]."""
    model, dtype = checkpoint.model, DTYPES[precision]
    shapes = {
        "text.weight": (model.text_vocab_size, model.hidden_size),
        "codec.weight": (model.num_codebooks, model.codec_vocab_size, model.hidden_size),
    }

    def read(name: str) -> Iterator[Stored]:
        if name == "text.weight":
            for begin in range(0, model.text_vocab_size, _BLOCK_ROWS):
                yield read_as(checkpoint, "text_embedding.weight", dtype, begin, begin + _BLOCK_ROWS)
        else:
            for codebook in range(model.num_codebooks):
                yield read_as(checkpoint, f"codec_embedding.{codebook}.weight", dtype)

    return write_tensors(path, shapes, read, dict.fromkeys(shapes, dtype))


def read_as(checkpoint: Checkpoint, name: str, dtype: str, begin: int = 0, end: int | None = None) -> Stored:
    """Rows of a tensor to write as `dtype`: unchanged where they have this type, else as float32."""
    stored = checkpoint.stored(name, begin, end)
    return stored if checkpoint.dtype(name) == dtype else widen(stored, checkpoint.dtype(name))


def read_all_as(checkpoint: Checkpoint, names: Sequence[str], dtype: str) -> list[Stored]:
    """Tensors to join and write as `dtype`: unchanged where all have this type, else as float32."""
    if all(checkpoint.dtype(name) == dtype for name in names):
        return [checkpoint.stored(name) for name in names]
    return [checkpoint.tensor(name) for name in names]


class _Source:
    """The tensors of one graph, assembled from the checkpoint's."""

    def __init__(self, checkpoint: Checkpoint, graph: str, dtypes: dict[str, str]) -> None:
        self._checkpoint, self._graph, self._dtypes = checkpoint, graph, dtypes

    def tensor(self, name: str) -> Stored:
        """One tensor in the form that `weight_shapes` states."""
        dtype = self._dtypes.get(name, "F32")
        match self._graph.split("."):
            case ["layers", layer, "trunk"]:
                return self._trunk(f"layers.{layer}.", name, dtype)
            case ["layers", layer, "expert", expert]:
                return self._feed_forward([f"layers.{layer}.moe.experts.{expert}."], name, dtype)
        if name == "norm.weight":
            return self._read("final_norm.weight", dtype)
        return transposed([self._read("codec_head.weight", dtype)])

    def _trunk(self, prefix: str, name: str, dtype: str) -> Stored:
        match name:
            case "attention_norm.weight" | "moe_norm.weight":
                return self._read(prefix + name, dtype)
            case "qkv.weight":
                query, *others = self._read_all([f"{prefix}attention.{part}_proj.weight" for part in "qkv"], dtype)
                return transposed([self._key_heads_in_turn(query), *others])
            case "qkv.bias":
                query, *others = self._read_all([f"{prefix}attention.{part}_proj.bias" for part in "qkv"], dtype)
                return np.concatenate([self._key_heads_in_turn(query), *others])
            case "o.weight":
                return self._key_heads_in_turn(transposed([self._read(prefix + "attention.o_proj.weight", dtype)]))
            case "router.weight":
                return transposed([self._read(prefix + "moe.router.weight", dtype)])
        shared = [f"{prefix}moe.shared.{index}." for index in range(self._checkpoint.model.num_shared_experts)]
        return self._feed_forward(shared, name.removeprefix("shared."), dtype)

    def _key_heads_in_turn(self, heads: Stored) -> Stored:
        """Blocks of D rows, one for each query head, ordered so that head i reads key head i modulo their number.

        The heads that share a key head are then one full cycle of key heads apart: reshaped to one row for each cycle,
        the queries of a position fit one product with all key heads.
        """
        model = self._checkpoint.model
        grouped = heads.reshape(model.num_kv_heads, model.queries_per_key, model.head_dim, *heads.shape[1:])
        return np.ascontiguousarray(grouped.swapaxes(0, 1)).reshape(heads.shape)

    def _feed_forward(self, experts: list[str], name: str, dtype: str) -> Stored:
        """`gate_up.weight` (the gates of all experts, then their ups) or `down.weight` of experts fused into one."""
        if name == "gate_up.weight":
            names = [f"{expert}{half}_proj.weight" for half in ("gate", "up") for expert in experts]
            return transposed(self._read_all(names, dtype))
        downs = self._read_all([f"{expert}down_proj.weight" for expert in experts], dtype)
        return np.concatenate([transposed([down]) for down in downs])

    def _read(self, name: str, dtype: str) -> Stored:
        return read_as(self._checkpoint, name, dtype)

    def _read_all(self, names: Sequence[str], dtype: str) -> list[Stored]:
        return read_all_as(self._checkpoint, names, dtype)


def transposed(parts: Sequence[Stored]) -> Stored:
    """[in, out] of matrices [out, in] stacked along their rows."""
    result = np.empty((parts[0].shape[1], sum(map(len, parts))), parts[0].dtype)
    column = 0
    for part in parts:
        for begin in range(0, len(part), _STRIP_ROWS):
            strip = part[begin : begin + _STRIP_ROWS]
            result[:, column : column + len(strip)] = strip.T
            column += len(strip)
    return result
