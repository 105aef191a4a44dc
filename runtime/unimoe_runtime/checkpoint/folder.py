"""Reading a checkpoint folder without torch: ours, or the published UniMoE-Audio one.

Ours:
    config.json         {"format": "unimoe-checkpoint", "format_version": 1, "model", "sampling", "provenance"}
    model.safetensors   float32, bfloat16 or float16, under the names of `tensor_shapes`; or shards with
                        model.safetensors.index.json
    codec/              config.json, model.safetensors (optional)
    frontend/           converts text to token ids (optional)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.checkpoint import published as public_format
from unimoe_runtime.config import ModelConfig, SamplingConfig
from unimoe_runtime.errors import CheckpointError, ConfigError
from unimoe_runtime.files.json import read_json
from unimoe_runtime.files.safetensors_reader import TensorFile, is_finite, widen
from unimoe_runtime.files.text import first_few
from unimoe_runtime.vision.tower import VisionConfig

FORMAT = "unimoe-checkpoint"
FORMAT_VERSION = 1


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a model, weights as [out, in]."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"text_embedding.weight": (config.text_vocab_size, hidden)}
    for codebook in range(config.num_codebooks):
        shapes[f"codec_embedding.{codebook}.weight"] = (config.codec_vocab_size, hidden)
    heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}
    for layer in range(config.num_layers):
        prefix = f"layers.{layer}."
        shapes[prefix + "attention_norm.weight"] = (hidden,)
        for name, count in heads.items():
            shapes[prefix + f"attention.{name}_proj.weight"] = (count * config.head_dim, hidden)
            if config.qkv_bias:
                shapes[prefix + f"attention.{name}_proj.bias"] = (count * config.head_dim,)
        shapes[prefix + "attention.o_proj.weight"] = (hidden, config.num_heads * config.head_dim)
        shapes[prefix + "moe_norm.weight"] = (hidden,)
        if config.num_router_rows:
            shapes[prefix + "moe.router.weight"] = (config.num_router_rows, hidden)
        for kind, count, width in (
            ("experts", config.num_routed_experts, config.routed_intermediate_size),
            ("shared", config.num_shared_experts, config.shared_intermediate_size),
        ):
            for index in range(count):
                shapes[prefix + f"moe.{kind}.{index}.gate_proj.weight"] = (width, hidden)
                shapes[prefix + f"moe.{kind}.{index}.up_proj.weight"] = (width, hidden)
                shapes[prefix + f"moe.{kind}.{index}.down_proj.weight"] = (hidden, width)
    shapes["final_norm.weight"] = (hidden,)
    shapes["codec_head.weight"] = (config.num_codebooks * config.codec_vocab_size, hidden)
    return shapes


def vision_tensor_shapes(config: VisionConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a vision tower, weights as [out, in]."""
    hidden, width, merged = config.hidden_size, config.intermediate_size, config.hidden_size * config.merge_unit
    patch = config.in_channels * config.temporal_patch_size, config.patch_size, config.patch_size
    shapes: dict[str, tuple[int, ...]] = {"vision.patch_embed.weight": (hidden, *patch)}

    def linear(name: str, num_out: int, num_in: int) -> None:
        shapes[name + ".weight"], shapes[name + ".bias"] = (num_out, num_in), (num_out,)

    for block in range(config.num_blocks):
        prefix = f"vision.blocks.{block}."
        shapes[prefix + "attention_norm.weight"] = (hidden,)
        linear(prefix + "attention.qkv_proj", 3 * hidden, hidden)
        linear(prefix + "attention.o_proj", hidden, hidden)
        shapes[prefix + "mlp_norm.weight"] = (hidden,)
        linear(prefix + "mlp.gate_proj", width, hidden)
        linear(prefix + "mlp.up_proj", width, hidden)
        linear(prefix + "mlp.down_proj", hidden, width)
    shapes["vision.merger.norm.weight"] = (hidden,)
    linear("vision.merger.up_proj", merged, merged)
    linear("vision.merger.down_proj", config.out_hidden_size, merged)
    return shapes


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint folder. Each tensor is read on request, into its own memory.

    `public` is true for a published folder, false for ours. `vision` is None for ours, and for a published folder whose
    configuration or files have no vision tower.
    """

    path: Path
    public: bool = False
    model: ModelConfig
    vision: VisionConfig | None = None
    sampling: Mapping[str, SamplingConfig] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    codec_dir: Path | None = None
    frontend_dir: Path | None = None
    locations: Mapping[str, tuple[TensorFile, str]] = field(repr=False)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor as float32, by our name. Raises CheckpointError if there is none."""
        return widen(self.stored(name), self.dtype(name))

    def stored(self, name: str, begin: int = 0, end: int | None = None) -> NDArray[Any]:
        """Rows of a tensor's first axis as stored; bfloat16 as its bits.

        Raises CheckpointError if there is no such tensor, or if it holds non-finite values.
        """
        file, stored_name = self._locate(name)
        rows = file.read(stored_name, begin, end)
        if not is_finite(rows, file.entries[stored_name].dtype):
            raise CheckpointError(
                f"{file.path}: the tensor {stored_name!r} holds values that are not numbers (NaN or infinite): "
                "training has diverged, or the file is damaged"
            )
        return rows

    def dtype(self, name: str) -> str:
        """A tensor's stored type, in the names of safetensors: F32, BF16, …. Raises as `tensor` does."""
        file, stored_name = self._locate(name)
        return file.entries[stored_name].dtype

    def _locate(self, name: str) -> tuple[TensorFile, str]:
        if name not in self.locations:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r}")
        return self.locations[name]


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a checkpoint folder and check every tensor's presence and shape.

    Raises CheckpointError with one line: the file, and the names of missing, extra or misshapen tensors.
    """
    path = Path(path)
    config_path = path / "config.json"
    config = read_json(config_path, CheckpointError)
    public = public_format.is_public_config(config)
    try:
        model, sampling = _read_public(config) if public else _read_ours(config)
        provenance = _section(config, "provenance")
        vision = public_format.vision_config(config) if public else None
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{config_path}: {error}") from None
    locations, foreign = _locate(path, public)
    if vision is None or not any(name.startswith("vision.") for name in locations):
        vision = None
        locations = {name: place for name, place in locations.items() if not name.startswith("vision.")}
    elif vision.out_hidden_size != model.hidden_size:
        raise CheckpointError(
            f"{config_path}: the vision tower gives {vision.out_hidden_size} channels, the model has "
            f"{model.hidden_size}; config.json is another model's"
        )
    shapes = tensor_shapes(model) | (vision_tensor_shapes(vision) if vision else {})
    _check_shapes(path, shapes, locations, foreign, public)
    return Checkpoint(
        path=path,
        public=public,
        model=model,
        vision=vision,
        sampling=sampling,
        provenance=provenance,
        codec_dir=_part(path / "codec", "config.json"),
        frontend_dir=_part(path / "frontend", "frontend.json"),
        locations=locations,
    )


def _part(folder: Path, description: str) -> Path | None:
    """An optional folder of a checkpoint. Raises CheckpointError where it lacks its description."""
    if not folder.exists():
        return None
    if not (folder / description).exists():
        raise CheckpointError(f"{folder}: has no {description}; complete the folder, or remove it")
    return folder


def _read_public(config: Mapping[str, Any]) -> tuple[ModelConfig, Mapping[str, SamplingConfig]]:
    return public_format.model_config(config), public_format.SAMPLING


def _read_ours(config: Mapping[str, Any]) -> tuple[ModelConfig, Mapping[str, SamplingConfig]]:
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"neither a {FORMAT} nor a published UniMoE-Audio configuration; give a checkpoint's folder"
        )
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {config.get('format_version')!r}, this release reads {FORMAT_VERSION}; "
            "convert it with the release that wrote it"
        )
    tasks = _section(config, "sampling")
    return (
        ModelConfig.from_dict(_section(config, "model")),
        {task: SamplingConfig.from_dict(_section(tasks, task)) for task in tasks},
    )


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name, {})
    if not isinstance(section, dict):
        raise CheckpointError(f"{name!r} must hold a JSON object")
    return section


def _shards(path: Path) -> list[str]:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    weight_map = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensors to files")
    shards = sorted(set(weight_map.values()))
    if any(Path(shard).name != shard for shard in shards):
        raise CheckpointError(f"{index}: a shard is outside of the folder")
    missing = [shard for shard in shards if not (path / shard).exists()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of {len(shards)} shards missing: {first_few(missing, most=5)}; "
            "download or copy the folder again, whole"
        )
    return shards


def _locate(path: Path, public: bool) -> tuple[dict[str, tuple[TensorFile, str]], list[str]]:
    """File and stored name of every tensor by our name, and the names that the published format does not have."""
    locations: dict[str, tuple[TensorFile, str]] = {}
    foreign = []
    for shard in _shards(path):
        file = TensorFile(path / shard, CheckpointError)
        for stored_name in file.entries:
            try:
                name = public_format.canonical_name(stored_name) if public else stored_name
            except CheckpointError:
                foreign.append(f"extra {stored_name} in {shard}")
                continue
            if name is not None:
                locations[name] = (file, stored_name)
    return locations, foreign


def _check_shapes(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    locations: Mapping[str, tuple[TensorFile, str]],
    foreign: list[str],
    public: bool,
) -> None:
    """Raise CheckpointError if a tensor is missing, extra or misshapen; the message uses the names in the files."""
    missing = [name for name in shapes if name not in locations]
    problems = [f"missing {public_format.published_name(name) if public else name}" for name in missing] + foreign
    for name, (file, stored_name) in locations.items():
        found = file.entries[stored_name].shape
        if name not in shapes:
            problems.append(f"extra {stored_name} in {file.path.name}")
        elif _as_stored(name, found) != shapes[name]:
            problems.append(f"{stored_name} in {file.path.name} is {list(found)}, must be {list(shapes[name])}")
    if problems:
        raise CheckpointError(
            f"{path}: tensors do not fit the configuration: {first_few(problems, '; ', most=5)}; "
            "config.json is another model's, or a file is incomplete"
        )


def _as_stored(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A tensor's shape as `vision_tensor_shapes` states it. The published patch embedding is also found as a 3-D
    convolution's weight, [out, colours, frames, rows, columns]: the same values in the same order."""
    if name == "vision.patch_embed.weight" and len(shape) == 5:
        return shape[0], shape[1] * shape[2], *shape[3:]
    return shape
