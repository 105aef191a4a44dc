"""A checkpoint folder in the published format with random bfloat16 weights, of any size up to the published one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from math import log2, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.checkpoint import published as public_format
from unimoe_runtime.checkpoint.folder import tensor_shapes, vision_tensor_shapes
from unimoe_runtime.files.safetensors_reader import encode
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_tools.planning.source import PUBLIC_CONFIG

# The configuration of the published model: 36 layers, 7.16 G parameters in 1846 tensors.
PUBLISHED: Mapping[str, Any] = json.loads(PUBLIC_CONFIG.read_text(encoding="utf-8"))
# The pool of values for all tensors; each tensor starts at its own place.
_POOL_VALUES = 1 << 24
_BLOCK_VALUES = 1 << 22
_ONE = np.uint16(0x3F80)


def published_config(*, num_layers: int = 36, num_vision_blocks: int = 32, **text: Any) -> dict[str, Any]:
    """The published config.json with fewer layers and other `text_config` fields. 0 blocks: no vision."""
    config: dict[str, Any] = copy.deepcopy(dict(PUBLISHED))
    config["text_config"].update(num_hidden_layers=num_layers, **text)
    vision = config["vision_config"]
    full = [block for block in vision["fullatt_block_indexes"] if block < num_vision_blocks]
    vision.update(depth=num_vision_blocks, out_hidden_size=config["text_config"]["hidden_size"])
    vision["fullatt_block_indexes"] = full
    if not num_vision_blocks:
        del config["vision_config"]
    return config


def published_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Published name and shape of every tensor of a folder with that config.json."""
    model, vision = public_format.model_config(config), public_format.vision_config(config)
    shapes = vision_tensor_shapes(vision) if vision else {}
    shapes |= tensor_shapes(model)
    named = {public_format.published_name(name): shape for name, shape in shapes.items()}
    return {**named, "lm_head.weight": (model.text_vocab_size, model.hidden_size)}


def write_published_folder(
    folder: Path, config: Mapping[str, Any], *, shard_bytes: int = 4_900_000_000, seed: int = 0
) -> int:
    """Write config.json, shards and their index. Returns the number of bytes in the shards.

    Matrices are normal with standard deviation 1/sqrt(fan-in), rounded to a power of two; norms are 1.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = shard_bytes
    for name, shape in published_shapes(config).items():
        size = 2 * prod(shape)
        if size > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = shape
        room -= size
    random = np.random.default_rng(seed)
    pool = encode(random.standard_normal(_POOL_VALUES, dtype=np.float32), "BF16")
    weight_map, total = {}, 0
    for index, shapes in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        blocks = {name: _blocks(pool, name, shape, random) for name, shape in shapes.items()}
        total += write_tensors(folder / file, shapes, blocks.__getitem__, dict.fromkeys(shapes, "BF16")).bytes
        weight_map.update(dict.fromkeys(shapes, file))
    index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    (folder / "model.safetensors.index.json").write_text(index_text)
    return total


def _blocks(
    pool: NDArray[np.uint16], name: str, shape: tuple[int, ...], random: np.random.Generator
) -> Iterator[NDArray[np.uint16]]:
    count = prod(shape)
    if "norm" in name or "ln_q" in name:
        yield np.full(count, _ONE)
        return
    # Halving a bfloat16 subtracts 1 from its exponent, which begins at bit 7.
    halvings = round(log2(prod(shape[1:])) / 2) if len(shape) > 1 else 3
    while count:
        begin = int(random.integers(len(pool) - _BLOCK_VALUES))
        block = pool[begin : begin + min(count, _BLOCK_VALUES)]
        count -= len(block)
        yield np.where(block & np.uint16(0x7F80) > halvings << 7, block - np.uint16(halvings << 7), np.uint16(0))
