"""The front end's small networks in torch, and their training. They compute the same as the runtime's in numpy.

Shapes: B sequences, P symbols, C channels, O outputs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unimoe_runtime.files.safetensors_writer import write_tensors
from unimoe_runtime.frontend.sequence_network import NORM_EPSILON, SequenceNetwork, SequenceNetworkConfig

Batch = TypeVar("Batch")


class TorchSequenceNetwork(nn.Module):
    """A trainable network. `dropout`: rate at the blocks' inputs."""

    def __init__(self, config: SequenceNetworkConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.weights = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(_initial(name, shape)) for name, shape in config.shapes().items()}
        )

    def forward(self, ids: tuple[Tensor, ...], mask_BP: Tensor) -> Tensor:
        """Outputs [B, P, O]. `ids`: [B, P] for each table. `mask_BP`: 1 where there is a symbol, 0 for padding."""
        mask_BP1 = mask_BP.unsqueeze(-1).float()
        x_BPC = sum((self._weight(f"table.{at}")[table] for at, table in enumerate(ids)), torch.zeros(()))
        for at, dilation in enumerate(self.config.dilations):
            inner_BPC = functional.relu(self._norm(x_BPC, f"block.{at}.norm")) * mask_BP1
            inner_BPC = functional.dropout(inner_BPC, self.dropout, self.training)
            kernel = self._weight(f"block.{at}.kernel")
            reach = self.config.taps // 2 * dilation
            made_BCP = functional.conv1d(inner_BPC.transpose(1, 2), kernel, padding=reach, dilation=dilation)
            x_BPC = x_BPC + made_BCP.transpose(1, 2) + self._weight(f"block.{at}.bias")
        return self._norm(x_BPC, "norm") @ self._weight("head") + self._weight("bias")

    def _weight(self, name: str) -> Tensor:
        return self.weights[name.replace(".", "_")]

    def _norm(self, x_BPC: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x_BPC, (x_BPC.shape[-1],), self._weight(name), NORM_EPSILON)

    def to_numpy(self) -> SequenceNetwork:
        """The runtime's network with these weights."""
        tensors = {name: self._weight(name).detach().float().numpy().copy() for name in self.config.shapes()}
        return SequenceNetwork(config=self.config, tensors=tensors)


def fit(
    network: TorchSequenceNetwork,
    batches: Callable[[], Iterable[Batch]],
    loss_of: Callable[[Batch], Tensor],
    *,
    num_steps: int,
    learning_rate: float,
    weight_decay: float,
) -> Iterator[float]:
    """Train for `num_steps` with one cycle of the learning rate, and yield each step's loss.

    `batches` gives those of one epoch. At the end the network is in evaluation mode.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=num_steps, pct_start=0.1)
    network.train()
    step = 0
    while step < num_steps:
        for batch in batches():
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            yield float(loss.detach())
    network.eval()


def shuffled_batches(keys: Sequence[Any], size: int, rng: random.Random) -> list[list[int]]:
    """Indices in batches of neighbouring keys, such as lengths; the batches in random order."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(batches)
    return batches


def padded(rows: Sequence[Sequence[float]], fill: int) -> Tensor:
    """Rows of one type as a tensor, filled up to the longest of them."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])


def write_network(network: SequenceNetwork, path: Path) -> None:
    """Write the tensors as float16, which changes a phoneme's score by less than a thousandth."""
    write_tensors(
        path,
        network.config.shapes(),
        lambda name: [np.asarray(network.tensors[name], np.float32)],
        dict.fromkeys(network.config.shapes(), "F16"),
    )


def _initial(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("norm"):
        return torch.ones(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    if name.endswith("kernel"):
        return torch.randn(shape) * (0.5 / (shape[1] * shape[2]) ** 0.5)
    return torch.randn(shape) * (0.5 if name.startswith("table") else 1 / shape[0] ** 0.5)
