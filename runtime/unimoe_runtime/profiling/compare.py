"""Whether one run is slower than another: ratios with bootstrap intervals, and a verdict for each measure.

Interleaved runs come in blocks: reference, candidate, candidate, reference. Each block gives two ratios of neighbours,
from which the drift of a machine that grows slower or faster can be told and taken out. Runs that were made apart have
nothing to cancel that: their intervals are widened by as much as a reference kernel, timed in both, went up or down.

Everything is computed on logarithms; a ratio of 1.05 says that the candidate takes 5 % longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

Floats = NDArray[np.float64]
Record = Mapping[str, Any]
Figures = Mapping[str, float]
"""Measure to milliseconds (or to a real-time factor), of one round over all requests."""

CONFIDENCE = 0.99
MARGIN = 0.015
"""A difference counts from here on: an interval must lie beyond it. Two processes that run the same may differ by 1 %,
by where their memory lies."""
TOLERANCE = 0.05
"""An interval that holds no difference but is wider than this on either side proves nothing."""
_RESAMPLES = 4000
_SEED = 0

MEASURES: Mapping[str, Callable[[Record], float | None]] = {
    "step_p50_ms": lambda one: float(np.median(one["step_ms"])),
    "step_p90_ms": lambda one: float(np.percentile(one["step_ms"], 90)),
    "prefill_ms": lambda one: one["prefill_ms"],
    "ttfa_ms": lambda one: one["ttfa_ms"],
    "rtf": lambda one: one["rtf"],
}
"""What is compared, of a request's record; None where it has no such figure. Less is better in all of them."""


class Verdict(StrEnum):
    SLOWER = "slower"
    FASTER = "faster"
    SAME = "no difference"
    UNCLEAR = "too noisy to tell"


@dataclass(frozen=True, kw_only=True)
class Comparison:
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


def judge_interval(low: float, high: float) -> Verdict:
    """Of a ratio's interval."""
    if low > 1 + MARGIN:
        return Verdict.SLOWER
    if high < 1 / (1 + MARGIN):
        return Verdict.FASTER
    if low < 1 / (1 + TOLERANCE) or high > 1 + TOLERANCE:
        return Verdict.UNCLEAR
    return Verdict.SAME


def figures_of(generations: Sequence[Record]) -> dict[str, float]:
    """One round's figures: for each measure the geometric mean over the requests that have it."""
    figures = {}
    for name, measure in MEASURES.items():
        values = [value for one in generations if (value := measure(one)) is not None]
        if values:
            figures[name] = float(np.exp(np.mean(np.log(values))))
    return figures


Block = tuple[Figures, Figures, Figures, Figures]
"""Reference, candidate, candidate, reference."""


def interleave(reference: Callable[[], Figures], candidate: Callable[[], Figures]) -> Block:
    """One block: each of both runs twice, in an order in which a steady drift cancels."""
    return reference(), candidate(), candidate(), reference()


def compare_blocks(blocks: Sequence[Block]) -> list[Comparison]:
    """Each measure over the blocks: the median of the ratios of neighbours, with its interval."""
    comparisons = []
    for name in blocks[0][0]:
        logs_G4 = np.log([[figures[name] for figures in block] for block in blocks])
        first_G, second_G = logs_G4[:, 1] - logs_G4[:, 0], logs_G4[:, 2] - logs_G4[:, 3]
        # A steady drift lengthens the one and shortens the other. Two ratios a block, not their mean, because a round
        # that met company spoils one of them only, and a median forgets it.
        drift = np.median(first_G - second_G) / 2
        ratios = np.concatenate([first_G - drift, second_G + drift])
        low, high = _interval(partial(_medians, ratios))
        comparisons.append(
            _comparison(name, logs_G4[:, [0, 3]], logs_G4[:, [1, 2]], float(np.median(ratios)), low, high)
        )
    return comparisons


def compare_runs(reference: Record, candidate: Record) -> list[Comparison]:
    """Two runs of profiles that were made apart, request by request. Raises ConfigError where requests differ."""
    by_request = [_by_request(run) for run in (reference, candidate)]
    if by_request[0].keys() != by_request[1].keys():
        raise ConfigError("the two profiles made different requests; profile both with the same texts")
    drift = _drift(reference, candidate)
    comparisons = []
    for name, measure in MEASURES.items():
        samples = [
            [np.log([value for one in requests[key] if (value := measure(one)) is not None]) for key in by_request[0]]
            for requests in by_request
        ]
        pairs = [(before, after) for before, after in zip(*samples, strict=True) if len(before) and len(after)]
        if not pairs:
            continue

        def resampled(random: np.random.Generator, pairs: list[tuple[Floats, Floats]] = pairs) -> Floats:
            ratios = [_medians(after, random) - _medians(before, random) for before, after in pairs]
            return np.asarray(np.mean(ratios, axis=0))

        ratio = float(np.mean([np.median(after) - np.median(before) for before, after in pairs]))
        low, high = _interval(resampled)
        before, after = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        comparisons.append(_comparison(name, before, after, ratio, low - drift, high + drift))
    return comparisons


def _comparison(name: str, before: Floats, after: Floats, ratio: float, low: float, high: float) -> Comparison:
    """Of logarithms."""
    bounds = float(np.exp(low)), float(np.exp(high))
    return Comparison(
        measure=name,
        reference=float(np.exp(np.median(before))),
        candidate=float(np.exp(np.median(after))),
        ratio=float(np.exp(ratio)),
        low=bounds[0],
        high=bounds[1],
        verdict=judge_interval(*bounds),
    )


def _by_request(run: Record) -> dict[tuple[str, str, int], list[Record]]:
    found: dict[tuple[str, str, int], list[Record]] = {}
    for one in run["generations"]:
        found.setdefault((one["task"], one["caption"], one["seed"]), []).append(one)
    return found


def _drift(reference: Record, candidate: Record) -> float:
    """By how much, as a logarithm, the machine may have been faster or slower in one of the runs: the far end of the
    interval of the reference kernel's ratio."""
    reads = [np.log(run["floor"]["reads_bytes_per_s"]) for run in (reference, candidate)]
    low, high = _interval(lambda random: _medians(reads[0], random) - _medians(reads[1], random))
    return max(abs(low), abs(high))


def _medians(values: Floats, random: np.random.Generator) -> Floats:
    """Medians of resamples."""
    return np.asarray(np.median(random.choice(values, (_RESAMPLES, len(values))), axis=1))


def _interval(resampled: Callable[[np.random.Generator], Floats]) -> tuple[float, float]:
    low, high = np.percentile(
        resampled(np.random.default_rng(_SEED)), [50 * (1 - CONFIDENCE), 100 - 50 * (1 - CONFIDENCE)]
    )
    return float(low), float(high)
