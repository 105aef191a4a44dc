"""The model in one process or many: DDP or FSDP2 around it, and whole states.

The engines are PyTorch's own. A save always holds whole tensors under the model's own names, so it loads into any
number of processes and into either engine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from unimoe.training.objective import Objective
from unimoe.world import World

_PREFIX = "model."  # prefix of the model's names within the objective


def wrap(objective: Objective, world: World) -> nn.Module:
    """The objective on this process's device, in DDP or with every layer sharded by FSDP2."""
    objective.to(world.device)
    if world.size == 1:
        return objective
    if world.engine == "ddp":
        return DistributedDataParallel(objective)
    # FSDP2 shards the first axis. For stacked experts that is the expert axis: processes hold different experts.
    # A layer's cache is a view, but nothing here writes to it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    for layer in objective.model.layers:
        fully_shard(layer)
    return cast(nn.Module, fully_shard(objective))


@contextmanager
def gradients_in_step(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Context of one part's forward and backward pass. Only the last part exchanges gradients."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(last)
    with wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext():
        yield


def whole_state(wrapped: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights and the optimizer's state as whole tensors on the CPU. Every process must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(wrapped, options=options)
    return {
        "model": {name.removeprefix(_PREFIX): value for name, value in weights.items()},
        "optimizer": get_optimizer_state_dict(wrapped, optimizer, options=options),
    }


def load_weights(wrapped: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights. Every process has read them."""
    named: dict[str, Any] = {_PREFIX + name: value for name, value in weights.items()}
    set_model_state_dict(wrapped, named, options=StateDictOptions(full_state_dict=True))


def load_optimizer(wrapped: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the whole state of an optimizer. Every process has read it."""
    set_optimizer_state_dict(wrapped, optimizer, state, options=StateDictOptions(full_state_dict=True))
