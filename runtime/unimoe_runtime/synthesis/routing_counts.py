"""Counts of what the router picked while decoding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RoutingCounts:
    """Counts over decode steps (the prefill is left out)."""

    steps: int = 0
    launched: int = 0
    routed_picks: int = 0
    null_picks: int = 0

    def __add__(self, other: RoutingCounts) -> RoutingCounts:
        return RoutingCounts(
            steps=self.steps + other.steps,
            launched=self.launched + other.launched,
            routed_picks=self.routed_picks + other.routed_picks,
            null_picks=self.null_picks + other.null_picks,
        )

    @property
    def experts_per_step(self) -> float:
        """Mean number of expert graphs launched per step, over all layers."""
        return self.launched / self.steps if self.steps else 0.0

    @property
    def null_share(self) -> float:
        """Share of all picks, over rows and layers, that fell on null experts."""
        picks = self.routed_picks + self.null_picks
        return self.null_picks / picks if picks else 0.0
