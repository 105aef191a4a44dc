"""Figures of the expert cache under its budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class ExpertCacheStats:
    """Figures since the bundle was opened. Bytes are those that count for loaded experts.

    `stall_s`: seconds that computation waited for experts. `loaded_ahead`: loads by prefetch; `used_ahead`: those of
    them that were used before they were dropped. `predicted`: predicted picks of a next layer; `predicted_hits`: those
    that came true. `step_bytes_p95`: the bytes of one decode step's experts in 95 of 100 steps. With a budget below
    that, one step cannot keep the experts that it needs.
    """

    budget_bytes: int
    peak_bytes: int
    step_bytes_p95: int
    uses: int
    misses: int
    loaded_ahead: int
    used_ahead: int
    predicted: int
    predicted_hits: int
    stall_s: float

    @property
    def hit_rate(self) -> float:
        """Share of the uses that found their expert in memory."""
        return 1 - self.misses / self.uses if self.uses else 1.0

    @property
    def prefetch_accuracy(self) -> float:
        """Share of the experts loaded ahead that were used."""
        return self.used_ahead / self.loaded_ahead if self.loaded_ahead else 1.0

    def figures(self) -> dict[str, float]:
        """The figures as one flat record, for JSON."""
        return {**asdict(self), "hit_rate": self.hit_rate, "prefetch_accuracy": self.prefetch_accuracy}
