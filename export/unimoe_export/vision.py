"""The vision tower's part of a bundle: its weights, its graph, and the comparison with the oracle.

The weights' layout is that of `layout`: [in, out], a block's gate and up in one matrix, gate first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.numpy import vision as numpy_vision
from unimoe_runtime.bundle.manifest import GraphInfo
from unimoe_runtime.bundle.reader import DTYPES
from unimoe_runtime.bundle.writer import BundleWriter
from unimoe_runtime.checkpoint.folder import Checkpoint
from unimoe_runtime.files.hashes import FileInfo
from unimoe_runtime.files.safetensors_reader import TensorFile, widen
from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.vision.tower import GRAPH, Grid, VisionConfig, tower_inputs, vision_weight_shapes

from .checking import largest_deviation_of
from .graphs.vision import vision_graph
from .layout import Stored, read_all_as, read_as, transposed

# Blocks compared at a time, together with the embedding and the merger: 0.9 GB of the published tower.
_CHECKED_BLOCKS = 4
_SOURCES = {
    "qkv": "attention.qkv_proj", "o": "attention.o_proj", "down": "mlp.down_proj",
    "merger.up": "merger.up_proj", "merger.down": "merger.down_proj",
    "attention_norm": "attention_norm", "mlp_norm": "mlp_norm", "merger.norm": "merger.norm",
}  # fmt: skip


def write_vision(writer: BundleWriter, checkpoint: Checkpoint, precision: str, *, check: bool) -> float:
    """Write and announce the tower's weights and graph. Returns the largest deviation from the oracle, 0 unchecked.

    The checkpoint must have a vision tower. Raises GraphError where the graph deviates.
    """
    config = checkpoint.vision
    assert config is not None
    path = writer.directory / f"{GRAPH}.onnx"
    weights = path.with_suffix(".safetensors")
    info = write_vision_weights(weights, checkpoint, config, precision)
    builder = vision_graph(config, weights)
    builder.save(path)
    graph = GraphInfo(
        file=path.name,
        weights=weights.name,
        precision=precision,
        inputs=tuple(builder.inputs),
        outputs=tuple(builder.outputs),
    )
    writer.add_graph(GRAPH, graph, info)
    return check_vision(weights, config, precision) if check else 0.0


def write_vision_weights(path: Path, checkpoint: Checkpoint, config: VisionConfig, precision: str) -> FileInfo:
    """Write the tensors that `tower.vision_weight_shapes` names: matrices in the precision, the rest in float32."""
    shapes = vision_weight_shapes(config)
    dtypes = {name: DTYPES[precision] for name, shape in shapes.items() if len(shape) == 2}
    return write_tensors(path, shapes, lambda name: [_tensor(checkpoint, name, dtypes.get(name, "F32"))], dtypes)


def _tensor(checkpoint: Checkpoint, name: str, dtype: str) -> Stored:
    if name == "patch_embed.weight":
        # Stored as a convolution's: [out, colours · frames, rows, columns], the order of a patch's values.
        weight = read_as(checkpoint, "vision.patch_embed.weight", dtype)
        return transposed([weight.reshape(len(weight), -1)])
    module, kind = name.rsplit(".", 1)
    prefix = "vision."
    if module.startswith("blocks."):
        _, block, module = module.split(".")
        prefix += f"blocks.{block}."
    sources = ["mlp.gate_proj", "mlp.up_proj"] if module == "gate_up" else [_SOURCES[module]]
    parts = read_all_as(checkpoint, [f"{prefix}{source}.{kind}" for source in sources], dtype)
    return transposed(parts) if parts[0].ndim == 2 else np.concatenate(parts)


def check_vision(weights: Path, config: VisionConfig, precision: str) -> float:
    """Largest relative deviation of the tower from the oracle, some blocks at a time between embedding and merger.

    A check of all blocks would hold the whole tower in memory, 2.7 GB of the published one. Raises GraphError.
    """
    tensors = _Weights(TensorFile(weights))
    path = weights.with_name(".vision_check.onnx")
    # Windows of different sizes, in two grid steps.
    side = config.window_size // config.factor + 1
    grids: list[Grid] = [(2, config.spatial_merge_size * side, config.spatial_merge_size)]
    largest = 0.0
    try:
        for begin in range(0, config.num_blocks, _CHECKED_BLOCKS):
            blocks = range(begin, min(begin + _CHECKED_BLOCKS, config.num_blocks))
            vision_graph(config, weights, blocks=blocks).save(path)

            def draw(seed: int, blocks: range = blocks) -> tuple[dict[str, Any], dict[str, Any]]:
                random = np.random.default_rng(seed)
                num_patches = sum(config.num_tokens(grid) for grid in grids) * config.merge_unit
                patches_PM = random.standard_normal((num_patches, config.patch_values), dtype=np.float32)
                inputs, _ = tower_inputs(patches_PM, grids, config)
                return inputs, numpy_vision.tower(config, tensors, inputs, blocks=blocks)

            largest = max(largest, largest_deviation_of(path, draw, precision))
    finally:
        path.unlink(missing_ok=True)
    return largest


class _Weights(Mapping[str, NDArray[np.float32]]):
    """A file's tensors as float32. Each access reads the tensor anew; nothing caches it."""

    def __init__(self, file: TensorFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return widen(self._file.read(name), self._file.entries[name].dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.entries)

    def __len__(self) -> int:
        return len(self._file.entries)
