"""One process or many that train together, as torchrun describes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

Engine = Literal["ddp", "fsdp"]
RowSum = Callable[[Tensor], Tensor]
"""Adds up a process's sums over its rows of a batch to the sums over all rows."""
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

    def sum(self, values: Tensor) -> Tensor:
        """Add up the values of all processes, in place."""
        if self.size > 1:
            moved = values.to(self.device)
            dist.all_reduce(moved)
            values.copy_(moved)
        return values

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.sum(torch.tensor(float(here))))

    def row_sum(self, sums: Tensor) -> Tensor:
        """The sums over the rows of all processes, for a loss that every process computes from them.

        A process's gradients are those by its own rows: `add_gradients` gives the whole ones.
        """
        if self.size == 1:
            return sums
        return cast(Tensor, _RowSum.apply(sums))  # type: ignore[no-untyped-call]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes. They must have gradients for the same parameters."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        for gradient, summed in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def wait(self) -> None:
        """Wait until every process arrives."""
        if self.size > 1:
            dist.barrier()


class _RowSum(torch.autograd.Function):
    """The sum over processes. Each passes on only its own gradient."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor) -> Tensor:
        total = sums.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def own_rows(sums: Tensor) -> Tensor:
    """The `RowSum` of a batch whose rows are all here."""
    return sums


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
