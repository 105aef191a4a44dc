"""Backends: what runs a bundle's graphs. One Protocol, one factory; an engine is imported only inside its branch.

B rows · T positions · N = B·T tokens · S cache capacity · D head dimension · C hidden · E dynamic experts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendError
from ..residency import Residency

Array = NDArray[Any]
BACKENDS = ("onnxruntime", "numpy", "onnxruntime-cuda", "tensorrt")


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

    def residency(self) -> Residency | None:
        """How the experts' memory budget fared so far; None without one."""

    def close(self) -> None:
        """Free sessions and memory."""


def open_backend(
    name: str,
    bundle: Bundle,
    *,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    memory_budget_bytes: int | None = None,
    target: str | None = None,
) -> Backend:
    """The backend of that name over a bundle.

    `threads`, `providers` and `memory_budget_bytes` are for onnxruntime; None means all cores, the CPU provider, and
    that experts stay loaded. The budget is what loaded experts may take (`residency`); everything else comes on top.
    `target` is for tensorrt: which of the bundle's engine sets; None takes the one that fits this GPU.
    Raises BackendError for an unknown name, an engine that is not installed, or a budget that cannot be kept;
    EngineError for engines that are not built or do not fit.
    """
    if memory_budget_bytes is not None and name != "onnxruntime":
        raise BackendError(f"the {name} backend keeps no memory budget; run with --backend onnxruntime")
    match name:
        case "numpy":
            from .numpy import NumpyBackend

            return NumpyBackend(bundle)
        case "onnxruntime":
            from .onnxruntime import OnnxRuntimeBackend

            return OnnxRuntimeBackend(
                bundle, threads=threads, providers=providers, memory_budget_bytes=memory_budget_bytes
            )
        case "onnxruntime-cuda":
            from .onnxruntime_cuda import open_onnxruntime_cuda

            return open_onnxruntime_cuda(bundle)
        case "tensorrt":
            from .tensorrt import open_tensorrt

            return open_tensorrt(bundle, target)
    raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
