"""Counts of picks."""

from __future__ import annotations

from unimoe_runtime.synthesis.routing_counts import RoutingCounts


def test_counts_add_up() -> None:
    first = RoutingCounts(steps=2, launched=10, routed_picks=6, null_picks=2)
    both = first + RoutingCounts(steps=3, launched=5, routed_picks=3, null_picks=1)
    assert both == RoutingCounts(steps=5, launched=15, routed_picks=9, null_picks=3)
    assert both.experts_per_step == 3 and both.null_share == 0.25
    assert RoutingCounts().experts_per_step == RoutingCounts().null_share == 0
