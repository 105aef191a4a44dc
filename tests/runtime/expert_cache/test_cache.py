"""Which experts stay in memory, independent of their kind: the budget, usefulness, many threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe_runtime.errors import BundleError
from unimoe_runtime.expert_cache.cache import Expert, ExpertCache

EXPERTS = [(layer, expert) for layer in range(3) for expert in range(4)]


class Loaded:
    """A stand-in for an expert. It reports use after closing."""

    def __init__(self, memory: Memory, expert: Expert) -> None:
        self.memory, self.expert, self.is_open = memory, expert, True

    def close(self) -> None:
        assert self.is_open
        self.is_open = False
        with self.memory.lock:
            self.memory.open_bytes -= self.memory.bytes_of[self.expert]


class Memory(ExpertCache[Loaded]):
    """An ExpertCache that counts the experts that are really open."""

    def __init__(self, budget_bytes: int, *, sizes: list[int] | None = None, ahead: bool = False) -> None:
        self.lock, self.open_bytes, self.most_open = threading.Lock(), 0, 0
        self.loads: list[Expert] = []
        self.is_damaged = False
        bytes_of = dict(zip(EXPERTS, sizes or [10] * len(EXPERTS), strict=True))
        super().__init__(self._open, bytes_of, budget_bytes, {(0, 3): 0.9}, ahead=ahead)

    def pick(self, layer: int, expert: int) -> None:
        """Pick as a step does: note the layer's picks, then use them."""
        self.note(layer, [float(other == expert) for other in range(4)])
        self.use((layer, expert))

    def _open(self, expert: Expert) -> Loaded:
        if self.is_damaged:
            raise BundleError("damaged")
        with self.lock:
            self.loads.append(expert)
            self.open_bytes += self.bytes_of[expert]
            self.most_open = max(self.most_open, self.open_bytes)
        return Loaded(self, expert)

    def use(self, expert: Expert) -> None:
        loaded = self.acquire(expert)
        assert loaded.is_open and loaded.expert == expert
        self.release(expert)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.001)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=len(EXPERTS), max_size=len(EXPERTS)),
    budget=st.integers(0, 150),
    uses=st.lists(st.tuples(st.sampled_from(EXPERTS), st.booleans()), max_size=60),
)
def test_never_more_open_than_the_budget(sizes: list[int], budget: int, uses: list[tuple[Expert, bool]]) -> None:
    memory = Memory(budget, sizes=sizes, ahead=True)
    for (layer, expert), predicted in uses:
        if predicted:
            memory.expect(layer, [0.1, 0.9, 0.5, 0.0])
        memory.pick(layer, expert)
        assert memory.most_open <= max(budget, *sizes)
    memory.close()
    found = memory.statistics()
    assert memory.open_bytes == 0 and not memory.loaded()
    assert found.uses == len(uses) and found.misses + found.loaded_ahead >= len(set(memory.loads))


def test_keeps_what_is_picked_often_of_late() -> None:
    memory = Memory(40)
    for _ in range(3):
        for layer in range(3):
            memory.pick(layer, 0)
    memory.pick(1, 2)  # fills the budget
    memory.note(1, [1, 0, 0, 0])
    memory.pick(2, 3)
    assert set(memory.loaded()) == {(0, 0), (1, 0), (2, 0), (2, 3)}


def test_the_usual_ones_come_first_and_only_what_fits() -> None:
    memory = Memory(35)
    memory.fill(EXPERTS)
    assert len(memory.loaded()) == 3 and (0, 3) in memory.loaded()
    assert memory.statistics().misses == 0


def test_loaded_ahead_counts_when_it_is_used() -> None:
    memory = Memory(30, ahead=True)
    memory.expect(1, [0.0, 0.9, 0.4, 0.1])
    wait_until(lambda: set(memory.loaded()) == {(1, 1), (1, 2)})
    memory.pick(1, 1)
    found = memory.statistics()
    assert (found.loaded_ahead, found.used_ahead, found.misses, found.hit_rate) == (2, 1, 0, 1.0)
    assert found.prefetch_accuracy == 0.5


def test_threads_stay_within_the_budget_and_none_waits_for_ever() -> None:
    memory = Memory(25, ahead=True)

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(300):
            layer, expert = EXPERTS[random.integers(len(EXPERTS))]
            memory.expect(layer, random.random(4).tolist())
            memory.pick(layer, expert)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, seed) for seed in range(4)]:
            done.result(timeout=60)
    assert memory.most_open <= 25
    memory.close()
    assert memory.open_bytes == 0


def test_a_load_that_fails_leaves_no_trace() -> None:
    memory = Memory(20)
    memory.is_damaged = True
    for _ in range(3):
        with pytest.raises(BundleError):
            memory.acquire((0, 0))
    memory.is_damaged = False
    memory.use((0, 0))
    memory.use((0, 1))
    assert memory.most_open == 20
