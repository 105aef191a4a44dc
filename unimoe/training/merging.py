"""Merges dense specialists into one Mixture of Experts.

Each specialist's feed-forward layer is cut along its inner dimension into equal slices. Every slice becomes a routed
expert: 2 specialists × 4 slices = 8 experts. Attention, norms, embeddings and the head are averaged, which requires
specialists of one origin. The router (the paper's gate) and the shared experts are new (arXiv 2510.13344).

A slice's output matrix is multiplied by the number of slices. An even mix of a specialist's slices, whose weights add
up to 1, then equals that specialist's own layer.

Shape suffixes: E experts, I inner width, C hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unimoe.model import UniMoE
from unimoe_runtime.config import ModelConfig
from unimoe_runtime.errors import ConfigError

Weights = Mapping[str, Tensor]


def dense_config(config: ModelConfig, num_specialists: int) -> ModelConfig:
    """The specialists' configuration: `config` with one dense feed-forward layer as wide as a specialist's experts.

    Raises ConfigError where the specialists cannot have equal numbers of routed experts.
    """
    slices, rest = divmod(config.num_routed_experts, num_specialists)
    if rest or not slices:
        raise ConfigError(
            f"num_routed_experts is {config.num_routed_experts}; it must be a multiple of the {num_specialists} domains"
        )
    return replace(
        config,
        num_routed_experts=0, num_null_experts=0, num_shared_experts=1, routed_intermediate_size=0,
        shared_intermediate_size=slices * config.routed_intermediate_size, selection="top_p", weighting="probability",
    )  # fmt: skip


def merge(specialists: Sequence[Weights], config: ModelConfig, *, seed: int) -> dict[str, Tensor]:
    """Weights of the Mixture of Experts `config`. The S slices of specialist s become the experts s·S … (s + 1)·S - 1.

    `seed` draws the gate and the shared experts. Raises ConfigError where the specialists do not fit the configuration.
    """
    slices = dense_config(config, len(specialists)).shared_intermediate_size // config.routed_intermediate_size
    torch.manual_seed(seed)
    merged = dict(UniMoE(config).state_dict())
    for name, fresh in merged.items():
        if is_new(name):
            continue
        if ".moe.experts." in name:
            dense_name = name.replace(".moe.experts.", ".moe.shared.")
            cut = _gate_up_slices if name.endswith("gate_up") else _down_slices
            found = torch.cat([cut(_get(weights, dense_name), slices) for weights in specialists])
        else:
            found = torch.stack([_get(weights, name) for weights in specialists]).mean(dim=0)
        if found.shape != fresh.shape:
            raise ConfigError(f"{name}: the specialists make {list(found.shape)}, the model has {list(fresh.shape)}")
        merged[name] = found
    return merged


def is_new(name: str) -> bool:
    """Whether a weight belongs to the gate or a shared expert. Merging initialises these; the warm-up trains them."""
    return ".moe.router." in name or ".moe.shared." in name


def _get(weights: Weights, name: str) -> Tensor:
    if name not in weights:
        raise ConfigError(f"a specialist has no weight {name}: it is of another configuration")
    return weights[name].detach()


def _gate_up_slices(gate_up_IC: Tensor, slices: int) -> Tensor:
    gate_IC, up_IC = gate_up_IC.chunk(2)
    return torch.stack([torch.cat(pair) for pair in zip(gate_IC.chunk(slices), up_IC.chunk(slices), strict=True)])


def _down_slices(down_CI: Tensor, slices: int) -> Tensor:
    return slices * torch.stack(down_CI.chunk(slices, dim=1))
