"""The protocol of backends: running a bundle's graphs, and passes over the layers with a cache of their own.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.expert_cache.statistics import ExpertCacheStats

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """The host's inputs of one pass over all layers, prefill or decode step.

    `mask_B1TS` is True where a position may attend to a cache slot. `write_index_B` int64 is the cache slot that the
    first of a row's T positions is written to. Within a prompt it is the same for all rows (prompts are padded on the
    left). Rows of several streams in one shared step write to different slots.
    """

    hidden_BTC: NDArray[np.float32]
    cos_BTD: NDArray[np.float32]
    sin_BTD: NDArray[np.float32]
    mask_B1TS: NDArray[np.bool_]
    write_index_B: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedPositions:
    """Keys and values of the first P positions of one row: per layer key_HPD and value_HPD, H key/value heads."""

    layers: tuple[tuple[Array, Array], ...]

    @classmethod
    def of(cls, caches: Iterable[tuple[Array, Array]], num_positions: int) -> CachedPositions:
        """Copies of the first row's first slots; `caches`: keys and values of each layer, [B, H, S, D]."""
        layers = ((key[0, :, :num_positions].copy(), value[0, :, :num_positions].copy()) for key, value in caches)
        return cls(layers=tuple(layers))

    @property
    def num_positions(self) -> int:
        return int(self.layers[0][0].shape[1])

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for pair in self.layers for array in pair)


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """How many rows a step may have.

    `sizes`: ascending. A step runs with one of these row counts, so that bindings and captured graphs are reused.
    `alignment`: a stream's first row is a multiple of it. It is above 1 for graphs in which a row's result depends on
    its index modulo `alignment`.
    """

    sizes: tuple[int, ...]
    alignment: int = 1

    @property
    def most(self) -> int:
        return self.sizes[-1]

    def places(self, num_rows: int) -> int:
        """Rows that a stream of `num_rows` rows occupies."""
        return -(-num_rows // self.alignment) * self.alignment

    def fitting(self, num_rows: int) -> int:
        """The smallest size that holds `num_rows` rows."""
        return next(size for size in self.sizes if size >= num_rows)


class Forward(Protocol):
    """Passes over the layers: the hidden state and the cache of some rows, wherever the backend keeps them.

    The host sees only the routing weights. It calls `begin`, then per layer `trunk` and `expert` for each pick, then
    `head`.
    """

    def begin(self, inputs: StepInputs) -> None:
        """Take the inputs of a pass, which have as many rows as the cache. The cache is resized to the mask's S."""

    def trunk(self, layer: int) -> NDArray[np.float32]:
        """Run a trunk on the hidden state. Returns weights_NE on the host: routed experts, then null.

        Valid until the next trunk.
        """

    def router_logits(self) -> NDArray[np.float32]:
        """router_logits_NR of the trunk that ran last."""

    def expert(self, layer: int, expert: int, weight_N1: NDArray[np.float32]) -> None:
        """Add an expert's weighted output to the accumulator; rows of weight 0 stay as they are."""

    def hidden(self) -> NDArray[np.float32]:
        """hidden_NC: the accumulator after the layers run so far, copied to the host."""

    def head(self, tokens_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """logits_MKV of the chosen tokens (indices into N)."""

    def snapshot(self, num_positions: int) -> CachedPositions:
        """Copies of the first row's first cache slots."""

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        """Put cached positions into the first slots of every row. A smaller cache grows to `capacity`."""

    def resize(self, num_rows: int, capacity: int) -> None:
        """Resize the cache to `num_rows` rows and `capacity` slots. Common rows and slots stay; new ones hold zeros."""

    def copy_rows(self, source: Forward, source_row: int, row: int, num_rows: int, num_positions: int) -> None:
        """Copy the first slots of rows from another forward of this backend, or from this one."""

    def close(self) -> None:
        """Give cache and buffers back to the backend. The object is not used afterwards; closing twice is harmless."""


class Backend(Protocol):
    """Runs the graphs of one bundle, for any number of threads at once; a Forward belongs to one of them."""

    name: str
    bundle: Bundle
    on_host: bool
    """Whether its graphs run on the CPU's cores."""
    lanes: int
    """Number of threads whose passes run at once, faster than one after another."""

    @property
    def row_counts(self) -> RowCounts:
        """Rows that a decode step of several streams may have."""

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run any graph by name on host arrays; outputs by name. For codecs and for verification."""

    def start(self, num_rows: int) -> Forward:
        """An empty cache of `num_rows` rows."""

    def load(self, graphs: Iterable[str] | None = None) -> None:
        """Load graphs now instead of at their first use; None: all of the language model."""

    def residency(self) -> ExpertCacheStats | None:
        """Statistics of the expert cache so far; None without a memory budget."""

    def close(self) -> None:
        """Free sessions and memory."""
