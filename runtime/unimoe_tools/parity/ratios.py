"""Whether one thing is slower than another: a ratio of times with its interval, and what that interval means.

Everything is computed on logarithms; a ratio of 1.05 says that the candidate takes 5 % longer. Intervals are bootstrap
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

Floats = NDArray[np.float64]

CONFIDENCE = 0.99
MARGIN = 0.015
"""A difference counts from here on: an interval must lie beyond it. Two processes that run the same may differ by 1 %,
by where their memory lies."""
TOLERANCE = 0.05
"""An interval that holds no difference but is wider than this on either side proves nothing."""
_RESAMPLES = 4000
_SEED = 0


class Verdict(StrEnum):
    SLOWER = "slower"
    FASTER = "faster"
    SAME = "no difference"
    UNCLEAR = "too noisy to tell"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One measure: the medians, the ratio candidate / reference, its interval, and what that means."""

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
    """What the interval of a ratio says."""
    if low > 1 + MARGIN:
        return Verdict.SLOWER
    if high < 1 / (1 + MARGIN):
        return Verdict.FASTER
    if low < 1 / (1 + TOLERANCE) or high > 1 + TOLERANCE:
        return Verdict.UNCLEAR
    return Verdict.SAME


def paired_ratio(measure: str, groups: Sequence[tuple[Floats, Floats]]) -> Ratio:
    """Of measurements taken in turns: each group has the logarithms of the reference's and the candidate's, pair by
    pair. The ratio is the median of a group's pairs, and the mean of that over the groups."""
    differences = [candidate - reference for reference, candidate in groups]

    def resampled(random: np.random.Generator) -> Floats:
        return np.asarray(np.mean([medians(group, random) for group in differences], axis=0))

    low, high = interval(resampled)
    return _ratio(measure, groups, float(np.mean([np.median(group) for group in differences])), low, high)


def separate_ratio(measure: str, groups: Sequence[tuple[Floats, Floats]], drift: float) -> Ratio:
    """Of measurements taken apart: medians of either side, the interval widened by `drift` on both ends."""

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
    return np.asarray(np.median(random.choice(values, (_RESAMPLES, len(values))), axis=1))


def interval(resampled: Callable[[np.random.Generator], Floats]) -> tuple[float, float]:
    """The interval of what resamples say, the same at every call."""
    ranks = [50 * (1 - CONFIDENCE), 100 - 50 * (1 - CONFIDENCE)]
    low, high = np.percentile(resampled(np.random.default_rng(_SEED)), ranks)
    return float(low), float(high)
