"""Counts of what the router picked in shared steps, made for many steps at once: for each step alone, they would take
as long as two experts.

R rows · E dynamic experts (routed, then null) · L layers · P passes over a layer
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.synthesis.language_model import BundleModel

_STEPS = 16


@dataclass(kw_only=True, eq=False)
class Member:
    """A stream and its rows: `row` … `row + num_rows - 1`. `uncounted`: its steps that are not in its counts yet."""

    model: BundleModel
    row: int
    num_rows: int
    uncounted: int = 0


class SharedCounts:
    """Counts each stream's steps and picks as if it ran alone. `settle` must be called before rows change."""

    def __init__(self, num_routed: int) -> None:
        self._num_routed = num_routed
        self._picked_SLRE = np.zeros((0, 0, 0, 0), np.bool_)
        self._num_steps = 0

    def add(self, weights_LRE: NDArray[np.float32], stepped: Collection[Member], members: Collection[Member]) -> None:
        """Note a step of `stepped`, some of `members`. Weights of all other rows are 0."""
        if self._num_steps == len(self._picked_SLRE) or self._picked_SLRE.shape[1:] != weights_LRE.shape:
            self.settle(members)
            if self._picked_SLRE.shape[1:] != weights_LRE.shape:
                self._picked_SLRE = np.zeros((_STEPS, *weights_LRE.shape), np.bool_)
        np.not_equal(weights_LRE, 0, out=self._picked_SLRE[self._num_steps])
        self._num_steps += 1
        for member in stepped:
            member.uncounted += 1

    def settle(self, members: Collection[Member]) -> None:
        """Bring the counts of all members up to the last step."""
        if not self._num_steps:
            return
        routed = self._num_routed
        picked_PRE = self._picked_SLRE[: self._num_steps].reshape(-1, *self._picked_SLRE.shape[2:])
        self._num_steps = 0
        picks_RE = np.add.reduce(picked_PRE, axis=0, dtype=np.int64)
        all_R = np.add.reduce(picks_RE, axis=1).tolist()
        routed_R = np.add.reduce(picks_RE[:, :routed], axis=1).tolist()
        starts = sorted(member.row for member in members)
        launched_PUE = np.logical_or.reduceat(picked_PRE[:, :, :routed], starts, axis=1)
        launched_at = dict(zip(starts, np.add.reduce(launched_PUE, axis=(0, 2), dtype=np.int64).tolist(), strict=True))
        for member in members:
            end = member.row + member.num_rows
            statistics, num_routed = member.model.statistics, sum(routed_R[member.row : end])
            statistics.steps += member.uncounted
            statistics.routed_picks += num_routed
            statistics.null_picks += sum(all_R[member.row : end]) - num_routed
            statistics.launched += launched_at[member.row]
            member.uncounted = 0
