"""The protocol of backends: what runs a bundle's graphs, and one utterance's passes over the layers.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.bundle.reader import Bundle
from unimoe_runtime.expert_cache.cache import ExpertCacheStats

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """What the host gives to one pass over all layers, prefill or decode step.

    `mask_B1TS` is True where a position may attend to a cache slot. `write_index` is the cache slot that the
    first of the T positions is written to, the same for all rows (prompts are padded at the left).
    """

    hidden_BTC: NDArray[np.float32]
    cos_BTD: NDArray[np.float32]
    sin_BTD: NDArray[np.float32]
    mask_B1TS: NDArray[np.bool_]
    write_index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedPositions:
    """Keys and values of the first P positions of one row: per layer key_HPD and value_HPD, H key/value heads."""

    layers: tuple[tuple[Array, Array], ...]

    @property
    def num_positions(self) -> int:
        return int(self.layers[0][0].shape[1])

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for pair in self.layers for array in pair)


class Forward(Protocol):
    """One utterance's passes over the layers: its hidden state and its cache, wherever the backend keeps them.

    The host sees the routing weights alone; it calls `begin`, then per layer `trunk` and `expert` for each pick,
    then `head`.
    """

    def begin(self, inputs: StepInputs) -> None:
        """Take the inputs of a pass. The cache grows to the mask's S when it is smaller."""

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
        """Put cached positions into the first slots of every row. The cache grows to `capacity` when it is smaller."""

    def close(self) -> None:
        """Give cache and buffers back to the backend. It is not used again; closing twice is harmless."""


class Backend(Protocol):
    """Runs the graphs of one bundle, for any number of threads at once; a Forward belongs to one of them."""

    name: str
    bundle: Bundle

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run any graph by name on host arrays; outputs by name. For codecs and for verification."""

    def start(self, num_rows: int) -> Forward:
        """A fresh utterance of `num_rows` rows."""

    def load(self, graphs: Iterable[str] | None = None) -> None:
        """Load graphs now instead of at their first use; None: all of the language model."""

    def residency(self) -> ExpertCacheStats | None:
        """How the experts' memory budget fared so far; None without one."""

    def close(self) -> None:
        """Free sessions and memory."""
