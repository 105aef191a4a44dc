"""Which experts the router picked for one stream, step by step, for callers that watch it.

N rows of the stream · E dynamic experts (routed, then null)
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RoutingSteps:
    """Decode steps from `first_step` on. In `masks[step][layer]` bit e is set if some row picked expert e."""

    first_step: int
    masks: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """The form that events use."""
        return {"first_step": self.first_step, "picks": self.masks}


class RoutingRecord:
    """A stream's routing observer: the decode loop calls it, and another thread empties it with `take`."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._lock = Lock()
        self._steps: list[list[int]] = []
        self._taken = 0

    def __call__(self, layer: int, weights_NE: NDArray[np.float32]) -> None:
        mask = sum(1 << expert for expert, column in enumerate(zip(*weights_NE.tolist(), strict=True)) if any(column))
        with self._lock:
            if layer == 0:
                self._steps.append([])
            self._steps[-1].append(mask)

    def take(self) -> RoutingSteps:
        """The steps since the last call, without a step that is still running."""
        with self._lock:
            is_running = bool(self._steps) and len(self._steps[-1]) < self._num_layers
            complete = len(self._steps) - is_running
            steps, self._steps = self._steps[:complete], self._steps[complete:]
        first_step, self._taken = self._taken, self._taken + len(steps)
        return RoutingSteps(first_step=first_step, masks=tuple(map(tuple, steps)))
