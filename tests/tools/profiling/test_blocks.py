"""Blocks of turns: planted differences are found, noise is reported as noise, busy blocks are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tools.profiling.synthetic_runs import a_run
from unimoe_tools.parity.ratios import Verdict, verdict_of
from unimoe_tools.profiling.blocks import Block, compare_blocks, figures_of, interleave, narrow, quiet_blocks


class Machine:
    """Synthetic timings: jitter of a run, outliers from other processes, and a steady drift."""

    def __init__(self, seed: int, *, jitter: float = 0.01, drift: float = 0.0005) -> None:
        self.random = np.random.default_rng(seed)
        self.jitter, self.drift, self.turns = jitter, drift, 0

    def blocks(self, slower: float, count: int = 24) -> list[Block]:
        sides = SyntheticSide(self, 1.0), SyntheticSide(self, slower)
        return [interleave(sides, 0, first=index % 2) for index in range(count)]


class SyntheticSide:
    """A request of 8 turns."""

    def __init__(self, machine: Machine, slower: float) -> None:
        self.machine, self.slower = machine, slower

    def begin(self, request: int) -> None:
        random = self.machine.random
        outlier = 1.5 if random.random() < 0.05 else 1.0
        self.step_ms: list[float] = []
        self.level_ms = 4.0 * self.slower * outlier * float(np.exp(random.normal(0, self.machine.jitter)))

    def turn(self) -> dict[str, Any] | None:
        self.machine.turns += 1
        self.step_ms.append(self.level_ms * (1 + self.machine.drift) ** self.machine.turns)
        if len(self.step_ms) < 8:
            return None
        return {"step_ms": self.step_ms, "prefill_ms": None, "ttfa_ms": None, "rtf": None}

    def cpu_s(self) -> None:
        return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slower", "expected"), [(1.0, Verdict.SAME), (1.05, Verdict.SLOWER), (1 / 1.05, Verdict.FASTER)]
)
def test_nineteen_of_twenty_verdicts_are_right(slower: float, expected: Verdict) -> None:
    found = [compare_blocks(Machine(seed).blocks(slower))[0].verdict for seed in range(100)]
    assert found.count(expected) >= 95


def test_a_drift_as_large_as_the_difference_cancels() -> None:
    """A turn takes 5 % longer than the one before it."""
    one = compare_blocks(Machine(0, jitter=0.001, drift=0.05).blocks(1.05, count=20))[0]
    assert one.ratio == pytest.approx(1.05, rel=0.01)
    assert one.low < 1.05 < one.high


def test_blocks_with_background_load_are_left_out_and_requests_count_alike() -> None:
    def blocks(request: int, ratio: float, background_cpu_cores: float, count: int) -> list[Block]:
        return [
            Block(
                request=request,
                reference={"rtf": 1.0},
                candidate={"rtf": ratio},
                background_cpu_cores=background_cpu_cores,
            )
        ] * count

    quiet = blocks(0, 1.1, 0.0, 6) + blocks(1, 1.3, 0.0, 12)
    assert compare_blocks(quiet)[0].ratio == pytest.approx((1.1 * 1.3) ** 0.5)
    assert narrow(quiet, compare_blocks(quiet))
    assert not narrow(quiet[:11], compare_blocks(quiet[:11])), "a few agree by chance"
    disturbed = quiet + blocks(0, 2.0, 0.8, 10)
    assert len(quiet_blocks(disturbed)) == 18
    assert compare_blocks(disturbed)[0] == compare_blocks(quiet)[0]
    assert len(quiet_blocks(blocks(0, 1.0, 0.8, 10))) == 10, "where the machine is never quiet, all blocks count"
    uneven = Machine(0, jitter=0.25).blocks(1.0)
    assert not narrow(uneven, compare_blocks(uneven))


def test_noise_is_called_noise_and_not_a_difference() -> None:
    found = [compare_blocks(Machine(seed, jitter=0.25).blocks(1.0))[0].verdict for seed in range(40)]
    assert found.count(Verdict.UNCLEAR) >= 36
    assert [verdict_of(*bounds) for bounds in ((0.98, 1.02), (1.02, 1.3), (0.7, 0.98), (0.9, 1.02))] == [
        Verdict.SAME, Verdict.SLOWER, Verdict.FASTER, Verdict.UNCLEAR,
    ]  # fmt: skip


def test_figures_are_geometric_means_over_requests() -> None:
    one, other = a_run(0)["generations"][:2]
    one.update(prefill_ms=10.0, rtf=None)
    other.update(prefill_ms=40.0, rtf=None)
    figures = figures_of([one, other])
    assert figures["prefill_ms"] == pytest.approx(20.0) and "rtf" not in figures
