"""The project's checkpoint directory: saves a model, and loads ours or the published format.

`unimoe_runtime.checkpoint.folder` documents the layout. In memory, experts are stacked for speed. On disk, each
expert's matrices have their own names, so that an exporter can read one expert at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor

from unimoe_runtime.bundle.reader import CALIBRATION_PROMPTS
from unimoe_runtime.checkpoint.folder import FORMAT, FORMAT_VERSION, Checkpoint, open_checkpoint, tensor_shapes
from unimoe_runtime.errors import OutputError
from unimoe_runtime.files.atomic import exchange, staging_path
from unimoe_runtime.files.text import reason_of

from .config import ModelConfig, SamplingConfig
from .model import Layer, UniMoE

LARGEST_SHARD = 16_000_000
"""Bytes of weights in one file, unless a single tensor is larger."""


def tensor_views(model: UniMoE) -> dict[str, Tensor]:
    """The model's parameters under their names on disk, as views. Writing to a view writes to the model."""
    config = model.config
    views: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if ".moe.experts." not in name and ".moe.shared." not in name and name != "codec_embedding.weight":
            views[name] = parameter.detach()
    tables = model.codec_embedding.weight.detach().chunk(config.num_codebooks)
    views.update({f"codec_embedding.{codebook}.weight": table for codebook, table in enumerate(tables)})
    for index, layer in enumerate(cast("list[Layer]", model.layers)):
        prefix = f"layers.{index}.moe."
        if layer.moe.experts is not None:
            gate_up_EIC, down_ECI = layer.moe.experts.gate_up.detach(), layer.moe.experts.down.detach()
            for expert in range(config.num_routed_experts):
                gate, up = gate_up_EIC[expert].chunk(2)
                _add_expert(views, f"{prefix}experts.{expert}.", gate, up, down_ECI[expert])
        if layer.moe.shared is not None:
            gates, ups = layer.moe.shared.gate_up.detach().chunk(2)
            width = config.shared_intermediate_size
            parts = zip(
                gates.split(width), ups.split(width), layer.moe.shared.down.detach().split(width, dim=1), strict=True
            )
            for expert, (gate, up, down) in enumerate(parts):
                _add_expert(views, f"{prefix}shared.{expert}.", gate, up, down)
    return views


def _add_expert(views: dict[str, Tensor], prefix: str, gate: Tensor, up: Tensor, down: Tensor) -> None:
    views[prefix + "gate_proj.weight"] = gate
    views[prefix + "up_proj.weight"] = up
    views[prefix + "down_proj.weight"] = down


@dataclass(frozen=True, kw_only=True)
class CheckpointParts:
    """The parts of a checkpoint other than its model.

    `codec_dir` and `frontend_dir` are copied to codec/ and frontend/. `calibration` holds the requests that
    `unimoe calibrate` uses where the user names none.
    """

    codec_dir: Path | None = None
    frontend_dir: Path | None = None
    calibration: Sequence[Mapping[str, str]] = ()


def save_checkpoint(
    path: Path | str,
    model: UniMoE,
    parts: CheckpointParts | None = None,
    *,
    sampling: Mapping[str, SamplingConfig] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a checkpoint directory, replacing an existing one. A killed save leaves the old one intact.

    `dtype`: float32, bfloat16 or float16.
    Raises OutputError where the directory cannot be written or holds anything other than a checkpoint.
    """
    path, parts = Path(path), parts or CheckpointParts()
    if path.exists() and not (path / "config.json").exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path}: exists and is no checkpoint; choose another place or remove it")
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": model.config.to_dict(),
        "sampling": {task: values.to_dict() for task, values in (sampling or {}).items()},
        "provenance": dict(provenance or {}),
    }
    views = tensor_views(model)
    # Copies, because safetensors refuses tensors that share storage, as chunks of one parameter do.
    tensors = {name: views[name].to("cpu", dtype, copy=True).contiguous() for name in tensor_shapes(model.config)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging_path(path, wait=False) as staging:
            # A fixed name, so that the next save removes what a killed one left.
            shutil.rmtree(path.with_name(f".{path.name}.old"), ignore_errors=True)
            staging.mkdir()
            (staging / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            _write_weights(staging, tensors)
            for name, source in (("codec", parts.codec_dir), ("frontend", parts.frontend_dir)):
                if source is not None:
                    shutil.copytree(source, staging / name, ignore=shutil.ignore_patterns(".*"))  # of a killed writer
            if parts.calibration:
                (staging / CALIBRATION_PROMPTS).parent.mkdir()
                lines = "".join(json.dumps(request) + "\n" for request in parts.calibration)
                (staging / CALIBRATION_PROMPTS).write_text(lines, encoding="utf-8")
            _replace_directory(staging, path)
    except BlockingIOError:
        raise OutputError(f"{path}: another process is writing it; wait for that, or choose another name") from None
    except OSError as error:
        raise OutputError(f"{path}: the checkpoint cannot be written ({reason_of(error)})") from None


def _write_weights(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """One file, or numbered shards with an index where the weights are larger than a shard."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        if shards[-1] and used + tensor.nbytes > LARGEST_SHARD:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += tensor.nbytes
    if len(shards) == 1:
        (folder / "model.safetensors").write_bytes(save(shards[0]))
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        (folder / file).write_bytes(save(shard))
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _replace_directory(staging: Path, path: Path) -> None:
    if not path.exists():
        os.rename(staging, path)
        return
    if exchange(staging, path):
        return  # the old one has the temporary name now, and is removed
    old = path.with_name(f".{path.name}.old")
    os.rename(path, old)
    os.rename(staging, path)
    shutil.rmtree(old)


def load_model(checkpoint: Checkpoint | Path | str, *, device: str | torch.device = "cpu") -> UniMoE:
    """The torch model of a checkpoint folder, ours or a published one, in float32 and evaluation mode.

    Reads tensor by tensor. Raises CheckpointError where the folder cannot be read as a checkpoint.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = open_checkpoint(checkpoint)
    model = empty_model(checkpoint.model, device=device)
    for name, view in tensor_views(model).items():
        view.copy_(torch.tensor(checkpoint.tensor(name)))
    return model.eval()


def empty_model(config: ModelConfig, *, device: str | torch.device = "cpu") -> UniMoE:
    """A model with uninitialised weights, which takes no time for random ones."""
    with torch.device("meta"):
        model = UniMoE(config)
    return model.to_empty(device=torch.device(device))
