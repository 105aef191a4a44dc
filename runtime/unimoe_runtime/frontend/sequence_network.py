"""A small convolutional network over a sequence of symbols, computed in numpy.

    x = sum over the tables of table[ids]
    for each block: x = x + conv(relu(norm(x)))      a convolution along the sequence, with zeros beyond its ends
    y = norm(x) @ head + bias

The front end's letter-to-sound model and its duration predictor are such networks. Their tensors are in one safetensors
file: `table.0` …, `block.0.norm`, `block.0.kernel` [C, C, K], `block.0.bias` …, `norm`, `head` [C, O], `bias` [O].

Shapes: P symbols, C channels, K taps, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import BundleError
from unimoe_runtime.files.safetensors_reader import TensorFile
from unimoe_runtime.records import Between, JsonRecord, Length, require

Floats = NDArray[np.float32]

NORM_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class SequenceNetworkConfig(JsonRecord):
    """Sizes of a network. `tables`: rows of each embedding table; `dilations`: one for each block."""

    tables: Annotated[tuple[Annotated[int, Between(1, 1 << 20)], ...], Length(1, 16)]
    channels: Annotated[int, Between(1, 4096)]
    taps: Annotated[int, Between(1, 63)]
    dilations: Annotated[tuple[Annotated[int, Between(1, 64)], ...], Length(1, 64)]
    outputs: Annotated[int, Between(1, 1 << 16)]

    def check_together(self) -> None:
        require(self.taps % 2 == 1, "taps", self.taps, "an odd number")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, in the file's order."""
        found: dict[str, tuple[int, ...]] = {
            f"table.{at}": (rows, self.channels) for at, rows in enumerate(self.tables)
        }
        for at in range(len(self.dilations)):
            found[f"block.{at}.norm"] = (self.channels,)
            found[f"block.{at}.kernel"] = (self.channels, self.channels, self.taps)
            found[f"block.{at}.bias"] = (self.channels,)
        return found | {"norm": (self.channels,), "head": (self.channels, self.outputs), "bias": (self.outputs,)}


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceNetwork:
    """A network with its weights as float32."""

    config: SequenceNetworkConfig
    tensors: dict[str, Floats]

    @classmethod
    def read(cls, path: Path, config: SequenceNetworkConfig) -> SequenceNetwork:
        """Read the tensors. Raises BundleError where one is missing or its shape differs from `config`."""
        file = TensorFile(path, BundleError)
        for name, shape in config.shapes().items():
            if name not in file or file.entries[name].shape != shape:
                raise BundleError(f"{path}: tensor {name!r} is missing or not of shape {list(shape)}; export again")
        return cls(config=config, tensors={name: np.array(file.float32(name)) for name in config.shapes()})

    def __call__(self, *ids: Sequence[int]) -> Floats:
        """Outputs [P, O] for one sequence of ids [P] for each table."""
        tensors, config = self.tensors, self.config
        tables = [tensors[f"table.{at}"][np.asarray(values, np.int64)] for at, values in enumerate(ids)]
        x_PC = np.sum(tables, axis=0)
        for at, dilation in enumerate(config.dilations):
            inner_PC = np.maximum(_norm(x_PC, tensors[f"block.{at}.norm"]), 0)
            made_PC = _convolve(inner_PC, self._kernels[at], config.taps, dilation)
            x_PC = x_PC + made_PC + tensors[f"block.{at}.bias"]
        y_PO: Floats = _norm(x_PC, tensors["norm"]) @ tensors["head"] + tensors["bias"]
        return y_PO

    @cached_property
    def _kernels(self) -> list[Floats]:
        """Each block's kernel as [K * C, C]: rows are taps, then inputs; columns are outputs."""
        kernels = [self.tensors[f"block.{at}.kernel"] for at in range(len(self.config.dilations))]
        return [
            np.ascontiguousarray(kernel_CCK.transpose(2, 1, 0).reshape(-1, len(kernel_CCK))) for kernel_CCK in kernels
        ]


def _norm(x_PC: Floats, scale_C: Floats) -> Floats:
    """Root-mean-square norm over the channels."""
    mean_P1 = np.mean(x_PC * x_PC, axis=-1, keepdims=True)
    normed_PC: Floats = x_PC / np.sqrt(mean_P1 + NORM_EPSILON) * scale_C
    return normed_PC


def _convolve(x_PC: Floats, kernel_XC: Floats, taps: int, dilation: int) -> Floats:
    """y[p, o] = sum over i, k of kernel[o, i, k] x[p + (k - K // 2) dilation, i], with zeros beyond the ends.

    `kernel_XC` is [K * C, C], so that the convolution is one product.
    """
    num_symbols, reach = len(x_PC), taps // 2 * dilation
    padded_PC = np.pad(x_PC, ((reach, reach), (0, 0)))
    windows = [padded_PC[tap * dilation : tap * dilation + num_symbols] for tap in range(taps)]
    y_PC: Floats = np.concatenate(windows, axis=1) @ kernel_XC
    return y_PC
