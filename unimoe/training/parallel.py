"""One process or many: torchrun's process group, DDP or FSDP2 around the model, and whole states.

The engines are PyTorch's own. A save always holds whole tensors under the model's own names, so it loads into any
number of processes and into either engine.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
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

Engine = Literal["ddp", "fsdp"]
_PREFIX = "model."  # prefix of the model's names within the objective
# Rank 0 prepares the data while the others wait. Rendering and the codec may take hours.
_TIMEOUT = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train together, and this process's rank."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    engine: Engine = "ddp"

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, objective: Objective) -> nn.Module:
        """The objective on this process's device, in DDP or with every layer sharded by FSDP2."""
        objective.to(self.device)
        if self.size == 1:
            return objective
        if self.engine == "ddp":
            return DistributedDataParallel(objective)
        # FSDP2 shards the first axis. For stacked experts that is the expert axis: processes hold different experts.
        # A layer's cache is a view, but nothing here writes to it.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        for layer in objective.model.layers:
            fully_shard(layer)
        return cast(nn.Module, fully_shard(objective))

    def sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes, in place."""
        if self.size > 1:
            moved = values.to(self.device)
            dist.all_reduce(moved)
            values.copy_(moved)
        return values

    def wait(self) -> None:
        """Wait until every process arrives."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def open_world(engine: Engine = "ddp") -> Iterator[World]:
    """The processes that torchrun's environment describes, or this process alone without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    has_gpu = torch.cuda.is_available()
    if size == 1:
        yield World(device=torch.device("cuda" if has_gpu else "cpu"), engine=engine)
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=_TIMEOUT)
    try:
        yield World(rank=dist.get_rank(), size=size, device=device, engine=engine)
        dist.barrier()  # a process that ends while another still exchanges with it aborts
    finally:
        dist.destroy_process_group()


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
