"""Whether one run is slower than another: ratios with bootstrap intervals, and a verdict for each measure.

Interleaved runs come in blocks: a request that both sides make, in turns of a few steps, so that both meet the same
moods and the same drift of the machine; each block gives a ratio. Blocks in which others kept the machine busy are left
out: by a count of others' CPU time, never by what the block says. Runs that were made apart have
nothing to cancel drift: their intervals are widened by as much as a reference kernel, timed in both, went up or down.

Everything is computed on logarithms; a ratio of 1.05 says that the candidate takes 5 % longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.errors import ConfigError
from unimoe_tools.profiling.machine import machine_cpu_s

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
ENOUGH = 0.02
"""An interval of an interleaved comparison that ends within so much on either side is narrow enough to stop."""
FEWEST_BLOCKS = 12
"""Of so many quiet blocks and more, the interval of their median may be believed; by chance a few agree."""
QUIET_CORES = 0.05
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


@dataclass(frozen=True, kw_only=True)
class Block:
    """One request, made by both sides in turns. `background_cpu_cores`: cores that others kept busy meanwhile."""

    request: int
    reference: Figures
    candidate: Figures
    background_cpu_cores: float


class Side(Protocol):
    """What makes requests in turns."""

    def begin(self, request: int) -> None:
        """Be about to make the request of that number."""

    def turn(self) -> Record | None:
        """Some steps of it; its record after the last, None before."""

    def cpu_s(self) -> float | None:
        """CPU seconds taken so far, as far as the machine tells."""


def interleave(sides: tuple[Side, Side], request: int, *, first: int = 0) -> Block:
    """One block: the reference, `sides[0]`, and the candidate take turns of a few steps, in the order a b b a a b b …,
    in which a steady drift cancels. `first` is the side that begins."""
    background_cpu_cores = _others_cpu_s(sides)
    for side in sides:
        side.begin(request)
    records: list[Record | None] = [None, None]
    order = [first, 1 - first]
    while None in records:
        for index in order:
            if records[index] is None:
                records[index] = sides[index].turn()
        order.reverse()
    reference, candidate = (figures_of([record]) for record in records if record is not None)
    after = _others_cpu_s(sides)
    cores = max(0.0, (after[0] - background_cpu_cores[0]) / (after[1] - background_cpu_cores[1]))
    return Block(request=request, reference=reference, candidate=candidate, background_cpu_cores=cores)


def _others_cpu_s(sides: tuple[Side, Side]) -> tuple[float, float]:
    """CPU seconds of all but the sides and this process, and the time; 0 where the machine does not tell."""
    ours = [side.cpu_s() for side in sides]
    everyone = machine_cpu_s()
    told = 0.0 if everyone is None else everyone - time.process_time() - sum(one or 0.0 for one in ours)
    return told, time.perf_counter()


def quiet_blocks(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without background_cpu_cores; at least half of all, those with the least of it."""
    most = max(QUIET_CORES, float(np.median([block.background_cpu_cores for block in blocks])))
    return [block for block in blocks if block.background_cpu_cores <= most]


def compare_blocks(blocks: Sequence[Block]) -> list[Comparison]:
    """Each measure over the quiet blocks: the median of their ratios, with its interval.

    Requests count alike, however many blocks each has.
    """
    comparisons = []
    kept = quiet_blocks(blocks)
    by_request = [[block for block in kept if block.request == request] for request in {one.request for one in kept}]
    for name in blocks[0].reference:
        logs = [np.log([(one.reference[name], one.candidate[name]) for one in group]) for group in by_request]
        ratios = [logs_G2[:, 1] - logs_G2[:, 0] for logs_G2 in logs]

        def resampled(random: np.random.Generator, ratios: list[Floats] = ratios) -> Floats:
            return np.asarray(np.mean([_medians(of_request, random) for of_request in ratios], axis=0))

        low, high = _interval(resampled)
        all_G2 = np.concatenate(logs)
        ratio = float(np.mean([np.median(of_request) for of_request in ratios]))
        comparisons.append(_comparison(name, all_G2[:, 0], all_G2[:, 1], ratio, low, high))
    return comparisons


def narrow(blocks: Sequence[Block], comparisons: Sequence[Comparison]) -> bool:
    """Whether the intervals of these blocks are narrow enough to stop. By their width alone: to stop at a verdict would
    favour it."""
    return len(quiet_blocks(blocks)) >= FEWEST_BLOCKS and all(
        one.high / one.low <= (1 + ENOUGH) ** 2 for one in comparisons
    )


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
