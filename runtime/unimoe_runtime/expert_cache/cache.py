"""Experts in memory under a budget: loaded on first use, the least useful dropped first, the next layer's loaded ahead.

The cache depends on no engine: it keeps objects that a callback loads, and closes them when it drops them. An expert's
usefulness is how often its layer picked it recently. The manifest's routing statistics break ties, and give the first
values.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NoReturn, Protocol, TypeVar

import numpy as np

from unimoe_runtime.expert_cache.statistics import ExpertCacheStats

Expert = tuple[int, int]
"""Layer and routed expert."""

# Weight of earlier picks against the latest one; benchmarks/expert_policies.py compares the loads with other rules.
_KEPT = 0.4
# Weight of the routing statistics against recent picks: they only break ties.
_USUAL = 0.1
# The smallest probability at which an expert is loaded ahead. With a lower value, unused loads push out experts that
# are needed.
_LIKELY = 0.3
# Median wait from which looking ahead pays: it takes longer than a wait for pages in memory, and less than one for the
# disk.
PREFETCH_MIN_STALL_S = 1e-3


class Resident(Protocol):
    """The object that is kept in memory for one expert."""

    def close(self) -> None:
        """Give its memory back; the object is not used afterwards."""


T = TypeVar("T", bound=Resident)


class _Slot(Generic[T]):
    """A loaded expert, or, without `value`, one that is being loaded. It is not dropped while it is pinned."""

    def __init__(self, *, pins: int) -> None:
        self.value: T | None = None
        self.pins, self.ahead = pins, False


class ExpertCache(Generic[T]):
    """Loaded experts within `budget_bytes`, for any number of threads; a thread uses one expert at a time.

    A thread that finds no room waits until another thread releases its expert. The budget is exceeded only by a single
    expert that is larger than the budget.
    """

    def __init__(
        self,
        load: Callable[[Expert], T],
        bytes_of: Mapping[Expert, int],
        budget_bytes: int,
        usual: Mapping[Expert, float],
        *,
        ahead: bool,
    ) -> None:
        self.budget_bytes, self.bytes_of = budget_bytes, bytes_of
        self._load_expert = load
        layers, routed = (1 + max(column) for column in zip(*bytes_of, strict=True)) if bytes_of else (0, 0)
        self._usual = [[usual.get((layer, expert), 0.0) for expert in range(routed)] for layer in range(layers)]
        self._recent = [list(shares) for shares in self._usual]
        self._slots: dict[Expert, _Slot[T]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waits_are_long = False
        self.prefetches = ahead
        """Whether experts are loaded before they are asked for."""
        self._waits_s: deque[float] = deque(maxlen=9)
        self._worker = ThreadPoolExecutor(1, "experts")
        self._serving: Future[None] | None = None
        self._wanted: list[tuple[float, Expert]] = []
        self._used_bytes = self._peak_bytes = 0
        self._uses = self._misses = self._loaded_ahead = self._used_ahead = self._predicted = self._predicted_hits = 0
        self._stall_s = 0.0
        self._steps: Counter[int] = Counter()

    def acquire(self, expert: Expert) -> T:
        """The loaded expert, kept until `release`. Raises what loading raises."""
        with self._lock:
            self._uses += 1
            slot = self._slots.get(expert)
            if slot is not None and slot.value is not None:
                return self._pin(slot, slot.value)
            self._misses += 1
        start = time.perf_counter()
        try:
            return self._acquire_missing(expert)
        finally:
            waited_s = time.perf_counter() - start
            with self._lock:
                self._stall_s += waited_s
                self._waits_s.append(waited_s)
                self._waits_are_long = sorted(self._waits_s)[len(self._waits_s) // 2] > PREFETCH_MIN_STALL_S

    def release(self, expert: Expert) -> None:
        """End the use of an expert that `acquire` returned; from now on it may be dropped."""
        with self._lock:
            self._slots[expert].pins -= 1
            self._changed.notify_all()

    def fill(self, experts: Iterable[Expert]) -> None:
        """Load experts now, the usual ones first, as long as there is room."""
        for expert in sorted(experts, key=self._usefulness, reverse=True):
            self._load_ahead(expert, 0.0)

    def loaded(self) -> list[Expert]:
        """The experts in memory."""
        with self._lock:
            return [expert for expert, slot in self._slots.items() if slot.value is not None]

    def looks_ahead(self, layer: int) -> bool:
        """Whether predicting a layer's picks is worthwhile: it lacks some experts, and recent waits were long."""
        if not (self.prefetches and self._waits_are_long):
            return False
        return any((layer, expert) not in self._slots for expert in range(len(self._recent[layer])))

    def note(self, layer: int, picked_R: Sequence[float]) -> None:
        """Record how much a layer picked each expert, up to 1. Its pending predictions are discarded."""
        self._wanted = []
        self._recent[layer] = [
            _KEPT * before + (1 - _KEPT) * now for before, now in zip(self._recent[layer], picked_R, strict=True)
        ]

    def note_step(self, step_bytes: int) -> None:
        """Record the bytes of all experts that a decode step used."""
        self._steps[step_bytes] += 1

    def expect(self, layer: int, shares: Sequence[float]) -> None:
        """Load the likely experts of a layer that is about to pick with these probabilities (0: not picked)."""
        wanted = [
            (share, (layer, expert))
            for expert, share in enumerate(shares)
            if share >= _LIKELY and (layer, expert) not in self._slots
        ]
        if wanted:
            self._wanted = sorted(wanted)
            if self._serving is None or self._serving.done():
                self._serving = self._worker.submit(self._serve)

    def note_predictions(self, predicted: Collection[int], picked: Collection[int]) -> None:
        """Record a layer's predicted and actual picks."""
        self._predicted += len(predicted)
        self._predicted_hits += sum(expert in picked for expert in predicted)

    def statistics(self) -> ExpertCacheStats:
        steps = sorted(self._steps.items())
        reached = np.cumsum([count for _, count in steps])
        p95 = steps[int(np.searchsorted(reached, 0.95 * reached[-1]))][0] if steps else 0
        return ExpertCacheStats(
            budget_bytes=self.budget_bytes,
            peak_bytes=self._peak_bytes,
            step_bytes_p95=p95,
            uses=self._uses,
            misses=self._misses,
            loaded_ahead=self._loaded_ahead,
            used_ahead=self._used_ahead,
            predicted=self._predicted,
            predicted_hits=self._predicted_hits,
            stall_s=self._stall_s,
        )

    def close(self) -> None:
        """Drop everything, including the loader of experts."""
        self._wanted = []
        self._worker.shutdown()
        self._load_expert = _closed
        with self._lock:
            values = [slot.value for slot in self._slots.values() if slot.value is not None]
            self._slots.clear()
            self._used_bytes = 0
        for value in values:
            value.close()

    def _pin(self, slot: _Slot[T], value: T) -> T:
        slot.pins += 1
        if slot.ahead:
            slot.ahead = False
            self._used_ahead += 1
        return value

    def _acquire_missing(self, expert: Expert) -> T:
        with self._lock:
            while True:
                slot = self._slots.get(expert)
                if slot is not None and slot.value is not None:
                    return self._pin(slot, slot.value)
                if slot is None:
                    dropped = self._make_room(self.bytes_of[expert], float("inf"))
                    if dropped is not None:
                        break
                self._changed.wait()
            slot = self._take(expert, pins=1)
        return self._load(expert, slot, dropped)

    def _serve(self) -> None:
        while wanted := self._wanted:
            self._wanted = wanted[:-1]
            self._load_ahead(wanted[-1][1], wanted[-1][0])

    def _load_ahead(self, expert: Expert, worth: float) -> None:
        """Load an expert into free room, or into that of experts less useful than `worth`."""
        if self.bytes_of[expert] > self.budget_bytes:
            return
        with self._lock:
            dropped = None if expert in self._slots else self._make_room(self.bytes_of[expert], worth)
            if dropped is None:
                return
            slot = self._take(expert, pins=0)
            slot.ahead = worth > 0
            self._loaded_ahead += slot.ahead
        self._load(expert, slot, dropped)

    def _take(self, expert: Expert, pins: int) -> _Slot[T]:
        slot = self._slots[expert] = _Slot(pins=pins)
        self._used_bytes += self.bytes_of[expert]
        self._peak_bytes = max(self._peak_bytes, self._used_bytes)
        return slot

    def _load(self, expert: Expert, slot: _Slot[T], dropped: list[T]) -> T:
        try:
            for value in dropped:  # before the new one is loaded, so that memory never holds both
                value.close()
            value = self._load_expert(expert)
        except BaseException:
            with self._lock:
                del self._slots[expert]
                self._used_bytes -= self.bytes_of[expert]
                self._changed.notify_all()
            raise
        with self._lock:
            slot.value = value
            self._changed.notify_all()
        return value

    def _make_room(self, wanted_bytes: int, worth: float) -> list[T] | None:
        """Forget the least useful experts, those below `worth`, until so many bytes are free; the caller closes them.

        Returns None and forgets nothing if experts in use prevent that.
        """
        spare = sorted(
            (expert for expert, slot in self._slots.items() if slot.value is not None and not slot.pins),
            key=self._usefulness,
        )
        free, victims = self.budget_bytes - self._used_bytes, []
        for expert in spare:
            if free >= wanted_bytes or self._usefulness(expert) >= worth:
                break
            victims.append(expert)
            free += self.bytes_of[expert]
        if free < wanted_bytes and len(victims) < len(self._slots):
            return None
        values = [slot.value for slot in map(self._slots.pop, victims)]
        self._used_bytes -= sum(self.bytes_of[expert] for expert in victims)
        return [value for value in values if value is not None]

    def _usefulness(self, expert: Expert) -> float:
        layer, index = expert
        return (1 - _USUAL) * self._recent[layer][index] + _USUAL * self._usual[layer][index]


def _closed(expert: Expert) -> NoReturn:
    raise RuntimeError("experts were asked for after they were closed")
