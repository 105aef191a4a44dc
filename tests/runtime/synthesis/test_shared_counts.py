"""Counts made for many steps at once equal those of each step alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unimoe_runtime.synthesis.routing_counts import RoutingCounts
from unimoe_runtime.synthesis.shared_counts import Member, SharedCounts

_LAYERS, _EXPERTS, _ROUTED = 3, 5, 4


def _members(sizes: list[int]) -> list[Member]:
    ends = np.cumsum(sizes).tolist()
    models: list[Any] = [SimpleNamespace(statistics=RoutingCounts()) for _ in sizes]
    return [
        Member(model=model, row=end - size, num_rows=size) for model, end, size in zip(models, ends, sizes, strict=True)
    ]


@given(sizes=st.lists(st.integers(1, 2), min_size=1, max_size=4), steps=st.integers(0, 40), seed=st.integers(0, 99))
def test_counts_of_many_steps(sizes: list[int], steps: int, seed: int) -> None:
    random, members = np.random.default_rng(seed), _members(sizes)
    counts, expected = SharedCounts(_ROUTED), [RoutingCounts() for _ in members]
    for _ in range(steps):
        picked_LRE = random.random((_LAYERS, sum(sizes) + 1, _EXPERTS)) < 0.4
        picked_LRE[:, -1] = False  # an unused row
        stepped = [member for member in members if random.random() < 0.7]
        for member, count in zip(members, expected, strict=True):
            rows_LBE = picked_LRE[:, member.row : member.row + member.num_rows]
            if member not in stepped:
                rows_LBE[...] = False
                continue
            count.steps += 1
            count.routed_picks += int(rows_LBE[..., :_ROUTED].sum())
            count.null_picks += int(rows_LBE[..., _ROUTED:].sum())
            count.launched += int(rows_LBE[..., :_ROUTED].any(axis=1).sum())
        counts.add(picked_LRE * np.float32(0.5), stepped, members)
    counts.settle(members)
    counts.settle(members)
    assert [member.model.statistics for member in members] == expected
