"""Forward in ONNX Runtime: a cache of some rows, and the bound passes over it.

B rows · T positions · N = B·T tokens · S cache capacity · H key/value heads · D head dimension
P cached positions · M chosen tokens
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unimoe_runtime.backends.onnxruntime.huge_pages import zeros_in_huge_pages
from unimoe_runtime.backends.onnxruntime.passes import BoundPass, Caches, Floats, Sessions
from unimoe_runtime.backends.protocol import CachedPositions, Forward, StepInputs
from unimoe_runtime.backends.trunk_form import TrunkForm
from unimoe_runtime.bundle.reader import expert_name

# Caches of up to this many slots, about ten seconds of the demo, leave their memory to the next forward. Pages that
# have not been written take no memory.
_KEPT_SLOTS = 512
_GATHERED = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Gathering takes about as long as this many products: 10 µs.
_GATHER_PRODUCTS = 500_000


class Spare:
    """Bound decode steps and cache memory that a forward leaves to the next one with the same number of rows.

    New bindings and new memory would double the time of the first step, and of each step in which the cache grows.
    """

    def __init__(self) -> None:
        self.decoding: dict[int, BoundPass] = {}
        self.memory: Caches = []


class BoundForward:
    """Forward over bound host buffers.

    `close` adds its bindings and memory to `spares`. The prefill gathers the rows of each expert first. So does a
    decode step of many rows; one of few rows runs a picked expert on all of them.
    """

    def __init__(self, backend: Sessions, num_rows: int, spares: list[Spare]) -> None:
        self._backend = backend
        self._num_rows, self._capacity = num_rows, 0
        try:
            self._spare = spares.pop()
        except IndexError:
            self._spare = Spare()
        self._spares: list[Spare] | None = spares
        self._caches: Caches = []
        self._memory = self._spare.memory
        self._pass: BoundPass | None = None
        self._length = 0
        self._side = 0
        self._look_ahead = backend.look_ahead()
        model = backend.bundle.model
        products = 3 * model.hidden_size * model.routed_intermediate_size
        self._least_saved = math.ceil(_GATHER_PRODUCTS / products)
        """Number of rows of a decode step from which leaving them out saves more than gathering the others costs."""

    def begin(self, inputs: StepInputs) -> None:
        rows, _, length, capacity = inputs.mask_B1TS.shape
        if capacity != self._capacity or rows != self._num_rows:
            self.resize(rows, capacity)
        if self._pass is None or length != self._length:
            self._pass = self._decoding() if length == 1 else BoundPass(self._backend, self._caches, rows, length)
            self._length = length
        self._pass.write(inputs)
        self._side = 0

    def trunk(self, layer: int) -> Floats:
        current = self._current()
        if self._look_ahead is not None:
            self._look_ahead.before_trunk(layer, current.hidden_NC[layer % 2])
        current.trunk(layer)
        self._side = (layer + 1) % 2
        if self._look_ahead is not None:
            self._look_ahead.after_trunk(layer, current.weights_NE, decoding=self._length == 1)
        return current.weights_NE

    def router_logits(self) -> Floats:
        return self._current().router_logits_NR

    def expert(self, layer: int, expert: int, weight_N1: Floats) -> None:
        current = self._current()
        num_tokens = len(weight_N1)
        if self._length > 1 or num_tokens > self._least_saved:
            tokens_M = weight_N1[:, 0].nonzero()[0]
            size = next((size for size in _GATHERED if size >= len(tokens_M)), 0)
            if not size:
                self._run_on(layer, expert, tokens_M, weight_N1)
                return
            if self._length > 1 or num_tokens - size >= self._least_saved:
                self._backend.gathered(size).run(layer, expert, tokens_M, current, weight_N1)
                return
        current.experts.weight_N1[...] = weight_N1
        current.experts.run(layer, expert)

    def hidden(self) -> Floats:
        return self._current().hidden_NC[self._side].copy()

    def head(self, tokens_M: NDArray[np.int64]) -> Floats:
        current = self._current()
        if self._length == 1 and len(tokens_M) == self._num_rows:
            current.head()
            return current.logits_NKV.take(tokens_M, axis=0)
        hidden_MC = current.hidden_NC[self._side][tokens_M]
        logits: Floats = self._backend.run("head", {"hidden_NC": hidden_MC})["logits_NKV"]
        return logits

    def snapshot(self, num_positions: int) -> CachedPositions:
        return CachedPositions.of(self._caches, num_positions)

    def restore(self, cached: CachedPositions, capacity: int) -> None:
        if capacity > self._capacity:
            self.resize(self._num_rows, capacity)
        for pair, kept in zip(self._caches, cached.layers, strict=True):
            for cache_BHSD, kept_HPD in zip(pair, kept, strict=True):
                cache_BHSD[: self._num_rows, :, : cached.num_positions] = kept_HPD

    def resize(self, num_rows: int, capacity: int) -> None:
        before = self._num_rows
        self._num_rows, self._pass = num_rows, None
        rows = len(self._caches[0][0]) if self._caches else 0
        if capacity == self._capacity and num_rows <= rows:
            for pair in self._caches:  # rows that return would hold their old content
                for cache_BHSD in pair:
                    cache_BHSD[before:num_rows] = 0
            return
        kept_rows, kept = min(rows, before, num_rows), min(capacity, self._capacity)
        held = self._caches
        # Spare rows, so that a stream that joins does not move the others.
        self._caches = self._new_caches(1 << (num_rows - 1).bit_length(), capacity)
        for layer, pair in enumerate(self._caches):
            for side, cache_BHSD in enumerate(pair):
                if held:
                    _move_slots(held[layer][side][:kept_rows], cache_BHSD[:kept_rows], kept)
                cache_BHSD[:num_rows, :, kept:] = 0
                cache_BHSD[kept_rows:num_rows, :, :kept] = 0
        self._capacity = capacity

    def copy_rows(self, source: Forward, source_row: int, row: int, num_rows: int, num_positions: int) -> None:
        assert isinstance(source, BoundForward)
        to, from_ = slice(row, row + num_rows), slice(source_row, source_row + num_rows)
        for pair, source_pair in zip(self._caches, source._caches, strict=True):
            for cache_BHSD, source_BHSD in zip(pair, source_pair, strict=True):
                cache_BHSD[to, :, :num_positions] = source_BHSD[from_, :, :num_positions]

    def close(self) -> None:
        spares, self._spares = self._spares, None
        if spares is not None:
            spares.append(self._spare)

    def _current(self) -> BoundPass:
        if self._pass is None:
            raise RuntimeError("begin() comes before a pass over the layers")
        return self._pass

    def _run_on(self, layer: int, expert: int, tokens_M: NDArray[np.int64], weight_N1: Floats) -> None:
        """Run an expert on more tokens than there are buffers for."""
        current = self._current()
        accumulator_NC = current.hidden_NC[self._side]
        inputs = {
            "accumulator_NC": accumulator_NC[tokens_M],
            "expert_input_NC": current.expert_input_NC[tokens_M],
            "weight_N1": weight_N1[tokens_M],
        }
        outputs = self._backend.run(expert_name(layer, expert), inputs)
        accumulator_NC[tokens_M] = outputs["new_accumulator_NC"]

    def _decoding(self) -> BoundPass:
        """The bound decode step for this number of rows."""
        step = self._spare.decoding.get(self._num_rows)
        if step is None:
            step = BoundPass(self._backend, self._caches, self._num_rows, 1)
            self._spare.decoding[self._num_rows] = step
        return step.over(self._caches)

    def _new_caches(self, num_rows: int, capacity: int) -> Caches:
        model = self._backend.bundle.model
        shape = TrunkForm.of(self._backend.bundle).cache_shape(num_rows, capacity)
        size = math.prod(shape)
        if not self._memory or len(self._memory[0][0]) < size:
            slots = max(_KEPT_SLOTS, 1 << (capacity - 1).bit_length())
            held = slots * size // capacity
            memory_LPZ = zeros_in_huge_pages((model.num_layers, 2, held))
            self._memory = [(key, value) for key, value in memory_LPZ]
            if slots == _KEPT_SLOTS:
                self._spare.memory = self._memory
        return [(key[:size].reshape(shape), value[:size].reshape(shape)) for key, value in self._memory]


def _move_slots(old_BHSD: Floats, new_BHSD: Floats, num_slots: int) -> None:
    """Copy the first slots of all rows to a cache of another capacity, which may lie in the same memory.

    There a row moves by its index times the difference of the capacities. A larger cache is filled from its last row,
    a smaller one from its first, so that no row is overwritten before it has moved.
    """
    old_RSD, new_RSD = (cache.reshape(-1, *cache.shape[2:]) for cache in (old_BHSD, new_BHSD))
    rows = range(len(old_RSD))
    for row in reversed(rows) if new_RSD.shape[1] > old_RSD.shape[1] else rows:
        new_RSD[row, :num_slots] = old_RSD[row, :num_slots]
