"""Two alternating settings: blocks of steps, and their ratios.

A block is one request that both sides make, alternating every few steps, so that both see the same state of the
machine. Blocks in which other processes kept the machine busy are left out: by those processes' CPU time, never by the
block's own figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from unimoe_tools.parity.ratios import Ratio, paired_ratio
from unimoe_tools.profiling.machine import machine_cpu_s

Record = Mapping[str, Any]
Figures = Mapping[str, float]
"""From measure to milliseconds (or to a real-time factor), for one round over all requests."""

ENOUGH = 0.02
"""An interval of an interleaved comparison within this distance on either side is narrow enough to stop."""
FEWEST_BLOCKS = 12
"""From this number of quiet blocks the interval of their median is reliable; fewer may agree by chance."""
QUIET_CORES = 0.05

MEASURES: Mapping[str, Callable[[Record], float | None]] = {
    "step_p50_ms": lambda one: float(np.median(one["step_ms"])),
    "step_p90_ms": lambda one: float(np.percentile(one["step_ms"], 90)),
    "prefill_ms": lambda one: one["prefill_ms"],
    "ttfa_ms": lambda one: one["ttfa_ms"],
    "rtf": lambda one: one["rtf"],
}
"""The compared figures of a request's record; None where it lacks the figure. Less is better in all of them."""


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
    """One request, made by both sides alternately. `background_cpu_cores`: cores that other processes kept busy."""

    request: int
    reference: Figures
    candidate: Figures
    background_cpu_cores: float


class Side(Protocol):
    """One of two sides that make requests alternately."""

    def begin(self, request: int) -> None:
        """Prepare to make the request of that number."""

    def turn(self) -> Record | None:
        """Make some steps of it. Returns its record after the last step, None before."""

    def cpu_s(self) -> float | None:
        """CPU seconds used so far; None where the machine does not report them."""


def interleave(sides: tuple[Side, Side], request: int, *, first: int = 0) -> Block:
    """One block: the reference, `sides[0]`, and the candidate alternate every few steps, in the order a b b a a b b …,
    so that a steady drift cancels. `first` is the side that begins."""
    before = _others_cpu_s(sides)
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
    cores = max(0.0, (after[0] - before[0]) / (after[1] - before[1]))
    return Block(request=request, reference=reference, candidate=candidate, background_cpu_cores=cores)


def _others_cpu_s(sides: tuple[Side, Side]) -> tuple[float, float]:
    """CPU seconds of all processes but the sides and this one, and the time; 0 where they are not reported."""
    ours = [side.cpu_s() for side in sides]
    everyone = machine_cpu_s()
    told = 0.0 if everyone is None else everyone - time.process_time() - sum(one or 0.0 for one in ours)
    return told, time.perf_counter()


def quiet_blocks(blocks: Sequence[Block]) -> list[Block]:
    """The blocks in which the machine was quiet, at least the quieter half of all."""
    most = max(QUIET_CORES, float(np.median([block.background_cpu_cores for block in blocks])))
    return [block for block in blocks if block.background_cpu_cores <= most]


def compare_blocks(blocks: Sequence[Block]) -> list[Ratio]:
    """Each measure over the quiet blocks: the median of their ratios, with its interval.

    All requests count equally, independent of their number of blocks.
    """
    kept = quiet_blocks(blocks)
    by_request = [[block for block in kept if block.request == request] for request in {one.request for one in kept}]
    ratios = []
    for name in blocks[0].reference:
        logs = [np.log([(one.reference[name], one.candidate[name]) for one in group]) for group in by_request]
        ratios.append(paired_ratio(name, [(logs_G2[:, 0], logs_G2[:, 1]) for logs_G2 in logs]))
    return ratios


def narrow(blocks: Sequence[Block], ratios: Sequence[Ratio]) -> bool:
    """Whether the intervals of these blocks are narrow enough to stop. Only the width counts, because stopping at a
    verdict would favour it."""
    return len(quiet_blocks(blocks)) >= FEWEST_BLOCKS and all(one.high / one.low <= (1 + ENOUGH) ** 2 for one in ratios)
