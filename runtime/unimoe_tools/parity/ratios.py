"""Whether a candidate is slower than a reference: a ratio of times, its interval and the verdict.

All computations use logarithms; a ratio of 1.05 means that the candidate takes 5 % longer. Intervals are bootstrap
intervals of a median at `CONFIDENCE`.

G groups of measurements (requests) · B measurements
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unimoe_tools.parity.bootstrap import RESAMPLES, percentile_interval

Floats = NDArray[np.float64]

CONFIDENCE = 0.99
MARGIN = 0.015
"""The smallest difference that counts: an interval must lie beyond it. Two processes with the same work may differ by
1 %, depending on the location of their memory."""
TOLERANCE = 0.05
"""An interval without a difference that is wider than this on either side proves nothing."""
_SEED = 0


class Verdict(StrEnum):
    """What an interval says about the candidate's time."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "no difference"
    UNCLEAR = "too noisy to tell"
    STOPPED = "stopped too early"


UNDECIDED = (Verdict.UNCLEAR, Verdict.STOPPED)
"""Verdicts that say nothing about the difference."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One measure: the medians, the ratio candidate / reference, its interval, and the verdict."""

    measure: str
    reference: float
    candidate: float
    ratio: float
    low: float
    high: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict)}


def verdict_of(low: float, high: float) -> Verdict:
    """The verdict of a ratio's interval."""
    if low > 1 + MARGIN:
        return Verdict.SLOWER
    if high < 1 / (1 + MARGIN):
        return Verdict.FASTER
    if low < 1 / (1 + TOLERANCE) or high > 1 + TOLERANCE:
        return Verdict.UNCLEAR
    return Verdict.SAME


def paired_ratio(measure: str, groups: Sequence[tuple[Floats, Floats]]) -> Ratio:
    """For alternating measurements: each group has the logarithms of the reference's and the candidate's, pair by
    pair. The ratio is the median over a group's pairs, averaged over the groups."""
    differences = [candidate - reference for reference, candidate in groups]

    def resampled(random: np.random.Generator) -> Floats:
        return np.asarray(np.mean([medians(group, random) for group in differences], axis=0))

    low, high = interval(resampled)
    return _ratio(measure, groups, float(np.mean([np.median(group) for group in differences])), low, high)


def separate_ratio(measure: str, groups: Sequence[tuple[Floats, Floats]], drift: float) -> Ratio:
    """For separate measurements: each side's medians, and an interval widened by `drift` on both ends."""

    def resampled(random: np.random.Generator) -> Floats:
        return np.asarray(np.mean([medians(after, random) - medians(before, random) for before, after in groups], 0))

    low, high = interval(resampled)
    middle = float(np.mean([np.median(after) - np.median(before) for before, after in groups]))
    return _ratio(measure, groups, middle, low - drift, high + drift)


def _ratio(measure: str, groups: Sequence[tuple[Floats, Floats]], middle: float, low: float, high: float) -> Ratio:
    reference, candidate = (np.concatenate([group[side] for group in groups]) for side in (0, 1))
    bounds = float(np.exp(low)), float(np.exp(high))
    return Ratio(
        measure=measure,
        reference=float(np.exp(np.median(reference))),
        candidate=float(np.exp(np.median(candidate))),
        ratio=float(np.exp(middle)),
        low=bounds[0],
        high=bounds[1],
        verdict=verdict_of(*bounds),
    )


def medians(values: Floats, random: np.random.Generator) -> Floats:
    """Medians of resamples."""
    return np.asarray(np.median(random.choice(values, (RESAMPLES, len(values))), axis=1))


def interval(resampled: Callable[[np.random.Generator], Floats]) -> tuple[float, float]:
    """The interval over resamples; its seed makes it the same in every call."""
    return percentile_interval(resampled(np.random.default_rng(_SEED)), CONFIDENCE)
